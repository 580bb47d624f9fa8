"""Small real trainings with Hugging Face's libraries, in this process or in one that is really killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from runtree.integrations.transformers import RuntreeCallback, RuntreeTrainerMixin

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()
QUIET = {"console": False, "system_metrics": False, "environment": False}
WORDS = [f"w{index}" for index in range(28)]


class MixedTrainer(RuntreeTrainerMixin, Trainer):
    """As the mixin's page shows it."""


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    """A model with dropout, so that random generators matter."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        **shape, num_key_value_heads=2, vocab_size=32, max_position_embeddings=64, attention_dropout=0.2,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Words for tokens."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, **{word: 4 + index for index, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_data(rows: int = 32) -> list[dict[str, list[int]]]:
    """Sequences of eight tokens."""
    made = [[(row * place) % 31 for place in range(8)] for row in range(1, rows + 1)]
    return [{"input_ids": row, "labels": row} for row in made]


def arguments(folder: str | Path = "out", **changes: Any) -> TrainingArguments:
    """Ten steps of four rows, saved every second, unless told otherwise."""
    usual = {
        "max_steps": 10, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1, "save_steps": 2,
        "warmup_steps": 3, "report_to": [], "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    return TrainingArguments(str(folder), **{**usual, **changes})


class Rates(TrainerCallback):
    """The rate of each step, as the optimizer has it when it steps."""

    def __init__(self) -> None:
        self.of: dict[int, list[float]] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.of[state.global_step + 1] = [float(group["lr"]) for group in optimizer.param_groups]


class Killer(TrainerCallback):
    """Kills the process at the end of a step, once what was saved before is there: as if a node was lost."""

    def __init__(self, callback: RuntreeCallback, step: int) -> None:
        self._callback = callback
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step:
            for pending in self._callback.run._pending:
                pending.result()
            os.kill(os.getpid(), signal.SIGKILL)


def train(
    run_id: str | None,
    *,
    kind: str = "callback",
    kill_at: int | None = None,
    callback: dict[str, Any] | None = None,
    callbacks: list[Any] | None = None,
    trainer: Any = None,
    resume: Any = "own",
    **changes: Any,
) -> tuple[Any, RuntreeCallback]:
    """Trains, resuming what there is; the trainer and the callback, whose run is finished."""
    runtree_callback = RuntreeCallback(project="tiny", run_id=run_id, **QUIET, **(callback or {}))
    more = [*(callbacks or []), *([Killer(runtree_callback, kill_at)] if kill_at is not None else [])]
    settings = arguments(changes.pop("folder", f"out-{run_id}"), **changes)
    if trainer is None:
        chosen = MixedTrainer if kind == "mixin" else Trainer
        data = tiny_data()
        made = chosen(
            tiny_model(), settings, train_dataset=data, eval_dataset=data[:8], processing_class=tiny_tokenizer(),
            callbacks=[runtree_callback, *more],
        )  # fmt: skip
    else:
        made = trainer(kind, settings, [runtree_callback, *more])
    start = runtree_callback.resume_path() if kind == "callback" else "runtree:latest"
    made.train(resume_from_checkpoint=start if resume == "own" else resume)
    runtree_callback.run.finish()
    return made, runtree_callback


def _call(environment: dict[str, str], folder: str, function: Any, keywords: dict[str, Any]) -> None:
    for name in list(os.environ):
        if name.startswith("RUNTREE_"):  # Of the test that the server was started in.
            del os.environ[name]
    os.environ.update(environment)
    os.chdir(folder)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    function(**keywords)
    sys.exit(0)


def in_a_process(function: Any, **keywords: Any) -> int:
    """Calls a function in a process of its own; its exit code (-9: killed)."""
    return in_processes(1, function, **keywords)[0]


def in_processes(count: int, function: Any, **keywords: Any) -> list[int]:
    """Calls a function in so many processes at once, ranks of one launch if there are several; their exit codes.

    They all come from one that has imported what pytest has, once.
    """
    context = get_context("forkserver")
    tests = [name for name in sys.modules if name.startswith(f"{__package__}.test_")]
    context.set_forkserver_preload([__name__, *tests])
    # The server has no path but this one when it imports them.
    path, os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH"), os.pathsep.join(sys.path)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if path is not None:
            os.environ["PYTHONPATH"] = path
    names = ("XDG_CACHE_HOME", "RUNTREE_STAGING_DIR", "RUNTREE_STORE", "RUNTREE_ATTEMPT", "HF_HUB_OFFLINE")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes: list[Any] = []
    for rank in range(count):
        launch = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        given = environment | (launch if count > 1 else {})
        processes.append(context.Process(target=_call, args=(given, os.getcwd(), function, keywords)))
        processes[-1].start()
    for process in processes:
        process.join(100)
    return [process.exitcode for process in processes]


def final_state(trainer: Any) -> dict[str, Any]:
    """What a training ends with: weights, optimizer, scheduler, the random generator."""
    return {
        "model": {name: value.clone() for name, value in trainer.model.state_dict().items()},
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.lr_scheduler.state_dict(),
    }


def differing(first: Any, second: Any, path: str = "") -> list[str]:
    """Paths at which two trees are not equal bit for bit."""
    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        same = isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and first.dtype == second.dtype
        return [] if same and torch.equal(first, second) else [path]
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        return [] if np.array_equal(first, second) else [path]
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return [f"{path}: {sorted(map(str, first.keys() ^ second.keys()))}"]
        return [each for key in first for each in differing(first[key], second[key], f"{path}.{key}")]
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            return [f"{path}: {len(first)}, {len(second)}"]
        return [
            each for at, pair in enumerate(zip(first, second, strict=True)) for each in differing(*pair, f"{path}.{at}")
        ]
    return [] if first == second or (first != first and second != second) else [f"{path}: {first!r}, {second!r}"]
