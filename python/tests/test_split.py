"""Files that torch and safetensors really write are cut along their tensors: shared with states, and byte for byte what they were."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat

import runtree

Start = Callable[..., runtree.Run]
Write = Callable[[Path, dict[str, torch.Tensor]], None]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def tensors() -> dict[str, torch.Tensor]:
    """Each large enough for chunks of its own."""
    torch.manual_seed(0)
    return {
        "embed.weight": torch.randn(700, 1000),
        "head.weight": torch.randn(1200, 900).to(torch.bfloat16),
        "ids": torch.randint(0, 9, (300_000,)),
    }


def write_torch(directory: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"model": state, "epoch": 3, "note": "x" * 500}, directory / "optimizer.pt")


def write_safetensors(directory: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, directory / "model.safetensors", {"format": "pt"})


def write_dcp(directory: Path, state: dict[str, torch.Tensor]) -> None:
    dcp.save({**state, "step": 7}, storage_writer=FileSystemWriter(directory / "dcp"), no_dist=True)


def write_dcp_safetensors(directory: Path, state: dict[str, torch.Tensor]) -> None:
    writer = FileSystemWriter(directory / "dcp", serialization_format=SerializationFormat.SAFETENSORS)
    dcp.save({**state, "step": 7}, storage_writer=writer, no_dist=True)


WRITERS = [write_torch, write_safetensors, write_dcp, write_dcp_safetensors]


def chunk_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in store.glob("chunks/*/*"))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("write", WRITERS)
def test_what_a_state_has_already_is_not_stored_again(start: Start, tmp_path: Path, write: Write) -> None:
    run = start(store="store")
    state = tensors()
    run.save(state, step=0).result()
    before = chunk_bytes(Path("store"))
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    write(directory, state)
    checkpoint = run.save_dir(directory, step=1).result()
    added = chunk_bytes(Path("store")) - before
    assert 0 < added < 12_000, f"{added} bytes beside the tensors"
    assert contents(checkpoint.export(tmp_path / "out")) == contents(directory)


@pytest.mark.parametrize("write", WRITERS)
def test_a_frozen_tensor_is_stored_once(start: Start, tmp_path: Path, write: Write) -> None:
    run = start(store="store")
    state = tensors()
    for step in range(3):
        directory = tmp_path / f"checkpoint-{step}"
        directory.mkdir()
        write(directory, state)
        run.save_dir(directory, step=step).result()
        state["head.weight"] = state["head.weight"] + 1
    changed = 3 * state["head.weight"].numel() * 2
    frozen = sum(each.numel() * each.element_size() for name, each in state.items() if name != "head.weight")
    assert chunk_bytes(Path("store")) < frozen + changed + 30_000


def test_the_tensors_of_a_safetensors_file_are_listed(start: Start, tmp_path: Path) -> None:
    run = start(store="store")
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    write_safetensors(directory, {**tensors(), "scale": torch.ones(3, dtype=torch.float16)})
    listed = {each["name"]: each for each in run.save_dir(directory, step=0).result().tensors()}
    assert listed.keys() == {"embed.weight", "head.weight", "ids", "scale"}
    assert (listed["head.weight"]["dtype"], listed["head.weight"]["shape"]) == ("bf16", [1200, 900])
    command = [
        Path(sys.executable).parent / "runtree",
        "--store",
        "store",
        "cat",
        f"{run.display_id}@0",
        "scale",
        "--json",
    ]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (shown["values"], shown["dtype"]) == ([1.0, 1.0, 1.0], "f16")


@pytest.mark.parametrize("seed", range(6))
def test_damaged_files_come_back_as_damaged_as_they_were(start: Start, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    for write in WRITERS[:3]:
        write(directory, tensors())
    for path in directory.rglob("*"):
        if path.is_file():
            hurt(path, rng)
    checkpoint = start(store="store").save_dir(directory, step=0).result()
    assert contents(checkpoint.export(tmp_path / "out")) == contents(directory)


def hurt(path: Path, rng: random.Random) -> None:
    """Flips, cuts or lengthens, mostly where a format says what it is."""
    data = bytearray(path.read_bytes())
    near = min(len(data), 800)
    at = rng.choice([rng.randrange(near), len(data) - 1 - rng.randrange(near), rng.randrange(len(data))])
    match rng.randrange(3):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case _:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
    path.write_bytes(data)


def test_a_single_file_is_refused_with_a_hint(start: Start, tmp_path: Path) -> None:
    torch.save(tensors(), tmp_path / "model.pt")
    with pytest.raises(runtree.Invalid, match=r"model\.pt is a file") as caught:
        start(store="store").save_dir(tmp_path / "model.pt", step=0)
    assert "log_file" in (caught.value.hint or "")


def test_other_zips_are_taken_as_they_are(start: Start, tmp_path: Path) -> None:
    import zipfile

    directory = tmp_path / "checkpoint"
    directory.mkdir()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("stored", os.urandom(2 << 20))
        archive.writestr("compressed", b"x" * (3 << 20), zipfile.ZIP_DEFLATED)
        archive.comment = b"a comment hides the end"
    (directory / "a.zip").write_bytes(stream.getvalue())
    checkpoint: Any = start(store="store").save_dir(directory, step=0).result()
    assert contents(checkpoint.export(tmp_path / "out")) == contents(directory)
