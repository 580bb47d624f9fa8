"""What a saved step of a Hugging Face Trainer costs: plain, with the callback, with the mixin. Real steps, real saves."""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import runtree
import torch
from runtree import _guard

from measure import Report

# Steps between two saves: real ones, beside which a copy is made.
STEPS = 4
SAVES = 3


class Clock:
    """Seconds that a training stood still for its saves, one number each."""

    def __init__(self) -> None:
        self.saves: list[float] = []
        self.loop = 0.0

    def add(self, call: Callable[[], object]) -> None:
        """Times a part of the save before."""
        start = time.perf_counter()
        call()
        if self.saves:
            self.saves[-1] += time.perf_counter() - start


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
    from runtree.integrations.transformers import RuntreeCallback, RuntreeTrainerMixin
    from transformers import Trainer, TrainingArguments

    clock = Clock()

    class Timed(Trainer):
        """Times all that a save makes the loop wait for: the save itself, the callbacks after it, the next step's wait."""

        def _maybe_log_save_evaluate(self, *args, **keywords) -> None:
            if self.control.should_save:
                clock.saves.append(0.0)
                clock.add(lambda: super(Timed, self)._maybe_log_save_evaluate(*args, **keywords))

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
    wait = _guard.Guard.wait

    def timed_wait(guard: _guard.Guard) -> None:
        clock.add(lambda: wait(guard))

    _guard.Guard.wait = timed_wait
    start = time.perf_counter()
    try:
        trainer.train()
    finally:
        _guard.Guard.wait = wait
    clock.loop = time.perf_counter() - start
    if side != "plain":
        callback.run.finish()
    shutil.rmtree(folder / side, ignore_errors=True)
    shutil.rmtree(folder / f"store-{side}", ignore_errors=True)
    return clock


def bench(report: Report, folder: Path, size: int, rounds: int) -> None:
    """Plain, callback and mixin take turns; ratios of medians over all saves but each round's first, which touches new memory."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.utils.logging.disable_progress_bar()
    network = model(size)
    held = 3 * sum(parameter.nbytes for parameter in network.parameters())
    clocks: dict[str, list[Clock]] = {"plain": [], "callback": [], "mixin": []}
    for _ in range(rounds):
        for side, found in clocks.items():
            found.append(train(side, network, folder))
    seconds = {side: statistics.median(each for clock in found for each in clock.saves[1:]) for side, found in clocks.items()}
    loops = {side: statistics.median(clock.loop for clock in found) / SAVES for side, found in clocks.items()}
    report.section(
        f"Hugging Face Trainer, {held / 1e6:.0f} MB of weights and AdamW, {STEPS} steps between saves, runtree {runtree.__version__}"
    )
    report.row("its own save", f"{seconds['plain'] * 1e3:.0f} ms")
    report.row("its own save with the callback", f"{seconds['callback'] * 1e3:.0f} ms")
    report.row("the mixin's save", f"{seconds['mixin'] * 1e3:.0f} ms")
    report.row("the loop per saved step: plain, callback, mixin", " ".join(f"{loops[side]:.2f}" for side in clocks), "s")
    report.verdict("callback beside its own save", seconds["callback"] / seconds["plain"] - 1, 0.05, unit="x")
    report.verdict("mixin, all that blocks", seconds["mixin"] / seconds["plain"], 0.1, unit="x")
