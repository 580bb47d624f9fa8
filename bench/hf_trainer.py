"""What a saved step of a Hugging Face Trainer costs: plain, with the callback, with the mixin. Real steps, real saves."""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from runtree import _guard

from measure import Report

# Steps between two saves: real ones, beside which a copy is made.
STEPS = 4
SAVES = 4
# The first save touches new memory; after the last no step follows beside which it could be copied.
STEADY = slice(1, -1)


class Clock:
    """Seconds that a training stood still for its saves, one number each."""

    def __init__(self) -> None:
        self.saves: list[float] = []
        """All that a save makes the loop wait for."""
        self.ours: list[float] = []
        """What of it is spent in the callback, and waiting for its copies."""
        self.loop = 0.0

    def add(self, call: Callable[..., object], times: list[float]) -> Callable[..., object]:
        """The call, which adds its time to the last of ``times``."""

        def timed(*args: object, **keywords: object) -> object:
            start = time.perf_counter()
            try:
                return call(*args, **keywords)
            finally:
                if times:
                    times[-1] += time.perf_counter() - start

        return timed


def model(total_bytes: int) -> torch.nn.Module:
    """A Llama whose weights and AdamW moments are about so many bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden = 512
    # Per layer: attention 4 h², MLP 3 · 4 h². Weights and two moments in float32.
    layers = max(1, total_bytes // 12 // (16 * hidden * hidden))
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers, num_attention_heads=8, vocab_size=1024
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def train(side: str, network: torch.nn.Module, folder: Path) -> Clock:
    """Trains a few steps with saves, and says how long each took."""
    from runtree.integrations import _transformers_taking
    from runtree.integrations.transformers import RuntreeCallback, RuntreeTrainerMixin
    from transformers import Trainer, TrainingArguments

    clock = Clock()

    class Timed(Trainer):
        """Times all that a save makes the loop wait for: the save itself, the callbacks after it, the next step's wait."""

        def _maybe_log_save_evaluate(self, *args, **keywords) -> None:
            if self.control.should_save:
                clock.saves.append(0.0)
                clock.ours.append(0.0)
                clock.add(super()._maybe_log_save_evaluate, clock.saves)(*args, **keywords)

    class Mixed(RuntreeTrainerMixin, Timed):
        """The same with states instead of directories."""

    callback = RuntreeCallback(
        project="bench", console=False, system_metrics=False, environment=False, store=str(folder / f"store-{side}")
    )
    arguments = TrainingArguments(
        str(folder / side), max_steps=STEPS * SAVES, save_steps=STEPS, save_total_limit=1, per_device_train_batch_size=1,
        report_to=[], disable_tqdm=True, use_cpu=True, logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    row = list(range(64))
    data = [{"input_ids": row, "labels": row}] * (STEPS * SAVES)
    kind = Mixed if side == "mixin" else Timed
    trainer = kind(network, arguments, train_dataset=data, callbacks=[] if side == "plain" else [callback])
    for event in ("on_step_end", "on_epoch_end", "on_save"):
        setattr(callback, event, clock.add(getattr(callback, event), clock.ours))
    waits = [(_guard.Guard, "wait", clock.saves), (_transformers_taking, "wait_copied", clock.ours)]
    originals = [getattr(owner, name) for owner, name, _ in waits]
    for owner, name, times in waits:
        setattr(owner, name, clock.add(getattr(owner, name), times))
    start = time.perf_counter()
    try:
        trainer.train()
    finally:
        for (owner, name, _), original in zip(waits, originals, strict=True):
            setattr(owner, name, original)
    clock.loop = time.perf_counter() - start
    if side != "plain":
        callback.run.finish()
    shutil.rmtree(folder / side, ignore_errors=True)
    shutil.rmtree(folder / f"store-{side}", ignore_errors=True)
    return clock


def bench(report: Report, folder: Path, size: int, rounds: int) -> None:
    """Plain, callback and mixin take turns; ratios of medians over all saves but the first and the last of each training."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.utils.logging.disable_progress_bar()
    network = model(size)
    held = 3 * sum(parameter.nbytes for parameter in network.parameters())
    clocks: dict[str, list[Clock]] = {"plain": [], "callback": [], "mixin": []}
    for _ in range(rounds):
        for side, found in clocks.items():
            found.append(train(side, network, folder))
    seconds = {side: statistics.median(each for clock in found for each in clock.saves[STEADY]) for side, found in clocks.items()}
    ours = statistics.median(each for clock in clocks["callback"] for each in clock.ours[STEADY])
    loops = {side: statistics.median(clock.loop for clock in found) / SAVES for side, found in clocks.items()}
    report.section(f"Hugging Face Trainer, {held / 1e6:.0f} MB of weights and AdamW, {STEPS} steps between saves")
    report.row("its own save, without and with the callback", f"{seconds['plain'] * 1e3:.0f}, {seconds['callback'] * 1e3:.0f} ms")
    report.row("of that in the callback", f"{ours * 1e3:.1f} ms")
    last = statistics.median(clock.ours[-1] for clock in clocks["callback"])
    report.row("of the last save, once a training", f"{last * 1e3:.1f} ms")
    report.row("the mixin's save and what the next step waits", f"{seconds['mixin'] * 1e3:.0f} ms")
    threads = f"{os.cpu_count()} processors train and write"
    report.row("loop per saved step: plain, callback, mixin", ", ".join(f"{loops[side]:.2f}" for side in clocks), f"s; {threads}")
    report.verdict("callback beside the Trainer's own save", ours / seconds["plain"], 0.05, unit="x")
    report.verdict("mixin beside it, all that blocks", seconds["mixin"] / seconds["plain"], 0.1, unit="x")
