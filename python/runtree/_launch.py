"""Who this process is: its rank, its launch, and how the ranks of one launch agree on one run."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from runtree.errors import Error, Invalid

# How often this process has called init: ranks call it equally often, so their calls meet under the same name.
_calls = 0


class Launch(NamedTuple):
    """A process among the processes of its launch."""

    rank: int
    world_size: int
    key: str | None
    """Equal in all processes of the launch; None if nothing in the environment says so."""
    has_launcher: bool
    """Whether a launcher made the key, which then gives each rank to one process: a rank that comes again was launched again."""
    store: Callable[[], Any] | None
    """A key-value store that all ranks reach, if there is one."""


class Setup(NamedTuple):
    """What a live run must know of its launch."""

    rank: int = 0
    world_size: int = 1
    log_all_ranks: bool = False
    component: str = "trainer"
    joined: bool = False
    """Whether this is one more process of a launch that another began: it never speaks for the run."""


class Agreement(NamedTuple):
    """What rank 0 tells the others."""

    run: str
    launch_key: str


def detect(environ: Mapping[str, str]) -> Launch:
    """Finds out: from torch's process group if there is one, else from the environment, else from jax's."""
    key = launch_key(environ)
    # A key that somebody chose may hold processes of several programs together, each with a rank 0 of its own.
    has_launcher = key is not None and not environ.get("RUNTREE_ATTEMPT")
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return Launch(distributed.get_rank(), distributed.get_world_size(), key, has_launcher, _group_store)
    for rank, size in (
        ("RANK", "WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_NTASKS"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ):
        if environ.get(rank, "").isdigit() and environ.get(size, "").isdigit():
            # A SLURM batch script is told the size of its job, but is one process of its own.
            if rank == "SLURM_PROCID" and "SLURM_STEP_ID" not in environ:
                continue
            launch = Launch(int(environ[rank]), int(environ[size]), key, has_launcher, None)
            if launch.world_size > 1 and environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
                host, port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
                return launch._replace(store=partial(_agent_store, host, port))
            return launch
    jax: Any = sys.modules.get("jax")
    # Older ones can not be asked.
    is_distributed: Any = getattr(getattr(jax, "distributed", None), "is_initialized", None)
    if is_distributed is not None and is_distributed():
        return Launch(jax.process_index(), jax.process_count(), key, has_launcher, _jax_store)
    # A process that Lightning started itself, on the first machine, where it counts as the ranks do.
    size, local = environ.get("WORLD_SIZE", ""), environ.get("LOCAL_RANK", "")
    if size.isdigit() and local.isdigit() and environ.get("NODE_RANK", "0") == "0" and int(local) < int(size):
        return Launch(int(local), int(size), key, has_launcher, None)
    return Launch(0, 1, key, has_launcher, None)


def launch_key(environ: Mapping[str, str]) -> str | None:
    """What names this launch: ``RUNTREE_ATTEMPT``, torchrun's run id and restart count, or a SLURM job's."""
    if environ.get("RUNTREE_ATTEMPT"):
        return environ["RUNTREE_ATTEMPT"]
    elastic = environ.get("TORCHELASTIC_RUN_ID", "")
    # Without a rendezvous torchrun calls every job "none".
    if elastic and elastic != "none":
        return f"torchelastic-{elastic}-{environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if environ.get("SLURM_JOB_ID") and environ.get("SLURM_STEP_ID"):
        restart = environ.get("SLURM_RESTART_COUNT", "0")
        return f"slurm-{environ['SLURM_JOB_ID']}.{environ['SLURM_STEP_ID']}-{restart}"
    return None


def _group_store() -> Any:
    from runtree import _torch

    return _torch.group_store()


def _agent_store(host: str, port: int) -> Any:
    from runtree import _torch

    return _torch.agent_store(host, port)


def _jax_store() -> Any:
    from runtree import _jax

    return _jax.DistributedStore()


def agree(
    launch: Launch, run_key: str | None, start: Callable[[Agreement | None, str | None, str | None], tuple[Any, str]]
) -> Any:
    """Starts one run on all ranks.

    ``start(told, launch_key, run_key)`` starts it here and returns it with its RunId; ``told`` is what rank 0 said.
    """
    global _calls
    _calls += 1
    if launch.world_size == 1:
        return start(None, launch.key, run_key)[0]
    if launch.store is not None:
        return _agree_by_store(launch, run_key, start)
    if launch.key is None:
        raise Invalid(
            f"this is rank {launch.rank} of {launch.world_size}, and nothing says which run the ranks share",
            hint="call torch.distributed.init_process_group first, launch with torchrun or srun, "
            "or set RUNTREE_RUN_ID and RUNTREE_ATTEMPT to the same values on all ranks, RUNTREE_ATTEMPT to another for each launch",
        )
    # The key of the run, or else of the launch, is a name that only one run of the project can take: the first rank to come
    # makes the run, the others find it.
    return start(None, launch.key, run_key or f"{launch.key}/{_calls}")[0]


def _agree_by_store(
    launch: Launch, run_key: str | None, start: Callable[[Agreement | None, str | None, str | None], tuple[Any, str]]
) -> Any:
    assert launch.store is not None
    store = launch.store()
    name = f"runtree/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{_calls}"
    if launch.rank == 0:
        key = launch.key or f"launch-{uuid.uuid4()}"
        try:
            run, run_id = start(None, key, run_key)
        except BaseException as error:
            told = {"error": getattr(error, "message", str(error)), "hint": getattr(error, "hint", None)}
            store.set(name, json.dumps({**told, "kind": getattr(error, "kind", None)}))
            raise
        store.set(name, json.dumps({"run": run_id, "launch_key": key}))
        return run
    answer = json.loads(bytes(store.get(name)).decode())
    if "error" in answer:
        # The same class on all ranks: who catches a Conflict catches it everywhere.
        kind = next((each for each in Error.__subclasses__() if each.kind == answer["kind"]), Error)
        raise kind(f"rank 0 could not start the run: {answer['error']}", hint=answer["hint"])
    agreed = Agreement(answer["run"], answer["launch_key"])
    return start(agreed, agreed.launch_key, run_key)[0]
