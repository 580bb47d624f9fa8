"""Saving, loading and forking beside torch.save, safetensors and torch.distributed.checkpoint, on the same bytes and disk."""

import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import runtree
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from measure import Report, fsync_tree, median_seconds


def make_state(total_bytes: int) -> dict[str, torch.Tensor]:
    """A flat state of float32 matrices, 16 MiB each, filled with noise that does not compress or dedup."""
    rng = np.random.default_rng(1)
    count = max(1, total_bytes // (16 << 20))
    each = total_bytes // count // 4
    return {f"layer{i}.weight": torch.from_numpy(rng.random(each, dtype=np.float32)) for i in range(count)}


def change(state: dict[str, torch.Tensor]) -> None:
    """Changes every tensor a little, so that no save finds its chunks already there."""
    for tensor in state.values():
        tensor.add_(1e-3)


def warm_copy(state: dict[str, torch.Tensor], threads: int):
    """A memcpy of the whole state into memory that was touched before, on `threads` threads."""
    copies = {name: torch.empty_like(tensor).copy_(tensor) for name, tensor in state.items()}
    names = list(state)

    def copy(part):
        for name in part:
            np.copyto(copies[name].numpy(), state[name].numpy())

    def run():
        workers = [threading.Thread(target=copy, args=(names[i::threads],)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return run


def bench(report: Report, folder: Path, size: int, repeat: int) -> None:
    """Blocking, durable and loading, all sides interleaved."""
    if not dist.is_initialized():
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29517")
        dist.init_process_group("gloo", rank=0, world_size=1)
    state = make_state(size)
    gigabytes = size / 1e9
    run = runtree.init("bench", name="save", store=str(folder / "store"), system_metrics=False, console=False)
    step = iter(range(1 << 30))

    def ours_blocking() -> float:
        change(state)
        start = time.perf_counter()
        save = run.save(state, step=next(step))
        blocked = time.perf_counter() - start
        save.result()
        return blocked

    def ours_durable() -> float:
        change(state)
        start = time.perf_counter()
        run.save(state, step=next(step)).result()
        return time.perf_counter() - start

    def async_save() -> float:
        change(state)
        target = folder / "async"
        shutil.rmtree(target, ignore_errors=True)
        start = time.perf_counter()
        future = dcp.async_save(state, checkpoint_id=str(target))
        blocked = time.perf_counter() - start
        future.result()
        return blocked

    def to_disk(save, name):
        def call() -> float:
            change(state)
            target = folder / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            start = time.perf_counter()
            save(target)
            fsync_tree(target)
            return time.perf_counter() - start

        return call

    threads = os.cpu_count() or 1
    report.section(f"Save, {size >> 20} MiB of float32, {threads} cores")
    blocking = median_seconds({"memcpy": warm_copy(state, threads), "runtree": ours_blocking, "dcp.async_save": async_save}, repeat)
    for name, seconds in blocking.items():
        report.row(f"blocking: {name}", f"{seconds * 1e3:.0f} ms", f"{seconds / blocking['memcpy']:.2f}x memcpy")
    report.verdict("blocking / memcpy", blocking["runtree"] / blocking["memcpy"], 1.15, unit="x")
    report.verdict("blocking / dcp.async_save", blocking["runtree"] / blocking["dcp.async_save"], 1.0, unit="x")

    durable = median_seconds(
        {
            "runtree": ours_durable,
            "torch.save": to_disk(lambda t: torch.save(state, t / "state.pt"), "torch"),
            "safetensors": to_disk(lambda t: save_file(state, t / "state.safetensors"), "safetensors"),
            "dcp.save": to_disk(lambda t: dcp.save(state, checkpoint_id=str(t)), "dcp"),
        },
        repeat,
    )
    for name, seconds in durable.items():
        report.row(f"durable: {name}", f"{gigabytes / seconds:.2f} GB/s")
    report.verdict("durable / safetensors + fsync", durable["runtree"] / durable["safetensors"], 1.0, unit="x")
    report.verdict("dcp.save + fsync / durable", durable["dcp.save"] / durable["runtree"], 1.5, unit="x", smaller=False)

    report.section(f"Load into memory, {size >> 20} MiB, page cache warm")
    into = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    loads = median_seconds(
        {
            "runtree, verified": lambda: run.load(),
            "runtree, verified, into=": lambda: run.load(into=into),
            "safetensors + clone": lambda: {k: v.clone() for k, v in load_file(folder / "safetensors" / "state.safetensors").items()},
            "dcp.load": lambda: dcp.load(into, checkpoint_id=str(folder / "dcp")),
            "torch.load": lambda: torch.load(folder / "torch" / "state.pt", weights_only=True),
        },
        repeat,
    )
    for name, seconds in loads.items():
        report.row(name, f"{gigabytes / seconds:.2f} GB/s")
    report.verdict("load / safetensors + clone", loads["runtree, verified"] / loads["safetensors + clone"], 1.0, unit="x")
    report.verdict("load into= / dcp.load", loads["runtree, verified, into="] / loads["dcp.load"], 1.0, unit="x")
    run.finish()
    for name in ("async", "torch", "safetensors", "dcp"):
        shutil.rmtree(folder / name, ignore_errors=True)


def bench_fork(report: Report, folder: Path, sizes: list[int]) -> None:
    """A fork's time at several sizes, beside the fsyncs it has to wait for."""
    report.section("Fork")
    for size in sizes:
        store_path = folder / f"fork-{size}"
        run = runtree.init("bench", name="parent", store=str(store_path), system_metrics=False, console=False)
        run.log({"loss": 1.0}, step=0)
        run.save(make_state(size), step=0).result()
        run.finish()
        store = runtree.Store(str(store_path))
        probe = folder / "probe"

        def bare_fsyncs(probe=probe) -> None:
            for i in range(3):  # number, run record, attempt: what a fork writes
                fd = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
                os.write(fd, b"x" * (400 * (i + 1)))
                os.fsync(fd)
                os.close(fd)
                parent = os.open(probe.parent, os.O_RDONLY)
                os.fsync(parent)
                os.close(parent)

        times = median_seconds({"fork": lambda store=store: store.fork("parent@0"), "fsyncs": bare_fsyncs}, 15)
        report.row(
            f"{size / 1e6:.0f} MB checkpoint", f"{times['fork'] * 1e3:.2f} ms", f"its fsyncs alone {times['fsyncs'] * 1e3:.2f} ms"
        )
        report.verdict(f"fork beside its fsyncs, {size / 1e6:.0f} MB", (times["fork"] - times["fsyncs"]) * 1e3, 5.0, unit="ms")
        shutil.rmtree(store_path)
