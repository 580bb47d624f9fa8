"""State trees: what goes in comes out."""

from __future__ import annotations

import collections
import datetime
import enum
import math
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import runtree
from runtree import _leaves


class Point(NamedTuple):
    x: int
    y: Any


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    BIG = 3


class Mode(enum.IntFlag):
    READ = 1
    WRITE = 2


def same(a: Any, b: Any) -> bool:
    """Equal in type, value and order, NaN being itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True))
    if isinstance(a, (np.ndarray, np.generic)) and a.dtype == np.longdouble:
        # Ten bytes of number, six of padding.
        return a.shape == b.shape and bool((a == b).all())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return bool(a == b)


keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2).map(tuple),
    max_leaves=3,
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers(allow_nan=True)
    | st.text(st.characters(), max_size=30)
    | st.binary(max_size=30)
    | st.binary(max_size=30).map(bytearray)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.sampled_from([Colour.RED, Size.BIG, Mode.READ | Mode.WRITE, pathlib.Path("a/b")])
)
dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="<")
    | hnp.unsigned_integer_dtypes(endianness="<")
    | hnp.floating_dtypes(endianness="<", sizes=(16, 32, 64))
    | hnp.complex_number_dtypes(endianness="<", sizes=(64, 128))
    | hnp.byte_string_dtypes(min_len=1, max_len=5)
    | hnp.unicode_string_dtypes(endianness="<", min_len=1, max_len=5)
    | hnp.datetime64_dtypes(endianness="<")
    | hnp.timedelta64_dtypes(endianness="<")
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
hashable = st.integers() | st.text(max_size=5) | st.booleans() | st.none() | st.binary(max_size=5)
trees = st.recursive(
    scalars | arrays | st.sets(hashable, max_size=4) | st.frozensets(hashable, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=3).map(collections.OrderedDict)
        | st.dictionaries(st.text(), inner, max_size=3).map(lambda items: collections.defaultdict(list, items))
        | st.lists(inner, max_size=3).map(lambda items: collections.deque(items, maxlen=5))
        | st.builds(Point, st.integers(), inner)
    ),
    max_leaves=12,
)


@given(state=trees)
def test_every_tree_comes_back_equal(state: Any, round_trip: Any) -> None:
    assert same(round_trip(state), state)


@pytest.mark.parametrize(
    "value",
    [
        10**5000,
        -(10**5000) - 1,
        2**63,
        -(2**63) - 1,
        float("nan"),
        -0.0,
        "x" * 5000,
        "lone \ud800 surrogate",
        b"y" * 5000,
        bytearray(b"z" * 5000),
        collections.Counter("abca"),
        collections.defaultdict(None, {"a": 1}),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc),
        datetime.timedelta(days=-999999999),
        np.float32(1.5),
        np.str_("text"),
        np.str_(""),
        np.bytes_(b"abc"),
        np.datetime64("2026-01-02T03:04:05", "us"),
        np.bool_(True),
        np.longdouble("1.1"),
        np.array(["a", "bcd"]),
        np.array([[1.5, 2.5]], dtype=np.longdouble),
        np.array(b"ab", dtype="V2"),
        {1: "int", "1": "str", False: "bool", None: "none", (1, ("a", None)): "tuple"},
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_odd_values_come_back_equal(value: Any, round_trip: Any) -> None:
    assert same(round_trip(value), value)


def test_an_ordered_dict_keeps_the_order_it_iterates_in(round_trip: Any) -> None:
    state = collections.OrderedDict(a=1, b=2, c=3)
    state.move_to_end("a")
    assert list(round_trip(state)) == ["b", "c", "a"]


def test_a_deque_keeps_its_bound(round_trip: Any) -> None:
    assert round_trip(collections.deque([1, 2], maxlen=7)).maxlen == 7


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(24).reshape(4, 6)[::2, 1::3],
        np.arange(10)[::-1],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.broadcast_to(np.float32(7), (3, 4)),
        np.empty((0, 3)),
        np.array(5),
        np.arange(4, dtype=">f8"),
        np.arange(4, dtype=">i2").reshape(2, 2).T,
    ],
    ids=[
        "transposed",
        "strided",
        "reversed",
        "fortran",
        "broadcast",
        "empty",
        "0-d",
        "big-endian",
        "big-endian-transposed",
    ],
)
def test_arrays_that_are_not_plain_memory_come_back_equal(array: Any, round_trip: Any) -> None:
    loaded = round_trip(array)
    assert loaded.shape == array.shape
    assert loaded.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(loaded, array)


def test_a_broadcast_array_does_not_grow_on_disk() -> None:
    assert runtree.check(np.broadcast_to(np.float32(7), (1000, 1000))).bytes == 4


def test_ml_dtypes_come_back_as_they_were(round_trip: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        array = np.arange(6).astype(getattr(ml_dtypes, name)).reshape(2, 3)
        loaded = round_trip(array)
        assert loaded.dtype == array.dtype
        assert loaded.tobytes() == array.tobytes()
        scalar = array[1, 2]
        assert round_trip(scalar) == scalar


def test_one_array_saved_twice_is_one_array_again(round_trip: Any) -> None:
    array = np.arange(3.0)
    loaded = round_trip({"a": array, "b": array})
    assert loaded["a"] is loaded["b"]


def test_views_of_one_array_still_share_its_memory(round_trip: Any) -> None:
    base = np.arange(10.0)
    loaded = round_trip({"head": base[:6], "tail": base[3:], "all": base})
    loaded["all"][4] = 99
    assert loaded["head"][4] == 99
    assert loaded["tail"][1] == 99


def test_disjoint_views_do_not_drag_in_what_lies_between() -> None:
    base = np.zeros(1_000_000, np.uint8)
    assert runtree.check({"a": base[:10], "b": base[-10:]}).bytes == 20


def test_a_set_is_stored_the_same_whatever_its_order(start: Any) -> None:
    run = start()
    first = run.save({"s": {"a", "b", "c"}}, step=0).result()
    again = run.save({"s": {"c", "b", "a"}}, step=0).result()
    assert first.diff(again)["tensors"] == []
    assert run.load(again)["s"] == {"a", "b", "c"}


def test_a_class_that_is_gone_leaves_its_values(round_trip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"point": Point(1, [2]), "colour": Colour.RED}
    monkeypatch.delattr(sys.modules[__name__], "Point")
    monkeypatch.delattr(sys.modules[__name__], "Colour")
    with pytest.warns(runtree.RuntreeWarning, match="Colour is not imported here"):
        loaded = round_trip(state)
    assert loaded["point"] == (1, [2])
    assert loaded["point"].y == [2]
    assert loaded["colour"] == "red"


@pytest.mark.parametrize("name", ["os:system", "a:b c", "x:__import__('os').system('true')", "", "m:class"])
def test_a_hostile_named_tuple_is_only_a_tuple(name: str) -> None:
    made = _leaves.named_tuple(name, ["ok", "a=__import__('os')", "lambda: 1"], (1, 2, 3))
    assert made == (1, 2, 3)
    assert made._fields == ("ok", "_1", "_2")


def test_a_class_that_is_no_enum_is_never_called() -> None:
    with pytest.warns(runtree.RuntreeWarning):
        assert _leaves.enumeration("subprocess:Popen", "x", "true") == "true"


def test_loading_never_imports_a_module(round_trip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    monkeypatch.delitem(sys.modules, __name__)
    monkeypatch.setattr("builtins.__import__", _refuse_import(module.__name__))
    with pytest.warns(runtree.RuntreeWarning):
        assert round_trip(Colour.RED) == "red"


def _refuse_import(name: str) -> Any:
    import builtins

    real = builtins.__import__

    def checked(wanted: str, *args: Any, **keywords: Any) -> Any:
        assert wanted != name
        return real(wanted, *args, **keywords)

    return checked


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (lambda: 1, "is code"),
        (object(), "is a object, which is not supported"),
        ({"a": [1, {"b": print}]}, "`a.1.b` is code"),
        ({1.5: 1}, "has the key 1.5 of type float"),
        (np.array([object()]), "is an array of Python objects"),
        (np.zeros(2, dtype=[("a", "i4")]), "is a structured array"),
        (np.ma.masked_array([1], [True]), "MaskedArray"),
        ({np.float32(1): 1}, "has the key"),
        (range(3), "is a range"),
        (collections.defaultdict(lambda: 1), "defaultdict whose factory"),
        (collections.UserDict(), "is a collections.UserDict"),
        (1 << 3 | 2 and memoryview(b"x"), "is a memoryview"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_path(state: Any, reason: str, start: Any) -> None:
    run = start()
    with pytest.raises(TypeError, match=r"can not be saved") as raised:
        run.save(state, step=0)
    assert reason in str(raised.value)
    assert isinstance(raised.value, runtree.Invalid)
    assert raised.value.hint is not None
    assert run.checkpoints() == []


def test_check_reports_everything_at_once_and_the_size() -> None:
    report = runtree.check({"a": print, "b": {"c": object()}, "d": np.zeros(10), "e": b"x" * 2000})
    assert not report.ok
    assert [path for path, _ in report.problems] == ["a", "b.c"]
    assert report.bytes == 80 + 2000
    assert report.tensors == 1
    assert "can not be saved" in str(report)
    assert runtree.check({"w": np.zeros(3)}).ok


def test_a_state_that_contains_itself_is_refused() -> None:
    state: dict[str, Any] = {"list": []}
    state["list"].append(state)
    assert runtree.check(state).problems == [("list.0", "contains itself")]


def test_a_state_that_is_too_deep_is_refused() -> None:
    state: list[Any] = []
    for _ in range(500):
        state = [state]
    [(path, reason)] = runtree.check(state).problems
    assert reason.startswith("is nested more than ")
    assert path.startswith("0.0.0")


def test_an_exception_in_state_dict_is_the_callers(start: Any) -> None:
    class Broken:
        def state_dict(self) -> dict[str, Any]:
            raise RuntimeError("no state today")

        def load_state_dict(self, state: Any) -> None: ...

    with pytest.raises(RuntimeError, match="no state today"):
        start().save({"it": Broken()}, step=0)


class Counter:
    """The smallest stateful object."""

    def __init__(self, count: int) -> None:
        self.count = count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "array": np.full(3, self.count)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert np.array_equal(state["array"], np.full(3, state["count"]))
        self.count = state["count"]


def test_stateful_objects_are_restored_in_place_and_are_plain_without_into(round_trip: Any) -> None:
    target = Counter(0)
    loaded = round_trip({"c": Counter(7)}, into={"it": {"c": target}})
    assert target.count == 7
    assert loaded["c"] is target
    assert round_trip({"c": Counter(7)})["c"]["count"] == 7


def test_into_fills_arrays_where_they_are(start: Any) -> None:
    run = start()
    saved = run.save({"w": np.arange(6.0).reshape(2, 3), "t": np.arange(6).reshape(2, 3).T, "step": 5}, step=5).result()
    target = {"w": np.zeros((2, 3)), "t": np.zeros((3, 2), int, order="F"), "step": 0}
    w, t = target["w"], target["t"]
    loaded = run.load(saved, into=target)
    assert loaded is target
    assert loaded["w"] is w
    assert loaded["t"] is t
    assert np.array_equal(w, np.arange(6.0).reshape(2, 3))
    assert np.array_equal(t, np.arange(6).reshape(2, 3).T)
    assert target["step"] == 5


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ({"w": np.zeros(4)}, r"has shape \(4,\), the checkpoint \(3,\)"),
        ({"w": np.zeros(3, np.float32)}, "has dtype float32, the checkpoint f64"),
        ({"w": 3}, "is a int; the checkpoint has a tensor there"),
        ({"v": np.zeros(3)}, "has 'v', which the checkpoint has not; it has w"),
        ([np.zeros(3)], "is a list; the checkpoint has a dict there"),
    ],
)
def test_into_that_does_not_fit_is_refused_before_anything_changes(target: Any, reason: str, start: Any) -> None:
    run = start()
    saved = run.save({"w": np.arange(3.0)}, step=0).result()
    with pytest.raises(ValueError, match=reason):
        run.load(saved, into=target)


def test_two_targets_in_one_memory_are_filled_one_after_the_other(start: Any) -> None:
    run = start()
    saved = run.save({"a": np.arange(3.0), "b": np.arange(3.0) + 10}, step=0).result()
    shared = np.zeros(3)
    loaded = run.load(saved, into={"a": shared, "b": shared})
    assert loaded["a"] is shared
    assert shared.tolist() in ([0, 1, 2], [10, 11, 12])


def test_keys_pick_what_is_loaded(start: Any) -> None:
    run = start()
    state = {
        "model": {"w": np.ones(3), "b": np.zeros(1)},
        "optimizer": {"m": np.ones(9)},
        "step": 5,
        "list": [np.ones(1), 2],
    }
    saved = run.save(state, step=5).result()
    assert same(run.load(saved, keys="model.*"), {"model": state["model"]})
    assert same(run.load(saved, keys=["*.w", "step"]), {"model": {"w": state["model"]["w"]}, "step": 5})
    assert same(run.load(saved, keys="model"), {"model": state["model"]})
    assert same(run.load(saved, keys="list.1"), {"list": state["list"]})
    with pytest.raises(runtree.NotFound, match="nothing in the checkpoint matches"):
        run.load(saved, keys="nothing")


def test_without_numpy_arrays_come_back_as_memoryviews(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start()
    state = {"f": np.arange(6.0).reshape(2, 3), "e": np.zeros((0, 2)), "c": np.array([1j]), "s": np.float32(2.5)}
    saved = run.save(state, step=0).result()
    monkeypatch.delitem(sys.modules, "runtree._numpy")
    monkeypatch.setitem(sys.modules, "numpy", None)
    loaded = run.load(saved)
    assert isinstance(loaded["f"], memoryview)
    assert loaded["f"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert bytes(loaded["c"]) == state["c"].tobytes()
    assert loaded["s"] == 2.5


def test_a_state_may_be_a_single_leaf(start: Any) -> None:
    run = start()
    for state in (np.arange(3), 5, None, "text", [1, 2]):
        assert same(run.load(run.save(state, step=0).result()), state)
