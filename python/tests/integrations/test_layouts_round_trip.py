"""What prime-rl and ART write comes in and goes out again byte for byte: every file, its name and its mode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runtree

from . import prime_rl_runs, trees

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(300)


def command(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "runtree", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def prime_rl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of a training of two ranks."""
    return prime_rl_runs.written(tmp_path_factory) / "outputs"


def art_model(root: Path) -> Path:
    """A model as ART leaves it: adapters of three steps, and what it keeps beside them."""
    from safetensors.torch import save_file

    model = root / ".art" / "my-project" / "models" / "agent"
    generator = torch.Generator().manual_seed(0)
    for step in (0, 1, 10000):
        place = model / "checkpoints" / f"{step:04d}"
        place.mkdir(parents=True)
        tensors = {
            f"base_model.model.layers.0.q_proj.lora_{half}.weight": torch.randn(
                shape, generator=generator, dtype=torch.bfloat16
            )
            for half, shape in (("A", (8, 64)), ("B", (64, 8)))
        }
        save_file(tensors, place / "adapter_model.safetensors", {"format": "pt"})
        config = {
            "peft_type": "LORA",
            "r": 8,
            "base_model_name_or_path": "Qwen/Qwen3-14B",
            "target_modules": ["q_proj"],
        }
        (place / "adapter_config.json").write_text(json.dumps(config, indent=2))
        (place / "README.md").write_text("---\nlibrary_name: peft\n---\n")
        (place / "adapter_config.json").chmod(0o600)
    (model / "model.json").write_text(json.dumps({"name": "agent", "base_model": "Qwen/Qwen3-14B", "trainable": True}))
    (model / "state.json").write_text(json.dumps({"_pipeline_trainer": {"training_step": 1}}))
    rows: list[dict[str, Any]] = [
        {"val/reward": 0.25, "training_step": 0, "step": 0, "recorded_at": "2026-01-02T03:04:05"},
        {"train/loss": 1.5, "step": 1, "recorded_at": "2026-01-02T03:05:05"},
        {"val/reward": 0.75, "step": 1, "recorded_at": "2026-01-02T03:06:05"},
    ]
    (model / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return model


def test_an_output_dir_of_prime_rl_comes_back_as_it_was(prime_rl: Path, tmp_path: Path) -> None:
    before = trees.look(prime_rl)
    files = {name for name, (kind, _, _) in before.items() if kind == "file"}
    # What two ranks write, so that it is known that this is what comes back.
    assert files == {
        f"checkpoints/step_{step}/{name}"
        for step in (1, 2)
        for name in (
            "trainer/.metadata", "trainer/__0_0.distcp", "trainer/__1_0.distcp", "trainer/dataloader/rank_0.pt",
            "trainer/dataloader/rank_1.pt", "orchestrator/progress.pt",
        )
    }  # fmt: skip
    assert before["checkpoints/step_1/orchestrator/progress.pt"][1] == 0o600
    command("import", str(prime_rl), "--layout", "prime-rl", "--run", "rl/math")
    assert trees.look(prime_rl) == before
    run = runtree.Store().run("math")
    assert [each.step for each in run.checkpoints()] == [1, 2]
    command("export", "rl/math", str(tmp_path / "out"), "--layout", "prime-rl")
    assert trees.look(tmp_path / "out") == before
    # One of them, and as the Python side has them.
    command("export", "rl/math@1", str(tmp_path / "one"), "--layout", "prime-rl")
    first = {name: each for name, each in before.items() if not name.startswith("checkpoints/step_2")}
    assert trees.look(tmp_path / "one") == first
    exported = run.checkpoint(2).export(tmp_path / "step")
    assert trees.look(exported) == trees.look(prime_rl / "checkpoints" / "step_2")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_step_that_came_back_is_read_by_torch(prime_rl: Path, tmp_path: Path) -> None:
    command("import", str(prime_rl), "--layout", "prime-rl", "--run", "rl/math")
    command("export", "rl/math", str(tmp_path / "out"), "--layout", "prime-rl")
    import torch.distributed.checkpoint as dcp

    def read(root: Path) -> Any:
        state = {"app": {"model": {"0.weight": torch.zeros(16, 8), "1.bias": torch.zeros(3)}}}
        dcp.load(state, checkpoint_id=root / "checkpoints" / "step_2" / "trainer", no_dist=True)
        return state["app"]["model"]

    was, came = read(prime_rl), read(tmp_path / "out")
    assert all(torch.equal(was[name], came[name]) and was[name].any() for name in was)


def test_a_model_of_art_comes_back_as_it_was(tmp_path: Path) -> None:
    model = art_model(tmp_path)
    before = trees.look(model)
    command("import", str(model), "--layout", "art", "--run", "my-project/agent")
    assert trees.look(model) == before
    run = runtree.Store().run("agent", project="my-project")
    assert [each.step for each in run.checkpoints()] == [0, 1, 10000]
    assert run.history("val/reward").values.tolist() == [0.25, 0.75]
    assert run.config["base_model"] == "Qwen/Qwen3-14B"
    command("export", "my-project/agent", str(tmp_path / "out"), "--layout", "art")
    checkpoints = {name: each for name, each in before.items() if name.startswith("checkpoints")}
    assert len([name for name in checkpoints if name.endswith(".safetensors")]) == 3
    assert trees.look(tmp_path / "out") == checkpoints
    exported = run.checkpoint("best:val/reward").export(tmp_path / "best")
    assert trees.look(exported) == trees.look(model / "checkpoints" / "0001")
