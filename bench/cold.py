"""What checkpoints of real training weigh once they are cold: a small transformer under AdamW, its states a few steps apart."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import runtree
import torch
import zstandard
from torch import nn

from measure import Report, median_seconds

CHECKPOINTS = 50


def train(rate: float, apart: int, width: int):
    """Yields (bf16 weights, full state) of a transformer that learns to copy, every ``apart`` steps."""
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, dropout=0.0)
    model = nn.Sequential(nn.Embedding(256, width), nn.TransformerEncoder(layer, 2), nn.Linear(width, 256))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = torch.Generator().manual_seed(2)

    def step() -> None:
        tokens = torch.randint(0, 256, (4, 16), generator=data)
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    # Moments and weights as a run has them that is under way, not as they are initialised.
    for _ in range(60):
        step()
    for group in optimizer.param_groups:
        group["lr"] = rate
    for _ in range(CHECKPOINTS):
        for _ in range(apart):
            step()
        weights = {name: value.detach().bfloat16() for name, value in model.state_dict().items()}
        yield weights, {"weights": weights, "master": model.state_dict(), "optimizer": optimizer.state_dict()}


def tensors_of(value) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(each)


def alone(state: dict) -> tuple[float, float]:
    """Sizes over raw of zstd alone, and of byte planes and zstd; tensors of one width of elements are one stream."""
    by_width: dict[int, list[bytes]] = {}
    for tensor in tensors_of(state):
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        by_width.setdefault(tensor.element_size(), []).append(raw)
    compressor = zstandard.ZstdCompressor(level=3)
    total = plain = planes = 0
    for width, pieces in by_width.items():
        items = np.frombuffer(b"".join(pieces), dtype=np.uint8).reshape(-1, width)
        total += items.size
        plain += len(compressor.compress(items.tobytes()))
        planes += len(compressor.compress(np.ascontiguousarray(items.T).tobytes()))
    return plain / total, planes / total


def load_by_depth(report: Report, store: Path, run, rows) -> None:
    """Loading into memory that is there, by the depth of differences: from the page cache, and from the disk itself."""
    checkpoints = run.checkpoints()
    by_depth = {row["depth"]: checkpoints[at] for at, row in enumerate(rows[:-2])}
    found = {"raw": checkpoints[-1]} | {f"depth {depth}": by_depth[depth] for depth in sorted(by_depth)}
    into = checkpoints[-1].load()

    def from_disk(checkpoint):
        def call() -> float:
            forget_cached(store)
            start = time.perf_counter()
            checkpoint.load(into=into)
            return time.perf_counter() - start

        return call

    for where, sides in {
        "page cache": {name: lambda c=checkpoint: c.load(into=into) for name, checkpoint in found.items()},
        "cold disk": {name: from_disk(checkpoint) for name, checkpoint in found.items()},
    }.items():
        times = median_seconds(sides, 7)
        for name, seconds in times.items():
            report.row(f"load, {where}, {name}", f"{seconds * 1e3:.1f} ms", f"{seconds / times['raw']:.2f}x raw")
        if where == "cold disk":
            report.verdict("deepest load from a cold disk / raw", list(times.values())[-1] / times["raw"], 2.0, unit="x")


def forget_cached(store: Path) -> None:
    """Drops a store's files from the page cache; they are durable, so all of them go."""
    for path in (store / "chunks").rglob("*.*"):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def bench_lora(report: Report, folder: Path, base_bytes: int) -> None:
    """What the second checkpoint of a LoRA on a frozen base takes."""
    report.section(f"LoRA of rank 16 on a frozen bf16 base of {base_bytes >> 20} MiB")
    torch.manual_seed(1)
    width = 1024
    layers = base_bytes // (2 * width * width)
    base = {f"layers.{i}.weight": torch.randn(width, width).bfloat16() for i in range(layers)}
    adapters = {f"layers.{i}.lora_{side}": torch.randn(16, width) for i in range(layers) for side in "ab"}
    parameters = [nn.Parameter(value) for value in adapters.values()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    path = folder / "lora"
    run = runtree.init("bench", name="lora", store=str(path), system_metrics=False, console=False)
    sizes = []
    for step in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        state = {"base": base, "adapters": dict(zip(adapters, parameters, strict=True)), "optimizer": optimizer.state_dict()}
        run.save(state, step=step).result()
        sizes.append(sum(file.stat().st_size for file in (path / "chunks").rglob("*.*")))
    trained = sum(parameter.nbytes for parameter in parameters) * 3
    run.finish()
    report.row("first checkpoint", f"{sizes[0] / 1e6:.1f} MB")
    report.row("second checkpoint", f"{(sizes[1] - sizes[0]) / 1e6:.1f} MB", f"adapters and their moments are {trained / 1e6:.1f} MB")
    report.verdict("second checkpoint / adapters and moments", (sizes[1] - sizes[0]) / trained, 1.01, unit="x")
    shutil.rmtree(path)


def bench(report: Report, folder: Path, width: int) -> None:
    """The table of stored over raw, and the time to load by depth."""
    report.section(f"Cold checkpoints, {CHECKPOINTS} of a transformer of width {width} under AdamW")
    for what in ("bf16 weights", "full state"):
        for rate in (1e-6, 1e-5, 3e-4):
            for apart in (1, 10):
                path = folder / "cold"
                run = runtree.init("bench", name="cold", store=str(path), system_metrics=False, console=False)
                for number, (weights, full) in enumerate(train(rate, apart, width)):
                    state = weights if what == "bf16 weights" else full
                    run.save(state, step=number).result()
                run.finish()
                store = runtree.Store(str(path))
                store.encode()
                stats = store.stats(run.id)
                rows = stats["rows"]
                cold = sum(row["stored_bytes"] for row in rows[:-2]) / sum(row["logical_bytes"] for row in rows[:-2])
                every = stats["stored_bytes"] / stats["logical_bytes"]
                plain, planes = alone(state)
                beside = f"zstd {plain:.1%}, planes + zstd {planes:.1%}"
                report.row(f"{what}, lr {rate:g}, {apart} apart", f"{cold:.1%}", f"with the two raw ones {every:.1%}; {beside}")
                if rate == 1e-6 and apart == 1:
                    full_state = what == "full state"
                    report.verdict(f"{what}: cold / raw", cold, 0.75 if full_state else 0.035, unit="")
                    if not full_state:
                        report.verdict(f"{what}: all / raw", every, 0.075, unit="")
                        load_by_depth(report, path, run, rows)
                shutil.rmtree(path)
