"""Reads journals and batches of points with what ``docs/formats/journal.md`` and ``batch.md`` say: no line of runtree is used."""

from __future__ import annotations

import collections
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from blake3 import blake3
from independent_reader import Corrupt, Json, Reader, crc64, need

MAX, ONES = 1 << 26, (1 << 64) - 1
INT, ID = r"(?:0|[1-9]\d*)", "[0-9a-hjkmnp-tv-z]"


def need_version(good: object, why: str) -> None:
    if not good:
        raise NotImplementedError(why)


def number(text: str) -> int:
    """What an id says."""
    return sum("0123456789abcdefghjkmnpqrstvwxyz".index(c) << 5 * i for i, c in enumerate(reversed(text)))


def escape(name: str) -> str:
    text = re.sub(rb"[^A-Za-z0-9_-]", lambda m: b"%%%02X" % ord(m[0]), name.encode()).decode()
    return "~" + blake3(name.encode()).hexdigest() if len(text) > 200 else text or "%"


def word(path: Path) -> str:
    text, _, check = path.read_text().partition(".")
    need(check == blake3(text.encode()).hexdigest()[:16], f"{path}: not what its checksum says")
    return text


def unzstd(data: bytes, size: int) -> bytes:
    try:
        raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Corrupt(str(error)) from None
    need(len(raw) == size, "a zstd frame of another size")
    return raw


class Batch:
    """``points``: ((name, rank or None, sampled by the system), step, timestamp, value) in order of arrival."""

    def __init__(self, data: bytes):
        need_version(data[:4] == b"RTB\x01", "batch version")
        need(data[4] < 2, "batch: flags")
        self.data, self.at = data, 5
        if data[4]:
            size = self.varint()
            need(size <= 88 << 20, "batch: too long")
            self.data, self.at = unzstd(data[self.at :], size), 0
        names, name = [], b""
        for _ in range(self.varint()):
            flags = self.varint()
            rank = self.varint() if flags & 2 else None
            name = name[: self.varint()]
            name += self.take(self.varint())
            names.append((name.decode(), rank, bool(flags & 1)))
        groups = []
        for _ in range(self.varint()):
            indexes = np.cumsum([self.zigzag() for _ in range(self.varint())], dtype=np.int64) - 1
            need(all(0 <= i < len(names) for i in indexes), "batch: series")
            groups.append(([names[i] for i in indexes], self.varint()))
            need(groups[-1][0] and groups[-1][1], "batch: an empty group")
        total = sum(n for _, n in groups)
        need(sum(len(series) * n for series, n in groups) <= 2 << 20, "batch: too many points")
        order = self.words(total, 4).tolist() if len(groups) > 1 else [0] * total
        rows = []
        for series, n in groups:
            columns = [self.integers(n), self.integers(n), *(self.floats(n) for _ in series)]
            rows.append(iter([(series, *row) for row in zip(*(c.tolist() for c in columns), strict=True)]))
        need(self.at == len(self.data), "batch: longer than its columns")
        need(collections.Counter(order) == {i: n for i, (_, n) in enumerate(groups)}, "batch: order")
        arrived = [next(rows[group]) for group in order]
        self.points = [(s, at, time, v) for series, at, time, *vs in arrived for s, v in zip(series, vs, strict=True)]

    def take(self, n: int) -> bytes:
        need(n <= len(self.data) - self.at, "batch: too short")
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.take(1)[0]) > 127:
            value, shift = value | (byte & 127) << shift, shift + 7
        return value | byte << shift

    def zigzag(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def words(self, n: int, width: int) -> np.ndarray:
        out, planes = np.zeros(n, np.uint64), self.take(1)[0]
        need(planes <= width, "batch: planes")
        for k in range(planes):
            kind = self.take(1)[0]
            need(kind <= 2, "batch: plane")
            raw = self.take(n) if kind == 0 else self.take(1) * n if kind == 1 else unzstd(self.take(self.varint()), n)
            out |= np.frombuffer(raw, np.uint8).astype(np.uint64) << np.uint64(8 * k)
        return out

    def sums(self, n: int, width: int, first: int, base: int) -> np.ndarray:
        words = self.words(n - 1, width) + np.uint64(base & ONES)
        return np.cumsum(np.append(np.uint64(first & ONES), words), dtype=np.uint64).astype(f"<u{width}")

    def integers(self, n: int) -> np.ndarray:
        first = self.zigzag()
        return self.sums(n, 8, first, self.zigzag()).view("<i8") if n > 1 else np.array([first])

    def floats(self, n: int) -> np.ndarray:
        kind = self.take(1)[0]
        width = 8 if kind & 1 else 4
        need(kind < 6, "batch: column")
        if kind >> 1 == 2:
            bits = self.sums(n, width, *(int.from_bytes(self.take(width), "little") for _ in range(2)))
        else:
            bits = self.words(n, width).astype(f"<u{width}") if kind >> 1 else self.take(n * width)
        return np.frombuffer(bits, f"<f{width}").astype("<f8")


class Journal:
    """``events``, ``points`` (as a batch's) and the running hash after each frame; ``torn``: what follows was never acknowledged."""

    def __init__(self, folder: Path, run: str, writer: str):
        self.events, self.points, self.torn = [], [], False
        ids = number(run).to_bytes(16, "little") + number(writer).to_bytes(8, "little")
        self.hashes = [blake3(b"RTJOURNL" + ids).digest()[:8]]
        pieces = sorted(p for p in folder.iterdir() if re.fullmatch(r"\d{20}\.log", p.name))
        for piece, after in zip(pieces, [*pieces[1:], None], strict=True):
            self.data, at, end = piece.read_bytes(), 0, int(after.stem) if after else -1
            head = struct.pack("<8sHHI24sQ8s", b"RTJOURNL", 1, 0, 0, ids, self.next, self.hashes[-1])
            newer = self.data[:8] == head[:8] and crc64(self.data[:56]).to_bytes(8, "little") == self.data[56:64]
            need_version(not newer or self.data[8:10] == head[8:10], "journal version")
            good = self.data[:64] == head + struct.pack("<Q", crc64(head)) and int(piece.stem) == self.next
            at = 64 * good
            while good and self.next != end and at < len(self.data):
                good, at = self.frame(at)
            need(after is None or self.next == end, f"{piece}: a hole before the next piece")
            need(good or not any(map(self.whole, range(at + 1, len(self.data) - 28))), f"{piece}: damaged at {at}")
            self.torn = not good

    @property
    def next(self) -> int:
        return len(self.hashes) - 1

    def whole(self, at: int) -> bool:
        ordinal, _, size, crc = struct.unpack_from("<QBIQ", self.data, at)
        if ordinal < self.next or size > min(MAX, len(self.data) - at - 29):
            return False
        return crc == crc64(self.data[at : at + 13] + self.data[at + 29 : at + 29 + size])

    def frame(self, at: int) -> tuple[bool, int]:
        if len(self.data) - at < 29 or not self.whole(at):
            return False, at
        ordinal, kind, size = struct.unpack_from("<QBI", self.data, at)
        payload = self.data[at + 29 : at + 29 + size]
        hashed = blake3(self.hashes[-1] + self.data[at : at + 21] + payload).digest()[:8]
        if ordinal != self.next or hashed != self.data[at + 21 : at + 29]:
            return False, at
        need_version(kind < 2, f"frame of kind {kind}")
        self.hashes.append(hashed)
        self.events += [json.loads(payload)] if kind == 0 else []
        self.points += Batch(payload).points if kind else []
        return True, at + 29 + size


class History(Reader):
    """Finds runs, and what they logged."""

    def listed(self, path: str, pattern: str) -> list[str]:
        folder = self.path / path
        return sorted(n for n in os.listdir(folder) if re.fullmatch(pattern, n)) if folder.is_dir() else []

    def find(self, project: str, name: str) -> str:
        """The run of a project with a display id or a key."""
        folder = self.path / "projects" / escape(project)
        display = re.fullmatch(rf"{re.escape(word(folder / 'prefix'))}-({INT})", name)
        for path in ([folder / "numbers" / display[1]] if display else []) + [folder / "keys" / escape(name)]:
            if path.is_file() and (self.path / "runs" / word(path) / "run").is_file():
                return word(path)
        raise LookupError(name)

    def journal(self, run: str, writer: str) -> Journal:
        return Journal(self.path / f"runs/{run}/journal/{writer}", run, writer)

    def check_position(self, run: str, part: Json) -> None:
        """Demands that the journal of the part's writer is as long, and the same, as the part recorded."""
        at = part["journal"]
        hashes = self.journal(run, at["writer"]).hashes
        good = at["ordinal"] < len(hashes) and hashes[at["ordinal"]][::-1].hex() == at["hash"]
        need(good, f"journal {at['writer']}: not what was recorded in {part['key']}")

    def history(self, run: str, attempt: int | None = None) -> dict[tuple[Any, ...], dict[int, tuple[int, float]]]:
        """Time and value by series and step: what an attempt (the newest) inherits, and what it logged itself."""
        attempt = attempt or max(int(n) for n in self.listed(f"runs/{run}/attempts", r"[1-9]\d*"))
        base = self.record(f"runs/{run}/attempts/{attempt}", "runtree.attempt")["base"]
        journals = [self.journal(run, w) for w in self.listed(f"runs/{run}/journal", ID + "{13}")]
        journals.sort(key=lambda j: (j.events[0]["attempt"] or 0, j.events[0]["at"]) if j.events else (0, 0))
        mine = [j for j in journals if j.events and j.events[0]["attempt"] == attempt]
        lowered = [e["first"] for j in mine for e in j.events if e["event"] == "start_lowered"]
        out: dict[tuple[Any, ...], dict[int, tuple[int, float]]] = collections.defaultdict(dict)
        start = min([base["step"], *lowered]) if base else -(1 << 63)
        if base:
            last = min([base["step"], *(first - 1 for first in lowered)])
            for series, points in self.history(base["run"], base["attempt"]).items():
                out[series] |= {step: point for step, point in points.items() if step <= last and not series[2]}
        for journal in journals:
            for series, step, *point in journal.points:
                if series[2] or (journal in mine and step >= start):
                    out[series][step] = tuple(point)
        return {series: dict(sorted(points.items())) for series, points in out.items() if points}
