"""``runtree.autolog``: what it turns on, when, and that it imports nothing itself."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runtree

QUIET = {"console": False, "system_metrics": False, "environment": False}


def script(body: str) -> list[str]:
    """The lines that a program of its own prints."""
    head = "import sys, warnings; warnings.simplefilter('error', runtree.RuntreeWarning)\n"
    head += f"QUIET = {QUIET!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", "import runtree\n" + head + textwrap.dedent(body)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def undone() -> Iterator[None]:
    yield
    runtree.autolog(disable=True)


@pytest.fixture
def packages() -> None:
    """Two libraries in the working directory, of which nothing is real but how they are imported; and what stands for runtree's
    modules for them."""
    for name, text in {
        "accelerate/__init__.py": "from accelerate.inner import thing",
        "accelerate/inner.py": "thing = 1",
        "accelerate/data.txt": "here",
        "lightning/__init__.py": "",
        "told.py": """
            import sys, types
            calls = []
            def integration(library):
                module = types.ModuleType(f"runtree.integrations.{library}")
                module.autolog = lambda **keywords: calls.append((library, keywords, library in sys.modules))
                module.undo = lambda: calls.append((library, "undone"))
                sys.modules[module.__name__] = module
            integration("accelerate")
            integration("lightning")
        """,
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(textwrap.dedent(text))


def test_nothing_is_imported_by_it() -> None:
    body = """
        before = set(sys.modules)
        runtree.autolog(project="p")
        heavy = ("torch", "numpy", "jax", "transformers", "accelerate", "lightning", "orbax")
        print(sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in heavy))
        print([name for name in sys.modules if name.startswith("runtree.integrations")])
    """
    assert script(body) == ["[]", "[]"]


def test_a_library_gets_its_integration_when_it_is_imported_whole(packages: None) -> None:
    body = """
        import told
        runtree.autolog(project="p")
        print(told.calls)
        import accelerate
        print(told.calls, accelerate.thing)
        import importlib.resources
        print(importlib.resources.files("accelerate").joinpath("data.txt").read_text(), type(accelerate.__loader__).__name__)
        import lightning
        importlib.reload(accelerate)
        runtree.autolog(project="q")
        runtree.autolog(disable=True)
        print(told.calls[1:])
        del sys.modules["accelerate"]
        import accelerate
        print(len(told.calls))
    """
    assert script(body) == [
        "[]",
        "[('accelerate', {'project': 'p'}, True)] 1",
        "here SourceFileLoader",
        "[('lightning', {'project': 'p'}, True), ('accelerate', 'undone'), ('lightning', 'undone'), "
        "('accelerate', {'project': 'q'}, True), ('lightning', {'project': 'q'}, True), "
        "('accelerate', 'undone'), ('lightning', 'undone')]",
        "8",
    ]


def test_one_that_does_not_fit_is_a_warning_and_imports_all_the_same(packages: None) -> None:
    body = """
        import told
        warnings.simplefilter("always", runtree.RuntreeWarning)
        del sys.modules["runtree.integrations.lightning"].autolog
        runtree.autolog()
        with warnings.catch_warnings(record=True) as seen:
            import lightning
        print(lightning.__name__, *[str(each.message) for each in seen])
    """
    [line] = script(body)
    assert line.startswith("lightning autolog does nothing for lightning: ")


def test_a_wrong_keyword_raises_at_once(undone: None) -> None:
    with pytest.raises(runtree.InvalidType, match="colour"):
        runtree.autolog(colour="p")


def test_orbax_is_logged_without_a_line_more() -> None:
    pytest.importorskip("orbax.checkpoint")
    body = """
        runtree.autolog(project="auto", run_id="one", **QUIET)
        import orbax.checkpoint as ocp
        import jax.numpy as jnp
        from pathlib import Path

        def train(first):
            best = lambda metrics: -metrics["loss"]
            with ocp.CheckpointManager(Path("steps").absolute(), options=ocp.CheckpointManagerOptions(best_fn=best)) as manager:
                for step in (first, first + 1):
                    manager.save(step, args=ocp.args.StandardSave({"w": jnp.ones(3) * step}), metrics={"loss": 1 / step})

        train(1)
        # A run that the program began itself is the one.
        train(3)
        runtree.autolog(disable=True)
        train(5)
        [run] = runtree.Store().runs()
        print(run.key, [each.step for each in run.checkpoints()], run.history("loss").steps.tolist())
    """
    assert script(body) == ["one [1, 2, 3, 4] [1, 2, 3, 4]"]


def test_the_run_that_is_live_is_the_one(start: Any, undone: None) -> None:
    from runtree._autolog import shared_run

    with start() as run:
        assert shared_run({"project": "other"}) is run
    begun = shared_run({"project": "other", **QUIET})
    assert (begun.project, shared_run({"project": "more"})) == ("other", begun)
    begun.finish()


def test_trainers_of_several_libraries_share_one_run() -> None:
    for module in ("transformers", "accelerate", "lightning"):
        pytest.importorskip(module)
        pytest.importorskip(f"runtree.integrations.{module}")
    body = """
        import os
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", runtree.RuntreeWarning)
        runtree.autolog(project="auto", **QUIET)
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
        import lightning

        torch.set_num_threads(1)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32}
        rows = [{"input_ids": torch.arange(8) % 7, "labels": torch.arange(8) % 7} for _ in range(8)]
        arguments = TrainingArguments(
            "out", max_steps=4, save_steps=2, logging_steps=1, report_to=[], use_cpu=True, disable_tqdm=True
        )
        Trainer(LlamaForCausalLM(LlamaConfig(**sizes)), arguments, train_dataset=rows).train()

        class Net(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = torch.nn.Linear(4, 1)

            def training_step(self, batch, index):
                loss = self.net(batch).square().mean()
                self.log("lightning/loss", loss)
                return loss

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        fit = lightning.Trainer(
            max_steps=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1
        )
        fit.fit(Net(), torch.utils.data.DataLoader(torch.ones(8, 4), batch_size=2))
        [run] = runtree.Store().runs()
        print("train/loss" in run.metrics, "lightning/loss" in run.metrics, {2, 4} <= {each.step for each in run.checkpoints()})
    """
    assert script(body)[-1] == "True True True"
