"""What the native module asks about jax arrays. They are immutable: saved without a copy, made anew when loaded."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.dtypes
import jax.numpy
import numpy as np

from runtree import _numpy, _warn
from runtree.errors import Invalid

# How long a process waits for the first one to say which run it is; torch's store waits as long.
_AGREE_MILLISECONDS = 300_000


def describe(array: Any) -> Any:
    """What there is to save of an array, or why it can not be saved."""
    if isinstance(array, jax.core.Tracer):
        return "is a tracer; save outside of jit"
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        return "is a typed PRNG key; save jax.random.key_data(it)"
    if array.is_deleted():
        return "was donated or deleted"
    if array.is_fully_addressable:
        return _numpy.describe(_host(array))
    if array.is_fully_replicated:
        # Every process has all of it.
        return _numpy.describe(_host(array.addressable_data(0)))
    return _describe_shards(array)


def _host(array: Any) -> Any:
    host: Any = np.asarray(array)
    return host if host.flags.c_contiguous else np.ascontiguousarray(host).reshape(host.shape)


class Shard(_numpy.Described):
    """What one device holds of an array that several processes share; the native module reads the fields."""

    __slots__ = ("global_offset", "global_shape", "more")

    def __init__(self, held: _numpy.Described, offset: tuple[int, ...], shape: tuple[int, ...]) -> None:
        super().__init__(held.owner, held.dtype, held.shape, held.strides, held.address)
        self.global_offset = offset
        self.global_shape = shape
        self.more: list[Shard] = []
        """Other shards of the same array that this process holds."""


def _describe_shards(array: Any) -> Any:
    """The shards of this process, each by the one device that is its first replica: no byte is saved twice."""
    shape: tuple[int, ...] = tuple(array.shape)
    own = [shard for shard in array.addressable_shards if shard.replica_id == 0]
    for shard in own:
        shard.data.copy_to_host_async()
    held = [
        (_host(shard.data), tuple(part.indices(size)[0] for part, size in zip(shard.index, shape, strict=True)))
        for shard in own
    ]
    # A process that holds nothing of it has its nothing at the end.
    held = held or [(np.empty((0, *shape[1:]), array.dtype), (shape[0], *[0] * (len(shape) - 1)))]
    described = [(_numpy.describe(host), offset) for host, offset in held]
    if isinstance(described[0][0], str):
        return described[0][0]
    found = [Shard(one, offset, shape) for one, offset in described]
    found[0].more = found[1:]
    return found[0]


def dense(array: Any) -> tuple[Any, int]:
    """A row-major copy and its address."""
    return _numpy.dense(array)


def empty(dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
    """Memory to read into, and its address."""
    return _numpy.empty(dtype, shape)


def leaf(
    base: Any,
    view: tuple[int, tuple[int, ...], tuple[int, ...]] | None,
    parameter: bool,
    requires_grad: bool,
    device: str | None,
) -> Any:
    """The leaf as a jax array."""
    host = _numpy.leaf(base, view, parameter, requires_grad, device)
    made: Any = jax.numpy.asarray(host)
    if made.dtype != host.dtype:
        _warn.once("jax x64", f"jax would narrow {host.dtype} to {made.dtype}: loaded as numpy (enable jax_enable_x64)")
        return host
    return made


def target(array: Any, dtype: str, shape: tuple[int, ...], own: Any) -> str:
    """A jax array can not be filled."""
    return "is a jax array, which can not be changed; leave it out of into= and use what load returns"


def copy_into(array: Any, value: Any) -> None:
    """Never called: :func:`target` refuses."""
    raise TypeError("jax arrays can not be changed")


def fetch_later(array: Any) -> Callable[[], float]:
    """Starts to copy one element to the host without waiting for its computation; call the result in another thread."""
    if array.size != 1:
        raise Invalid(f"a metric is one number, this array has shape {tuple(array.shape)}")
    array.copy_to_host_async()
    return lambda: float(array.item())


class DistributedStore:
    """The key-value store of ``jax.distributed``, as the ranks of a launch agree on their run with it."""

    def __init__(self) -> None:
        from jax._src import distributed

        self._client: Any = distributed.global_state.client

    def set(self, name: str, value: str) -> None:
        """Tells the others."""
        self._client.key_value_set(name, value)

    def get(self, name: str) -> bytes:
        """Waits until it was told."""
        return self._client.blocking_key_value_get(name, _AGREE_MILLISECONDS).encode()
