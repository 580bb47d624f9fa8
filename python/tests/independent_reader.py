"""Reads a store with what ``docs/formats`` says and nothing else: no line of runtree is used, so it tests the documentation."""

from __future__ import annotations

import collections
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import blake3
import numpy as np
from independent_points import Corrupt, Journal, crc64, need, unzstd
from independent_state import state

MIB, INT, ID = 1 << 20, r"(?:0|[1-9]\d*)", "[0-9a-hjkmnp-tv-z]"
KEY = rf"{INT}-(?:0|n?[1-9]\d*)-{INT}"


def digest(data: bytes) -> str:
    return blake3.blake3(data).hexdigest()


def escape(name: str) -> str:
    text = re.sub(rb"[^A-Za-z0-9_-]", lambda m: b"%%%02X" % ord(m[0]), name.encode()).decode()
    return "~" + digest(name.encode()) if len(text) > 200 else text or "%"


def word(path: Path) -> str:
    text, _, check = path.read_text().partition(".")
    need(check == digest(text.encode())[:16], f"{path}: not what its checksum says")
    return text


def planes_object(data: bytes, size: int) -> bytes:
    """The raw bytes of a ``.z`` object."""
    raw, blocks, version, w, reserved, crc, magic = struct.unpack("<QIBBHQ4s", data[-28:].rjust(28))
    sizes, out, at = data[-28 - 4 * blocks : -28], b"", 8
    need(data[:8] == b"RTPLANES" and magic == b"RTZE" and crc == crc64(sizes + data[-28:-12]), "planes: footer")
    need(version == 1, "planes: version", NotImplementedError)
    need(raw == size and blocks == -(-raw // MIB) and w in (1, 2, 4, 8, 16) and not reserved, "planes: footer")
    for (word,) in struct.iter_unpack("<I", sizes):
        block, stored = min(MIB, raw - len(out)), data[at : at + (word & 0x7FFFFFFF)]
        at += word & 0x7FFFFFFF
        if not word >> 31:
            planes, n = unzstd(stored, block), block // w
            stored = np.frombuffer(planes[: n * w], np.uint8).reshape(w, n).T.tobytes() + planes[n * w :]
        need(len(stored) == block, "planes: block")
        out += stored
    need(at + 4 * blocks + 28 == len(data), "planes: size")
    return out


class Reader:
    def __init__(self, path: Path):
        self.path, self.raw = Path(path), {}
        needed = self.record("runtree.json", "runtree.store")["required_to_read"]
        need(not needed, f"features of a newer version: {needed}", NotImplementedError)

    def record(self, path: str, form: str, hashed: str | None = None) -> dict[str, Any]:
        need((self.path / path).is_file(), f"{path}: missing")
        data = (self.path / path).read_bytes()
        need(hashed in (None, digest(data)), f"{path}: not the bytes that the commit names")
        sealed = f',"check":"{digest(data[:-28])[:16]}"}}'.encode()
        need(form == "runtree.part" or data[-28:] == sealed, f"{path}: not what its checksum says")
        try:
            value = json.loads(data)
        except ValueError as error:
            raise Corrupt(f"{path}: {error}") from None
        need(list(value)[:2] == ["format", "version"] and value["format"] == form, f"{path}: no {form}")
        need(value["version"] == 1, f"{path}: version", NotImplementedError)
        spelled = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        need(form != "runtree.commit" or spelled == data, f"{path}: another spelling")
        return value

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

    def checkpoints(self, run: str) -> dict[str, dict[str, Any]]:
        """The commits of the checkpoints that exist, by save key."""
        top: dict[str, int] = {}
        for key, i in (n.rsplit(".", 1) for n in self.listed(f"runs/{run}/tombstones", rf"{KEY}\.{INT}")):
            top[key] = max(int(i), top.get(key, 0))
        keys = (k for k in self.listed(f"runs/{run}/commits", KEY) if top.get(k, 1) % 2)
        commits = {k: self.record(f"runs/{run}/commits/{k}", "runtree.commit") for k in keys}
        for key, commit in commits.items():
            good = (commit["run"], commit["key"]) == (run, key) and commit["outcome"] in ("committed", "abandoned")
            need(good and bool(commit["parts"]) == (commit["outcome"] == "committed"), f"commit {key}")
        return {k: c for k, c in commits.items() if c["parts"]}

    def part(self, run: str, key: str, component: str = "trainer", rank: int = 0) -> dict[str, Any]:
        named = {(p["component"], p["rank"]): p["hash"] for p in self.checkpoints(run)[key]["parts"]}
        path = f"runs/{run}/parts/{key}/{component}-{rank}"
        manifest = self.record(path, "runtree.part", named[component, rank])
        at = manifest["journal"]
        hashes = self.journal(run, at["writer"]).hashes
        good = at["ordinal"] < len(hashes) and hashes[at["ordinal"]][::-1].hex() == at["hash"]
        need(good, f"journal {at['writer']}: not what was recorded in {key}")
        need({(c, r) for c, n in manifest["parts"].items() for r in range(n)} == {*named}, f"{path}: other parts")
        self.raw = {}
        return manifest

    def journal(self, run: str, writer: str) -> Journal:
        return Journal(self.path / f"runs/{run}/journal/{writer}", run, writer)

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

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """The raw bytes of a chunk, from any healthy object."""
        folder, why = f"chunks/{chunk['hash'][:2]}", "no object"
        names = self.listed(folder, rf"{chunk['hash']}\.{ID}{{13}}(\.z)?")
        for name in sorted(names, key=lambda n: n != chunk["object"]):
            try:
                raw = (self.path / folder / name).read_bytes()
                raw = planes_object(raw, chunk["bytes"]) if name.endswith(".z") else raw
                crcs = "".join(f"{crc64(raw[i : i + MIB]):016x}" for i in range(0, len(raw), MIB))
                need(len(raw) == chunk["bytes"] and crcs == chunk["crc64"], "CRC-64 of a block")
                need(digest(raw) == chunk["hash"], "BLAKE3 of the chunk")
                return raw
            except Corrupt as error:
                why = f"{name}: {error}"
        raise Corrupt(why)

    def extents(self, part: dict[str, Any], extents: list[dict[str, int]]) -> bytes:
        need(all(e["offset"] + e["bytes"] <= part["chunks"][e["chunk"]]["bytes"] for e in extents), "extent")
        for chunk in (part["chunks"][e["chunk"]] for e in extents):
            self.raw[chunk["hash"]] = self.raw.get(chunk["hash"]) or self.chunk(chunk)
        pieces = ((self.raw[part["chunks"][e["chunk"]]["hash"]], e["offset"], e["bytes"]) for e in extents)
        return b"".join(raw[at : at + n] for raw, at, n in pieces)

    def restore_dir(self, part: dict[str, Any], target: Path) -> None:
        entries = {entry["path"]: entry for entry in part["entries"]}
        need(len(entries) == len(part["entries"]), "a path stands twice")
        for path, entry in entries.items():
            bad = {"", ".", ".."} & {*path.split("/")} or re.search(r"[\\:\0]", path)
            need(
                not bad
                and not any(
                    entries.get(str(p), {}).get("kind", "directory") != "directory" for p in Path(path).parents
                ),
                path,
            )
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            if entry["kind"] == "file":
                data = self.extents(part, entry["extents"])
                need(len(data) == entry["bytes"], f"{path}: length")
                (target / path).write_bytes(data)
                (target / path).chmod(entry["mode"])
            elif entry["kind"] == "symlink":
                (target / path).symlink_to(entry["target"])
            else:
                (target / path).mkdir(exist_ok=True)
        for path in sorted((p for p, e in entries.items() if e["kind"] == "directory"), reverse=True):
            (target / path).chmod(entries[path]["mode"])

    def state(self, part: dict[str, Any], path: str = "state") -> Any:
        (entry,) = (e for e in part["entries"] if e["path"] == path)
        return state(entry, lambda extents: self.extents(part, extents))
