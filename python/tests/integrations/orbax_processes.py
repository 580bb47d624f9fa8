"""One of two processes of a jax program, of two devices each, that save arrays which neither has whole. Run by ``test_orbax.py``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

import runtree
from runtree.integrations.orbax import RuntreeCheckpointHandler, RuntreeRestore, RuntreeSave

jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{os.environ['PORT']}", 2, int(os.environ["PROCESS"]))
P, Named = jax.sharding.PartitionSpec, jax.sharding.NamedSharding
MESH = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 2), ("x", "y"))
WHOLE = np.arange(32.0, dtype="f4").reshape(8, 4)


def put(value: Any, *spec: Any) -> jax.Array:
    return jax.make_array_from_callback(value.shape, Named(MESH, P(*spec)), lambda index: value[index])


def state(step: int) -> dict[str, Any]:
    # Of the halves one process's devices have the same: who has the first replica saves it.
    rows, halves = put(WHOLE + step, ("x", "y")), put(WHOLE * step, "y")
    return {"rows": rows, "halves": halves, "all": put(np.ones(3, "f4")), "step": step}


def local_equal(array: jax.Array, whole: Any) -> bool:
    return all(np.array_equal(shard.data, whole[shard.index]) for shard in array.addressable_shards)


with (
    # Nothing in the environment says that they are one launch: jax does.
    runtree.init("orbax", "both", console=False, system_metrics=False, environment=False) as run,
    ocp.CheckpointManager(Path.cwd() / "steps", item_handlers=RuntreeCheckpointHandler(run)) as manager,
):
    for step in (1, 2):
        manager.save(step, args=RuntreeSave(state(step)))
    manager.wait_until_finished()
    # Other slices than were saved.
    sharding = Named(MESH, P("y", "x"))
    wanted = {name: jax.ShapeDtypeStruct((8, 4), jnp.float32, sharding=sharding) for name in ("rows", "halves")}
    back = manager.restore(2, args=RuntreeRestore(wanted))
    equal = local_equal(back["rows"], WHOLE + 2) and local_equal(back["halves"], WHOLE * 2)
    # The run itself gives arrays whole, and what differs as this process saved it.
    loaded = run.load(run.save({**state(3), "mine": jax.process_index()}, step=3).result())
    equal &= np.array_equal(loaded["rows"], WHOLE + 3) and np.array_equal(loaded["halves"], WHOLE * 3)
    equal &= loaded["mine"] == jax.process_index()
    print(json.dumps({"equal": bool(equal), "steps": list(manager.all_steps())}), flush=True)
