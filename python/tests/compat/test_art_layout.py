"""What ART wrote, in directories and buckets: what is a checkpoint there, and what is not believed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtree
from runtree.compat import art
from runtree.compat.art import adapters, layout, places
from runtree.compat.art.local import LocalBackend

from .conftest import in_bucket
from .made import BASE, model, put, put_tree, safetensors, value_at, write_adapter, write_art, write_run

Make = Callable[..., LocalBackend]
_BUCKET = os.environ.get("RUNTREE_TEST_BUCKET", "").removeprefix("s3://")


@pytest.mark.parametrize(
    ("bucket", "prefix", "place"),
    [
        ("b", None, "s3://b"),
        ("b", "x/y", "s3://b/x/y"),
        ("b", "/x/", "s3://b/x"),
        ("s3://b/a/", "x", "s3://b/a/x"),
        ("gs://b", None, "gs://b"),
        ("/mnt/b", "x", Path("/mnt/b/x")),
        ("file:///mnt/b", None, Path("/mnt/b")),
        (Path("/mnt/b"), None, Path("/mnt/b")),
    ],
)
def test_buckets_addresses_and_directories(bucket: Any, prefix: str | None, place: Path | str) -> None:
    assert places.locate(bucket, prefix) == place


def test_a_model_lists_whole_steps_and_says_why_not_the_others(tmp_path: Path) -> None:
    root = write_art(tmp_path, "old", {0: 0.5, 7: 7.5, 12345: 1.5}) / "checkpoints"
    (root / "0009").mkdir()
    (root / "0010").write_text("a file")
    (root / "readme.md").write_text("")
    write_adapter(root / "11", 1.0)
    found = layout.open_model(tmp_path, "p", "old")
    assert found.exists
    assert found.steps == [0, 7, 12345]
    assert found.passed_over == {
        "0009": "empty",
        "0010": "a file",
        "readme.md": "not called as ART calls a step",
        "11": "not called as ART calls a step, 0011",
    }
    assert found.base_model() == BASE
    assert not layout.open_model(tmp_path, "p", "new").exists


def test_a_directory_that_may_not_be_read_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_art(tmp_path, "old", {5: 5.5})
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        # Whoever runs this as root may read everything.
        if str(path) == str(root / "checkpoints"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(runtree.Denied, match="checkpoints may not be read"):
        layout.open_model(tmp_path, "p", "old")


def header(text: str | bytes, data: bytes = b"") -> bytes:
    body = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(body)) + body + data


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no weights"),
        (b"1234567", "is torn"),
        (struct.pack("<Q", 2**63) + b"{}", "is torn"),
        (struct.pack("<Q", 3) + b"{}", "is torn"),
        (safetensors(1.0)[:-1], "is torn: it has"),
        (safetensors(1.0) + b"x", "is torn: it has"),
        (header("[]"), "can not be read"),
        (header("{"), "can not be read"),
        (header('{"a": {}}'), "can not be read"),
        (header('{"a": {"data_offsets": [0]}}'), "can not be read"),
        (header('{"a": {"data_offsets": [0, "x"]}}'), "can not be read"),
        (header("[" * 100_000), "can not be read"),
        (header(b"\xff\xff"), "can not be read"),
        (safetensors(1.0), None),
        (header('{"__metadata__": {"a": "b"}}'), None),
    ],
)
def test_weights_are_looked_into_not_believed(tmp_path: Path, content: bytes, why: str | None) -> None:
    directory = write_adapter(tmp_path / "adapter", 1.0)
    (directory / "adapter_model.safetensors").write_bytes(content)
    found = adapters.find_problem(directory)
    assert (found is None) == (why is None)
    assert why is None or why in str(found)


def test_weights_in_a_zip_end_with_its_list(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "adapter", 1.0)
    (directory / "adapter_model.safetensors").unlink()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("data.pkl", b"never run" * 1000)
    weights = directory / "adapter_model.bin"
    weights.write_bytes(whole.getvalue())
    assert adapters.find_problem(directory) is None
    weights.write_bytes(whole.getvalue()[:-60])
    assert "is torn" in str(adapters.find_problem(directory))


def test_weights_in_several_files_are_whole_together(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "adapter", 1.0)
    (directory / "adapter_model.safetensors").rename(directory / "adapter_model-00001-of-00002.safetensors")
    index = directory / "adapter_model.safetensors.index.json"
    names = [f"adapter_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index.write_text(json.dumps({"weight_map": dict(zip("ab", names, strict=True))}))
    assert names[1] in str(adapters.find_problem(directory))
    (directory / names[1]).write_bytes(safetensors(2.0))
    assert adapters.find_problem(directory) is None
    index.write_text("[]")
    assert "is no index" in str(adapters.find_problem(directory))


@pytest.mark.parametrize("config", ["[]", '{"r": 8', "", " " * (2 << 20)])
def test_a_config_is_an_object(tmp_path: Path, config: str) -> None:
    directory = write_adapter(tmp_path / "adapter", 1.0)
    (directory / "adapter_config.json").write_text(config)
    assert "adapter_config.json" in str(adapters.find_problem(directory))


def test_what_an_adapter_says_of_itself_may_be_nothing(tmp_path: Path) -> None:
    directory = write_adapter(tmp_path / "adapter", 1.0, rank=16)
    assert adapters.read_facts(directory) == (BASE, 16)
    (directory / "adapter_config.json").write_text('{"r": true, "base_model_name_or_path": 3}')
    assert adapters.read_facts(directory) == (None, None)


def test_a_digest_is_that_of_names_and_contents(tmp_path: Path) -> None:
    first, second = (write_adapter(tmp_path / name, 1.0) for name in "ab")
    assert adapters.digest(first) == adapters.digest(second)
    (second / "adapter_config.json").rename(second / "adapter_config2.json")
    assert adapters.digest(first) != adapters.digest(second)
    write_adapter(second, 2.0)
    (second / "adapter_config2.json").unlink()
    assert adapters.digest(first) != adapters.digest(second)
    write_adapter(second, 1.0)
    assert adapters.digest(first) == adapters.digest(second)
    (second / "link").symlink_to("adapter_config.json")
    assert adapters.digest(first) != adapters.digest(second)


def test_what_was_imported_is_one_run_in_any_order(tmp_path: Path, backend: Make) -> None:
    history = [{"step": step, "val/reward": step} for step in range(10)]
    write_art(tmp_path / "work" / ".art", "old", {3: 3.5, 5: 5.5, 9: 9.5}, history=history)

    async def fork(name: str, step: int) -> None:
        new = model(name)
        await backend()._experimental_fork_checkpoint(new, "old", not_after_step=step)
        await new.register(backend())
        assert await new.get_step() == step
        assert value_at(new) == step + 0.5
        assert new.run is not None
        assert new.run.history("val/reward").steps.tolist() == list(range(step + 1))

    for name, step in (("a", 5), ("b", 9), ("c", 3), ("d", 5)):
        asyncio.run(fork(name, step))
    [left] = runtree.Store().runs("tag = art")
    assert [each.step for each in left.checkpoints()] == [3, 5, 9]
    assert left.history("val/reward").values.tolist() == list(range(10))
    assert left.status == "completed"
    assert "imported from" in str(left.notes)
    assert {child.name for child in left.children()} == {"a", "b", "c", "d"}


def test_an_import_is_another_one_where_the_files_are_others(tmp_path: Path, backend: Make) -> None:
    for place, value in (("one", 1.5), ("two", 2.5)):
        write_art(tmp_path / place, "old", {5: value})
        new = model(f"from-{place}")
        asyncio.run(backend()._experimental_fork_checkpoint(new, "old", from_s3_bucket=str(tmp_path / place)))
    write_art(tmp_path / "one", "old", {5: 3.5})
    asyncio.run(backend()._experimental_fork_checkpoint(model("again"), "old", from_s3_bucket=str(tmp_path / "one")))
    store = runtree.Store()
    found: dict[str, float] = {}
    for name in ("from-one", "from-two", "again"):
        agent = model(name)
        asyncio.run(agent.register(backend()))
        found[name] = value_at(agent)
    assert found == {"from-one": 1.5, "from-two": 2.5, "again": 3.5}
    # A step that was trained anew is another parent.
    assert len(store.runs("tag = art")) == 3


def test_arts_own_files_are_not_changed(tmp_path: Path, backend: Make) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {5: 5.5}, history=[{"step": 1, "a": 1}])
    before = {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in root.rglob("*")}
    asyncio.run(backend()._experimental_fork_checkpoint(model("new"), "old"))
    assert {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in root.rglob("*")} == before


def test_files_that_are_larger_than_such_files_are_left_out(tmp_path: Path, backend: Make) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {5: 5.5})
    with (root / "history.jsonl").open("wb") as file:
        file.truncate(2 << 30)
    with (root / "model.json").open("wb") as file:
        file.truncate(2 << 20)
    new = model("new")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert asyncio.run(backend()._experimental_fork_checkpoint(new, "old")) == 5
    assert {str(each.message).split()[0] for each in caught} == {"history.jsonl", "model.json"}


def test_forks_beside_each_other_do_not_collide(tmp_path: Path, backend: Make) -> None:
    history = [{"step": step, "val/reward": step} for step in range(10)]
    write_art(tmp_path / "work" / ".art", "old", {3: 3.5, 9: 9.5}, history=history)
    here = backend()

    async def script() -> list[int]:
        wanted = [("a", 3), ("b", 9), ("c", 3), ("same", 9), ("same", 9), ("d", 9)]
        return await asyncio.gather(
            *(here._experimental_fork_checkpoint(model(name), "old", not_after_step=step) for name, step in wanted)
        )

    assert asyncio.run(script()) == [3, 9, 3, 9, 9, 9]
    for name, step in {"a": 3, "b": 9, "c": 3, "same": 9, "d": 9}.items():
        new = model(name)
        asyncio.run(new.register(here))
        assert value_at(new) == step + 0.5
        assert new.run is not None
        assert new.run.history("val/reward").steps.tolist() == list(range(step + 1))
    assert len(runtree.Store().runs("name = same")) == 1
    assert {run.status for run in runtree.Store().runs("tag = art")} == {"completed"}


def test_processes_that_import_one_model_do_not_collide(tmp_path: Path, backend: Make) -> None:
    write_art(tmp_path / "work" / ".art", "old", {3: 3.5, 9: 9.5}, history=[{"step": 1, "a": 1}])
    script = (
        "import asyncio, sys\n"
        "from runtree.compat import art\n"
        "new = art.TrainableModel(name=sys.argv[1], project='p', base_model='OpenPipe/Qwen3-14B-Instruct')\n"
        "sys.stdin.read()\n"
        "print(asyncio.run(art.LocalBackend()._experimental_fork_checkpoint(new, 'old')))\n"
    )
    runtree.Store(create=True)
    names = ["a", "b", "c", "d"]
    command = [sys.executable, "-W", "error", "-c", script]
    processes = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in names
    ]
    for each in processes:
        assert each.stdin is not None
        each.stdin.close()
    told = [(each.wait(60), each.stdout.read() if each.stdout else "") for each in processes]
    for each in processes:
        assert each.stdout is not None
        each.stdout.close()
    assert told == [(0, "9\n")] * 4
    for name in names:
        new = model(name)
        asyncio.run(new.register(backend()))
        assert value_at(new) == 9.5


def test_an_import_that_was_killed_is_made_again(tmp_path: Path, backend: Make) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {5: 5.5})
    script = (
        "import os, sys, runtree\n"
        "from pathlib import Path\n"
        "from runtree.compat.art import importing, layout\n"
        "source = layout.open_model(Path(sys.argv[1]), 'p', 'old')\n"
        "run = importing._open(runtree.Store(create=True), source, importing._standing(runtree.Store(), source).key)\n"
        "parts = {'trainer': 1, 'orchestrator': 1}\n"
        "save = run.save_dir(Path(sys.argv[2]), step=5, parts=parts)\n"
        "assert save._native.wait_part(30)\n"
        "os._exit(9)\n"
    )
    art_path = str(tmp_path / "work" / ".art")
    command = [sys.executable, "-c", script, art_path, str(root / "checkpoints" / "0005")]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9
    new, here = model("new"), backend()
    assert asyncio.run(here._experimental_fork_checkpoint(new, "old")) == 5
    asyncio.run(new.register(here))
    assert value_at(new) == 5.5


# ---- Buckets.


class FakeBucket:
    """What ``_native.bucket_list`` and ``bucket_fetch`` answer, for keys that no server lets a test make."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes]) -> None:
        self.fetched: list[str] = []
        self._objects = objects
        monkeypatch.setattr("runtree._native.bucket_list", self._list, raising=False)
        monkeypatch.setattr("runtree._native.bucket_fetch", self._fetch, raising=False)

    def _list(self, url: str, settings: dict[str, str]) -> list[tuple[str, int]]:
        return [(key, len(data)) for key, data in self._objects.items()]

    def _fetch(self, url: str, key: str, path: Path, settings: dict[str, str]) -> int:
        if key not in self._objects:
            raise runtree.NotFound(key)
        self.fetched.append(key)
        return path.write_bytes(self._objects[key])


def whole(value: float, at: str) -> dict[str, bytes]:
    return {
        f"checkpoints/{at}/adapter_config.json": b'{"r": 8}',
        f"checkpoints/{at}/adapter_model.safetensors": safetensors(value),
    }


@pytest.mark.parametrize("name", ["../../../esc", "/etc/x", "a//b", "./x", "a\\b", "a\nb"])
def test_a_key_that_leaves_its_directory_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    FakeBucket(monkeypatch, {**whole(1.0, "0005"), f"checkpoints/0005/{name}": b"x"})
    found = layout.open_model("s3://b", "p", "old")
    with pytest.raises(runtree.Invalid, match="no name of a file below"), found.newest(None):
        pass


def test_only_one_checkpoint_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = {**whole(1.0, "0003"), **whole(2.0, "0005"), **whole(3.0, "0009"), "checkpoints/0010/": b""}
    bucket = FakeBucket(monkeypatch, objects)
    found = layout.open_model("s3://b", "p", "old")
    assert found.passed_over == {"0010": "empty"}
    with found.newest(6) as (step, directory):
        assert step == 5
        assert sorted(path.name for path in directory.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert bucket.fetched == sorted(whole(2.0, "0005"))
    assert not directory.exists()


def test_what_is_torn_in_a_bucket_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    torn = {**whole(3.0, "0009"), "checkpoints/0009/adapter_model.safetensors": safetensors(3.0)[:-8]}
    FakeBucket(monkeypatch, {**whole(1.0, "0003"), **torn})
    found = layout.open_model("s3://b", "p", "old")
    with pytest.warns(runtree.RuntreeWarning, match="0009"), found.newest(None) as (step, _):
        assert step == 3
    assert "is torn" in found.passed_over["0009"]


@in_bucket
def test_missing_denied_and_empty_are_three_errors(backend: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork(bucket: str) -> int:
        return asyncio.run(backend()._experimental_fork_checkpoint(model("new"), "old", from_s3_bucket=bucket))

    with pytest.raises(runtree.NotFound, match="does not exist") as missing:
        fork("no-such-bucket-here")
    assert not isinstance(missing.value, art.NoCheckpoint)
    put("art-empty", "")
    with pytest.raises(art.NoCheckpoint, match="no model 'old'"):
        fork("art-empty")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(runtree.Denied, match="may not be accessed"):
        fork(_BUCKET)


@in_bucket
def test_names_with_spaces_and_signs_are_found_in_a_bucket(tmp_path: Path, backend: Make) -> None:
    name = "a b+c=d%20é"
    write_art(tmp_path / "sent", name, {5: 5.5})
    prefix = f"signs-{os.getpid()}"
    put_tree(_BUCKET, prefix, tmp_path / "sent")
    new = model("new")
    here = backend()
    step = asyncio.run(here._experimental_fork_checkpoint(new, name, from_s3_bucket=_BUCKET, prefix=prefix))
    assert step == 5
    asyncio.run(new.register(here))
    assert value_at(new) == 5.5


@in_bucket
@pytest.mark.parametrize("kind", ["store", "art"])
def test_a_bucket_that_may_only_be_read_is_enough(
    tmp_path: Path, backend: Make, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    prefix = f"art-{kind}-{os.getpid()}"
    if kind == "store":
        write_run("old", {5: 5.5}, store=f"s3://open/{prefix}")
    else:
        write_art(tmp_path / "sent", "old", {5: 5.5})
        put_tree("open", prefix, tmp_path / "sent")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "readerreader")
    # Another process, which may not write, has not opened it to write.
    runtree.store._open.clear()
    new, here = model("new"), backend()
    step = asyncio.run(here._experimental_fork_checkpoint(new, "old", from_s3_bucket="open", prefix=prefix))
    assert step == 5
    asyncio.run(new.register(here))
    assert value_at(new) == 5.5
