"""State trees with torch and jax in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import runtree


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)


FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
EIGHT = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu]
INTS = [
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
]  # fmt: skip


@pytest.mark.parametrize("dtype", [*FLOATS, *EIGHT, *INTS, torch.complex32], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (7,), (2, 3, 4)], ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_every_dtype_and_shape_comes_back_bit_for_bit(
    dtype: torch.dtype, shape: tuple[int, ...], round_trip: Any
) -> None:
    count = torch.Size(shape).numel() * torch.empty((), dtype=dtype).element_size()
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8)
    tensor = raw.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
    assert same(round_trip(tensor), tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
        torch.arange(24.0).reshape(4, 6)[::2, 1::3],
        torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.arange(3.0).expand(4, 3),
        torch.tensor([1 + 2j, 3 - 4j]).conj(),
        torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    ],
    ids=["permuted", "strided", "channels-last", "expanded", "conjugate", "negative"],
)
def test_tensors_that_are_not_plain_memory_come_back_equal(tensor: torch.Tensor, round_trip: Any) -> None:
    assert torch.equal(round_trip(tensor), tensor)


def test_an_expanded_tensor_does_not_grow_on_disk() -> None:
    assert runtree.check(torch.zeros(1).expand(1000, 1000)).bytes == 4


def test_parameters_and_requires_grad_come_back(round_trip: Any) -> None:
    loaded = round_trip(
        {
            "p": torch.nn.Parameter(torch.ones(2)),
            "frozen": torch.nn.Parameter(torch.ones(2), requires_grad=False),
            "tracked": torch.ones(2, requires_grad=True),
            "computed": torch.ones(2, requires_grad=True) * 2,
        }
    )
    assert isinstance(loaded["p"], torch.nn.Parameter)
    assert loaded["p"].requires_grad
    assert isinstance(loaded["frozen"], torch.nn.Parameter)
    assert not loaded["frozen"].requires_grad
    assert loaded["tracked"].requires_grad
    assert loaded["tracked"].is_leaf
    assert loaded["computed"].requires_grad


def test_tied_weights_stay_tied(round_trip: Any) -> None:
    embedding = torch.nn.Embedding(10, 4)
    head = torch.nn.Linear(4, 10, bias=False)
    head.weight = embedding.weight
    state = {"embedding": embedding.state_dict(), "head": head.state_dict()}
    loaded = round_trip(state)
    assert loaded["embedding"]["weight"].data_ptr() == loaded["head"]["weight"].data_ptr()
    assert runtree.check(state).bytes == 160


def test_views_of_one_storage_stay_views(round_trip: Any) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    loaded = round_trip({"row": base[1], "column": base[:, 2], "all": base})
    loaded["all"][1, 2] = 99
    assert loaded["row"][2] == 99
    assert loaded["column"][1] == 99
    assert loaded["column"].stride() == (4,)


def test_the_same_memory_under_two_dtypes_is_saved_twice_but_right(round_trip: Any) -> None:
    base = torch.arange(4, dtype=torch.int32)
    loaded = round_trip({"ints": base, "floats": base.view(torch.float32)})
    assert same(loaded["ints"], base)
    assert same(loaded["floats"], base.view(torch.float32))


def test_values_of_torch_come_back(round_trip: Any) -> None:
    state = [torch.Size([2, 3]), torch.float16, torch.device("cuda", 1), torch.device("cpu")]
    loaded = round_trip(state)
    assert loaded == state
    assert [type(value) for value in loaded] == [type(value) for value in state]


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
        (lambda: torch.empty(3, device="meta"), "is a meta tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8), "quantized"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_bytes_are_refused_with_their_path(tensor: Any, reason: str) -> None:
    [(path, said)] = runtree.check({"a": {"b": tensor()}}).problems
    assert path == "a.b"
    assert reason in said


def test_a_module_is_restored_in_place(round_trip: Any) -> None:
    def make() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2))

    saved, target = make(), make()
    saved[1].running_mean.fill_(5)
    addresses = [parameter.data_ptr() for parameter in target.parameters()]
    loaded = round_trip({"model": saved}, into={"it": {"model": target}})
    assert loaded["model"] is target
    assert [parameter.data_ptr() for parameter in target.parameters()] == addresses
    for mine, theirs in zip(saved.state_dict().values(), target.state_dict().values(), strict=True):
        assert same(mine, theirs)


def test_a_state_dict_can_be_loaded_into_the_module_itself(start: Any) -> None:
    run = start()
    saved, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    checkpoint = run.save({"model": saved.state_dict()}, step=0).result()
    run.load(checkpoint, into={"model": target})
    assert torch.equal(saved.weight, target.weight)


def test_into_fills_tensors_where_they_are(start: Any) -> None:
    run = start()
    saved = run.save({"w": torch.arange(6.0).reshape(2, 3), "t": torch.arange(6.0).reshape(2, 3)}, step=0).result()
    target = {"w": torch.zeros(2, 3), "t": torch.zeros(3, 2).T}
    w, t = target["w"], target["t"]
    run.load(saved, into=target)
    assert target["w"] is w
    assert target["t"] is t
    assert torch.equal(w, torch.arange(6.0).reshape(2, 3))
    assert torch.equal(t, w)
    with pytest.raises(ValueError, match="has dtype torch.float64, the checkpoint f32"):
        run.load(saved, into={"w": torch.zeros(2, 3, dtype=torch.float64)})


def test_a_torch_checkpoint_can_fill_numpy_arrays(start: Any) -> None:
    run = start()
    saved = run.save({"w": torch.arange(3.0)}, step=0).result()
    target = np.zeros(3, np.float32)
    run.load(saved, into={"w": target})
    assert target.tolist() == [0, 1, 2]


def test_without_torch_tensors_come_back_as_numpy(start: Any, tmp_path: Any) -> None:
    run = start()
    run.save({"w": torch.arange(3.0), "b": torch.ones(2, dtype=torch.bfloat16), "s": torch.Size([1])}, step=0).result()
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import runtree, numpy\n"
        f"state = runtree.Store({str(run.path)!r}).run('{run.display_id}').load()\n"
        "assert state['w'].tolist() == [0, 1, 2] and type(state['w']) is numpy.ndarray\n"
        "assert state['b'].dtype.name == 'bfloat16' and state['b'].astype(float).tolist() == [1, 1]\n"
        "assert state['s'] == (1,)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_jax_arrays_come_back_as_jax_arrays(round_trip: Any) -> None:
    jax = pytest.importorskip("jax")
    state = {
        "f": jax.numpy.arange(6.0).reshape(2, 3),
        "b": jax.numpy.ones((2,), jax.numpy.bfloat16),
        "i": jax.numpy.array(5),
        "e": jax.numpy.zeros((0, 2)),
        "f8": jax.numpy.ones(3, jax.numpy.float8_e4m3fn),
        "key": jax.random.PRNGKey(3),
    }
    loaded = round_trip(state)
    for name, value in state.items():
        assert isinstance(loaded[name], jax.Array)
        assert loaded[name].dtype == value.dtype
        assert np.array_equal(np.asarray(loaded[name]), np.asarray(value))
    [(_, reason)] = runtree.check({"k": jax.random.key(0)}).problems
    assert "jax.random.key_data" in reason


def test_every_generator_goes_on_where_it_was(round_trip: Any) -> None:
    import random

    random.gauss(0, 1)
    np.random.standard_normal()
    target = runtree.rng()
    saved = runtree.rng().state_dict()

    def draw() -> list[Any]:
        return [random.random(), random.gauss(0, 1), np.random.standard_normal(3).tolist(), torch.rand(3).tolist()]

    expected = draw()
    assert draw() != expected
    target.load_state_dict(round_trip(saved))
    assert draw() == expected


def test_rng_is_a_leaf(start: Any) -> None:
    run = start()
    checkpoint = run.save({"rng": runtree.rng()}, step=0).result()
    expected = torch.rand(4)
    run.load(checkpoint, into={"rng": runtree.rng()})
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_a_dataloader_goes_on_where_it_was(start: Any) -> None:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")
    run = start()

    def make() -> Any:
        return torchdata.StatefulDataLoader(
            torch.arange(20), batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(3)
        )

    loader = make()
    batches = iter(loader)
    for _ in range(4):
        next(batches)
    checkpoint = run.save({"loader": loader}, step=4).result()
    expected = [batch.tolist() for batch in batches]
    again = make()
    run.load(checkpoint, into={"loader": again})
    assert [batch.tolist() for batch in again] == expected


def test_a_lora_on_a_frozen_base_stores_the_base_once(start: Any) -> None:
    torch.manual_seed(0)
    base = {f"layers.{at}.weight": torch.randn(512, 1024).bfloat16() for at in range(4)}
    adapters = {name: torch.nn.Parameter(torch.randn(16, 1024)) for name in base}
    optimizer = torch.optim.AdamW(adapters.values(), lr=1e-2)
    run = start()
    stored = []
    for step in range(2):
        for adapter in adapters.values():
            adapter.grad = torch.randn_like(adapter)
        optimizer.step()
        run.save({"base": base, "adapters": adapters, "optimizer": optimizer}, step=step).result()
        stored.append(sum(path.stat().st_size for path in Path(".runtree/chunks").rglob("*.*")))
    trained = 3 * sum(adapter.nbytes for adapter in adapters.values())
    assert stored[0] >= sum(tensor.nbytes for tensor in base.values()) + trained
    assert stored[1] - stored[0] < trained + 10_000, "adapters and their moments, and nothing of the base"
    assert torch.equal(run.load()["base"]["layers.3.weight"], base["layers.3.weight"])
