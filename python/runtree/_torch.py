"""What the native module asks about torch tensors: where their memory is, how one is made, where a shard of a DTensor belongs.

Imported only by programs that have imported torch.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, cast

import torch

from runtree.errors import Invalid

DTYPES: dict[Any, str] = {
    torch.bool: "bool", torch.uint8: "u8", torch.int8: "i8", torch.int16: "i16", torch.int32: "i32",
    torch.int64: "i64", torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32", torch.float64: "f64",
    torch.complex32: "c32", torch.complex64: "c64", torch.complex128: "c128",
}  # fmt: skip
# Older torch lacks some of these.
for _theirs, _ours in [
    ("uint16", "u16"), ("uint32", "u32"), ("uint64", "u64"), ("float8_e4m3fn", "f8_e4m3fn"), ("float8_e5m2", "f8_e5m2"),
    ("float8_e4m3fnuz", "f8_e4m3fnuz"), ("float8_e5m2fnuz", "f8_e5m2fnuz"), ("float8_e8m0fnu", "f8_e8m0fnu"),
]:  # fmt: skip
    if hasattr(torch, _theirs):
        DTYPES[getattr(torch, _theirs)] = _ours
_BY_NAME: dict[str, Any] = {ours: theirs for theirs, ours in DTYPES.items()}
_PLAIN = {torch.Tensor, torch.nn.Parameter, *([torch.nn.Buffer] if hasattr(torch.nn, "Buffer") else [])}


# ---- Saving.


class Described:
    """A tensor; the native module reads the fields."""

    __slots__ = (
        "address", "device", "dtype", "global_offset", "global_shape", "more", "owner", "parameter", "requires_grad",
        "shape", "strides",
    )  # fmt: skip

    def __init__(self, tensor: Any, parameter: bool, requires_grad: bool) -> None:
        self.owner: Any = tensor
        self.dtype = DTYPES[tensor.dtype]
        self.shape = tuple(tensor.shape)
        self.strides = None if tensor.is_contiguous() else tensor.stride()
        self.address: int = tensor.data_ptr()
        self.parameter = parameter
        self.requires_grad = requires_grad
        self.device = None if tensor.device.type == "cpu" else str(tensor.device)
        self.global_shape: tuple[int, ...] | None = None
        self.global_offset: tuple[int, ...] | None = None
        self.more: list[Described] = []
        """Other shards of the same tensor that this rank holds."""


def describe(tensor: Any) -> Any:
    """What there is to save of a tensor, or why it can not be saved."""
    if hasattr(tensor, "local_shards"):
        return _describe_sharded_tensor(tensor)
    if hasattr(tensor, "to_local") and hasattr(tensor, "placements"):
        return _describe_dtensor(tensor)
    marked: Any = getattr(tensor, "_runtree_shards", None)
    if marked is not None:
        shape, shards = marked
        return describe_shards(shape, shards, bool(tensor.requires_grad))
    if hasattr(tensor, "global_shape") and hasattr(tensor, "global_offsets"):
        return _describe_checkpointable(tensor)
    kind: Any = type(tensor)
    if kind not in _PLAIN:
        return f"is a {kind.__module__}.{kind.__qualname__}, a tensor of its own kind; save what it is made of"
    refusal = _refusal(tensor)
    if refusal is not None:
        return refusal
    parameter = isinstance(tensor, torch.nn.Parameter)
    requires_grad = bool(tensor.requires_grad)
    return Described(tensor.detach().resolve_conj().resolve_neg(), parameter, requires_grad)


def _refusal(tensor: Any) -> str | None:
    if tensor.is_meta:
        return "is a meta tensor: it has no data"
    if tensor.is_quantized:
        return "is a quantized tensor, which is not supported; save its int_repr() and scales"
    if tensor.is_nested:
        return "is a nested tensor, which is not supported; save its unbind()"
    if tensor.layout != torch.strided:
        return f"is a {tensor.layout} tensor, which is not supported; save its indices and values"
    if tensor.dtype not in DTYPES:
        return f"has the dtype {tensor.dtype}, which is not supported"
    return None


def _describe_dtensor(tensor: Any) -> Any:
    from torch.distributed.tensor import _utils

    if any(placement.is_partial() for placement in tensor.placements):
        return "is a DTensor with a partial placement: its value is not known before a reduction"
    local: Any = tensor.to_local()
    if hasattr(local, "wait"):
        local = local.wait()
    local = local.detach()
    refusal = _refusal(local)
    if refusal is not None:
        return refusal
    described = Described(
        local.contiguous().resolve_conj().resolve_neg(),
        isinstance(tensor, torch.nn.Parameter),
        bool(tensor.requires_grad),
    )
    _, offset = _utils.compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    described.global_shape = tuple(tensor.shape)
    # A rank that holds nothing of it has its nothing at the end.
    described.global_offset = tuple(
        min(start, whole - part) for start, whole, part in zip(offset, tensor.shape, local.shape, strict=True)
    )
    return described


def _describe_sharded_tensor(tensor: Any) -> Any:
    shards = tensor.local_shards()
    if not shards:
        return "is a ShardedTensor of which this rank holds nothing; leave it out here"
    return describe_shards(
        tuple(tensor.size()),
        [(shard.tensor, tuple(shard.metadata.shard_offsets)) for shard in shards],
        bool(tensor.requires_grad),
    )


def _describe_checkpointable(tensor: Any) -> Any:
    shards: list[tuple[Any, tuple[int, ...]]] = []
    for start, sizes, offset in zip(tensor.local_offsets, tensor.local_sizes, tensor.global_offsets, strict=True):
        local: Any = tensor.detach()
        for axis, (at, size) in enumerate(zip(start, sizes, strict=True)):
            local = local.narrow(axis, at, size)
        shards.append((local, tuple(offset)))
    return describe_shards(tuple(tensor.global_shape), shards, bool(tensor.requires_grad))


def describe_shards(shape: tuple[int, ...], shards: list[tuple[Any, tuple[int, ...]]], requires_grad: bool) -> Any:
    """Shards of one tensor of ``shape``, each with its offset."""
    described: list[Described] = []
    for shard, offset in shards:
        local: Any = shard.detach()
        refusal = _refusal(local)
        if refusal is not None:
            return refusal
        one = Described(local.contiguous().resolve_conj().resolve_neg(), False, requires_grad)
        one.global_shape = shape
        # A shard of nothing has its nothing at the end.
        one.global_offset = tuple(min(at, all - n) for at, all, n in zip(offset, shape, local.shape, strict=True))
        described.append(one)
    described[0].more = described[1:]
    return described[0]


def dense(tensor: Any) -> tuple[Any, int]:
    """A row-major copy in host memory and its address."""
    tensor = tensor.to("cpu").contiguous()
    return tensor, tensor.data_ptr()


# ---- Loading.


def empty(dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
    """A new tensor and its address."""
    known = _BY_NAME.get(dtype)
    if known is None:
        raise Invalid(f"torch has no dtype {dtype}")
    tensor = torch.empty(shape, dtype=known)
    return tensor, tensor.data_ptr()


def leaf(
    base: Any,
    view: tuple[int, tuple[int, ...], tuple[int, ...]] | None,
    parameter: bool,
    requires_grad: bool,
    device: str | None,
) -> Any:
    """The leaf: the tensor, or a view of a shared one."""
    if device is not None:
        base = _moved(base, device)
    made = base
    if view is not None:
        offset, shape, strides = view
        made = torch.as_strided(base, shape, strides, offset)
    if parameter:
        return torch.nn.Parameter(made, requires_grad=requires_grad)
    if requires_grad:
        # A leaf of its own: the shared base must not start to track.
        made = made.detach().requires_grad_()
    return made


def _moved(base: Any, device: str) -> Any:
    """The base on a device; one copy for all its views."""
    moved = getattr(base, "_runtree_moved", None)
    if moved is None or str(moved.device) != device:
        moved = base.to(device)
        base._runtree_moved = moved
    return moved


def held(tensor: Any) -> tuple[Any, list[int], tuple[int, ...]] | None:
    """What a sharded tensor holds here: its local tensor, where that begins, and the shape of the whole; None of any other tensor."""
    if hasattr(tensor, "to_local") and hasattr(tensor, "placements"):
        from torch.distributed.tensor import _utils

        local: Any = tensor.to_local()
        if hasattr(local, "wait"):
            local = local.wait()
        _, offset = _utils.compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
        starts = [min(at, all - n) for at, all, n in zip(offset, tensor.shape, local.shape, strict=True)]
        return local, starts, tuple(tensor.shape)
    if hasattr(tensor, "local_shards"):
        shards = tensor.local_shards()
        if len(shards) != 1:
            raise Invalid(
                f"a ShardedTensor with {len(shards)} local shards can not be loaded into; load it with dcp.load"
            )
        return shards[0].tensor, list(shards[0].metadata.shard_offsets), tuple(tensor.size())
    if hasattr(tensor, "global_shape") and hasattr(tensor, "global_offsets"):
        if len(tensor.global_offsets) != 1 or tuple(tensor.local_sizes[0]) != tuple(tensor.shape):
            raise Invalid("a tensor of several shards can not be loaded into; load it with dcp.load")
        return tensor, list(tensor.global_offsets[0]), tuple(tensor.global_shape)
    return None


def target(tensor: Any, dtype: str, shape: tuple[int, ...], own: Any) -> tuple[int, list[int], list[int]] | str:
    """Which elements a tensor takes of a stored one, and where they may be read to; or why it does not fit.

    A DTensor takes what its placements say, a plain tensor all of it, or, if it has that shape, this rank's shard (``own``: its
    offset and shape). The address is 0 if the elements have to be copied.
    """
    sharded = held(tensor)
    local, offset, whole = (tensor, [0] * len(shape), tuple(tensor.shape)) if sharded is None else sharded
    if whole != tuple(shape):
        if sharded is not None or own is None or whole != tuple(own[1]):
            return f"has shape {whole}, the checkpoint {tuple(shape)}"
        offset = list(own[0])
    if DTYPES.get(local.dtype) != dtype:
        return f"has dtype {local.dtype}, the checkpoint {dtype}"
    plain = local.device.type == "cpu" and local.is_contiguous() and not local.is_conj() and not local.is_neg()
    return local.data_ptr() if plain else 0, offset, list(local.shape)


def copy_into(tensor: Any, value: Any) -> None:
    """Copies a loaded leaf into the caller's tensor."""
    with torch.no_grad():
        sharded = held(tensor)
        local: Any = tensor if sharded is None else sharded[0]
        local.detach().copy_(value if isinstance(value, torch.Tensor) else torch.as_tensor(value))


def size(sizes: list[int]) -> Any:
    """A ``torch.Size``."""
    return torch.Size(sizes)


def dtype(name: str) -> Any:
    """A ``torch.dtype``."""
    found = vars(torch).get(name)
    if not isinstance(found, torch.dtype):
        raise Invalid(f"torch has no dtype {name}")
    return found


def device(name: str) -> Any:
    """A ``torch.device``."""
    return torch.device(name)


# ---- Shards on their way to a ``load_state_dict``.


class Templates:
    """What an object holds that is about to be given a state: which elements of each tensor, and what loaded ones become like."""

    def __init__(self, target: Any, parameters: list[Any]) -> None:
        self._parameters = parameters
        self._tensors: dict[tuple[Any, ...], Any] = {}
        _collect(target.state_dict(), (), self._tensors)

    def region(
        self, path: tuple[Any, ...], shape: tuple[int, ...], own: Any
    ) -> tuple[list[int], list[int], Any] | None:
        """Offset and shape of what is wanted of the tensor at ``path``, and the DTensor it becomes like; None if nothing says."""
        template = self._tensors.get(path)
        if template is None:
            # An optimizer that has not stepped has no state yet; its moments lie as their parameter does.
            index = path[1] if len(path) == 3 and path[0] == "state" else None
            nth = self._parameters[index] if isinstance(index, int) and 0 <= index < len(self._parameters) else None
            template = nth if nth is not None and _whole_shape(nth) == tuple(shape) else None
            if template is None:
                same = (each for each in self._parameters if hasattr(each, "placements"))
                template = next((each for each in same if tuple(each.shape) == tuple(shape)), None)
        if template is None:
            return None
        sharded = held(template)
        if sharded is None:
            # A plain tensor takes all of it, or the shard that it is itself.
            whole = tuple(template.shape) == tuple(shape) or own is None or tuple(template.shape) != tuple(own)
            return ([0] * len(shape), list(shape), None) if whole else None
        local, offset, whole_shape = sharded
        if whole_shape != tuple(shape):
            return None
        return offset, list(local.shape), template if hasattr(template, "placements") else None


def templates(target: Any, sharded: bool) -> Templates | None:
    """What ``target`` holds, if it or the checkpoint has shards."""
    parameters: list[Any] = [
        parameter for group in getattr(target, "param_groups", []) for parameter in group.get("params", [])
    ]
    if not parameters and isinstance(target, torch.nn.Module):
        parameters = list(target.parameters())
    if not sharded and not any(hasattr(parameter, "placements") for parameter in parameters):
        return None
    return Templates(target, parameters)


def _whole_shape(tensor: Any) -> tuple[int, ...]:
    return tuple(getattr(tensor, "global_shape", tensor.shape))


def _collect(state: Any, path: tuple[Any, ...], found: dict[tuple[Any, ...], Any]) -> None:
    if isinstance(state, Mapping):
        for key, value in cast("Mapping[Any, Any]", state).items():
            _collect(value, (*path, key), found)
    elif isinstance(state, (list, tuple)):
        for index, value in enumerate(cast("Sequence[Any]", state)):
            _collect(value, (*path, index), found)
    elif isinstance(state, torch.Tensor):
        found[path] = state


def distribute(local: Any, template: Any) -> Any:
    """A DTensor of a loaded shard, placed as ``template`` is."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        local.detach().to(template.device),
        template.device_mesh,
        template.placements,
        run_check=False,
        shape=template.shape,
        stride=template.stride(),
    )


# ---- Metrics that are still on a device.


def fetch_later(tensor: Any) -> Callable[[], float]:
    """Starts to copy one element to the host without waiting for the device; call the result in another thread."""
    value: Any = tensor.detach()
    if value.numel() != 1:
        raise Invalid(f"a metric is one number, this tensor has shape {tuple(value.shape)}")
    if value.device.type != "cuda":
        return lambda: float(value.item())
    host = torch.empty((), dtype=value.dtype, pin_memory=True)
    host.copy_(value.reshape(()), non_blocking=True)
    event = torch.cuda.Event()
    event.record()

    def fetch() -> float:
        event.synchronize()
        return float(host.item())

    return fetch


# ---- Ranks.


def agent_store(host: str, port: int) -> Any:
    """torchrun's own store, which every rank can reach before a process group exists."""
    dist: Any = import_module("torch.distributed")
    return dist.TCPStore(host, port, is_master=False, wait_for_workers=False)


def group_store() -> Any:
    """The store of the process group."""
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()  # pyright: ignore[reportPrivateUsage]
