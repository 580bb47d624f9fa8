"""What a process was promised, written where ``kill -9`` can not reach it, and what must therefore be in the store."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NEVER = float("inf")


class Ledger:
    """Lines of JSON, each on the disk before the next thing is done. Their times are of the machine's monotonic clock, which
    nobody skews."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, did: str, **facts: Any) -> None:
        """Writes a line. That a point was logged is not worth a sync: a process that is killed takes nothing with it that it
        has written."""
        os.write(self._file, json.dumps({"did": did, "at": time.monotonic(), **facts}).encode() + b"\n")
        if did != "logged":
            os.fsync(self._file)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What a ledger says, by all processes that wrote it; a line that is being written is left out."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was acknowledged."""

    checkpoint: str
    key: str
    step: int


@dataclass
class Promises:
    """What all ledgers say together."""

    saved: dict[str, Saved] = field(default_factory=dict)
    # When each deletion began and ended, when each restoration began: by checkpoint.
    deletions: defaultdict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    restored: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    # What forks start from, by their keys.
    forks: dict[str, Saved] = field(default_factory=dict)
    # The points that the last process of each ledger logged of its last run: (step, when).
    tails: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    refused: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def must_be_there(self, checkpoint: str) -> bool:
        """Whether a checkpoint that was saved must be there: nobody asked to delete it, or it was restored after every
        deletion had ended.

        A deletion that was asked for and never acknowledged may happen at any time: a request may still be under way.
        """
        ended = max((end for _, end in self.deletions[checkpoint]), default=0.0)
        return not self.deletions[checkpoint] or any(began > ended for began in self.restored[checkpoint])

    @classmethod
    def of(cls, ledgers: Iterable[Path]) -> Promises:
        """Reads them all."""
        promises = cls()
        for ledger in ledgers:
            promises._read(lines_of(ledger))
        return promises

    def _read(self, lines: list[dict[str, Any]]) -> None:
        asked: dict[tuple[str, str], float] = {}
        key = ""
        tail: list[tuple[int, float]] = []
        for line in lines:
            did, at = line["did"], line["at"]
            if did == "started":
                key, tail = line["key"], []
            elif did == "logged":
                tail.append((line["step"], at))
            elif did == "saved":
                self.saved[line["checkpoint"]] = Saved(line["checkpoint"], key, line["step"])
            elif did == "forked":
                self.forks[line["key"]] = Saved(line["checkpoint"], line["of"], line["step"])
            elif did in ("deleting", "restoring"):
                for checkpoint in line["checkpoints"]:
                    asked[did, checkpoint] = at
                    if did == "deleting":
                        self.deletions[checkpoint].append((at, NEVER))
            elif did == "deleted":
                for checkpoint in line["checkpoints"]:
                    began = asked["deleting", checkpoint]
                    self.deletions[checkpoint].remove((began, NEVER))
                    self.deletions[checkpoint].append((began, at))
            elif did == "restored":
                for checkpoint in line["checkpoints"]:
                    self.restored[checkpoint].append(asked["restoring", checkpoint])
            elif did == "wrong":
                self.wrong.append(line["what"])
            elif did == "refused":
                self.refused[line["what"]] += 1
        if key:
            self.tails[key] = tail
