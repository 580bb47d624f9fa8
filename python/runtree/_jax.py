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


def describe(array: Any) -> Any:
    """What there is to save of an array, or why it can not be saved."""
    if isinstance(array, jax.core.Tracer):
        return "is a tracer; save outside of jit"
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        return "is a typed PRNG key; save jax.random.key_data(it)"
    if not array.is_fully_addressable:
        return "is spread over several processes, which is not supported yet; save its addressable shards"
    if array.is_deleted():
        return "was donated or deleted"
    host: Any = np.asarray(array)
    if not host.flags.c_contiguous:
        host = np.ascontiguousarray(host).reshape(host.shape)
    return _numpy.describe(host)


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
