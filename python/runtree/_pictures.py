"""What a picture is given as, and what is kept of it: bytes of a known format as they are, anything else as pixels of 8 bits."""

from __future__ import annotations

import io
import os
import struct
from importlib import import_module
from typing import Any, cast

from runtree.errors import Invalid, InvalidType, NotFound

_MOST_BYTES = 64 << 20
_LONGEST_SIDE = 1 << 16
# Floats beyond 0 to 1 by more than this were meant as something else: -1 to 1, 0 to 255.
_SLACK = 0.5

_Converted = tuple[str, "tuple[int, int] | None", "bytes | tuple[int, int, int, bytes]"]

_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def convert(value: Any) -> _Converted:
    """Content type, pixels across and down, and bytes or pixels."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _encoded(bytes(cast("bytes", value)))
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(cast("str | os.PathLike[str]", value))
        return _encoded(_read(path), path)
    if is_pil(value):
        return _of_pil(value)
    if is_figure(value):
        return _of_figure(value)
    if hasattr(value, "__array__") or hasattr(value, "detach"):
        return _of_array(value)
    raise InvalidType(
        f"a picture can not be made of a {type(value).__name__}",
        hint="pass an array H×W or H×W×C, a PIL image, a matplotlib figure, a path, or the bytes of a PNG or JPEG",
    )


def is_picture(value: Any) -> bool:
    """Whether it is one that nobody need wrap: a PIL image or a matplotlib figure."""
    return is_pil(value) or is_figure(value)


def is_pil(value: Any) -> bool:
    """Whether it is a PIL image; PIL is not imported to find out."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)


def is_figure(value: Any) -> bool:
    """Whether it is a matplotlib figure; matplotlib is not imported to find out."""
    return any(
        kind.__module__ == "matplotlib.figure" and kind.__name__ in ("Figure", "FigureBase")
        for kind in type(value).__mro__
    )


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no picture {path!r}") from error
    except OSError as error:
        raise Invalid(f"picture {path!r} can not be read: {error}") from error
    return data


def _encoded(data: bytes, path: str | None = None) -> _Converted:
    what = "a picture" if path is None else f"picture {path!r}"
    if len(data) > _MOST_BYTES:
        raise Invalid(f"{what} is larger than {_MOST_BYTES >> 20} MiB")
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        return "image/png", struct.unpack(">II", data[16:24]), data
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", _jpeg_size(data), data
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        return "image/gif", struct.unpack("<HH", data[6:10]), data
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp", None, data
    hint = "log other files with runtree.File(path)"
    if b"<svg" in data[:1024]:
        # It may hold scripts, and would run where it is shown.
        hint = "an SVG is a program; save it as PNG, or log it with runtree.File(path)"
    raise Invalid(f"{what} is not a PNG, JPEG, GIF or WebP", hint=hint)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        # The frame header has the size; C4, C8 and CC are other things of its range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


def _of_pil(image: Any) -> _Converted:
    if image.mode not in _MODES:
        has_alpha = image.mode in ("PA", "RGBa", "La") or "transparency" in getattr(image, "info", {})
        image = image.convert("RGBA" if has_alpha else "L" if image.mode == "1" else "RGB")
    width, height = image.size
    _check_size(width, height)
    return "image/png", (width, height), (width, height, _MODES[image.mode], image.tobytes())


def _of_figure(figure: Any) -> _Converted:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _encoded(buffer.getvalue())


def _of_array(value: Any) -> _Converted:
    np: Any = import_module("numpy")
    is_tensor = hasattr(value, "detach")
    if is_tensor:
        value = value.detach().cpu()
        if not value.dtype.is_floating_point or str(value.dtype) in ("torch.float32", "torch.float64"):
            value = value.numpy()
        else:
            value = value.float().numpy()
    array = np.asarray(value)
    if array.dtype.kind == "V" or array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        array = array.astype(np.float32)
    shape = array.shape
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3 and shape[2] not in (1, 2, 3, 4) and shape[0] in (1, 2, 3, 4):
        # Channels first, as torch has them: they can not be last.
        array = np.moveaxis(array, 0, 2)
    elif array.ndim == 3 and is_tensor and shape[0] in (1, 3) and shape[2] in (1, 2, 3, 4):
        array = np.moveaxis(array, 0, 2)
    elif array.ndim != 3 or shape[2] not in (1, 2, 3, 4):
        raise Invalid(
            f"an array of shape {tuple(shape)} is not a picture",
            hint="H×W, or H×W×C with 1 to 4 channels; log several as a list: [runtree.Image(x) for x in batch]",
        )
    height, width, channels = array.shape
    _check_size(width, height)
    array = _as_bytes(np, array)
    return "image/png", (width, height), (width, height, channels, np.ascontiguousarray(array).tobytes())


def _check_size(width: int, height: int) -> None:
    if not (1 <= width <= _LONGEST_SIDE and 1 <= height <= _LONGEST_SIDE):
        raise Invalid(f"a picture has 1 to {_LONGEST_SIDE} pixels a side, this one {width} x {height}")


def _as_bytes(np: Any, array: Any) -> Any:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise InvalidType(f"a picture is of numbers, not of {array.dtype}")
    low, high = _range(np, array)
    if array.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise Invalid(f"a picture of whole numbers has values from 0 to 255, this one from {low:g} to {high:g}")
        return array.astype(np.uint8)
    if low < -_SLACK or high > 1 + _SLACK:
        raise Invalid(
            f"a picture of floats has values from 0 to 1, this one from {low:g} to {high:g}",
            hint="divide by 255, or map -1 to 1 with (x + 1) / 2",
        )
    clean = np.nan_to_num(array, nan=0.0, posinf=1.0, neginf=0.0)
    return (np.clip(clean, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _range(np: Any, array: Any) -> tuple[float, float]:
    finite = array[np.isfinite(array)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
