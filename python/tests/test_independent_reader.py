"""A store is what ``docs/formats`` says: a reader written from those pages alone gives back what the package wrote."""

from __future__ import annotations

import collections
import datetime
import enum
import json
import math
import os
import random
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import blake3
import numpy as np
import pytest
import zstandard
from independent_points import Batch, History, Journal, number
from independent_reader import Corrupt, Reader, Tensor, crc64, encoded_object

import runtree

GOLDEN = Path(__file__).parents[2] / "crates/store/tests/golden"
Start = Callable[..., runtree.Run]
Pair = collections.namedtuple("Pair", "left right")
MIB = 1 << 20
KINDS = "? u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8 c8 c16 >f4 >i8 U3 >U2 S3 V3 M8[us] m8[s]"
TORCH = """bool uint8 int8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64 complex64 complex128
float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"""


class Colour(enum.Enum):
    RED = "red"
    BIG = 2**70


class Counter:
    def __init__(self, n: int):
        self.n = n

    def state_dict(self) -> dict[str, int]:
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.n = state["n"]


def plain_state() -> dict[Any, Any]:
    deep: list[Any] = []
    for _ in range(50):
        deep = [deep]
    return {
        "none": None,
        "bools": [True, False],
        "ints": (0, -5, 2**63, -(10**50)),
        "floats": [0.1, -0.0, 5e-324, -1.7976931348623157e308, 1e16, math.nan, math.inf, -math.inf],
        "complex": [complex(-0.0, math.inf), complex(1, math.nan)],
        "text": ["", 'h\x00\x1f\x7f\x85"\\/\u2028é😀', "x" * 100_000, "a\ud800b", "\udfff" * 5_000],
        "bytes": [b"", b"\x00\xff\xfe", bytearray(b"ab"), bytes(range(256)) * 400, bytearray(70_000)],
        "maps": {5: 1, -3: 2, None: 3, (1, ("a", None)): 4, "": 5},
        "booleans": {True: "yes", False: "no"},
        "ordered": collections.OrderedDict([("z", 1), ("a", 2)]),
        "counter": collections.Counter("abracadabra"),
        "defaults": [collections.defaultdict(kind, {"a": 1}) for kind in (list, int, None)],
        "deques": [collections.deque([1, 2], 5), collections.deque()],
        "sets": [{3, 1, "a", (1, 2)}, frozenset([1.5, None]), set()],
        "days": [
            datetime.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone(datetime.timedelta(hours=-3))),
            datetime.datetime(1, 1, 1),
            datetime.date(9999, 12, 31),
            datetime.time(1, 2, 3, 4),
            datetime.timedelta.max,
            datetime.timedelta(days=-5, microseconds=3),
        ],
        "deep": deep,
        "scalars": [
            np.float32(1.5),
            np.int64(-7),
            np.bool_(True),
            np.datetime64("2020-01-01", "us"),
            np.str_("añ"),
            np.void(b"abc"),
        ],
        "pair": Pair(1, [2]),
        "path": PurePosixPath("/a/b c"),
        "colours": [Colour.RED, Colour.BIG],
        "counting": Counter(7),
    }


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    kinds = KINDS.split()
    states: dict[str, Any] = {kind: rng.integers(0, 100, (3, 4)).astype(kind) for kind in kinds}
    big = rng.standard_normal((700, 512))
    states |= {"big": big, "zeros": np.zeros(3 * MIB, np.uint8), "nothing": np.zeros((2, 0)), "scalar": np.array(2.5)}
    states |= {
        "fortran": np.asfortranarray(big[:5, :3]),
        "backwards": np.arange(9)[::-1],
        "nan": np.array([math.nan, -0.0, math.inf]),
    }
    states |= {"tied": [big, big, big[3:9], big.T], "long double": np.arange(3).astype(np.longdouble)}
    return states


def tensors() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    names = TORCH.split()
    states: dict[str, Any] = {name: torch.arange(24).reshape(2, 3, 4).to(getattr(torch, name)) for name in names}
    if hasattr(torch, "float8_e8m0fnu"):
        states["float8_e8m0fnu"] = torch.ones(5).to(torch.float8_e8m0fnu)
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(1))
    states |= {
        "tied": [weight, weight.t(), weight[3], weight[:, 2:5], weight.expand(2, 30, 20)],
        "parameter": torch.nn.Parameter(weight.clone()),
    }
    states |= {"nothing": torch.zeros(0, 3), "scalar": torch.tensor(5.0), "layer": torch.nn.Linear(3, 2)}
    return states | {"size": torch.Size([1, 2]), "dtype": torch.bfloat16, "device": torch.device("cuda:1")}


def name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def data_of(tensor: Any) -> tuple[tuple[int, ...], bytes]:
    """Shape and row-major little-endian bytes of an array or a tensor."""
    if isinstance(tensor, np.ndarray):
        return tensor.shape, np.ascontiguousarray(tensor.astype(tensor.dtype.newbyteorder("<"))).tobytes()
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    return tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def same(want: Any, got: Any, where: str = "state") -> None:
    """Fails unless ``got`` is what the documentation makes of ``want``."""
    if hasattr(want, "shape") and isinstance(got, Tensor):
        assert (got.array.shape, got.array.tobytes()) == data_of(want), where
        assert got.node.get("requires_grad", False) == getattr(want, "requires_grad", False), where
        dtype = str(getattr(want, "dtype", "")).removeprefix("torch.")
        short = {"float": "f", "bfloat": "bf", "complex": "c", "uint": "u", "int": "i"}
        if got.node["framework"] == "torch":
            kind = dtype.rstrip("0123456789") if "_" not in dtype else "float"
            assert got.record["dtype"] == (dtype if kind == "bool" else short[kind] + dtype[len(kind) :]), where
    elif type(want) is Pair:
        assert got[:2] == ("named_tuple", name_of(Pair)), where
        same(list(want), list(got[2].values()), where)
        assert list(got[2]) == list(Pair._fields), where
    elif isinstance(want, enum.Enum):
        assert got == ("enum", name_of(type(want)), want.name, want.value), where
    elif hasattr(want, "state_dict"):
        assert got[:2] == ("stateful", name_of(type(want))), where
        same(want.state_dict(), got[2], where)
    elif isinstance(want, PurePosixPath):
        assert got == ("path", str(want)), where
    elif type(want).__module__ == "torch":
        kinds = {"Size": ("torch_size", list(want) if isinstance(want, tuple) else 0)}
        text = str(want).removeprefix("torch.")
        assert got == kinds.get(type(want).__name__, (f"torch_{type(want).__name__}", text)), where
    elif isinstance(want, dict):
        assert type(got) is type(want), where
        assert [(type(key), key) for key in got] == [(type(key), key) for key in want], where
        assert getattr(got, "default_factory", 0) == getattr(want, "default_factory", 0), where
        for key in want:
            same(want[key], got[key], f"{where}.{key}")
    elif isinstance(want, (list, tuple, collections.deque)):
        assert (type(got), len(got), getattr(got, "maxlen", 0)) == (
            type(want),
            len(want),
            getattr(want, "maxlen", 0),
        ), where
        for index, (left, right) in enumerate(zip(want, got, strict=True)):
            same(left, right, f"{where}.{index}")
    elif isinstance(want, (float, complex)) and not isinstance(want, np.generic):
        assert (type(got), repr(got)) == (type(want), repr(want)), where
    else:
        assert (type(got), got) == (type(want), want), where


def only(found: Any) -> Any:
    (one,) = found
    return one


@pytest.mark.parametrize("make", [plain_state, arrays, tensors])
def test_a_state_reads_back_from_the_documentation_alone(start: Start, make: Callable[[], Any]) -> None:
    state = make()
    run = start(run_id="a.key/ä", store="store")
    run.log({"x": 1.0})
    run.save(state, step=-4, metrics={"nan": math.nan, "small": 1e-7}).result()
    run.finish()
    reader = History(Path("store"))
    assert reader.find("digits", "a.key/ä") == reader.find("digits", run.display_id) == run.id
    assert list(reader.checkpoints(run.id)) == ["1-n4-0"]
    part = reader.part(run.id, "1-n4-0")
    got = reader.restore_state(part)
    same(state, got)
    assert (part["metrics"]["nan"], part["metrics"]["small"]) == ("NaN", 1e-7)
    if "tied" in state:
        assert len({tied.node["tensor"] for tied in got["tied"]}) == 1
        assert np.shares_memory(got["tied"][0].array, got["tied"][1].array)


def test_a_directory_reads_back_byte_for_byte(start: Start) -> None:
    source = Path("source")
    for path, data in {
        "a/b/c.bin": os.urandom(2 * MIB + 5),
        "a/empty": b"",
        "run.sh": b"#!",
        "a/ä \n.txt": b"text",
    }.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    for path in ("nothing", "closed/inner", "plain/nested"):
        (source / path).mkdir(parents=True)
    for path, mode in {
        "run.sh": 0o750,
        "a/empty": 0o400,
        "nothing": 0o700,
        "a": 0o711,
        "a/b": 0o755,
        "closed": 0o500,
    }.items():
        (source / path).chmod(mode)
    (source / "link").symlink_to("a/b/c.bin")
    (source / "a/up").symlink_to("../run.sh")
    run = start(store="store")
    run.save_dir(source, step=1).result()
    run.finish()
    reader = Reader(Path("store"))
    reader.restore_dir(reader.part(run.id, "1-1-0"), Path("target"))

    def tree(root: Path) -> dict[str, Any]:
        facts = {}
        for path in root.rglob("*"):
            what = os.readlink(path) if path.is_symlink() else path.is_dir() or path.read_bytes()
            facts[str(path.relative_to(root))] = (what, None if path.is_symlink() else path.stat().st_mode)
        return facts

    assert tree(Path("target")) == tree(source)
    assert len(tree(source)) == 13


def test_points_read_back_one_by_one(start: Start) -> None:
    rng = random.Random(3)
    run = start(store="store")
    logged = collections.defaultdict(list)
    for step in [*range(1500), 7, 7, *range(3000, 1500, -7)]:
        row = {"loss": rng.random(), "half": step / 2, "constant": 1.0, "f32": float(np.float32(rng.gauss(0, 1)))}
        if step % 10 == 0:
            row |= {"eval/acc": rng.choice([0.1, math.nan, math.inf, -0.0]), "eval/é😀": 2.0**60 + step}
        if step % 4 == 0:
            row = {"loss": 5e-324 * step}
        at = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(
            microseconds=rng.randrange(10**15)
        )
        run.log(row, step=step, timestamp=at)
        micros = (at - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(
            microseconds=1
        )
        for name, value in row.items():
            logged[name].append((step, micros, value))
        if step % 500 == 0:
            run.flush()
    run.finish()
    reader = History(Path("store"))
    journal = reader.journal(run.id, only(os.listdir(f"store/runs/{run.id}/journal")))
    assert not journal.torn
    assert [journal.events[0]["event"], journal.events[-1]["event"]] == ["opened", "closed"]
    got = collections.defaultdict(list)
    for (name, rank, system), *point in journal.points:
        assert (rank, system) == (None, False)
        got[name].append(tuple(point))
    assert {name: list(map(repr, points)) for name, points in got.items()} == {
        name: list(map(repr, points)) for name, points in logged.items()
    }
    for name, series in reader.history(run.id).items():
        want = {step: (at, value) for step, at, value in logged[name[0]]}
        assert repr(sorted(want.items())) == repr(list(series.items()))


@pytest.mark.parametrize("again", [6, 5], ids=["after the base step", "at the base step"])
def test_a_history_goes_through_attempts_and_forks(start: Start, again: int) -> None:
    run = start(run_id="k", store="store")
    for step in range(10):
        run.log({"x": step, "y": -step}, step=step)
        run.save({"i": step}, step=step).result()
    run.finish()
    run = start(run_id="k", store="store", resume="must", resume_from=5)
    run.log({"x": 100 + again}, step=again)
    for step in (5, 6, 7, 8):
        run.log({"x": 200 + step}, step=step)
    run.finish()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", runtree.RuntreeWarning)  # no checkpoint at the fork step
        fork = start(fork_run_id=run.display_id, fork_step=7, store="store")
    fork.log({"x": 308}, step=8)
    fork.log({"x": 307}, step=7)
    fork.finish()
    reader = History(Path("store"))
    for name in (run.display_id, fork.display_id):
        want = runtree.Store("store").run(name).history()
        got = reader.history(reader.find("digits", name))
        values = {series[0]: [(step, value) for step, (_, value) in points.items()] for series, points in got.items()}
        assert values == {name: list(zip(s.steps.tolist(), s.values.tolist(), strict=True)) for name, s in want.items()}
        assert max(step for step, _ in values["y"]) == again - 1


def test_ranks_and_the_system_have_series_of_their_own(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_ATTEMPT", "one launch")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = start(store="store", log_ranks="all", system_metrics=True)
    run.log({"x": 1.5}, step=3)
    attached = Path("notes.txt")
    attached.write_bytes(b"attached" * 200_000)
    run.log_file(attached)
    reader = History(Path("store"))
    journal = Path(f"store/runs/{run.id}/journal")
    until = time.monotonic() + 30
    while not any(series[2] for series in reader.history(run.id)) and time.monotonic() < until:
        run.flush()
        time.sleep(0.2)
    run.finish()
    series = reader.history(run.id)
    assert [value for _, value in series["x", 0, False].values()] == [1.5]
    created = reader.record(f"runs/{run.id}/run", "runtree.run")["created"]
    step, (at, _) = next(iter(series["sys/rss_bytes", 0, True].items()))
    assert 0 <= at - created - 1000 * step < 1000
    event = only(e for e in reader.journal(run.id, only(os.listdir(journal))).events if e["event"] == "file")
    assert (event["name"], event["bytes"]) == ("notes.txt", attached.stat().st_size)
    assert b"".join(map(reader.chunk, event["chunks"])) == attached.read_bytes()


def test_only_the_commit_decides(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_ATTEMPT", "one launch")
    run = start(store="store")
    for step in (1, 2):
        run.save({"step": step}, step=step, parts={"trainer": 1}).result()
    parts = {"actor": 1, "critic": 2}
    saves = [run.save({"n": 0}, step=3, component="actor", parts=parts)]
    saves += [
        run.save({"n": rank + 1}, step=3, component="critic", parts=parts, rank=rank, world_size=2) for rank in (0, 1)
    ]
    for save in saves:
        save.result()
    reader = Reader(Path("store"))
    assert list(reader.checkpoints(run.id)) == ["1-1-0", "1-2-0", "1-3-0"]
    named = [(part["component"], part["rank"]) for part in reader.checkpoints(run.id)["1-3-0"]["parts"]]
    assert named == [("actor", 0), ("critic", 0), ("critic", 1)]
    assert [reader.restore_state(reader.part(run.id, "1-3-0", *name))["n"] for name in named] == [0, 1, 2]
    checkpoint = run.checkpoint("1")
    assert checkpoint.id == "ck_" + spelled(
        int.from_bytes(blake3.blake3(f"{run.id}/1-1-0".encode()).digest()[:8], "big")
    )
    checkpoint.delete()
    assert list(reader.checkpoints(run.id)) == ["1-2-0", "1-3-0"]
    checkpoint.undelete()
    assert list(reader.checkpoints(run.id)) == ["1-1-0", "1-2-0", "1-3-0"]
    run.finish()
    Path(f"store/runs/{run.id}/commits/1-2-0").unlink()
    assert list(reader.checkpoints(run.id)) == ["1-1-0", "1-3-0"]


def spelled(value: int) -> str:
    return "".join("0123456789abcdefghjkmnpqrstvwxyz"[value >> 5 * i & 31] for i in reversed(range(13)))


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << at % 8
    path.write_bytes(data)


@pytest.mark.parametrize("where", [0.0, 0.1, 0.3, 0.6, 0.999])
def test_a_flipped_byte_is_noticed(start: Start, where: float) -> None:
    run = start(store="store")
    run.log({"x": 1.0})
    run.save({"w": np.arange(30_000)}, step=0).result()
    run.finish()
    reader = History(Path("store"))

    def read_all() -> bool:
        (key,) = reader.checkpoints(run.id)
        for part in reader.checkpoints(run.id)[key]["parts"]:
            reader.restore_state(reader.part(run.id, key, part["component"], part["rank"]))
        journals = [reader.journal(run.id, w) for w in os.listdir(f"store/runs/{run.id}/journal")]
        return not any(journal.torn for journal in journals)

    assert read_all()
    for pattern in ("chunks/*/*", "runs/*/parts/*/*", "runs/*/commits/*", "runs/*/journal/*/*"):
        path = only(Path("store").glob(pattern))
        good = path.read_bytes()
        flipped(path, int(where * len(good)))
        if "journal" in pattern and where > 0.9:
            assert not read_all()  # a torn tail
        else:
            with pytest.raises(Corrupt):
                read_all()
        path.write_bytes(good)


def test_every_flipped_byte_of_a_journal_ends_it_or_is_corruption(start: Start) -> None:
    run = start(store="store")
    for step in range(3):
        run.log({"x": float(step)})
        run.flush()
    run.finish()
    path = only(Path(f"store/runs/{run.id}/journal").glob("*/*"))
    good = path.read_bytes()
    places, at = [], 64
    while at < len(good):
        places.append(at)
        at += 29 + int.from_bytes(good[at + 9 : at + 13], "little")
    assert at == len(good)
    for at in {*range(0, len(good), 3), *places, *range(len(good) - 40, len(good))}:
        flipped(path, at)
        try:
            journal = Journal(path.parent, run.id, path.parent.name)
            assert at >= places[-1]
            assert (journal.torn, journal.next) == (True, len(places) - 1)
        except Corrupt:
            assert at < places[-1]
        path.write_bytes(good)
    for end in [*range(0, len(good), 7), *places]:
        path.write_bytes(good[:end])
        journal = Journal(path.parent, run.id, path.parent.name)
        assert journal.torn == (end not in (64, *places))
        assert journal.next == sum(place <= end for place in [*places[1:], len(good)])


def test_a_journal_of_two_pieces_reads_as_one(start: Start) -> None:
    run = start(store="store")
    for step in range(4):
        run.log({"x": float(step)})
        run.flush()
    run.finish()
    first = only(Path(f"store/runs/{run.id}/journal").glob("*/*"))
    writer = first.parent.name
    whole = Journal(first.parent, run.id, writer)
    good, places = first.read_bytes(), [64]
    for _ in whole.hashes[1:]:
        places.append(places[-1] + 29 + int.from_bytes(good[places[-1] + 9 : places[-1] + 13], "little"))
    n = 3
    head = good[:40] + struct.pack("<Q", n) + whole.hashes[n]
    second = first.with_name(f"{n:020}.log")
    second.write_bytes(head + struct.pack("<Q", crc64(head)) + good[places[n] :])
    for rest in (good[: places[n]], good[: places[n + 1]], good[: places[n + 1]] + b"torn"):
        first.write_bytes(rest)
        journal = Journal(first.parent, run.id, writer)
        assert (journal.points, journal.hashes, journal.torn) == (whole.points, whole.hashes, False)
    # The package reads what this page makes, too.
    store = runtree.Store("store")
    store.reindex()
    assert store.run(run.display_id).history("x").values.tolist() == [0.0, 1.0, 2.0, 3.0]
    first.write_bytes(good[: places[n] - 1])
    with pytest.raises(Corrupt, match="hole"):
        Journal(first.parent, run.id, writer)


def planes(raw: bytes, w: int) -> bytes:
    """A ``.z`` object as its page says; every other block stands as it is."""
    stored, sizes = b"", b""
    for index in range(0, len(raw), MIB):
        block = raw[index : index + MIB]
        n = len(block) // w
        split = np.frombuffer(block[: n * w], np.uint8).reshape(n, w).T.tobytes() + block[n * w :]
        squeezed = zstandard.ZstdCompressor().compress(split)
        kept = index // MIB % 2 == 1 or len(squeezed) >= len(block)
        stored += block if kept else squeezed
        sizes += struct.pack("<I", kept << 31 | len(block if kept else squeezed))
    footer = struct.pack("<QIBBH", len(raw), len(sizes) // 4, 1, w, 0)
    return b"RTPLANES" + stored + sizes + footer + struct.pack("<Q", crc64(sizes + footer)) + b"RTZE"


@pytest.mark.parametrize("w", [1, 2, 4, 8, 16])
def test_compressed_chunks_are_read_by_both(start: Start, w: int) -> None:
    run = start(store="store")
    array = np.arange(3 * MIB // 4 + 12_345, dtype=np.float32)
    run.save({"w": array, "odd": b"x" * 70_001}, step=0).result()
    run.finish()
    for path in list(Path("store/chunks").glob("*/*")):
        path.with_name(path.name + ".z").write_bytes(planes(path.read_bytes(), w))
        path.unlink()
    reader = Reader(Path("store"))
    same(array, reader.restore_state(reader.part(run.id, "1-0-0"))["w"])
    loaded = runtree.Store("store").run(run.display_id).load(0)
    assert loaded["w"].tobytes() == array.tobytes()
    path = max(Path("store/chunks").glob("*/*"), key=lambda path: path.stat().st_size)
    for at in (3, 500_000, -20, -1):
        flipped(path, at)
        with pytest.raises(Corrupt):
            reader.restore_state(reader.part(run.id, "1-0-0"))
        flipped(path, at)


def test_differences_are_read_by_both(start: Start) -> None:
    run = start(store="store")
    array = np.random.default_rng(3).normal(0, 0.02, 3 * MIB // 8 + 12_345).astype(np.float32)
    states = []
    for step in range(10):
        array = array.copy()
        array[step::211] += np.float32(1e-6)
        states.append(array)
        run.save({"w": array, "same": np.arange(40_000)}, step=step).result()
    run.finish()
    store = runtree.Store("store")
    store.encode()
    assert sum(store.stats(run.id)["depths"]) >= 7
    reader = Reader(Path("store"))
    for step, array in enumerate(states):
        same(array, reader.restore_state(reader.part(run.id, f"1-{step}-0"))["w"])
        assert store.run(run.display_id).load(step)["w"].tobytes() == array.tobytes()
    path = next(Path("store/chunks").glob("*/*.d~*"))
    flipped(path, -1)
    damaged = [step for step in range(10) if not _reads(reader, run.id, step)]
    assert damaged


def _reads(reader: Reader, run: str, step: int) -> bool:
    try:
        reader.restore_state(reader.part(run, f"1-{step}-0"))
    except Corrupt:
        return False
    return True


def test_golden_files_are_what_the_pages_say() -> None:
    raw = b"".join(struct.pack("<H", i // 7) for i in range(600))
    data = (GOLDEN / "planes-v1.z").read_bytes()
    assert (len(data), encoded_object(data, 1200)) == (161, raw)
    changed = b"".join(struct.pack("<H", i // 7 + (i % 40 == 0)) for i in range(600))
    assert encoded_object((GOLDEN / "delta-v1.d").read_bytes(), 1200, changed) == raw
    folder = Path("journal")
    folder.mkdir()
    frames = (GOLDEN / "journal-v1.log").read_bytes()
    (folder / f"{0:020}.log").write_bytes(frames)
    with pytest.raises(NotImplementedError):  # its second payload is no batch
        Journal(folder, "01hf7yat000000000000000001", f"{'1a':0>13}")
    (folder / f"{0:020}.log").write_bytes(frames[: 64 + 29 + 39])
    newer = frames[:8] + b"\x02" + frames[9:56]
    (folder / f"{0:020}.log").write_bytes(newer + struct.pack("<Q", crc64(newer)))
    with pytest.raises(NotImplementedError):
        Journal(folder, "01hf7yat000000000000000001", f"{'1a':0>13}")
    (folder / f"{0:020}.log").write_bytes(frames[: 64 + 29 + 39])
    journal = Journal(folder, "01hf7yat000000000000000001", f"{'1a':0>13}")
    assert journal.events == [{"event": "alive", "at": 1700000000000000}]
    assert crc64(b"123456789") == 0xAE8B14860A799888
    assert number("01hf7yat000000000000000001") == 0x018BCFE5680000000000000000000001
    for name in ("part", "commit"):
        text = (GOLDEN / f"{name}-v1.json").read_bytes()
        assert json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False).encode() == text


def test_the_example_of_a_batch_reads() -> None:
    text = """52 54 42 01 00  02  00 00 06 61 2f 6c 6f 73 73  00 03 01 72  02  02 02 02 01  01 02 01  01 00 00 01
    0e 80 89 7a 00 00 00 00 3f 01 9a 99 99 99 99 99 b9 3f  10 80 92 f4 01 00 00 00 80 3e"""
    loss, lr = ("a/loss", None, False), ("a/lr", None, False)
    second = 1_000_000
    assert Batch(bytes.fromhex(text)).points == [
        (loss, 7, second, 0.5),
        (lr, 7, second, 0.1),
        (loss, 8, 2 * second, 0.25),
    ]
