"""What the native module asks about numpy arrays."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import numpy as np

from runtree import _warn

# By dtype.name: ml_dtypes' types have a void `str`.
_BY_NAME = {
    "bool": "bool", "uint8": "u8", "int8": "i8", "uint16": "u16", "int16": "i16", "uint32": "u32", "int32": "i32",
    "uint64": "u64", "int64": "i64", "float16": "f16", "float32": "f32", "float64": "f64", "complex64": "c64",
    "complex128": "c128", "bfloat16": "bf16", "float8_e4m3fn": "f8_e4m3fn", "float8_e5m2": "f8_e5m2",
    "float8_e4m3fnuz": "f8_e4m3fnuz", "float8_e5m2fnuz": "f8_e5m2fnuz", "float8_e8m0fnu": "f8_e8m0fnu",
}  # fmt: skip
_TO_NAME = {ours: theirs for theirs, ours in _BY_NAME.items()}
# Where the dtype's own package is missing: its bits.
_RAW = {"bf16": "uint16", "c32": "uint32"}


def dtype_text(dtype: np.dtype[Any]) -> str | None:
    """The name in state trees of a little-endian dtype."""
    known = _BY_NAME.get(dtype.name)
    if known is not None:
        return known
    if dtype.kind in "USMmV" or (dtype.kind in "fc" and dtype.itemsize in (16, 32)):
        text = dtype.str
        plain_void = dtype.kind != "V" or (dtype.names is None and dtype.subdtype is None and dtype.type is np.void)
        if plain_void and text[0] in "<|":
            return f"numpy:{text}"
    return None


def dtype_of(text: str) -> np.dtype[Any]:
    """The dtype of a name in state trees."""
    if text.startswith("numpy:"):
        return np.dtype(text[6:])
    name = _TO_NAME.get(text)
    if name is not None:
        try:
            return np.dtype(name)
        except TypeError:
            pass
        try:
            import ml_dtypes

            return np.dtype(getattr(ml_dtypes, name))
        except (ImportError, AttributeError):
            pass
    raw = _RAW.get(text, "uint8")
    _warn.once(f"dtype {text}", f"numpy has no {text}: tensors of it are loaded as {raw} (pip install ml_dtypes)")
    return np.dtype(raw)


def _address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def describe(array: Any) -> Any:
    """What there is to save of an array, or why it can not be saved."""
    if type(array) is not np.ndarray and not isinstance(array, np.memmap):
        return f"is a {type(array).__module__}.{type(array).__qualname__}; save numpy.asarray(it)"
    if array.dtype.hasobject:
        return "is an array of Python objects"
    if array.dtype.names is not None:
        return "is a structured array; save its fields one by one"
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    text = dtype_text(array.dtype)
    if text is None:
        return f"has the numpy dtype {array.dtype}, which is not supported"
    strides: tuple[int, ...] | None = None
    if not array.flags.c_contiguous:
        item = array.dtype.itemsize
        # A view that runs backwards, or not in whole elements, has no place in a tree: its values are copied.
        if item == 0 or any(stride < 0 or stride % item for stride in array.strides):
            array = np.ascontiguousarray(array).reshape(array.shape)
        else:
            strides = tuple(stride // item for stride in array.strides)
    return _described(array, text, strides)


def _described(array: Any, text: str, strides: tuple[int, ...] | None) -> Any:
    return Described(array, text, array.shape, strides, _address(array))


class Described:
    """An array in host memory; the native module reads the fields."""

    parameter = False
    requires_grad = False
    device = None
    global_shape: tuple[int, ...] | None = None
    global_offset: tuple[int, ...] | None = None
    __slots__ = ("address", "dtype", "owner", "shape", "strides")

    def __init__(
        self, owner: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...] | None, address: int
    ) -> None:
        self.owner = owner
        self.dtype = dtype
        self.shape = shape
        self.strides = strides
        self.address = address


def dense(array: Any) -> tuple[Any, int]:
    """A row-major copy and its address."""
    array = np.ascontiguousarray(array)
    return array, _address(array)


def scalar_bytes(value: Any) -> Any:
    """A numpy scalar's dtype and bytes, or why it can not be saved."""
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.names is not None:
        return f"is a numpy scalar of dtype {array.dtype}, which is not supported"
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    text = dtype_text(array.dtype)
    if text is None:
        return f"has the numpy dtype {array.dtype}, which is not supported"
    return text, array.tobytes()


def scalar(dtype: str, data: bytes) -> Any:
    """A numpy scalar."""
    kind = dtype_of(dtype)
    if kind.itemsize == 0:
        return np.zeros((), kind)[()]
    return np.frombuffer(data, kind, count=1)[0]


def empty(dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
    """A new array and its address."""
    array = np.empty(shape, dtype_of(dtype))
    return array, _address(array)


def leaf(
    base: Any,
    view: tuple[int, tuple[int, ...], tuple[int, ...]] | None,
    parameter: bool,
    requires_grad: bool,
    device: str | None,
) -> Any:
    """The leaf: the array, or a view of a shared one."""
    if view is None:
        return base
    offset, shape, strides = view
    item = base.dtype.itemsize
    return np.lib.stride_tricks.as_strided(base[offset:], shape, tuple(stride * item for stride in strides))


def target(array: Any, dtype: str, shape: tuple[int, ...], own: Any) -> tuple[int, list[int], list[int]] | str:
    """Which elements an array takes of a tensor, and where they may be read to; or why it does not fit.

    ``shape`` is the whole tensor's, ``own`` offset and shape of this rank's shard. The address is 0 if they have to be copied.
    """
    offset, wanted = [0] * len(shape), list(shape)
    if array.shape != tuple(shape):
        if own is None or array.shape != tuple(own[1]):
            return f"has shape {tuple(array.shape)}, the checkpoint {tuple(shape)}"
        offset, wanted = own
    if array.dtype != dtype_of(dtype):
        return f"has dtype {array.dtype}, the checkpoint {dtype}"
    if not array.flags.writeable:
        return "is read-only"
    direct = array.flags.c_contiguous and array.dtype.isnative
    return _address(array) if direct else 0, offset, wanted


def copy_into(array: Any, value: Any) -> None:
    """Copies a loaded leaf into the caller's array."""
    array[...] = np.asarray(value)
