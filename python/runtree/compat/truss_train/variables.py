"""The variables a job is started with: Baseten's ``BT_*``, each only where what it speaks of is on.

The names, and when each is set, are those of Baseten's reference. Values are of this machine: a job is a run, its id the run's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runtree.compat.truss_train.checkpoints import DEFAULT_LOAD_FOLDER
from runtree.compat.truss_train.definitions import TrainingProject

DEFAULT_CHECKPOINT_FOLDER = "/mnt/ckpts"


@dataclass(frozen=True)
class Job:
    """What is known of a job when it starts. As it is made, it says so in a plan.

    Args:
        job_id: The run's id.
        project_id: The project's.
        folder: Where the job's directories are.
        cache: Where the directories are that the jobs of a project have in common; all projects have its ``team_artifacts``.
        attempt: How often the job was started before.
        node: Which of the nodes this is.
        leader: Where node 0 is.
        gpus: How many GPUs a node has here; None: as many as the configuration asks for.
    """

    job_id: str = "<run>"
    project_id: str = "<project>"
    folder: str = "<job>"
    cache: str = "<cache>"
    attempt: int = 0
    node: int = 0
    leader: str = "127.0.0.1"
    gpus: int | None = None


@dataclass(frozen=True)
class Variable:
    """One variable of the contract.

    Args:
        name: What it is called.
        value: What it is set to; None: it is not set.
        when: The condition under which it is set.
    """

    name: str
    value: str | None
    when: str


@dataclass(frozen=True)
class Folder:
    """One directory of a job.

    Args:
        purpose: What it is for.
        path: Where it is here.
        asked: The path that a script may have written down, from the configuration or Baseten's default. Where it is another than
            ``path``, it becomes a link to it if nothing is there.
    """

    purpose: str
    path: str
    asked: str


def folders(project: TrainingProject, job: Job) -> tuple[Folder, ...]:
    """The directories that the configuration turns on."""
    return tuple(_folders(project, job))


def _folders(project: TrainingProject, job: Job) -> Iterator[Folder]:
    runtime = project.job.runtime
    saving, loading, cache = runtime.checkpointing_config, runtime.load_checkpoint_config, runtime.cache_config
    if saving.enabled:
        yield _own("checkpoints", saving.checkpoint_path or DEFAULT_CHECKPOINT_FOLDER, DEFAULT_CHECKPOINT_FOLDER, job)
    if loading is not None and loading.enabled:
        yield _own("loaded checkpoints", loading.download_folder, DEFAULT_LOAD_FOLDER, job)
    if cache is not None and cache.enabled:
        yield Folder("cache", job.cache, cache.mount_base_path)
        # Below the first: its link leads to them.
        for purpose, name in (("cache of the project", "user_artifacts"), ("cache of the team", "team_artifacts")):
            yield Folder(purpose, f"{job.cache}/{name}", f"{job.cache}/{name}")


def _own(purpose: str, asked: str, default: str, job: Job) -> Folder:
    # Two jobs that run at once must not share a default; a path of the user's own is meant as it stands.
    path = f"{job.folder}/{purpose.replace(' ', '_')}" if asked == default else asked
    return Folder(purpose, path, asked)


def variables(project: TrainingProject, job: Job) -> tuple[Variable, ...]:
    """All variables of the contract, those that are not set too."""
    return tuple(_variables(project, job))


def _variables(project: TrainingProject, job: Job) -> Iterator[Variable]:
    config, compute = project.job, project.job.compute
    paths = {folder.purpose: folder.path for folder in folders(project, job)}
    asked = compute.accelerator.count if compute.accelerator and compute.accelerator.accelerator else 0
    gpus = asked if job.gpus is None else job.gpus
    always = "always"
    yield Variable("BT_TRAINING_JOB_ID", job.job_id, always)
    yield Variable("BT_TRAINING_PROJECT_ID", job.project_id, always)
    # Without a name of its own a job goes by its id.
    yield Variable("BT_TRAINING_JOB_NAME", config.name or job.job_id, always)
    yield Variable("BT_TRAINING_PROJECT_NAME", project.name, always)
    yield Variable("BT_NUM_GPUS", str(gpus), "always: GPUs of each node, at most the accelerator's count")
    work = f"{job.folder}/workspace" if config.enable_baseten_workdir else None
    yield Variable("BT_WORKING_DIR", work, "enable_baseten_workdir is on")
    yield Variable("BT_SCRATCH_DIR", f"{job.folder}/scratch", always)
    yield Variable("BT_RETRY_COUNT", str(job.attempt), always)
    yield Variable("BT_CHECKPOINT_DIR", paths.get("checkpoints"), "checkpointing_config is enabled")
    yield Variable("BT_LOAD_CHECKPOINT_DIR", paths.get("loaded checkpoints"), "load_checkpoint_config is enabled")
    cache = "cache_config is enabled"
    yield Variable("BT_RW_CACHE_DIR", paths.get("cache"), cache)
    yield Variable("BT_PROJECT_CACHE_DIR", paths.get("cache of the project"), cache)
    yield Variable("BT_TEAM_CACHE_DIR", paths.get("cache of the team"), cache)
    several, nodes = compute.node_count > 1, "node_count is more than 1"
    yield Variable("BT_GROUP_SIZE", str(compute.node_count) if several else None, nodes)
    yield Variable("BT_NODE_RANK", str(job.node) if several else None, nodes)
    yield Variable("BT_LEADER_ADDR", job.leader if several else None, nodes)
