"""Restores checkpoints with what ``docs/formats`` says and nothing else: no line of runtree is in it. So it tests the pages."""

from __future__ import annotations

import base64
import collections
import datetime
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from blake3 import blake3

Json = dict[str, Any]
MIB = 1 << 20
CRC_TABLE = list(range(256))
for _ in range(8):
    CRC_TABLE = [crc >> 1 ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0) for crc in CRC_TABLE]
DTYPES = {"bool": "?", "u8": "u1", "i8": "i1", "bf16": "<u2", "c32": "<u4", "c64": "<c8", "c128": "<c16"}
DTYPES |= {f"f8_{kind}": "u1" for kind in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu")}
DTYPES |= {f"{kind}{8 * size}": f"<{kind}{size}" for kind in "uif" for size in (2, 4, 8)}
# `array` has the bits as unsigned integers where numpy lacks the dtype (bf16, fp8, c32).
Tensor = collections.namedtuple("Tensor", "node record array")
FACTORIES = {kind.__name__: kind for kind in (int, float, str, bool, list, dict, set, tuple)} | {None: None}


class Corrupt(Exception):
    """What is there is not what was written."""


def need(good: object, why: str) -> None:
    if not good:
        raise Corrupt(why)


def dtype_of(name: str) -> np.dtype:
    return np.dtype(name[6:] if name.startswith("numpy:") else DTYPES[name])


def crc64(data: bytes) -> int:
    crc = (1 << 64) - 1
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ (1 << 64) - 1


def encoded_object(data: bytes, size: int, base: bytes | None = None) -> bytes:
    """The raw bytes of a ``.z`` object, or of a ``.d~`` object, whose base's raw bytes are ``base``."""
    raw_size, blocks, version, w, depth, reserved, crc, magic = struct.unpack("<QIBBBBQ4s", data[-28:].rjust(28))
    magics, entry = ((b"RTPLANES", b"RTZE"), 4) if base is None else ((b"RTXDELTA", b"RTDE"), 12)
    tables = data[-28 - entry * blocks : -28]
    need((data[:8], magic) == magics and crc == crc64(tables + data[-28:-12]), "encoded: footer")
    need((version, raw_size, reserved, depth > 0) == (1, size, 0, base is not None), "encoded: version, size, depth")
    need(blocks == -(-size // MIB), "encoded: blocks")
    out, at = b"", 8
    for (word,) in struct.iter_unpack("<I", tables[: 4 * blocks]):
        block, under = min(MIB, size - len(out)), (base or bytes(size))[len(out) : len(out) + MIB]
        stored = data[at : at + (word & 0x7FFFFFFF)]
        at += word & 0x7FFFFFFF
        if not word >> 31:
            planes, n = zstandard.decompress(stored, max_output_size=block) if word else bytes(block), block // w
            need(len(planes) == block and (word or base), "encoded: block")
            joined = np.frombuffer(planes[: n * w], np.uint8).reshape(w, n).T.tobytes() + planes[n * w :]
            stored = (np.frombuffer(joined, np.uint8) ^ np.frombuffer(under, np.uint8)).tobytes()
        out += stored
    return out


class Reader:
    def __init__(self, path: Path):
        self.path = path
        need(not self.record("runtree.json", "runtree.store")["required_to_read"], "features of a newer version")

    def record(self, path: str, form: str, hashed: str | None = None) -> Json:
        """A record, checked by the hash that its commit has of it, or by its own checksum."""
        need((self.path / path).is_file(), f"{path}: missing")
        data = (self.path / path).read_bytes()
        sealed = data.endswith(f',"check":"{blake3(data[:-28]).hexdigest()[:16]}"}}'.encode())
        need(sealed if hashed is None else blake3(data).hexdigest() == hashed, f"{path}: damaged")
        value = json.loads(data)
        need((value["format"], value["version"]) == (form, 1), f"{path}: no {form} of version 1")
        return value

    def checkpoints(self, run: str) -> dict[str, Json]:
        """The commits of the checkpoints that exist, by save key."""
        folder, found = self.path / "runs" / run, {}
        for key in sorted(path.name for path in folder.glob("commits/*")):
            commit = self.record(f"runs/{run}/commits/{key}", "runtree.commit")
            need((commit["run"], commit["key"]) == (run, key), f"commit {key} is of another save")
            newest = max((int(path.suffix[1:]) for path in folder.glob(f"tombstones/{key}.*")), default=1)
            if commit["outcome"] == "committed" and newest % 2:
                found[key] = commit
        return found

    def part(self, run: str, key: str, component: str = "trainer", rank: int = 0) -> Json:
        named = {(part["component"], part["rank"]): part["hash"] for part in self.checkpoints(run)[key]["parts"]}
        path = f"runs/{run}/parts/{key}/{component}-{rank}"
        part = self.record(path, "runtree.part", named[component, rank])
        need({(c, r) for c, n in part["parts"].items() for r in range(n)} == {*named}, f"{path}: other parts")
        return part

    def raw(self, name: str, size: int, depth: int = 0) -> bytes:
        """The raw bytes that have a hash, from any healthy object."""
        why = "no object"
        need(depth <= 8, "a chain of more than 8 differences")
        for path in (self.path / "chunks" / name[:2]).glob(name + ".*"):
            try:
                base = self.raw(path.suffix[3:], size, depth + 1) if path.suffix.startswith(".d~") else None
                raw = path.read_bytes()
                raw = encoded_object(raw, size, base) if base or path.suffix == ".z" else raw
                need(len(raw) == size and blake3(raw).hexdigest() == name, "BLAKE3 of the chunk")
                return raw
            except (Corrupt, zstandard.ZstdError) as error:
                why = f"{path.name}: {error}"
        raise Corrupt(why)

    def chunk(self, chunk: Json) -> bytes:
        raw = self.raw(chunk["hash"], chunk["bytes"])
        blocks = (raw[at : at + MIB] for at in range(0, len(raw), MIB))
        need("".join(f"{crc64(block):016x}" for block in blocks) == chunk["crc64"], "CRC-64 of a block")
        return raw

    def extents(self, part: Json) -> Any:
        chunks = [self.chunk(chunk) for chunk in part["chunks"]]
        return lambda extents: b"".join(chunks[e["chunk"]][e["offset"] :][: e["bytes"]] for e in extents)

    def restore_dir(self, part: Json, target: Path) -> None:
        extents = self.extents(part)
        for entry in part["entries"]:
            need(not {"", ".", ".."} & {*entry["path"].split("/")}, f"{entry['path']!r} leaves its directory")
            path = target / entry["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry["kind"] == "file":
                path.write_bytes(extents(entry["extents"]))
            elif entry["kind"] == "symlink":
                path.symlink_to(entry["target"])
            else:
                path.mkdir(exist_ok=True)
        for entry in sorted(part["entries"], key=lambda entry: entry["path"], reverse=True):
            if "mode" in entry:  # after what lies below is there: a directory may forbid to write into it
                (target / entry["path"]).chmod(entry["mode"])

    def restore_state(self, part: Json, path: str = "state") -> Any:
        """A state. What only the saving program can make (its classes, torch's own) is ``(t, what, …)``."""
        (entry,) = (entry for entry in part["entries"] if entry["path"] == path)
        extents, arrays = self.extents(part), {}

        def tensor(n: Json) -> Tensor:
            record, view = entry["tensors"][n["tensor"]], n.get("view")
            if n["tensor"] not in arrays:
                data = np.frombuffer(extents(record["extents"]), np.uint8)
                arrays[n["tensor"]] = data.view(dtype_of(record["dtype"])).reshape(record["shape"])
            array = arrays[n["tensor"]]
            if view:
                at, strides = view["offset"] * array.itemsize, [s * array.itemsize for s in view["strides"]]
                array = np.ndarray(view["shape"], array.dtype, array, at, strides)
            return Tensor(n, record, array)

        def binary(n: Json) -> bytes | bytearray:
            data = extents(entry["blobs"][n["blob"]]) if "blob" in n else base64.b64decode(n["v"])
            return bytearray(data) if n.get("mutable") else data

        def mapping(n: Json) -> Any:
            kind, pairs = n.get("kind"), dict(zip(map(value, n["k"]), map(value, n["v"]), strict=True))
            if isinstance(kind, dict):
                return collections.defaultdict(FACTORIES[kind["default"]], pairs)
            return {None: dict, "ordered": collections.OrderedDict, "counter": collections.Counter}[kind](pairs)

        def moment(n: Json) -> Any:
            kind = getattr(datetime, n["class"].replace("_", ""))
            return kind(microseconds=int(n["v"])) if kind is datetime.timedelta else kind.fromisoformat(n["v"])

        kinds = {
            **dict.fromkeys(("none", "bool", "str"), lambda n: n.get("v")),
            **dict.fromkeys(("torch_size", "torch_dtype", "torch_device", "path"), lambda n: (n["t"], n["v"])),
            **dict.fromkeys(("bytes", "long_bytes"), binary),
            **{kind.__name__: lambda n, kind=kind: kind(n["v"]) for kind in (int, float)},
            "tensor": tensor,
            "dict": mapping,
            "date_time": moment,
            "complex": lambda n: complex(float(n["re"]), float(n["im"])),
            "long_str": lambda n: binary(n).decode("utf-8", "surrogatepass"),
            "list": lambda n: [*map(value, n["v"])],
            "tuple": lambda n: (*map(value, n["v"]),),
            "named_tuple": lambda n: (n["t"], n["class"], dict(zip(n["fields"], map(value, n["v"]), strict=True))),
            "deque": lambda n: collections.deque(map(value, n["v"]), n["maxlen"]),
            "set": lambda n: (frozenset if n["frozen"] else set)(map(value, n["v"])),
            "numpy_scalar": lambda n: np.frombuffer(base64.b64decode(n["v"]), dtype_of(n["dtype"]))[0],
            "enum": lambda n: ("enum", n["class"], n["name"], value(n["value"])),
            "stateful": lambda n: ("stateful", n["class"], value(n["state"])),
        }

        def value(n: Json) -> Any:
            return kinds[n["t"]](n)

        return value(entry["tree"])
