"""FSDP2: every rank saves its shards, and any number of ranks continues: 4 first, then 2.
torchrun --nproc-per-node 4 examples/first_week/05_fsdp.py; then again with 2; needs torch"""

import runtree
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from runtree.torch import StorageReader, StorageWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
inputs = torch.randn(256, 8)

with runtree.init("first-week", "fsdp", run_id="fsdp", resume="allow") as run:  # on every rank: one run
    state = {"model": model, "optimizer": optimizer, "rng": runtree.rng()}
    # Each rank reads its own slices, however many ranks saved them. Random states differ by rank: say who takes whose.
    run.load(into=state, per_rank="modulo", default=None)
    for step in range(run.next_step, run.next_step + 20):
        loss = torch.nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log({"loss": loss.item()}, step)

    # torch.distributed.checkpoint works, too: the run is its storage.
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optim": moments}, storage_writer=StorageWriter(run), checkpoint_id=step)
    dcp.load({"model": weights, "optim": moments}, storage_reader=StorageReader(run), checkpoint_id=step)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
    run.save(state, step=step).result()  # all of it; a checkpoint only if all ranks' parts are there. The newest of a step counts
    if run.rank == 0:
        print(f"attempt {run.attempt}, {dist.get_world_size()} ranks, step {step}, loss {loss.item():.4f}")
dist.barrier()
dist.destroy_process_group()
