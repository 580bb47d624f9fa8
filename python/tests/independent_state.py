"""Reads state trees with what ``docs/formats/records.md`` says: no line of runtree is used."""

from __future__ import annotations

import base64
import collections
import datetime
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from independent_points import need

DTYPES = {"bool": "?", "u8": "u1", "i8": "i1", "bf16": "<u2", "c32": "<u4", "c64": "<c8", "c128": "<c16"}
DTYPES |= {f"f8_{kind}": "u1" for kind in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu")}
DTYPES |= {f"{kind}{8 * n}": f"<{kind}{n}" for kind in "uif" for n in (2, 4, 8)}
FACTORIES = {kind.__name__: kind for kind in (int, float, str, bool, list, dict, set, tuple)} | {None: None}
DICTS = {None: dict, "ordered": collections.OrderedDict, "counter": lambda pairs: collections.Counter(dict(pairs))}


class Tensor(NamedTuple):
    node: dict[str, Any]
    record: dict[str, Any]
    array: np.ndarray  # the bits as unsigned integers if numpy lacks the dtype (bf16, fp8, c32)


def dtype_of(name: str) -> np.dtype:
    return np.dtype(name[6:] if name.startswith("numpy:") else DTYPES[name])


def state(entry: dict[str, Any], read: Callable[[list[dict[str, int]]], bytes]) -> Any:
    """A state; what only the saving program can make (classes, torch's own) is ``(t, what, …)``."""
    arrays: dict[int, np.ndarray] = {}

    def tensor(n: dict[str, Any]) -> Tensor:
        record, view = entry["tensors"][n["tensor"]], n.get("view")
        if n["tensor"] not in arrays:
            data = np.frombuffer(read(record["extents"]), np.uint8)
            arrays[n["tensor"]] = data.view(dtype_of(record["dtype"])).reshape(record["shape"])
        array = arrays[n["tensor"]]
        if view:
            size = array.itemsize
            strides = [s * size for s in view["strides"]]
            array = np.ndarray(view["shape"], array.dtype, array, view["offset"] * size, strides)
        return Tensor(n, record, array)

    def blob(n: dict[str, Any]) -> bytes:
        return read(entry["blobs"][n["blob"]])

    def binary(n: dict[str, Any]) -> bytes | bytearray:
        data = blob(n) if "blob" in n else base64.b64decode(n["v"], validate=True)
        return bytearray(data) if n.get("mutable") else data

    def mapping(n: dict[str, Any], values: list[Any]) -> Any:
        pairs, kind = zip((node(k) for k in n["k"]), values, strict=True), n.get("kind")
        return (
            collections.defaultdict(FACTORIES[kind["default"]], pairs) if isinstance(kind, dict) else DICTS[kind](pairs)
        )

    def moment(n: dict[str, Any]) -> Any:
        if n["class"] == "time_delta":
            return datetime.timedelta(microseconds=int(n["v"]))
        return getattr(datetime, n["class"].replace("_", "")).fromisoformat(n["v"])

    many = {
        "list": lambda n, v: v,
        "tuple": lambda n, v: tuple(v),
        "named_tuple": lambda n, v: ("named_tuple", n["class"], dict(zip(n["fields"], v, strict=True))),
        "dict": mapping,
        "deque": lambda n, v: collections.deque(v, n["maxlen"]),
        "set": lambda n, v: frozenset(v) if n["frozen"] else set(v),
    }
    one = {
        **dict.fromkeys(("none", "bool", "str"), lambda n: n.get("v")),
        "int": lambda n: int(n["v"]),
        "float": lambda n: float(n["v"]),
        "complex": lambda n: complex(float(n["re"]), float(n["im"])),
        "long_str": lambda n: blob(n).decode("utf-8", "surrogatepass"),
        **dict.fromkeys(("bytes", "long_bytes"), binary),
        "tensor": tensor,
        "numpy_scalar": lambda n: np.frombuffer(base64.b64decode(n["v"]), dtype_of(n["dtype"]))[0],
        **dict.fromkeys(("torch_size", "torch_dtype", "torch_device", "path"), lambda n: (n["t"], n["v"])),
        "date_time": moment,
        "enum": lambda n: ("enum", n["class"], n["name"], node(n["value"])),
    }

    def node(n: dict[str, Any], depth: int = 0) -> Any:
        need(depth <= 60, "nested too deep")
        if n["t"] == "stateful":
            return "stateful", n["class"], node(n["state"], depth + 1)
        need(n["t"] in one or n["t"] in many, n["t"], NotImplementedError)
        return one[n["t"]](n) if n["t"] in one else many[n["t"]](n, [node(v, depth + 1) for v in n["v"]])

    return node(entry["tree"])
