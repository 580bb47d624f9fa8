"""Images, texts, histograms, tables, files and alerts: logged, stitched, and read again."""

from __future__ import annotations

import json
import math
import struct
import sys
import time
import types
import warnings
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import runtree
from runtree import _pictures, media


def decode_png(data: bytes) -> np.ndarray[Any, Any]:
    """Written from the specification, so that nothing of ours is trusted."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, width, height, colour = 8, b"", 0, 0, 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", body)
            assert (depth, rest) == (8, [0, 0, 0])
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, width * channels + 1)
    image = np.zeros((height, width * channels), np.uint8)
    for y in range(height):
        for x in range(width * channels):
            left = int(image[y, x - channels]) if x >= channels else 0
            up = int(image[y - 1, x]) if y else 0
            corner = int(image[y - 1, x - channels]) if y and x >= channels else 0
            nearest = min((left, up, corner), key=lambda c: abs(left + up - corner - c))
            guess = {0: 0, 1: left, 2: up, 3: (left + up) // 2, 4: nearest}[int(rows[y, 0])]
            image[y, x] = (int(rows[y, x + 1]) + guess) % 256
    return image.reshape(height, width, channels)


def one(run: Any, name: str = "it") -> Any:
    found = run.media(name)
    assert len(found) == 1
    return found[0]


@given(
    array=hnp.arrays(
        np.uint8,
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.integers(1, 9), st.integers(5, 9), st.integers(1, 4)),
        ),
    )
)
def test_an_array_comes_back_as_the_same_pixels(array: Any) -> None:
    _, size, (width, height, channels, data) = _pictures.convert(array)
    assert size == (width, height) == (array.shape[1], array.shape[0])
    assert np.frombuffer(data, np.uint8).reshape(height, width, channels).tolist() == np.atleast_3d(array).tolist()


def test_pictures_of_every_kind_are_pngs_of_their_pixels(start: Any) -> None:
    run = start()
    ramp = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    pictures = {
        "grey": (ramp[:, :, 0], ramp[:, :, :1]),
        "rgb": (ramp, ramp),
        "alpha": (np.dstack([ramp, ramp[:, :, 0]]), None),
        "bool": (ramp[:, :, 0] > 40, None),
        "floats": (ramp.astype(np.float32) / 255, ramp),
        "halves": ((ramp / 255).astype(np.float16), None),
        "ints": (ramp.astype(np.int64), ramp),
        "strided": (ramp[::-1, ::2], ramp[::-1, ::2]),
        "first": (np.moveaxis(ramp, 2, 0), ramp),
        "beyond": (
            np.array([[-0.1, 1.2, np.nan, np.inf, -np.inf, 0.5]]),
            np.array([[[0], [255], [0], [255], [0], [128]]]),
        ),
    }
    run.log({name: runtree.Image(value, caption=f"c {name}") for name, (value, _) in pictures.items()})
    for name, (value, expected) in pictures.items():
        item = one(run, name)
        image = decode_png(item.bytes())
        assert item.size == (image.shape[1], image.shape[0])
        assert (item.kind, item.content_type, item.step, item.caption) == ("image", "image/png", 0, f"c {name}")
        if expected is not None:
            assert image.tolist() == expected.tolist(), name
        assert value is not None
    assert decode_png(one(run, "bool").bytes())[:, :, 0].tolist() == (255 * (ramp[:, :, 0] > 40)).tolist()


def test_what_is_logged_is_what_it_was_then(start: Any) -> None:
    run = start()
    array = np.zeros((2, 2), np.uint8)
    image = runtree.Image(array)
    array[:] = 9
    run.log({"it": image})
    array[:] = 7
    assert decode_png(one(run).bytes()).max() == 0


def test_tensors_are_pictures_channels_first_or_last(start: Any) -> None:
    torch = pytest.importorskip("torch")
    run = start()
    first = torch.linspace(0, 1, 3 * 4 * 5).reshape(3, 4, 5)
    run.log(
        {
            "it": runtree.Image(first.requires_grad_()),
            "half": runtree.Image(first.to(torch.bfloat16)),
            "last": runtree.Image(first.detach().permute(1, 2, 0)),
        }
    )
    assert one(run).size == (5, 4)
    assert decode_png(one(run).bytes()).tolist() == decode_png(one(run, "last").bytes()).tolist()
    assert one(run, "half").size == (5, 4)


def test_bytes_and_files_of_known_formats_are_kept_as_they_are(start: Any, tmp_path: Path) -> None:
    run = start()
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 40, 30, 8, 2, 0, 0, 0) + b"rest"
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08\x00\x1e\x00\x28\x03rest"
    gif = b"GIF89a" + struct.pack("<HH", 40, 30) + b"rest"
    webp = b"RIFF\x00\x00\x00\x00WEBPVP8 rest"
    path = tmp_path / "a picture.png"
    path.write_bytes(png)
    run.log(
        {
            "png": runtree.Image(png),
            "jpeg": runtree.Image(jpeg),
            "gif": runtree.Image(gif),
            "webp": runtree.Image(webp),
            "path": runtree.Image(path),
            "text": runtree.Image(str(path)),
        }
    )
    for name, data, kind, size in [
        ("png", png, "png", (40, 30)),
        ("jpeg", jpeg, "jpeg", (40, 30)),
        ("gif", gif, "gif", (40, 30)),
        ("webp", webp, "webp", None),
        ("path", png, "png", (40, 30)),
        ("text", png, "png", (40, 30)),
    ]:
        item = one(run, name)
        assert (item.bytes(), item.content_type, item.size) == (data, f"image/{kind}", size)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((5, 2, 5)), "is not a picture"),
        (np.zeros((2, 2, 2, 2)), "is not a picture"),
        (np.zeros(4), "is not a picture"),
        (np.zeros((0, 4)), "0"),
        (np.full((2, 2), 200.0), "from 0 to 1, this one from 200"),
        (np.full((2, 2), -1.0), "from 0 to 1"),
        (np.full((2, 2), 300), "from 0 to 255"),
        (np.array([["a", "b"]]), "of numbers"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG"),
        (b"", "not a PNG"),
        ("nowhere.png", "no picture"),
        (7, "can not be made of a int"),
        (None, "can not be made of a NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(value: Any, words: str) -> None:
    with pytest.raises(runtree.Error, match=words):
        runtree.Image(value)


class Lookalike:
    """A module of a name, with one class of a name: what PIL and matplotlib are recognised by."""

    def __init__(self, module: str, name: str, **fields: Any) -> None:
        self.kind = type(name, (), {"__module__": module, **fields})


def test_pil_images_and_figures_are_recognised_without_importing_their_libraries(start: Any) -> None:
    run = start()
    pixels = bytes(range(2 * 3 * 3))
    pil = Lookalike("PIL.Image", "Image", mode="RGB", size=(2, 3), tobytes=lambda self: pixels).kind()
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 4, 3, 8, 2, 0, 0, 0)
    figure = Lookalike("matplotlib.figure", "Figure", savefig=lambda self, buffer, format: buffer.write(png)).kind()
    before = set(sys.modules)
    run.log({"pil": pil, "figure": figure, "list": [pil, figure, runtree.Image(pil, caption="c")]})
    assert not any(name.split(".")[0] in ("PIL", "matplotlib") for name in set(sys.modules) - before)
    assert decode_png(one(run, "pil").bytes()).tobytes() == pixels
    assert one(run, "figure").bytes() == png
    assert [(item.index, item.caption) for item in run.media("list")] == [(0, None), (1, None), (2, "c")]


def test_real_pil_images_come_back(start: Any) -> None:
    from PIL import Image as image

    run = start()
    rgb = image.fromarray(np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3))
    modes = {mode: rgb.convert(mode) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "HSV", "I", "F", "YCbCr")}
    run.log(dict(modes))
    for mode, value in modes.items():
        back = one(run, mode).to_pil()
        assert back.size == value.size
        if mode in ("RGB", "RGBA", "L", "LA"):
            assert back.tobytes() == value.tobytes()


def test_a_real_figure_is_a_png(start: Any) -> None:
    from matplotlib.figure import Figure

    run = start()
    drawn = Figure(figsize=(2, 1), dpi=50)
    drawn.subplots().plot([1, 2])
    run.log({"it": drawn})
    assert one(run).size == (100, 50)


def test_texts_are_logged_as_they_are(start: Any) -> None:
    run = start()
    long = "ä" * 10_000
    run.log(
        {
            "a": {"plain": "hi\n<script>", "long": runtree.Text(long, caption="c")},
            "odd": "\ud800",
            "list": ["a", "b"],
            "empty": "",
        }
    )
    assert one(run, "a/plain").text == "hi\n<script>"
    assert (one(run, "a/long").text, one(run, "a/long").caption) == (long, "c")
    assert one(run, "odd").text == "?"
    assert [item.text for item in run.media("list")] == ["a", "b"]
    assert one(run, "empty").text == ""
    with pytest.raises(runtree.Invalid, match="not a table"):
        _ = one(run, "odd").table
    assert run.metrics == [], "a text is no metric"


def test_a_histogram_counts_what_is_finite(start: Any) -> None:
    torch = pytest.importorskip("torch")
    run = start()
    values = np.array([0, 1, 1, 2, np.nan, np.inf, -np.inf, 10.0])
    given_ = (np.array([1, 2, 3]), np.array([0.0, 1.0, 2.0, 4.0]))
    run.log(
        {
            "array": runtree.Histogram(values, bins=10),
            "list": runtree.Histogram(values.tolist(), bins=10),
            "tensor": runtree.Histogram(torch.tensor(values), bins=10),
            "counted": runtree.Histogram(given_),
            "of numpy": runtree.Histogram(np.histogram([1, 2, 3])),
            "none": runtree.Histogram([math.nan]),
            "one": runtree.Histogram([5.0]),
            "wide": runtree.Histogram([-1.7e308, 1.7e308], bins=4),
            "narrow": runtree.Histogram([1e16, 1e16 + 2], bins=64),
            "huge": runtree.Histogram([1e300] * 3),
        }
    )
    found = {key.name: one(run, key.name).histogram for key in run.media()}
    for name in ("array", "list", "tensor"):
        assert found[name].counts == [1, 2, 1, 0, 0, 0, 0, 0, 0, 1], name
        assert found[name].nonfinite == 3, name
        assert found[name].edges[0] == 0
        assert found[name].edges[-1] == 10
    assert found["counted"] == ([1, 2, 3], [0, 1, 2, 4], 0)
    assert sum(found["of numpy"].counts) == 3
    assert found["none"] == ([], [], 1)
    assert sum(found["one"].counts) == 1
    assert sum(found["wide"].counts) == 2
    assert sum(found["narrow"].counts) == 2
    assert sum(found["huge"].counts) == 3
    for histogram in found.values():
        assert histogram.edges == sorted(set(histogram.edges))
        assert len(histogram.edges) == len(histogram.counts) + 1 or not histogram.counts


@given(st.lists(st.floats(width=32), max_size=40), st.integers(1, 20))
def test_every_value_is_counted_once_with_and_without_numpy(values: list[float], bins: int) -> None:
    finite = [value for value in values if math.isfinite(value)]
    for given_values in (values, np.array(values)):
        histogram = json.loads(runtree.Histogram(given_values, bins=bins).payload.data)
        assert sum(histogram["counts"]) == len(finite)
        assert histogram["nonfinite"] == len(values) - len(finite)
        if finite:
            assert (histogram["edges"][0], histogram["edges"][-1]) == pytest.approx(
                (min(finite), max(finite)), abs=0.5, rel=1e-12
            )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("text", "of numbers"),
        (np.array(["a"]), "of numbers"),
        (7, "of numbers"),
        (([1, -1], [0, 1, 2]), "not negative"),
        (([1, 2], [0, 2, 1]), "ascend"),
        (([1, 2], [0, math.nan, 1]), "finite"),
    ],
)
def test_what_is_no_histogram_is_refused(values: Any, words: str) -> None:
    with pytest.raises((runtree.Invalid, runtree.InvalidType), match=words):
        runtree.Histogram(values)


def test_tables_come_back_cell_by_cell(start: Any) -> None:
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    run = start()
    when = datetime(2026, 1, 2, tzinfo=timezone.utc)
    cells = [
        None,
        True,
        3,
        2**70,
        0.1,
        math.nan,
        math.inf,
        -math.inf,
        "NaN",
        'ä "quoted"\n',
        np.float32(0.5),
        np.int8(4),
        when,
        b"x",
        {"float": "x"},
        [1],
    ]
    run.log({"cells": runtree.Table(columns=["c"], rows=[[cell] for cell in cells])})
    back = [row[0] for row in one(run, "cells").table.rows]
    assert [type(cell) for cell in back[:5]] == [type(None), bool, int, int, float]
    assert back[:5] == cells[:5]
    assert math.isnan(back[5])
    assert back[6:10] == [math.inf, -math.inf, "NaN", 'ä "quoted"\n']
    assert back[10:] == [0.5, 4, "2026-01-02T00:00:00+00:00", "b'x'", "{'float': 'x'}", "[1]"]
    columns = {"a": [1, 2], "b": ["x", "y"]}
    run.log(
        {
            "pandas": runtree.Table(pd.DataFrame(columns), caption="c"),
            "arrow": runtree.Table(pa.table(columns)),
            "dict": runtree.Table(columns),
            "dicts": runtree.Table([{"a": 1, "b": "x"}, {"b": "y", "a": 2}]),
            "ragged": runtree.Table([{"a": 1}, {"b": 2}]),
            "empty": runtree.Table(columns=["a"]),
        }
    )
    for name in ("pandas", "arrow", "dict", "dicts"):
        assert one(run, name).table == (["a", "b"], [[1, "x"], [2, "y"]]), name
    assert one(run, "ragged").table == (["a", "b"], [[1, None], [None, 2]])
    assert one(run, "empty").table == (["a"], [])
    assert one(run, "pandas").table.to_pandas().equals(pd.DataFrame(columns))
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert media._tabular(twice) == (["a", "a"], [(1, 2)])


def test_polars_frames_are_recognised() -> None:
    frame = types.SimpleNamespace(columns=["a", "b"], rows=lambda: [(1, "x")])
    assert json.loads(runtree.Table(frame).payload.data) == {"columns": ["a", "b"], "rows": [[1, "x"]]}


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({}, "has columns"),
        ({"columns": ["a"], "rows": [[1, 2]]}, "row 0 of a table has 2 cells"),
        ({"data": {"a": [1], "b": []}}, "one length"),
        ({"data": 7}, "can not be made of a int"),
        ({"data": {"a": [1]}, "columns": ["a"]}, "not both"),
        ({"data": "text"}, "can not be made"),
    ],
)
def test_what_is_no_table_is_refused(keywords: Any, words: str) -> None:
    with pytest.raises(runtree.Error, match=words):
        runtree.Table(**keywords)


def test_files_are_read_when_they_are_logged(start: Any, tmp_path: Path) -> None:
    run = start()
    path = tmp_path / "answer.json"
    path.write_text('{"a": 1}')
    run.log({"it": runtree.File(path, caption="c"), "raw": runtree.File(b"\x00\x01", name="x.bin")})
    path.write_text("another")
    assert (one(run).bytes(), one(run).file_name, one(run).content_type) == (
        b'{"a": 1}',
        "answer.json",
        "application/json",
    )
    assert (one(run, "raw").bytes(), one(run, "raw").content_type) == (b"\x00\x01", "application/octet-stream")
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate((64 << 20) + 1)
    for wrong, words in [(large, "larger than 64 MiB"), (tmp_path / "none", "no file"), (tmp_path, "can not be read")]:
        with pytest.raises(runtree.Error, match=words):
            runtree.File(wrong)
    with pytest.raises(runtree.Invalid, match="needs a name"):
        runtree.File(b"x")


@pytest.mark.parametrize(
    "value", [[1, 2], [], [None], ["a", 1], ["a", runtree.Table(columns=["a"])], object(), np.zeros(2), b"1"]
)
def test_what_can_not_be_logged_is_refused_by_name_and_nothing_of_the_call_is_kept(value: Any, start: Any) -> None:
    run = start()
    with pytest.raises(TypeError, match="metric `a/b` is a"):
        run.log({"first": 1.0, "image": "text", "a": {"b": value}})
    assert run.step is None
    assert run.metrics == []
    assert run.media() == []


def test_numbers_and_media_of_one_call_have_one_step(start: Any) -> None:
    run = start()
    run.log({"loss": 1.0, "say": "a"})
    run.log({"say": "b"})
    run.log({"loss": 2.0})
    run.log({"loss": 3.0, "say": "c"}, step=10)
    run.log({"say": "d"}, commit=False)
    run.log({"loss": 4.0})
    assert run.history("loss").steps.tolist() == [0, 2, 10, 11]
    assert [(item.step, item.text) for item in run.media("say")] == [(0, "a"), (1, "b"), (10, "c"), (11, "d")]
    when = datetime(2026, 1, 2, tzinfo=timezone.utc)
    run.log({"at": "x"}, timestamp=when)
    assert one(run, "at").time == when


def test_a_value_on_a_device_beside_an_image_has_its_step(start: Any) -> None:
    pytest.importorskip("torch")
    from test_run import OnDevice

    run = start()
    run.log({"device": OnDevice(1.0), "say": "a"})
    run.log({"say": "b", "host": 1.0})
    run.flush()
    assert run.history("device").steps.tolist() == [0]
    assert [item.step for item in run.media("say")] == [0, 1]
    assert run.history("host").steps.tolist() == [1]


def test_a_fork_shows_its_parents_images_up_to_the_fork_step(start: Any) -> None:
    parent = start()
    for step in range(6):
        parent.log({"loss": 1.0, "pic": runtree.Image(np.full((2, 2), step, np.uint8)), "only": f"p{step}"})
    parent.save({"a": 1}, step=3).result()
    parent.finish()
    child = start(fork_run_id=parent.id, fork_step=3)
    child.log({"loss": 1.0, "pic": runtree.Image(np.full((2, 2), 99, np.uint8))})
    found = [(item.step, int(decode_png(item.bytes())[0, 0, 0]), item.run) for item in child.media("pic")]
    assert found == [*((step, step, parent.id) for step in range(4)), (4, 99, child.id)]
    assert [item.step for item in child.media("pic", inherited=False)] == [4]
    assert [item.step for item in child.media("pic", steps=(2, 3))] == [2, 3]
    assert [key.name for key in child.media()] == ["only", "pic"]
    keys = {key.name: key for key in child.media()}
    assert (keys["pic"].entries, keys["pic"].own, keys["only"].own) == (5, True, False)
    assert len(parent.media("pic")) == 6
    with pytest.raises(runtree.NotFound, match="no media 'nothing'|no media \"nothing\""):
        child.media("nothing")


def test_what_a_rewound_attempt_logged_is_a_ghost(start: Any) -> None:
    run = start()
    for step in range(4):
        run.log({"loss": 1.0, "say": f"first {step}"})
    run.rewind(1)
    run.log({"loss": 1.0, "say": "second"})
    assert [item.text for item in run.media("say")] == ["first 0", "first 1", "second"]
    assert [item.text for item in run.media("say", attempt=1)] == [f"first {step}" for step in range(4)]
    ghost = run.media("say", attempt=1)[3]
    assert ghost.bytes() == b"first 3"


def test_log_of_an_image_does_not_wait_for_its_encoding(start: Any) -> None:
    run = start()
    image = runtree.Image(np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8))
    run.log({"warm": runtree.Image(np.zeros((2, 2), np.uint8))})
    logged = stored = math.inf
    for _ in range(3):
        began = time.perf_counter()
        run.log({"it": image})
        logged = min(logged, time.perf_counter() - began)
        run.flush()
        stored = min(stored, time.perf_counter() - began)
    assert logged < stored / 4, "a copy of 7 MB, not a PNG of it"
    run.finish()
    assert len(run.media("it")) == 3


def test_a_full_disk_does_not_stop_training_that_logs_images(start: Any) -> None:
    run = start()
    run.log({"loss": 0.0})
    run.flush()
    chunks, aside = run.path / "chunks", run.path / "aside"
    if chunks.exists():
        chunks.rename(aside)
    chunks.write_text("in the way")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            run.log(
                {"loss": 1.0, "pic": runtree.Image(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))}
            )
        deadline = time.monotonic() + 20
        while not run.health().warnings and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "storage" in {warning["kind"] for warning in run.health().warnings}
        chunks.unlink()
        if aside.exists():
            aside.rename(chunks)
        run.finish()
    assert len(run.media("pic")) == 3


def test_alerts_are_seen(start: Any) -> None:
    run = start()
    run.log({"loss": 1.0}, step=7)
    run.alert("loss spiked", "it was 9", level="warn")
    run.alert("ended")
    first, second = run.alerts()
    assert (first["title"], first["text"], first["level"], first["step"]) == ("loss spiked", "it was 9", "warn", 7)
    assert first["time"] <= datetime.now(timezone.utc)
    assert second["level"] == "info"
    for keywords, words in [
        ({"title": " "}, "has a title"),
        ({"title": "x", "level": "loud"}, "loud"),
        ({"title": "\ud800"}, "Unicode"),
    ]:
        with pytest.raises(runtree.Invalid, match=words):
            run.alert(**keywords)
    run.finish()
    with pytest.raises(runtree.Invalid, match="finished"):
        run.alert("late")


def test_notes_are_set_from_the_run_and_from_the_store(start: Any) -> None:
    run = start(notes="born with")
    assert run.notes == "born with"
    run.notes = "changed"
    assert run.notes == "changed"
    run.finish()
    stored = runtree.Store(run.path).run(run.id)
    stored.notes = "later"
    assert run.notes == "later"
    stored.set_notes("")
    assert not stored.notes
    with pytest.raises(runtree.Invalid, match="Unicode"):
        stored.notes = "\ud800"


def test_media_of_a_disabled_run_are_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    run = runtree.init("x")
    run.log({"it": runtree.Image(np.zeros((2, 2), np.uint8)), "say": "x"})
    run.alert("x")
    run.notes = "x"
    assert run.media() == run.media("it") == run.alerts() == run.processes() == run.files() == []
    run.finish()


def test_importing_runtree_imports_none_of_the_libraries() -> None:
    import subprocess

    names = ("numpy", "torch", "PIL", "matplotlib", "pandas")
    code = f"import sys, runtree; runtree.Image, runtree.Text; print([m for m in {names} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]", answer.stdout
