"""Everything that knows torch; imported only by programs that have imported it.

:func:`restore` is for users. The rest answers the native module: where a tensor's memory is, how to make one, how a shard of a
DTensor finds its way back.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch

from runtree.errors import Invalid, NotFound

if TYPE_CHECKING:
    from runtree._dcp_reader import StorageReader
    from runtree._dcp_writer import StorageWriter
    from runtree._export_dcp import export_dcp
    from runtree._staging import AsyncStager

__all__ = ["AsyncStager", "StorageReader", "StorageWriter", "export_dcp", "restore"]

_DTYPES: dict[Any, str] = {
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
        _DTYPES[getattr(torch, _theirs)] = _ours
_BY_NAME: dict[str, Any] = {ours: theirs for theirs, ours in _DTYPES.items()}
_PLAIN = {torch.Tensor, torch.nn.Parameter, *([torch.nn.Buffer] if hasattr(torch.nn, "Buffer") else [])}


# torch.distributed.checkpoint takes a second to import; most programs do without.
_DISTRIBUTED = {
    "AsyncStager": "_staging", "DistributedBytes": "_dcp", "DistributedState": "_dcp", "StorageReader": "_dcp_reader",
    "StorageWriter": "_dcp_writer", "export_dcp": "_export_dcp",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _DISTRIBUTED:
        return getattr(import_module(f"runtree.{_DISTRIBUTED[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---- Saving.


class Described:
    """A tensor; the native module reads the fields."""

    __slots__ = (
        "address", "device", "dtype", "global_offset", "global_shape", "more", "owner", "parameter", "requires_grad",
        "shape", "strides",
    )  # fmt: skip

    def __init__(self, tensor: Any, parameter: bool, requires_grad: bool) -> None:
        self.owner: Any = tensor
        self.dtype = _DTYPES[tensor.dtype]
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
    if tensor.dtype not in _DTYPES:
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
    if _DTYPES.get(local.dtype) != dtype:
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


# ---- Forking with another learning rate.

_NAMES = {
    "model": ("model", "model_state_dict", "state_dict", "net"),
    "optimizer": ("optimizer", "optimizer_state_dict", "optim", "opt"),
    "scheduler": ("scheduler", "lr_scheduler", "scheduler_state_dict", "sched"),
}
# What of a parameter group and of a scheduler makes up its rate.
_GROUP_LR = ("lr", "initial_lr", "max_lr", "min_lr")
_SCHEDULER_LR = ("base_lrs", "max_lrs")


def restore(
    state: Mapping[str, Any],
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    keep: Iterable[str] = ("lr",),
) -> Mapping[str, Any]:
    """Restores a loaded state into a model, an optimizer and a scheduler, and keeps what the script has set anew.

    ``state`` has ``state_dict``s under the names of the arguments (``model``, ``optimizer``, ``scheduler``, or their usual
    spellings). ``keep`` names hyperparameters of the *new* objects that win over the saved ones. With ``"lr"``, the default,
    the first step trains at the rate the script asked for: an optimizer alone at its own ``lr``; one with a scheduler where the
    schedule would be by now, had it begun at the new rate. Where the rate is the same as before, nothing changes by a bit.
    With ``keep=()`` everything is as it was saved. Other names (``"weight_decay"``, ``"T_max"``) keep that option of the
    parameter groups and of the scheduler.

    Returns ``state``.
    """
    kept = tuple(keep)
    parts = {
        name: _part(state, name)
        for name, value in (("model", model), ("optimizer", optimizer), ("scheduler", scheduler))
        if value is not None
    }
    if model is not None:
        model.load_state_dict(parts["model"])
    fresh_groups: list[dict[str, Any]] = []
    if optimizer is not None:
        fresh_groups = [
            {key: _number(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups
        ]
        optimizer.load_state_dict(parts["optimizer"])
    saved_groups = [dict(group) for group in optimizer.param_groups] if optimizer is not None else []
    if scheduler is not None:
        fresh = _attributes(scheduler, kept)
        scheduler.load_state_dict(parts["scheduler"])
        _set_attributes(scheduler, fresh, [name for name in kept if name != "lr"])
        if "lr" in kept:
            _rebase(scheduler, fresh, fresh_groups, saved_groups)
    if optimizer is not None:
        for group, fresh_group in zip(optimizer.param_groups, fresh_groups, strict=True):
            for name in kept:
                if name != "lr" and name in fresh_group:
                    group[name] = fresh_group[name]
        if "lr" in kept and scheduler is None:
            for group, fresh_group in zip(optimizer.param_groups, fresh_groups, strict=True):
                _set_lr(group, fresh_group["lr"])
                # A scheduler made later starts from `initial_lr` if it is there: it must not be the old one.
                if "initial_lr" in group:
                    group["initial_lr"] = fresh_group.get("initial_lr", fresh_group["lr"])
    return state


def _part(state: Mapping[str, Any], name: str) -> Any:
    for spelling in _NAMES[name]:
        if spelling in state:
            return state[spelling]
    raise NotFound(
        f"state has no {name}; it has {', '.join(map(str, state))}",
        hint=f"pass a mapping with the {name}'s state_dict under {name!r}",
    )


def _number(value: Any) -> Any:
    """A rate may be a tensor, which `load_state_dict` fills: its value now."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _set_lr(group: dict[str, Any], value: Any) -> None:
    if isinstance(group["lr"], torch.Tensor):
        with torch.no_grad():
            group["lr"].fill_(float(value))
    else:
        group["lr"] = float(value) if isinstance(value, torch.Tensor) else value


def _subschedulers(scheduler: Any) -> Sequence[Any]:
    return getattr(scheduler, "_schedulers", [])


def _attributes(scheduler: Any, kept: tuple[str, ...]) -> dict[str, Any]:
    """What the fresh scheduler was made with, its parts included."""
    names = (*_SCHEDULER_LR, *(name for name in kept if name != "lr"))
    found: dict[str, Any] = {name: _copied(getattr(scheduler, name)) for name in names if hasattr(scheduler, name)}
    found["_schedulers"] = [_attributes(each, kept) for each in _subschedulers(scheduler)]
    return found


def _copied(value: Any) -> Any:
    return [*cast("list[Any]", value)] if isinstance(value, list) else value


def _set_attributes(scheduler: Any, fresh: dict[str, Any], names: Iterable[str]) -> None:
    names = list(names)
    for name in names:
        if name in fresh:
            setattr(scheduler, name, fresh[name])
    for each, fresh_each in zip(_subschedulers(scheduler), fresh["_schedulers"], strict=True):
        _set_attributes(each, fresh_each, names)


def _rebase(
    scheduler: Any, fresh: dict[str, Any], fresh_groups: list[dict[str, Any]], saved_groups: list[dict[str, Any]]
) -> None:
    """Moves a restored scheduler to the rates of the fresh one, at the place where it is."""
    optimizer: Any = scheduler.optimizer
    groups: list[dict[str, Any]] = optimizer.param_groups
    old_bases = _bases(scheduler, saved_groups)
    old_family = [_family(group) for group in saved_groups] if saved_groups else [_family(group) for group in groups]
    _set_attributes(scheduler, fresh, _SCHEDULER_LR)
    for group, fresh_group in zip(groups, fresh_groups or groups, strict=True):
        for name in _GROUP_LR[1:]:
            if name in fresh_group:
                group[name] = fresh_group[name]
    new_bases = _bases(scheduler, fresh_groups or groups)
    new_family = [_family(group) for group in groups]
    same = [
        float(old) == float(new) and old_name == new_name
        for old, new, old_name, new_name in zip(old_bases, new_bases, old_family, new_family, strict=True)
    ]
    if not all(same):
        rates = _rates(scheduler, old_bases, new_bases)
        for group, rate, unchanged in zip(groups, rates, same, strict=True):
            if not unchanged:
                _set_lr(group, rate)
    _set_last_lr(scheduler, [group["lr"] for group in groups])


def _family(group: dict[str, Any]) -> tuple[float, ...]:
    return tuple(float(group[name]) for name in _GROUP_LR[1:] if name in group)


def _bases(scheduler: Any, groups: list[dict[str, Any]]) -> list[Any]:
    """The rates a schedule is relative to."""
    for each in (scheduler, *_subschedulers(scheduler)):
        if getattr(each, "base_lrs", None):
            return list(each.base_lrs)
    return [group.get("initial_lr", group["lr"]) for group in groups]


def _rates(scheduler: Any, old_bases: list[Any], new_bases: list[Any]) -> list[Any]:
    """The rate of each group where the schedule is now."""
    kind = type(scheduler).__name__
    active = scheduler
    if kind == "SequentialLR":
        active = scheduler._schedulers[bisect.bisect_right(scheduler._milestones, scheduler.last_epoch)]
    closed: Callable[[], list[Any]] | None = getattr(active, "_get_closed_form_lr", None)
    if closed is not None:
        return list(closed())
    if type(active).__name__ in ("LambdaLR", "OneCycleLR", "CyclicLR", "CosineAnnealingWarmRestarts"):
        # Theirs is a function of the step alone; the flag keeps torch from warning that nobody steps.
        active._get_lr_called_within_step = True
        try:
            return list(active.get_lr())
        finally:
            active._get_lr_called_within_step = False
    # Others multiply: what they have done to the old rate, they have done to the new one.
    groups: list[dict[str, Any]] = scheduler.optimizer.param_groups
    return [
        float(group["lr"]) * float(new) / float(old) if float(old) else new
        for group, old, new in zip(groups, old_bases, new_bases, strict=True)
    ]


def _set_last_lr(scheduler: Any, rates: list[Any]) -> None:
    for each in (scheduler, *_subschedulers(scheduler)):
        if hasattr(each, "_last_lr"):
            each._last_lr = [_number(rate) for rate in rates]


if __name__ == "__main__":
    from runtree._export_dcp import main

    main()
