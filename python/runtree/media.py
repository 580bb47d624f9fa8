"""What can be logged besides numbers, and what comes back of it.

    run.log({"samples": [runtree.Image(x, caption="a") for x in batch], "weights": runtree.Histogram(w), "note": "warm-up is over"})
    run.media("samples")[-1].to_pil()

None of these imports numpy, PIL, matplotlib, pandas or torch before it is given something of theirs.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from runtree import _pictures
from runtree.checkpoint import time as _time
from runtree.errors import Invalid, InvalidType, NotFound

if TYPE_CHECKING:
    from runtree.stored import StoredRun

_MOST_BYTES = 64 << 20
_PAGE = 1000


class Payload(NamedTuple):
    """An item on its way to the store."""

    content_type: str
    caption: str | None
    file_name: str | None
    size: tuple[int, int] | None
    data: bytes | tuple[int, int, int, bytes]
    """Bytes, or width, height, channels and pixels: those become a PNG later, on a thread of the store's."""


class Media:
    """One of :class:`Image`, :class:`Text`, :class:`Histogram`, :class:`Table`, :class:`File`."""

    kind: str = ""
    payload: Payload

    def __repr__(self) -> str:
        caption = f" {self.payload.caption!r}" if self.payload.caption else ""
        return f"<{type(self).__name__}{caption}>"


def _caption(caption: Any) -> str | None:
    if caption is not None and not isinstance(caption, str):
        raise InvalidType(f"a caption is text, not a {type(caption).__name__}")
    return caption


class Image(Media):
    """A picture: an array H×W or H×W×C (uint8, bool, or floats from 0 to 1; C is 1 to 4), a tensor (also C×H×W), a PIL image,
    a matplotlib
    figure, the path of a picture, or the bytes of a PNG, JPEG, GIF or WebP, which are kept as they are.

    What it is given is copied now: it may change afterwards. A tensor on a device is waited for. Floats a little beyond 0 to 1
    are cut off,
    NaN is black; what is far beyond is refused, since it was meant otherwise.
    """

    kind = "image"

    def __init__(self, value: Any, caption: str | None = None) -> None:
        content_type, size, data = _pictures.convert(value)
        self.payload = Payload(content_type, _caption(caption), None, size, data)


class Text(Media):
    """Text. A plain ``str`` is one, too."""

    kind = "text"

    def __init__(self, text: str, caption: str | None = None) -> None:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"text is a {type(text).__name__}")
        # Lone surrogates, as in file names that are not UTF-8, are shown as question marks.
        self.payload = Payload("text/plain", _caption(caption), None, None, text.encode("utf-8", "replace"))


class Histogram(Media):
    """How often which values occur: of an array or a list, or counted already: ``(counts, edges)`` as ``numpy.histogram``
    returns them.

    What is not finite is counted apart.
    """

    kind = "histogram"

    def __init__(self, values: Any, bins: int = 64, caption: str | None = None) -> None:
        if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= 4096:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(f"bins {bins!r} is not a number from 1 to 4096")
        counted = _counted(values)
        counts, edges, nonfinite = counted if counted is not None else _count(values, bins)
        body = _encode({"counts": counts, "edges": edges, "nonfinite": nonfinite})
        self.payload = Payload("application/json", _caption(caption), None, None, body)


class Table(Media):
    """Columns and rows: of a pandas or polars frame, a pyarrow table, a dict of columns, a list of dicts, or ``columns=`` and
    ``rows=``.

    Cells are numbers, texts, bools and None; anything else is its ``str()``, times are ISO 8601. An index of pandas is left out
    (``reset_index()`` makes it a column).
    """

    kind = "table"

    def __init__(
        self,
        data: Any = None,
        *,
        columns: Sequence[str] | None = None,
        rows: Sequence[Sequence[Any]] | None = None,
        caption: str | None = None,
    ) -> None:
        if data is not None:
            if columns is not None or rows is not None:
                raise Invalid("a table is given as data, or as columns and rows, not both")
            columns, rows = _tabular(data)
        elif columns is None:
            raise Invalid("a table has columns", hint='runtree.Table(columns=["step", "text"], rows=[[1, "a"]])')
        names = [str(name) for name in columns]
        lines = [[_cell(cell) for cell in row] for row in (rows or ())]
        for at, line in enumerate(lines):
            if len(line) != len(names):
                raise Invalid(f"row {at} of a table has {len(line)} cells, there are {len(names)} columns")
        body = _encode({"columns": names, "rows": lines})
        self.payload = Payload("application/json", _caption(caption), None, None, body)


class File(Media):
    """A file of at most 64 MiB at a step: audio, video, a model's answer as JSON. It is read now.

    Larger ones, and those that belong to the run as a whole, are attached with ``run.log_file(path)``.
    """

    kind = "file"

    def __init__(
        self, file: str | os.PathLike[str] | bytes, name: str | None = None, caption: str | None = None
    ) -> None:
        if isinstance(file, bytes):
            if not name:
                raise Invalid(
                    "a file that is given as bytes needs a name", hint='runtree.File(data, name="answer.json")'
                )
            data = file
        else:
            data = _read(file, _MOST_BYTES)
            name = name or os.path.basename(os.fspath(file))
        import mimetypes

        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self.payload = Payload(content_type, _caption(caption), name, None, data)


def _read(path: str | os.PathLike[str], most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {os.fspath(path)!r}") from error
    except OSError as error:
        raise Invalid(f"file {os.fspath(path)!r} can not be read: {error}") from error
    if len(data) > most:
        raise Invalid(
            f"file {os.fspath(path)!r} is larger than {most >> 20} MiB",
            hint="run.log_file(path) attaches it to the run, and waits until it is stored",
        )
    return data


def _encode(value: Mapping[str, Any]) -> bytes:
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    if len(body) > _MOST_BYTES:
        raise Invalid(
            f"that is {len(body) >> 20} MiB of JSON, at most {_MOST_BYTES >> 20} can be logged at a step",
            hint="log fewer rows, or save a file and attach it with run.log_file(path)",
        )
    return body


# ---- Histograms.


def _host(values: Any) -> Any:
    """A tensor or array as one that numpy takes."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) in ("torch.bfloat16", "torch.float16"):
            values = values.float()
        return values.numpy()
    return values


def _counted(values: Any) -> tuple[list[float], list[float], int] | None:
    if not isinstance(values, tuple) or len(cast("tuple[Any, ...]", values)) != 2:
        return None
    try:
        counts, edges = (list(_host(part)) for part in cast("tuple[Any, Any]", values))
    except TypeError:
        return None
    if len(edges) != len(counts) + 1:
        return None
    counts, edges = [float(count) for count in counts], [float(edge) for edge in edges]
    if not counts or not all(map(math.isfinite, counts + edges)) or min(counts) < 0:
        raise Invalid("counts are finite and not negative, edges are finite")
    if any(right < left for left, right in itertools.pairwise(edges)):
        raise Invalid("the edges of a histogram ascend")
    return [int(count) if count.is_integer() else count for count in counts], edges, 0


def _count(values: Any, bins: int) -> tuple[list[float], list[float], int]:
    values = _host(values)
    if hasattr(values, "__array__"):
        np: Any = import_module("numpy")
        try:
            array = np.asarray(values).astype(np.float64, copy=False).ravel()
        except (TypeError, ValueError):
            raise InvalidType(f"a histogram is of numbers, not of a {type(values).__name__}") from None
        finite = array[np.isfinite(array)]
        if not len(finite):
            return [], [], len(array)
        low, high = float(finite.min()), float(finite.max())
        edges = _edges(low, high, bins)
        counts = np.histogram(finite, np.asarray(edges))[0]
        return [int(count) for count in counts], edges, int(len(array) - len(finite))
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        raise InvalidType(f"a histogram is of numbers, not of a {type(values).__name__}") from None
    finite_numbers = [number for number in numbers if math.isfinite(number)]
    if not finite_numbers:
        return [], [], len(numbers)
    from bisect import bisect_right

    edges = _edges(min(finite_numbers), max(finite_numbers), bins)
    counts = [0] * (len(edges) - 1)
    for number in finite_numbers:
        counts[min(bisect_right(edges, number) - 1, len(counts) - 1)] += 1
    return list(counts), edges, len(numbers) - len(finite_numbers)


def _edges(low: float, high: float, bins: int) -> list[float]:
    """Edges that ascend: fewer than were asked for where floats are too coarse for them."""
    if low == high:
        low, high = low - 0.5, high + 0.5
        if low == high:
            low, high = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
    # Halves first: the width of the whole range of floats is no float.
    edges = [low * (1 - at / bins) + high * (at / bins) for at in range(bins + 1)]
    edges[0], edges[-1] = low, high
    ascending = [edges[0]]
    for edge in edges[1:]:
        if edge > ascending[-1]:
            ascending.append(min(edge, high))
    ascending[-1] = high
    return ascending


# ---- Tables.


def _tabular(data: Any) -> tuple[list[str], list[Sequence[Any]]]:
    if hasattr(data, "column_names") and hasattr(data, "to_pydict"):
        # By position: two columns may have one name.
        columns = [column.to_pylist() for column in data.columns]
        return list(data.column_names), list(zip(*columns, strict=True))
    if hasattr(data, "columns") and hasattr(data, "itertuples"):
        return [str(name) for name in data.columns], list(data.itertuples(index=False, name=None))
    if hasattr(data, "columns") and callable(getattr(data, "rows", None)):
        return list(data.columns), list(data.rows())
    if isinstance(data, Mapping):
        mapping = cast("Mapping[Any, Any]", data)
        columns = [list(column) for column in mapping.values()]
        if len({len(column) for column in columns}) > 1:
            raise Invalid("the columns of a table are of one length")
        return [str(name) for name in mapping], list(zip(*columns, strict=True))
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        lines = cast("Sequence[Any]", data)
        if all(isinstance(line, Mapping) for line in lines):
            names = list(dict.fromkeys(str(name) for line in lines for name in line))
            return names, [[{str(k): v for k, v in line.items()}.get(name) for name in names] for line in lines]
    raise InvalidType(
        f"a table can not be made of a {type(cast('object', data)).__name__}",
        hint="pass a pandas or polars frame, a pyarrow table, a dict of columns, a list of dicts, or columns= and rows=",
    )


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        # JSON has no such numbers, and the text "NaN" is a text.
        return float(value) if math.isfinite(value) else {"float": _float_name(value)}
    if hasattr(value, "isoformat"):
        text = value.isoformat()
        return text if isinstance(text, str) else str(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        item = value.item()
        return str(value) if type(item) is type(value) else _cell(item)
    return str(value)


def _float_name(value: float) -> str:
    return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")


def _cell_back(cell: Any) -> Any:
    return float(cast("dict[str, str]", cell)["float"]) if isinstance(cell, dict) else cell


# ---- What comes back.


class MediaKey(NamedTuple):
    """A name that a run's history has media under."""

    name: str
    kind: str
    entries: int
    """At how many steps."""
    first: int
    last: int
    own: bool
    """Whether the run logged some of it itself."""


class HistogramData(NamedTuple):
    """A histogram that was logged."""

    counts: list[float]
    edges: list[float]
    nonfinite: int


class TableData(NamedTuple):
    """A table that was logged."""

    columns: list[str]
    rows: list[list[Any]]

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``."""
        pd: Any = import_module("pandas")
        return pd.DataFrame(self.rows, columns=self.columns)


class MediaItem:
    """One item that was logged: a picture, a text, a histogram, a table or a file, at a step. Its bytes are read, and
    verified, when asked for."""

    def __init__(self, run: StoredRun, entry: dict[str, Any], index: int) -> None:
        self._run = run
        self._entry = entry
        self._item: dict[str, Any] = entry["items"][index]
        self.index = index
        """Its place in the list that was logged."""

    @property
    def name(self) -> str:
        """The name it was logged under."""
        return self._entry["name"]

    @property
    def kind(self) -> str:
        """``image``, ``text``, ``histogram``, ``table`` or ``file``."""
        return self._entry["kind"]

    @property
    def step(self) -> int:
        """The step."""
        return self._entry["step"]

    @property
    def time(self) -> datetime:
        """When it was logged."""
        return _time(self._entry["at"])

    @property
    def run(self) -> str:
        """RunId of the run that logged it."""
        return self._entry["run"]

    @property
    def attempt(self) -> int:
        """The launch that logged it."""
        return self._entry["attempt"]

    @property
    def caption(self) -> str | None:
        """Words beside it."""
        return self._item["caption"]

    @property
    def content_type(self) -> str:
        """What its bytes are: ``image/png``."""
        return self._item["content_type"]

    @property
    def file_name(self) -> str | None:
        """A file's name."""
        return self._item["file_name"]

    @property
    def size(self) -> tuple[int, int] | None:
        """Pixels of a picture, across and down, where they are known."""
        width, height = self._item["width"], self._item["height"]
        return None if width is None or height is None else (width, height)

    def bytes(self) -> bytes:
        """Its bytes."""
        inline: str | None = self._item["inline"]
        if inline is not None:
            return inline.encode()
        native = self._run.store.native
        # Of the launch that logged it: another may log at the same step meanwhile.
        return native.read_media(self.run, self.name, self.step, self.index, self.attempt)[1]

    @property
    def text(self) -> str:
        """A text."""
        self._require("text")
        return self.bytes().decode()

    @property
    def histogram(self) -> HistogramData:
        """A histogram."""
        self._require("histogram")
        data = json.loads(self.bytes())
        return HistogramData(data["counts"], data["edges"], data["nonfinite"])

    @property
    def table(self) -> TableData:
        """A table."""
        self._require("table")
        data = json.loads(self.bytes())
        return TableData(data["columns"], [[_cell_back(cell) for cell in row] for row in data["rows"]])

    def to_pil(self) -> Any:
        """A picture as a ``PIL.Image``."""
        self._require("image")
        image: Any = import_module("PIL.Image")
        return image.open(io.BytesIO(self.bytes()))

    def _require(self, kind: str) -> None:
        if self.kind != kind:
            raise Invalid(f"{self.name!r} at step {self.step} is a {self.kind}, not a {kind}")

    def __repr__(self) -> str:
        caption = f" {self.caption!r}" if self.caption else ""
        return f"<MediaItem {self.kind} {self.name!r} @{self.step}{caption}>"


def keys(run: StoredRun, inherited: bool) -> list[MediaKey]:
    """The names that a run has media under."""
    found = run.store.native.media(run.id, inherited)
    return [MediaKey(*(key[field] for field in MediaKey._fields)) for key in found["keys"]]


def items(
    run: StoredRun, name: str, inherited: bool, steps: tuple[int, int] | None, attempt: int | None
) -> list[MediaItem]:
    """Everything that was logged under a name, by step."""
    found: list[MediaItem] = []
    first, last = steps or (-(2**63), 2**63 - 1)
    while True:
        page = run.store.native.media_entries(run.id, name, (first, last), inherited, attempt, _PAGE)
        for entry in page["entries"]:
            found += [MediaItem(run, entry, at) for at in range(len(entry["items"]))]
        if page["next_step"] is None:
            return found
        first = page["next_step"]
