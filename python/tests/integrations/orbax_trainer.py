"""A small data-parallel training in jax, saved by Orbax: the state is sharded over all devices. Run by ``test_orbax.py``.

``first`` trains two runs to their ends, one with each plug, and two more until the process kills itself; ``second`` is another launch
of these, forks one, and says what everything came to.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

import runtree
from runtree.integrations.orbax import CheckpointManager, RuntreeCheckpointHandler, RuntreeRestore, RuntreeSave

QUIET: dict[str, Any] = {"console": False, "system_metrics": False, "environment": False}
STEPS, KILLED_AT = 12, 8
MESH = jax.make_mesh((len(jax.devices()),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
SPLIT = jax.sharding.NamedSharding(MESH, jax.sharding.PartitionSpec("data"))
ALL = jax.sharding.NamedSharding(MESH, jax.sharding.PartitionSpec())
INPUTS = jax.device_put(jnp.asarray(np.random.default_rng(0).normal(size=(64, 8)), jnp.float32), SPLIT)
TARGETS = INPUTS.sum(1) ** 2


def fresh() -> dict[str, Any]:
    key = jax.random.PRNGKey(0)
    model = {"w1": jax.random.normal(key, (16, 8)) * 0.1, "w2": jnp.ones((16,)) * 0.1}
    model = {name: jax.device_put(value, SPLIT) for name, value in model.items()}
    return {"model": model, "momentum": jax.tree.map(jnp.zeros_like, model), "key": jax.device_put(key, ALL), "step": 0}


@jax.jit
def update(model: Any, momentum: Any, key: Any, rate: float) -> Any:
    key, noise = jax.random.split(key)
    inputs = INPUTS + 0.01 * jax.random.normal(noise, INPUTS.shape)

    def loss_of(model: Any) -> Any:
        return jnp.mean((jnp.tanh(inputs @ model["w1"].T) @ model["w2"] - TARGETS) ** 2)

    loss, slopes = jax.value_and_grad(loss_of)(model)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, slopes)
    return jax.tree.map(lambda p, m: p - rate * m, model, momentum), momentum, key, loss


def abstract(state: Any) -> Any:
    def like(leaf: Any) -> Any:
        return (
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) if hasattr(leaf, "sharding") else leaf
        )

    return jax.tree.map(like, state)


def manager_of(run: runtree.Run, plug: str) -> Any:
    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    place = Path.cwd() / "orbax" / run.display_id
    if plug == "files":
        return CheckpointManager(place, run=run, options=options)
    return ocp.CheckpointManager(place, item_handlers=RuntreeCheckpointHandler(run), options=options)


def train(run: runtree.Run, plug: str, rate: float, last: int, kill: bool = False) -> dict[str, Any]:
    state = fresh()
    with manager_of(run, plug) as manager:
        start = run.resumed_from
        if start is not None and plug == "files":
            # On this machine or another: the run has it.
            state = manager.restore(manager.bring(), args=ocp.args.StandardRestore(abstract(state)))
        elif start is not None and manager.latest_step() is not None:
            state = manager.restore(manager.latest_step(), args=RuntreeRestore(abstract(state)))
        elif start is not None:
            state = runtree.integrations.orbax.restore(start, abstract(state))
        for step in range(state["step"] + 1, last + 1):
            model, momentum, key, loss = update(state["model"], state["momentum"], state["key"], rate)
            state = {"model": model, "momentum": momentum, "key": key, "step": step}
            run.log({"loss": loss}, step=step)
            if step % 2 == 0:
                manager.save(step, args=ocp.args.StandardSave(state) if plug == "files" else RuntreeSave(state))
            if kill and step == KILLED_AT:
                # With a save on its way.
                return state
    return state


def digest(state: Any) -> str:
    whole = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        whole.update(str(path).encode() + np.asarray(leaf).tobytes())
    return whole.hexdigest()


def first() -> None:
    told = {}
    for plug in ("files", "arrays"):
        with runtree.init("orbax", f"whole-{plug}", **QUIET) as run:
            told[plug] = digest(train(run, plug, 0.01, STEPS))
    print(json.dumps(told), flush=True)
    for plug in ("files", "arrays"):
        train(runtree.init("orbax", run_id=f"cut-{plug}", **QUIET), plug, 0.01, STEPS, kill=True)
    os.kill(os.getpid(), signal.SIGKILL)


def second() -> None:
    told: dict[str, Any] = {}
    for plug in ("files", "arrays"):
        with runtree.init("orbax", run_id=f"cut-{plug}", resume="must", **QUIET) as run:
            assert run.resumed_from is not None
            told[f"{plug} from"] = run.resumed_from.step
            told[plug] = digest(train(run, plug, 0.01, STEPS))
        with runtree.init("orbax", fork=f"{run.display_id}@best:loss:min", **QUIET) as fork:
            told[f"{plug} fork"] = [fork.fork_step, digest(train(fork, plug, 0.001, STEPS + 4))]
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    import runtree.integrations.orbax

    {"first": first, "second": second}[sys.argv[1]]()
