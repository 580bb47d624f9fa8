"""What a job would do here: everything that ``runtree train --dry-run`` says, from a project and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from runtree.compat.truss_train import (
    BasetenCheckpoint,
    CacheConfig,
    CheckpointingConfig,
    Compute,
    Image,
    Job,
    LoadCheckpointConfig,
    LoopsCheckpoint,
    Plan,
    Reference,
    Runtime,
    SecretReference,
    TrainingJob,
    TrainingProject,
    WeightsSource,
    Workspace,
    load_config,
    plan,
)
from runtree.compat.truss_train.definitions import InteractiveSession

DOCUMENT = Path(__file__).parent / "samples" / "loading.md"
FOLDER = "/home/me/repository/training"
LATEST, NAMED = BasetenCheckpoint.from_latest_checkpoint, BasetenCheckpoint.from_named_checkpoint


def make(environment: dict[str, str] | None = None, job: Job | None = None, **given: Any) -> Plan:
    """The plan of a job with these parts of its runtime and of itself."""
    runtime = {name: given.pop(name) for name in list(given) if name in Runtime._fields}
    config = TrainingJob(
        image=Image(base_image="i"), runtime=Runtime(**{"start_commands": ["run"], **runtime}), **given
    )
    project = TrainingProject(name="p", job=config)
    return plan(project, folder=FOLDER, environment=environment or {}, job=job)


def loading(*checkpoints: Any, **given: Any) -> LoadCheckpointConfig:
    return LoadCheckpointConfig(enabled=True, checkpoints=list(checkpoints), **given)


def test_the_documents_configuration_in_words(tmp_path: Path) -> None:
    (complete,) = re.findall(r"```python\n(from truss_train.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "config.py").write_text(complete)
    made = plan(load_config(tmp_path / "config.py"), folder="/t", environment={}, job=Job("a1", "b2", "/j", "/c"))
    assert made.problems == ()
    assert str(made) == (
        "project my-training-project\n"
        "copies:\n"
        "  /t\n"
        "runs, one after the other:\n"
        "  1. chmod +x ./run.sh && ./run.sh\n"
        "loads first:\n"
        "  the latest of job previous_job_id\n"
        "directories:\n"
        "  checkpoints: /tmp/training_checkpoints\n"
        "  loaded checkpoints: /j/loaded_checkpoints, linked at /tmp/loaded_checkpoints if nothing is there\n"
        "  cache: /c, linked at /root/.cache if nothing is there\n"
        "  cache of the project: /c/user_artifacts\n"
        "  cache of the team: /c/team_artifacts\n"
        "sets:\n"
        "  BT_TRAINING_JOB_ID=a1\n"
        "  BT_TRAINING_PROJECT_ID=b2\n"
        "  BT_TRAINING_JOB_NAME=a1\n"
        "  BT_TRAINING_PROJECT_NAME=my-training-project\n"
        "  BT_NUM_GPUS=0\n"
        "  BT_WORKING_DIR=/j/workspace\n"
        "  BT_SCRATCH_DIR=/j/scratch\n"
        "  BT_RETRY_COUNT=0\n"
        "  BT_CHECKPOINT_DIR=/tmp/training_checkpoints\n"
        "  BT_LOAD_CHECKPOINT_DIR=/j/loaded_checkpoints\n"
        "  BT_RW_CACHE_DIR=/c\n"
        "  BT_PROJECT_CACHE_DIR=/c/user_artifacts\n"
        "  BT_TEAM_CACHE_DIR=/c/team_artifacts\n"
        "does not set:\n"
        "  BT_GROUP_SIZE: only if node_count is more than 1\n"
        "  BT_NODE_RANK: only if node_count is more than 1\n"
        "  BT_LEADER_ADDR: only if node_count is more than 1\n"
        "note:\n"
        "  recorded, not enforced: image your-base-image, 1 node, 1 CPU, 2Gi, dedicated"
    )


@pytest.mark.parametrize(
    ("checkpoint", "reference", "words"),
    [
        (LATEST(project_name="p"), Reference(None, "p", None), "the latest of project p: of its most recent job that has one"),
        (LATEST("p"), Reference(None, "p", None), "the latest of project p: of its most recent job that has one"),
        (LATEST(job_id="j"), Reference("j", None, None), "the latest of job j"),
        (LATEST(project_name="p", job_id="j"), Reference("j", "p", None), "the latest of job j in project p"),
        (LATEST("p", "j"), Reference("j", "p", None), "the latest of job j in project p"),
        (LATEST(project_name="", job_id="j"), Reference("j", None, None), "the latest of job j"),
        (NAMED(checkpoint_name="checkpoint-20", job_id="j"), Reference("j", None, "checkpoint-20"), "checkpoint-20 of job j"),
        (NAMED("checkpoint-20", "j"), Reference("j", None, "checkpoint-20"), "checkpoint-20 of job j"),
        (LoopsCheckpoint.from_checkpoint("r", "step-9", "sampler"), Reference("r", None, "step-9"), "step-9 of job r"),
        ({"job_id": "j"}, Reference("j", None, None), "the latest of job j"),
        ({"checkpoint_name": "c", "job_id": "j"}, Reference("j", None, "c"), "c of job j"),
        ({"typ": "baseten_latest_checkpoint", "project_name": "p"}, Reference(None, "p", None), "the latest of project p"),
    ],
)  # fmt: skip
def test_each_form_of_a_checkpoint_is_a_reference(checkpoint: Any, reference: Reference, words: str) -> None:
    made = make(load_checkpoint_config=loading(checkpoint))
    assert made.checkpoints == (reference,)
    assert made.problems == ()
    assert str(reference).startswith(words)


def test_several_checkpoints_are_loaded_in_their_order() -> None:
    made = make(load_checkpoint_config=loading(LATEST(job_id="b"), NAMED("c", "a")))
    assert [each.job for each in made.checkpoints] == ["b", "a"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        # The real class takes all of these.
        ({"load_checkpoint_config": LoadCheckpointConfig(enabled=True)}, "whose latest checkpoint is meant: neither job nor project"),
        ({"load_checkpoint_config": loading()}, "is enabled, and names no checkpoint"),
        ({"load_checkpoint_config": loading(NAMED("", "j"))}, "a named checkpoint without a name or a job"),
        ({"load_checkpoint_config": loading(NAMED("c", ""))}, "a named checkpoint without a name or a job"),
        (
            {
                "load_checkpoint_config": loading(LATEST("p"), download_folder="/tmp/both"),
                "checkpointing_config": CheckpointingConfig(enabled=True, checkpoint_path="/tmp/both/"),
            },
            "checkpoints are loaded to /tmp/both and saved there",
        ),
        ({"start_commands": []}, "runtime has no start_commands"),
        ({"compute": Compute(node_count=0)}, "compute has node_count 0"),
        ({"workspace": Workspace(workspace_root="../other")}, f"{FOLDER} is not in workspace_root /home/me/repository/other"),
        ({"workspace": Workspace(exclude_dirs=["data/raw"])}, "data/raw is not at the top of"),
        ({"workspace": Workspace(external_dirs=["/a/lib", "/b/lib"])}, "2 directories are called lib"),
    ],
)  # fmt: skip
def test_what_can_not_run_is_a_problem(given: dict[str, Any], problem: str) -> None:
    (found,) = make(**given).problems
    assert problem in found


def test_all_problems_are_listed_at_once() -> None:
    made = make(
        start_commands=[],
        load_checkpoint_config=LoadCheckpointConfig(enabled=True),
        environment_variables={"A": SecretReference(name="a"), "B": SecretReference(name="b")},
    )
    assert len(made.problems) == 3
    assert str(made).count("\n", str(made).index("can not run:")) == 3


def test_secrets_are_found_by_name_and_missing_ones_named_together() -> None:
    variables: dict[str, str | SecretReference] = {
        "HF_TOKEN": SecretReference(name="hf_access_token"),
        "WANDB_API_KEY": SecretReference(name="wandb-key"),
        "OTHER": SecretReference(name="other"),
        "EMPTY": SecretReference(name="empty"),
        "PLAIN": "value",
    }
    environment = {"hf_access_token": "s1", "HF_TOKEN": "s2", "WANDB_KEY": "s3", "OTHER": "s4", "EMPTY": ""}
    made = make(environment, environment_variables=variables)
    assert {each.variable: each.source for each in made.secrets} == {
        "HF_TOKEN": "hf_access_token",
        "WANDB_API_KEY": "WANDB_KEY",
        "OTHER": "OTHER",
        "EMPTY": None,
    }
    assert made.settings == {"PLAIN": "value"}
    assert made.problems == ("secrets that the environment does not have: EMPTY (secret empty: set empty or EMPTY)",)
    missing = make(environment_variables=variables).problems
    assert len(missing) == 1
    assert all(name in missing[0] for name in ("HF_TOKEN", "WANDB_API_KEY", "OTHER", "EMPTY"))
    assert not re.search(r"\bs[1-4]\b", f"{made} {made!r}")


def test_what_is_off_is_not_set() -> None:
    values = {each.name: each.value for each in make(enable_baseten_workdir=False).variables}
    assert len(values) == 16
    assert {name for name, value in values.items() if value is not None} == {
        "BT_TRAINING_JOB_ID",
        "BT_TRAINING_PROJECT_ID",
        "BT_TRAINING_JOB_NAME",
        "BT_TRAINING_PROJECT_NAME",
        "BT_NUM_GPUS",
        "BT_SCRATCH_DIR",
        "BT_RETRY_COUNT",
    }
    off = make(
        checkpointing_config=CheckpointingConfig(checkpoint_path="/c"),
        load_checkpoint_config=LoadCheckpointConfig(checkpoints=[LATEST("p")]),
        cache_config=CacheConfig(),
    )
    assert (off.folders, off.checkpoints, off.problems) == ((), (), ())


def test_what_is_on_is_set() -> None:
    made = make(
        job=Job("a1", "b2", "/j", "/c", attempt=2, node=1, leader="10.0.0.1"),
        name="first",
        checkpointing_config=CheckpointingConfig(enabled=True),
        load_checkpoint_config=loading(LATEST("p"), download_folder="/mine"),
        cache_config=CacheConfig(enabled=True, mount_base_path="/cache"),
        compute=Compute(node_count=2, accelerator="H100:8"),  # type: ignore[arg-type]
    )
    assert {each.name: each.value for each in made.variables} == {
        "BT_TRAINING_JOB_ID": "a1",
        "BT_TRAINING_PROJECT_ID": "b2",
        "BT_TRAINING_JOB_NAME": "first",
        "BT_TRAINING_PROJECT_NAME": "p",
        "BT_NUM_GPUS": "8",
        "BT_WORKING_DIR": "/j/workspace",
        "BT_SCRATCH_DIR": "/j/scratch",
        "BT_RETRY_COUNT": "2",
        "BT_CHECKPOINT_DIR": "/j/checkpoints",
        "BT_LOAD_CHECKPOINT_DIR": "/mine",
        "BT_RW_CACHE_DIR": "/c",
        "BT_PROJECT_CACHE_DIR": "/c/user_artifacts",
        "BT_TEAM_CACHE_DIR": "/c/team_artifacts",
        "BT_GROUP_SIZE": "2",
        "BT_NODE_RANK": "1",
        "BT_LEADER_ADDR": "10.0.0.1",
    }
    asked = {each.purpose: each.asked for each in made.folders}
    assert (asked["checkpoints"], asked["loaded checkpoints"], asked["cache"]) == ("/mnt/ckpts", "/mine", "/cache")
    assert made.recorded["compute"]["accelerator"] == {"accelerator": "H100", "count": 8}


def test_variables_of_the_configuration_do_not_clobber_the_jobs() -> None:
    made = make(
        environment_variables={
            "BT_NUM_GPUS": "9",
            "BT_SCRATCH_DIR": SecretReference(name="s"),
            "BT_CHECKPOINT_DIR": "/mine",
        }
    )
    # The last is the configuration's own: the job sets none.
    assert made.settings == {"BT_CHECKPOINT_DIR": "/mine"}
    assert (made.secrets, made.problems) == ((), ())
    assert "the configuration's own BT_NUM_GPUS, BT_SCRATCH_DIR gives way to the job's" in made.notices


def test_the_workspace_is_what_truss_pushes() -> None:
    assert (make().files.root, make().files.folder) == (FOLDER, ".")
    files = make(
        workspace=Workspace(
            workspace_root="..", external_dirs=["../../library", "../inside"], exclude_dirs=["../data", "../.git"]
        )
    ).files
    assert files.root == "/home/me/repository"
    assert files.folder == "training"
    # What is inside is copied with the root.
    assert files.external == ("/home/me/library",)
    assert files.excluded == ("data", ".git")


def test_what_has_no_effect_is_said_once() -> None:
    made = make(
        priority=3,
        interactive_session=InteractiveSession(),
        weights=[WeightsSource(source="hf://a/b", mount_location="/models/b")],
        compute=Compute(node_count=2, cpu_count=4, memory="64Gi", accelerator="H100:8"),  # type: ignore[arg-type]
    )
    assert made.notices == (
        "recorded, not enforced: image i, 2 nodes, 4 CPU, 64Gi, H100:8, dedicated",
        "without effect here: interactive_session, priority",
        "weights are not mounted here: hf://a/b at /models/b",
    )
    assert str(made).count("image i") == 1
