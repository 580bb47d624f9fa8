"""What a checkpoint says of its tensors, beside what torch says of the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import runtree

Start = Callable[..., runtree.Run]


def states() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    made: dict[str, torch.Tensor] = {
        # More than one unit of work, so that pieces are merged.
        "large": torch.randn(3_000_001) * 1e-3 + 7,
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(-2.5),
        "bool": torch.rand(1000) < 0.3,
        "complex": torch.randn(500, dtype=torch.complex64),
        "big": torch.tensor([2**63 - 1, -(2**63), 2**53 + 1]),
        "u8": torch.arange(256, dtype=torch.uint8),
    }
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2):
        made[f"floats.{dtype}".replace("torch.", "")] = (torch.randn(333, 7) * 3).to(dtype)
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        made[f"ints.{dtype}".replace("torch.", "")] = torch.randint(-100, 100, (50, 5)).to(dtype)
    return made


def test_statistics_are_those_of_torch(start: Start) -> None:
    state = states()
    checkpoint = start().save(state, step=0).result()
    reports = checkpoint.inspect()
    assert [report.name for report in reports] == [tensor["name"] for tensor in checkpoint.tensors()]
    for report in reports:
        tensor = state[report.name]
        assert (report.shape, report.elements, report.nonfinite) == (tuple(tensor.shape), tensor.numel(), 0), report
        assert report.bytes == tensor.numel() * tensor.element_size()
        if tensor.numel() == 0:
            assert (report.min, report.mean, report.norm, report.encoding) == (None, None, None, None)
            continue
        assert (report.encoding, report.depth) == ("raw", 0)
        values = (tensor.abs() if tensor.is_complex() else tensor).double()
        if not tensor.dtype.is_floating_point and not tensor.is_complex():
            assert (report.min, report.max) == (int(tensor.min()), int(tensor.max())), report
            assert isinstance(report.min, int)
        else:
            assert report.min == pytest.approx(values.min().item(), rel=1e-6)
            assert report.max == pytest.approx(values.max().item(), rel=1e-6)
        assert report.mean == pytest.approx(values.mean().item(), rel=1e-6, abs=1e-9)
        assert report.std == pytest.approx(values.std(correction=0).item(), rel=1e-6)
        assert report.norm == pytest.approx(torch.linalg.vector_norm(values).item(), rel=1e-6)


def test_what_is_not_finite_is_counted_apart(start: Start) -> None:
    weight = torch.arange(10.0)
    weight[2], weight[5], weight[6] = math.nan, -math.inf, -math.inf
    checkpoint = start().save({"w": weight, "none": torch.full((2,), math.nan)}, step=0).result()
    bad, none = checkpoint.inspect()
    assert (bad.nan, bad.positive_infinity, bad.negative_infinity, bad.nonfinite) == (1, 0, 2, 3)
    finite = weight[weight.isfinite()].double()
    assert (bad.min, bad.max, bad.mean) == (0.0, 9.0, finite.mean().item())
    assert (none.nan, none.min, none.std) == (2, None, None)


def test_keys_select_what_load_would(start: Start) -> None:
    state: dict[str, Any] = {
        "model": {"a": np.ones(3), "b": np.zeros(2)},
        "optimizer": [np.ones(1)],
        "text": np.array(["x", "yz"]),
    }
    checkpoint = start().save(state, step=0).result()

    def names(keys: Any) -> list[str]:
        return [report.name for report in checkpoint.inspect(keys)]

    assert names("model") == ["model.a", "model.b"]
    assert names("model.*") == ["model.a", "model.b"]
    assert names(["*.b", "optimizer"]) == ["model.b", "optimizer.0"]
    (text,) = checkpoint.inspect("text")
    assert (text.elements, text.min, text.encoding) == (2, None, "raw")
    with pytest.raises(runtree.NotFound, match="nothing"):
        checkpoint.inspect("nothing")


def test_a_damaged_tensor_is_an_error_that_names_it(start: Start) -> None:
    run = start()
    checkpoint = run.save({"w": np.arange(100.0)}, step=0).result()
    (chunk,) = [path for path in (run.path / "chunks").rglob("*") if path.is_file()]
    chunk.chmod(0o644)
    content = bytearray(chunk.read_bytes())
    content[17] ^= 4
    chunk.write_bytes(content)
    with pytest.raises(runtree.Corrupt, match="'w'|\"w\""):
        checkpoint.inspect()


def test_a_slice_with_long_steps_reads_what_it_selects_alone(start: Start) -> None:
    run = start()
    grid = np.arange(6 * 300_000, dtype=np.float32).reshape(6, 300_000)
    checkpoint = run.save({"grid": grid, "line": grid.reshape(-1).copy()}, step=0).result()
    indices: list[Any] = [
        np.s_[::2], np.s_[1::3, 5:9], np.s_[:, ::100_000], np.s_[-1, ::3], np.s_[::5, ..., 7], np.s_[4:2], np.s_[:2, ::70_000],
    ]  # fmt: skip
    for index in indices:
        assert np.array_equal(checkpoint.tensor("grid", index), grid[index]), index
    assert np.array_equal(checkpoint.tensor("line", np.s_[::70_000]), grid.reshape(-1)[::70_000])
    # The third block of 1 MiB holds the end of row 1, and nothing of rows 0 and 4.
    for chunk in (run.path / "chunks").rglob("*"):
        if chunk.is_file():
            chunk.chmod(0o644)
            content = bytearray(chunk.read_bytes())
            content[(1 << 21) + 5] ^= 1
            chunk.write_bytes(content)
    assert np.array_equal(checkpoint.tensor("grid", np.s_[::4]), grid[::4])
    with pytest.raises(runtree.Corrupt):
        checkpoint.tensor("grid", 1)
