"""Saving, loading and forking beside torch.save, safetensors and torch.distributed.checkpoint, on the same bytes and disk."""

import ctypes
import os
import shutil
import subprocess
import sys
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


def adamw_state(total_bytes: int, tensors: int) -> dict[str, object]:
    """A training state as AdamW has it: weights, two moments, a step each; about ``tensors`` tensors, most bytes in few of them.

    Noise that neither compresses nor dedups. With many tensors nine tenths are small, as norms, biases and LoRA adapters are.
    """
    rng = np.random.default_rng(1)
    parameters = max(1, tensors // 4)
    small = parameters * 9 // 10 if parameters > 500 else 0
    small_elements = 2048
    large_elements = (total_bytes // 12 - small * small_elements) // (parameters - small)

    def noise(count: int) -> torch.Tensor:
        return torch.from_numpy(rng.random(count, dtype=np.float32))

    model: dict[str, torch.Tensor] = {}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for index in range(parameters):
        count = small_elements if index < small else large_elements
        model[f"layers.{index}.weight"] = noise(count)
        state[index] = {"step": torch.tensor(1.0), "exp_avg": noise(count), "exp_avg_sq": noise(count)}
    return {"model": model, "optimizer": {"state": state}}


def flat(state: dict[str, object], below: str = "") -> dict[str, torch.Tensor]:
    """The tensors by dotted name, for peers that take nothing else."""
    found: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            found[f"{below}{key}"] = value
        else:
            found |= flat(value, f"{below}{key}.")
    return found


def change(tensors: list[torch.Tensor]) -> None:
    """Changes every tensor a little, so that no save finds its chunks already there."""
    for tensor in tensors:
        tensor.add_(1e-3)


def warm_copy(tensors: list[torch.Tensor], threads: int):
    """A memcpy of the whole state into memory that was touched before, on `threads` threads, with large tensors shared among them."""
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for tensor in tensors:
        source = tensor.reshape(-1).numpy()
        pairs += [(np.array(part), part) for part in np.array_split(source, max(1, source.nbytes // (8 << 20)))]

    def copy(part):
        for target, source in part:
            np.copyto(target, source)

    def run():
        workers = [threading.Thread(target=copy, args=(pairs[i::threads],)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return run


class Guarded:
    """As much of an optimizer as a guard needs, whose memory is the whole state."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self.param_groups = [{"params": tensors}]
        self.state: dict = {}
        self.hook = None

    def register_step_pre_hook(self, hook):
        self.hook = hook
        return type("Handle", (), {"remove": lambda _: setattr(self, "hook", None)})()


def forget_chunks(store: Path) -> None:
    """Makes room: every state is saved once, and a few of 4 GiB fill a disk."""
    for path in (store / "chunks").rglob("*.*"):
        path.unlink()


def bench(report: Report, folder: Path, size: int, count: int, repeat: int) -> None:
    """Blocking, guarded, durable and loading, all sides interleaved."""
    if not dist.is_initialized():
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29517")
        dist.init_process_group("gloo", rank=0, world_size=1)
    state = adamw_state(size, count)
    named = flat(state)
    tensors = list(named.values())
    size = sum(tensor.nbytes for tensor in tensors)
    gigabytes = size / 1e9
    store = folder / f"store-{size}-{count}"
    run = runtree.init(
        "bench", name="save", store=str(store), system_metrics=False, console=False, staging_bytes=size + size // 4 + (512 << 20)
    )
    step = iter(range(1 << 30))
    optimizer = Guarded(tensors)

    def ours_blocking() -> float:
        change(tensors)
        start = time.perf_counter()
        save = run.save(state, step=next(step))
        blocked = time.perf_counter() - start
        save.result()
        forget_chunks(store)
        return blocked

    def ours_guarded() -> float:
        change(tensors)
        with run.guard(optimizer):
            start = time.perf_counter()
            save = run.save(state, step=next(step))
            blocked = time.perf_counter() - start
            # The forward and backward pass that the copy runs beside: as long as a copy, and busy on no core.
            time.sleep(max(0.3, gigabytes))
            start = time.perf_counter()
            optimizer.hook(optimizer, (), {})
            blocked += time.perf_counter() - start
        save.result()
        forget_chunks(store)
        return blocked

    def async_save() -> float:
        change(tensors)
        target = folder / "async"
        shutil.rmtree(target, ignore_errors=True)
        start = time.perf_counter()
        future = dcp.async_save(named, checkpoint_id=str(target))
        blocked = time.perf_counter() - start
        future.result()
        # Ours is on the disk when its turn ends; what this one left would be written during the turn of whoever is next.
        fsync_tree(target)
        return blocked

    threads = os.cpu_count() or 1
    report.section(f"Save, AdamW state of {size >> 20} MiB in {len(tensors):,} tensors, {threads} cores")
    sides = {
        "memcpy": warm_copy(tensors, threads),
        "runtree": ours_blocking,
        "runtree, guarded": ours_guarded,
        "dcp.async_save": async_save,
    }
    blocking = median_seconds(sides, repeat)
    del sides
    shutil.rmtree(folder / "async", ignore_errors=True)
    for name, seconds in blocking.items():
        report.row(f"blocking: {name}", f"{seconds * 1e3:.1f} ms", f"{seconds / blocking['memcpy']:.2f}x memcpy")
    report.verdict("blocking / memcpy", blocking["runtree"] / blocking["memcpy"], 1.15, unit="x")
    report.verdict("blocking, guarded / memcpy", blocking["runtree, guarded"] / blocking["memcpy"], 0.05, unit="x")
    report.verdict("blocking / dcp.async_save", blocking["runtree"] / blocking["dcp.async_save"], 1.0, unit="x")

    def ours_durable() -> float:
        change(tensors)
        start = time.perf_counter()
        run.save(state, step=next(step)).result()
        took = time.perf_counter() - start
        forget_chunks(store)
        return took

    def to_disk(save, name):
        def call() -> float:
            change(tensors)
            target = folder / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            start = time.perf_counter()
            save(target)
            fsync_tree(target)
            return time.perf_counter() - start

        return call

    durable = median_seconds(
        {
            "runtree": ours_durable,
            "torch.save": to_disk(lambda t: torch.save(state, t / "state.pt"), "torch"),
            "safetensors": to_disk(lambda t: save_file(named, t / "state.safetensors"), "safetensors"),
            "dcp.save": to_disk(lambda t: dcp.save(named, checkpoint_id=str(t)), "dcp"),
        },
        repeat,
    )
    for name, seconds in durable.items():
        report.row(f"durable: {name}", f"{gigabytes / seconds:.2f} GB/s")
    report.verdict("durable / safetensors + fsync", durable["runtree"] / durable["safetensors"], 1.0, unit="x")
    report.verdict("dcp.save + fsync / durable", durable["dcp.save"] / durable["runtree"], 1.5, unit="x", smaller=False)

    report.section(f"Load into memory, {size >> 20} MiB in {len(tensors):,} tensors, page cache warm")
    run.save(state, step=next(step)).result()
    into = {name: torch.empty_like(tensor) for name, tensor in named.items()}
    ours_into = {"model": {}, "optimizer": {"state": {}}}
    for name, target in into.items():
        *path, leaf = (
            name.removeprefix("model.").split(".") if name.startswith("optimizer") else ("model", name.removeprefix("model."))
        )
        below = ours_into
        for key in path:
            below = below.setdefault(int(key) if key.isdecimal() else key, {})
        below[leaf] = target
    loads = median_seconds(
        {
            name: in_fresh_memory(load)
            for name, load in {
                "runtree, verified": run.load,
                "runtree, verified, into=": lambda: run.load(into=ours_into),
                "safetensors + clone": lambda: {
                    k: v.clone() for k, v in load_file(folder / "safetensors" / "state.safetensors").items()
                },
                "dcp.load": lambda: dcp.load(into, checkpoint_id=str(folder / "dcp")),
                "torch.load": lambda: torch.load(folder / "torch" / "state.pt", weights_only=True),
            }.items()
        },
        repeat,
    )
    for name, seconds in loads.items():
        report.row(name, f"{gigabytes / seconds:.2f} GB/s")
    report.verdict("load / safetensors + clone", loads["runtree, verified"] / loads["safetensors + clone"], 1.0, unit="x")
    report.verdict("load into= / dcp.load", loads["runtree, verified, into="] / loads["dcp.load"], 1.0, unit="x")
    run.finish()
    shutil.rmtree(store)
    for name in ("torch", "safetensors", "dcp"):
        shutil.rmtree(folder / name, ignore_errors=True)


def in_fresh_memory(load):
    """Times a load as a program that has just started meets it: without the memory that the load before it left in the allocator."""

    def call() -> float:
        ctypes.CDLL(None).malloc_trim(0)
        start = time.perf_counter()
        loaded = load()
        took = time.perf_counter() - start
        del loaded
        return took

    return call


MEMORY = """
import sys, time
import runtree, torch
import checkpoints
def status(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what)) * 1024
size, staging, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
state = checkpoints.adamw_state(size, 200)
run = runtree.init("bench", name="memory", store=store, system_metrics=False, console=False, staging_bytes=staging)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
run.save(state, step=0).result()
saved = status("VmHWM") - before
run.load(into=state)
print(saved, status("VmHWM") - before)
run.finish()
"""


def bench_memory(report: Report, folder: Path, sizes: list[int], staging: int) -> None:
    """Most memory beside the state itself, in a process of its own, with a bounded arena."""
    report.section(f"Memory beside the state, staging_bytes={staging >> 20} MiB")
    for size in sizes:
        store = folder / "memory"
        command = [sys.executable, "-c", MEMORY, str(size), str(staging), str(store)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent).stdout
        saving, loading = (int(word) for word in answer.split())
        report.row(f"{size >> 20} MiB", f"{saving >> 20} MiB to save", f"{loading >> 20} MiB with load(into=)")
        report.verdict(
            f"{size >> 20} MiB: peak beside the arena", max(0, max(saving, loading) - staging) / (1 << 20), 256, unit="MiB"
        )
        shutil.rmtree(store)


def bench_fork(report: Report, folder: Path, sizes: list[int]) -> None:
    """A fork's time at several sizes, beside the fsyncs it has to wait for."""
    report.section("Fork")
    for size in sizes:
        store_path = folder / f"fork-{size}"
        run = runtree.init("bench", name="parent", store=str(store_path), system_metrics=False, console=False)
        run.log({"loss": 1.0}, step=0)
        run.save(adamw_state(size, 200), step=0).result()
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
