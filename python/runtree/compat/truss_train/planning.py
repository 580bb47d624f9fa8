"""What a job would do here, before anything is done: :func:`plan` looks at no disk, no store and no environment of its own."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtree.compat.truss_train.checkpoints import (
    _BasetenLatestCheckpoint,  # pyright: ignore[reportPrivateUsage]
    _LoopsCheckpoint,  # pyright: ignore[reportPrivateUsage]
)
from runtree.compat.truss_train.definitions import SecretReference, TrainingProject
from runtree.compat.truss_train.printing import lines
from runtree.compat.truss_train.variables import Folder, Job, Variable, folders, variables


@dataclass(frozen=True)
class Secret:
    """A variable whose value is a secret.

    Args:
        variable: The variable of the job.
        name: The secret's name.
        source: The variable of this environment that has it; None: none has.
    """

    variable: str
    name: str
    source: str | None

    @property
    def sources(self) -> tuple[str, ...]:
        """Where it is looked for, the first that is set wins."""
        upper = re.sub(r"[^A-Z0-9]", "_", self.name.upper())
        return tuple(dict.fromkeys((self.name, upper, self.variable)))


@dataclass(frozen=True)
class Reference:
    """A checkpoint to load: the latest of a job, of a project's most recent job that has one, or a named one of a job.

    A job is a run; ``job`` is whatever names one.
    """

    job: str | None
    project: str | None
    name: str | None

    def __str__(self) -> str:
        if self.name is not None:
            return f"{self.name} of job {self.job}"
        if self.job is None:
            return f"the latest of project {self.project}: of its most recent job that has one"
        return f"the latest of job {self.job}" + (f" in project {self.project}" if self.project else "")


@dataclass(frozen=True)
class Files:
    """What of the disk a job gets a copy of.

    Args:
        root: The directory that is copied.
        folder: Where in it the configuration is, and the commands run; ``.``: in itself.
        external: Directories beside it that are copied into it.
        excluded: Names at its top that are not copied.
    """

    root: str
    folder: str
    external: tuple[str, ...]
    excluded: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a job would do here.

    Args:
        project: The project's name.
        job: The job's name, if it has one.
        files: What of the disk it gets.
        commands: What runs, one after the other, until one fails.
        recorded: Image and compute: kept with the run, not enforced.
        notices: What is to be said, once.
        settings: The configuration's own variables, without secrets.
        secrets: The others.
        variables: All of the contract, those that are not set too.
        folders: The directories it uses.
        checkpoints: What is loaded before it starts.
        problems: Why it can not run; all there are.
    """

    project: str
    job: str | None
    files: Files
    commands: tuple[str, ...]
    recorded: Mapping[str, Any]
    notices: tuple[str, ...]
    settings: Mapping[str, str]
    secrets: tuple[Secret, ...]
    variables: tuple[Variable, ...]
    folders: tuple[Folder, ...]
    checkpoints: tuple[Reference, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(lines(self))


def plan(
    project: TrainingProject,
    *,
    folder: str | os.PathLike[str],
    environment: Mapping[str, str],
    job: Job | None = None,
) -> Plan:
    """What a project's job would do on this machine.

    Args:
        project: What :func:`load_config` returned.
        folder: The absolute path of the configuration's folder. Paths are compared as written: links are not followed.
        environment: Where secrets are looked for.
        job: What is known of the job; without it the plan has ``<run>``, ``<job>`` and ``<cache>`` in these places.
    """
    config, job = project.job, job or Job()
    files, problems = _files(project, os.path.normpath(folder))
    contract = variables(project, job)
    reserved = {each.name for each in contract if each.value is not None}
    own = {name: value for name, value in config.runtime.environment_variables.items() if name not in reserved}
    secrets = tuple(
        _secret(name, value.name, environment) for name, value in own.items() if isinstance(value, SecretReference)
    )
    used = folders(project, job)
    checkpoints, wrong = _checkpoints(project)
    problems += wrong + _contradictions(project, used)
    missing = [secret for secret in secrets if secret.source is None]
    if missing:
        wanted = ", ".join(f"{each.variable} (secret {each.name}: set {' or '.join(each.sources)})" for each in missing)
        problems.append(f"secrets that the environment does not have: {wanted}")
    return Plan(
        project=project.name,
        job=config.name,
        files=files,
        commands=tuple(config.runtime.start_commands),
        recorded={"image": config.image.base_image, "compute": config.compute.model_dump(mode="json")},
        notices=tuple(_notices(project, job, reserved)),
        settings={name: value for name, value in own.items() if isinstance(value, str)},
        secrets=secrets,
        variables=contract,
        folders=used,
        checkpoints=checkpoints,
        problems=tuple(problems),
    )


def _secret(variable: str, name: str, environment: Mapping[str, str]) -> Secret:
    secret = Secret(variable, name, None)
    return Secret(variable, name, next((each for each in secret.sources if environment.get(each)), None))


def _files(project: TrainingProject, folder: str) -> tuple[Files, list[str]]:
    """As ``truss train push`` takes them: paths are relative to the configuration's folder."""
    workspace = project.job.workspace
    if workspace is None:
        return Files(folder, ".", (), ()), []
    problems: list[str] = []

    def resolved(path: str) -> str:
        return os.path.normpath(os.path.join(folder, path))

    root = resolved(workspace.workspace_root or ".")
    if not _within(folder, root):
        problems.append(f"the configuration's folder {folder} is not in workspace_root {root}")
        root = folder
    excluded = [resolved(path) for path in workspace.exclude_dirs]
    for path in excluded:
        if os.path.dirname(path) != root:
            problems.append(f"exclude_dirs: {path} is not at the top of {root}, where alone it can be left out")
    # What is in the workspace is copied with it.
    external = [path for path in map(resolved, workspace.external_dirs) if not _within(path, root)]
    for name, count in Counter(os.path.basename(path) for path in external).items():
        if count > 1:
            problems.append(
                f"external_dirs: {count} directories are called {name}, and would be copied to the same place"
            )
    names = tuple(os.path.basename(path) for path in excluded)
    return Files(root, os.path.relpath(folder, root), tuple(external), names), problems


def _within(path: str, root: str) -> bool:
    return os.path.commonpath((path, root)) == root


def _checkpoints(project: TrainingProject) -> tuple[tuple[Reference, ...], list[str]]:
    loading = project.job.runtime.load_checkpoint_config
    if loading is None or not loading.enabled:
        return (), []
    references: list[Reference] = []
    problems: list[str] = []
    if not loading.checkpoints:
        problems.append("load_checkpoint_config is enabled, and names no checkpoint")
    for each in loading.checkpoints:
        if isinstance(each, _BasetenLatestCheckpoint):
            reference = Reference(each.job_id or None, each.project_name or None, None)
        else:
            job = each.run_id if isinstance(each, _LoopsCheckpoint) else each.job_id
            reference = Reference(job or None, None, each.checkpoint_name)
        if reference.name is None and not (reference.job or reference.project):
            problems.append(
                "load_checkpoint_config does not say whose latest checkpoint is meant: neither job nor project"
            )
        elif reference.name is not None and not (reference.name and reference.job):
            problems.append("load_checkpoint_config has a named checkpoint without a name or a job")
        else:
            references.append(reference)
    return tuple(references), problems


def _contradictions(project: TrainingProject, used: tuple[Folder, ...]) -> list[str]:
    problems: list[str] = []
    if not project.job.runtime.start_commands:
        problems.append("runtime has no start_commands: there is nothing to run")
    if project.job.compute.node_count < 1:
        problems.append(f"compute has node_count {project.job.compute.node_count}")
    paths = {folder.purpose: os.path.normpath(folder.path) for folder in used}
    if paths.get("checkpoints", "") == paths.get("loaded checkpoints"):
        problems.append(
            f"checkpoints are loaded to {paths['checkpoints']} and saved there: they could not be told apart"
        )
    return problems


def _notices(project: TrainingProject, here: Job, reserved: set[str]) -> Iterator[str]:
    job = project.job
    yield f"recorded, not enforced: image {job.image.base_image}, {_compute(project)}"
    if here.gpus is not None:
        yield f"BT_NUM_GPUS is {here.gpus}: this machine has fewer GPUs than the configuration asks for"
    ignored = {
        "docker_auth": job.image.docker_auth,
        "interactive_session": job.interactive_session,
        "priority": job.priority,
        "team_name": project.team_name,
    }
    names = [name for name, value in ignored.items() if value is not None]
    if names:
        yield f"without effect here: {', '.join(names)}"
    if job.weights:
        mounts = ", ".join(f"{each.source} at {each.mount_location}" for each in job.weights)
        yield f"weights are not mounted here: {mounts}"
    clobbered = [name for name in job.runtime.environment_variables if name in reserved]
    if clobbered:
        yield f"the configuration's own {', '.join(clobbered)} gives way to the job's"


def _compute(project: TrainingProject) -> str:
    compute = project.job.compute
    spec = compute.accelerator.model_dump() if compute.accelerator else None
    parts = [
        f"{compute.node_count} node{'s' if compute.node_count != 1 else ''}",
        f"{compute.cpu_count} CPU",
        compute.memory,
    ]
    return ", ".join([*parts, *([spec] if spec else []), compute.availability_model.value])
