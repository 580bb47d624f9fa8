"""Tensors where neither their framework nor numpy is installed: memoryviews of their bytes.

A dtype that :mod:`struct` knows keeps its shape and items; any other (bf16, fp8, complex) is a view of raw bytes.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

_FORMATS = {
    "bool": "?", "u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i",
    "u64": "Q", "i64": "q", "f16": "e", "f32": "f", "f64": "d",
}  # fmt: skip
_BYTES = {"bf16": 2, "c32": 4, "c64": 8, "c128": 16}


def item_bytes(dtype: str) -> int:
    """Bytes of an element."""
    if dtype in _FORMATS:
        return struct.calcsize("=" + _FORMATS[dtype])
    if dtype.startswith("f8"):
        return 1
    if dtype.startswith("numpy:"):
        kind, size = dtype[7], dtype[8:].partition("[")[0]
        return int(size) * (4 if kind == "U" else 1)
    return _BYTES[dtype]


def empty(dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
    """New memory and its address."""
    count = 1
    for size in shape:
        count *= size
    buffer = bytearray(count * item_bytes(dtype))
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0
    view: Any = memoryview(buffer)
    # memoryview can not cast to a shape with a zero in it.
    if dtype in _FORMATS and dtype != "f16" and buffer:
        view = view.cast(_FORMATS[dtype], shape=shape)
    return view, address


def leaf(base: memoryview, view: object, parameter: bool, requires_grad: bool, device: str | None) -> memoryview:
    """The leaf is the memory itself; of a shared storage, all of it."""
    return base


def scalar(dtype: str, data: bytes) -> Any:
    """A numpy scalar as a Python one, or its bytes."""
    if dtype in _FORMATS:
        return struct.unpack("<" + _FORMATS[dtype], data)[0]
    return data


def size(sizes: list[int]) -> tuple[int, ...]:
    """A ``torch.Size``."""
    return tuple(sizes)


def dtype(name: str) -> str:
    """A ``torch.dtype``."""
    return f"torch.{name}"


def device(name: str) -> str:
    """A ``torch.device``."""
    return name
