"""``runtree train``: configurations of truss_train as jobs of this machine, with real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).parent / "samples" / "loading.md").read_text()
BLOCKS = re.findall(r"```python[^\n]*\n(.*?)```", DOCUMENT, re.DOTALL)
(COMPLETE,) = [block for block in BLOCKS if "TrainingProject(" in block]
(TRAINING,) = [block for block in BLOCKS if "def train()" in block]
LITERAL = Path("/tmp/loaded_checkpoints")

#: A trainer in shell: it goes on from what is loaded, and saves as Hugging Face's does.
SHELL = """#!/bin/sh
step=0
if [ -n "$BT_LOAD_CHECKPOINT_DIR" ]; then
  for each in "$BT_LOAD_CHECKPOINT_DIR"/checkpoint-*; do step=${each##*-}; done
  [ "$(cat "$BT_LOAD_CHECKPOINT_DIR/rank-0/checkpoint-$step/model.bin")" = "weights $step" ] || exit 99
fi
echo "from $step"
for _ in 1 2; do
  step=$((step + 10)); dir=$BT_CHECKPOINT_DIR/checkpoint-$step; mkdir -p "$dir"
  printf 'weights %s' $step > "$dir/model.bin"
  printf '{"global_step": %s}' $step > "$dir/trainer_state.json"
done
"""


class Desk:
    """A folder with a configuration in it, a store and a cache."""

    def __init__(self, root: Path) -> None:
        self.root, self.work = root, root / "desk"
        self.work.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BT_", "RUNTREE_"))},
            "RUNTREE_STORE": str(root / "store"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "HF_HUB_OFFLINE": "1",
        }

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "runtree", *arguments]

    def run(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            self.command(*arguments),
            cwd=self.work,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran

    def checkpoints(self, run: str, *options: str) -> list[dict[str, object]]:
        return json.loads(self.run("checkpoints", run, "--json", *options).stdout)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield Desk(tmp_path)
    # What a job linked at the default paths, for scripts that have them written down.
    for literal in (LITERAL, Path("/mnt/ckpts")):
        if literal.is_symlink() and tmp_path in Path(os.readlink(literal)).parents:
            literal.unlink()


def config(runtime: str, job: str = "", project: str = "p") -> str:
    return (
        "from truss_train import *\n"
        "from truss_train.definitions import *\n"
        f"project = TrainingProject(name={project!r}, job=TrainingJob(image=Image(base_image='i'), "
        f"runtime=Runtime({runtime}), {job}))\n"
    )


def documents_config(desk: Desk, job_id: str) -> str:
    """The document's complete setup; only where checkpoints are saved, and whose are loaded, is the test's."""
    return COMPLETE.replace("/tmp/training_checkpoints", str(desk.root / "saved")).replace("previous_job_id", job_id)


def test_the_documents_setup_three_jobs_in_a_row(desk: Desk) -> None:
    is_free = not os.path.lexists(LITERAL)
    desk.write("run.sh", SHELL)
    # The first has nothing to load.
    desk.write("first.py", documents_config(desk, "none").replace("load_checkpoint_config=load_checkpoint_config,", ""))
    assert desk.run("train", "first.py", "--run-id", "previous_job_id").stdout == "from 0\n"
    desk.write("config.py", documents_config(desk, "previous_job_id"))
    ran = desk.run("train", "config.py", "--run-id", "second")
    assert ran.stdout == "from 20\n"
    assert "recorded, not enforced: image your-base-image" in ran.stderr
    desk.write("config.py", documents_config(desk, "second"))
    third = desk.run("train", "config.py")
    assert third.stdout == "from 40\n"
    (key,) = re.findall(r"job (\w{7}) of project", third.stderr)
    saved = desk.checkpoints(f"my-training-project/{key}")
    assert [each["step"] for each in saved] == [50, 60]
    run = json.loads(desk.run("show", f"my-training-project/{key}", "--json").stdout)
    assert run["summary"]["config"]["truss_train"]["image"] == "your-base-image"
    # At the literal path scripts find the newest job's, unless it is somebody else's.
    if is_free:
        assert (LITERAL / "second" / "rank-0" / "checkpoint-40" / "model.bin").read_text() == "weights 40"
    else:
        assert f"{LITERAL} is not linked" in third.stderr
    assert not (desk.work / "saved").exists()


TINY = """
from transformers import CanineConfig, CanineForSequenceClassification
CanineForSequenceClassification(CanineConfig(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=256,
    num_hash_buckets=64, num_hash_functions=2, downsampling_rate=4, local_transformer_stride=16,
)).save_pretrained("tiny")
"""
DATASET = """
import torch
torch.set_num_threads(1)
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8 * int(os.environ["BATCHES"])
    def __getitem__(self, row):
        return {"input_ids": torch.full((32,), 97 + row % 5), "attention_mask": torch.ones(32, dtype=torch.long), "labels": row % 2}
"""


def test_the_documents_training_code_with_its_repairs(desk: Desk) -> None:
    # Its three repairs: a tiny model that is here, a dataset, and `eval_strategy`, without which `load_best_model_at_end` is refused.
    code = TRAINING.replace('"your-base-model"', '"tiny"')
    code = code.replace("def train():", DATASET + "\ndef train():")
    code = code.replace('save_strategy="steps",', 'save_strategy="steps", eval_strategy="steps",')
    code = code.replace("args=training_args)", "args=training_args, train_dataset=Rows(), eval_dataset=Rows())")
    desk.write("train.py", code + "\nif __name__ == '__main__':\n    train()\n")
    desk.write("run.sh", f"#!/bin/sh\n{sys.executable} train.py\n")
    subprocess.run([sys.executable, "-c", TINY], cwd=desk.work, env=desk.environment, check=True, capture_output=True)
    batches = "runtime=Runtime(environment_variables={'BATCHES': '%s'},"
    first = documents_config(desk, "none").replace("load_checkpoint_config=load_checkpoint_config,", "")
    desk.write("config.py", first.replace("runtime=Runtime(", batches % 2))
    said = desk.run("train", "config.py", "--run-id", "one").stdout
    assert "No checkpoint loading configured" in said
    for before, key, count, step in (("one", "two", 4, 6), ("two", "three", 6, 12)):
        desk.write("config.py", documents_config(desk, before).replace("runtime=Runtime(", batches % count))
        said = desk.run("train", "config.py", "--run-id", key).stdout
        assert (
            f"Resuming from checkpoint: {LITERAL}" in said.replace(str(desk.root), "")
            or "Resuming from checkpoint" in said
        )
        assert f"checkpoint-{step}" in said, said
    steps = {
        key: [each["step"] for each in desk.checkpoints(f"my-training-project/{key}")]
        for key in ("one", "two", "three")
    }
    assert steps == {"one": [6], "two": [12], "three": [18]}
    (last,) = desk.checkpoints("my-training-project/three")
    assert (last["checkpoint_type"], last["base_model"]) == ("full", "canine")
    csv = desk.run("checkpoints", "my-training-project/three", "--csv").stdout.splitlines()
    assert csv[0].startswith("run,step,id,ref,name,created,state,size_bytes,checkpoint_type")
    assert len(csv) == 2


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ('from_latest_checkpoint(project_name="other")', 40),
        ('from_latest_checkpoint("other")', 40),
        ('from_latest_checkpoint(job_id="a1")', 20),
        ('from_latest_checkpoint(project_name="other", job_id="a1")', 20),
        ('from_named_checkpoint(checkpoint_name="checkpoint-10", job_id="a1")', 10),
        ('from_named_checkpoint("checkpoint-30", "other/a2")', 30),
    ],
)
def test_every_form_of_a_reference(desk: Desk, reference: str, expected: int) -> None:
    if not (desk.root / "store").exists():
        for key, load in (("a1", []), ("a2", ["--load", "other/a1"])):
            desk.write("run.sh", SHELL)
            desk.run(
                "exec", "--project", "other", "--checkpoints", f"c-{key}", "--run-id", key, *load, "--", "sh", "run.sh"
            )
        desk.run("exec", "--project", "other", "--checkpoints", "c-a3", "--run-id", "a3", "--", "true")
    desk.write("show.sh", 'ls "$BT_LOAD_CHECKPOINT_DIR"/rank-0; cat "$BT_LOAD_CHECKPOINT_DIR"/rank-0/*/model.bin\n')
    load = f"load_checkpoint_config=LoadCheckpointConfig(enabled=True, checkpoints=[BasetenCheckpoint.{reference}])"
    desk.write("config.py", config(f"start_commands=['sh show.sh'], {load}"))
    assert desk.run("train", "config.py").stdout == f"checkpoint-{expected}\nweights {expected}"


def test_a_job_has_a_copy_of_its_folder_and_what_it_is_told(desk: Desk) -> None:
    desk.write("library/shared.txt", "shared")
    desk.write("repository/data.txt", "data")
    desk.write("repository/large/x", "left out")
    desk.write("repository/training/notes.log", "ignored")
    desk.write("repository/.truss_ignore", "*.log\n")
    (desk.work / "repository" / "link").symlink_to("data.txt")
    runtime = (
        "start_commands=['cat ../data.txt ../link ../library/shared.txt', 'ls ..; ls', 'A=1; export A', 'env; echo A=$A.'], "
        "environment_variables={'MINE': 'x', 'TOKEN': SecretReference(name='hf_token'), 'BT_NUM_GPUS': '99'}, "
        "checkpointing_config=CheckpointingConfig(enabled=True), "
        f"cache_config=CacheConfig(enabled=True, mount_base_path={str(desk.root / 'literal')!r})"
    )
    workspace = "workspace=Workspace(workspace_root='..', external_dirs=['../../library'], exclude_dirs=['../large']), name='mine'"
    desk.write("repository/training/config.py", config(runtime, workspace))
    ran = desk.run(
        "train", "repository/training/config.py", "--run-id", "a1", HF_TOKEN="secret!", BT_LOAD_CHECKPOINT_DIR="/old"
    )
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("datadatashared"), lines
    assert "large" not in lines
    assert "notes.log" not in lines
    assert "link" in lines
    told = dict(line.split("=", 1) for line in lines if "=" in line)
    assert (told["MINE"], told["TOKEN"], told["BT_NUM_GPUS"], told["A"]) == ("x", "secret!", "0", ".")
    assert told["BT_TRAINING_JOB_NAME"] == "mine"
    assert "BT_LOAD_CHECKPOINT_DIR" not in told
    assert told["PWD"] == told["BT_WORKING_DIR"] + "/training"
    assert Path(told["BT_SCRATCH_DIR"]).is_dir()
    assert Path(told["BT_TEAM_CACHE_DIR"]).is_dir()
    assert (desk.root / "literal").resolve() == Path(told["BT_RW_CACHE_DIR"])
    assert "secret!" not in ran.stderr
    assert "the configuration's own BT_NUM_GPUS gives way to the job's" in ran.stderr
    # Told with the run, too; secrets are not.
    assert "secret!" not in desk.run("show", "p/a1", "--json").stdout


def test_a_plan_is_shown_and_problems_are_all_named(desk: Desk) -> None:
    desk.write("config.py", config("start_commands=['true']"))
    shown = desk.run("train", "config.py", "--dry-run").stdout
    assert shown.startswith("project p\ncopies:\n")
    assert "runs, one after the other:\n  1. true" in shown
    assert json.loads(desk.run("train", "config.py", "--dry-run", "--json").stdout)["commands"] == ["true"]
    assert not (desk.root / "cache" / "runtree" / "jobs").exists()
    desk.write("config.py", config("environment_variables={'T': SecretReference(name='t1')}"))
    refused = desk.run("train", "config.py", code=5).stderr
    assert "runtime has no start_commands" in refused
    assert "secret t1" in refused
    assert "hint: runtree train --dry-run" in refused
    desk.write("config.py", config("start_commands=['exit 6', 'echo never']"))
    assert desk.run("train", "config.py", code=6).stdout == ""
    ran = desk.run("train", "config.py", "--entrypoint", "echo instead", "--job-name", "n")
    assert ran.stdout == "instead\n"
    desk.write("config.py", "x = 1\n")
    assert "no TrainingProject" in desk.run("train", "config.py", code=5).stderr


def test_nodes_and_restarts_and_a_signal_that_is_waited_out(desk: Desk) -> None:
    desk.write(
        "run.sh",
        'echo "$BT_NODE_RANK of $BT_GROUP_SIZE at $BT_LEADER_ADDR, $BT_RETRY_COUNT"; [ $BT_RETRY_COUNT = 1 ]\n',
    )
    desk.write("config.py", config("start_commands=['sh run.sh']", "compute=Compute(node_count=2)"))
    said = desk.run("train", "config.py", "--restarts", "2").stdout
    nodes = [f"{node} of 2 at 127.0.0.1, {retry}" for retry in (0, 1) for node in (0, 1)]
    assert set(nodes[2:]) <= set(said.splitlines()) <= set(nodes)
    # The second command never runs: the first saves and ends well, and the job is over.
    saves = (
        "d=$BT_CHECKPOINT_DIR/checkpoint-99; mkdir -p $d; printf x > $d/model.bin; printf '{}' > $d/trainer_state.json"
    )
    waits = ': > "$READY"; while :; do sleep 0.05; done'
    desk.write("save.sh", f"{SHELL}trap 'save; exit 0' TERM\nsave() {{ {saves}; }}\n{waits}\n")
    desk.write(
        "config.py",
        config("start_commands=['sh save.sh', 'echo never'], checkpointing_config=CheckpointingConfig(enabled=True)"),
    )
    ready = desk.root / "ready"
    with subprocess.Popen(
        desk.command("train", "config.py", "--run-id", "a1"),
        cwd=desk.work,
        env={**desk.environment, "READY": str(ready)},
    ) as job:
        for _ in range(600):
            if ready.exists():
                break
            time.sleep(0.05)
        assert ready.exists()
        busy = desk.run("train", "config.py", "--run-id", "a1", code=4)
        assert "job a1 is running" in busy.stderr
        job.send_signal(signal.SIGTERM)
        assert job.wait(30) == 143
    assert [each["step"] for each in desk.checkpoints("p/a1")] == [10, 20, 99]
