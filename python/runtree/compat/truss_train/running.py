"""``runtree train``: a configuration of truss_train as a job of this machine.

A plan says what would be done; here it is done: the workspace is copied, directories are made, and ``runtree exec`` runs the start
commands with the checkpoints loaded, takes in those they save, and starts them again when they fail.
"""

from __future__ import annotations

import argparse
import dataclasses
import glob
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence

from runtree.compat.truss_train.definitions import TrainingProject
from runtree.compat.truss_train.loading import load_config
from runtree.compat.truss_train.planning import Plan, Reference, plan
from runtree.compat.truss_train.preparing import copy_workspace, lock, make_folders, write_script
from runtree.compat.truss_train.variables import Job
from runtree.errors import Error, Invalid
from runtree.store import cache_dir, find_store

_LETTERS = "abcdefghjkmnpqrstvwxyz0123456789"
_EXIT_CODES = {
    "not_found": 3,
    "conflict": 4,
    "invalid": 5,
    "denied": 6,
    "unavailable": 7,
    "corrupt": 8,
    "unsupported": 9,
}


def main(arguments: Sequence[str]) -> int:
    """Runs the command line that ``arguments`` are, and returns what to exit with, if another process has not taken over."""
    args = _parser().parse_args(arguments)
    try:
        return _train(args)
    except Error as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return _EXIT_CODES.get(str(error.kind), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("runtree train", description="Run a configuration of truss_train on this machine")
    parser.add_argument("config", help="a Python file with one TrainingProject")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON, with --dry-run")
    parser.add_argument(
        "--run-id", metavar="KEY", help="the job's id; the same again goes on with that job [default: one is made]"
    )
    parser.add_argument("--job-name", metavar="NAME", help="instead of the configuration's")
    parser.add_argument("--node-count", metavar="N", type=int, help="instead of the configuration's")
    parser.add_argument("--entrypoint", metavar="CMD", help="instead of start_commands")
    parser.add_argument(
        "--restarts", metavar="N", type=int, default=0, help="how often the commands are started again when they fail"
    )
    parser.add_argument(
        "--grace", metavar="SECONDS", type=float, default=10.0, help="how long they have to end after SIGTERM"
    )
    parser.add_argument(
        "--real-classes",
        action="store_true",
        help="execute the file with the real truss_train, which must be installed",
    )
    return parser


def _train(args: argparse.Namespace) -> int:
    project = _overridden(load_config(args.config, classes="truss_train" if args.real_classes else "runtree"), args)
    environment = dict(os.environ)
    key = args.run_id or "".join(secrets.choice(_LETTERS) for _ in range(7))
    folder = cache_dir() / "jobs" / _plain(project.name) / _plain(key)
    shared = cache_dir() / "truss"
    job = Job(
        key,
        project.name,
        str(folder),
        str(shared / "projects" / _plain(project.name)),
        gpus=_gpus(project, environment),
    )
    here = os.path.dirname(os.path.abspath(args.config))
    made = plan(project, folder=here, environment=environment, job=job)
    if args.dry_run:
        print(json.dumps(dataclasses.asdict(made), indent=2) if args.json else made)
    if made.problems:
        raise Invalid(
            f"{args.config} can not run here: " + "; ".join(made.problems),
            hint="runtree train --dry-run shows the whole plan",
        )
    if args.dry_run:
        return 0
    lock(folder)
    work = copy_workspace(made.files, folder / "workspace")
    notes = [*made.notices, *make_folders(made, folder, shared / "team_artifacts")]
    script = folder / "start.sh"
    write_script(made.commands, script)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"job {key} of project {project.name}, in {folder}", file=sys.stderr, flush=True)
    # The store is the one of where this was called, not of the workspace's copy.
    variables = {**_variables(made, environment), "RUNTREE_STORE": str(find_store(None))}
    command = [sys.executable, "-m", "runtree", "exec", *_options(made, project, key, args)]
    os.chdir(work)
    # Does not return: signals, exit code and terminal are the job's from here on.
    return os.execve(sys.executable, [*command, "--", "/bin/sh", str(script)], variables)


def _overridden(project: TrainingProject, args: argparse.Namespace) -> TrainingProject:
    job = project.job
    if args.job_name is not None:
        job.name = args.job_name
    if args.node_count is not None:
        job.compute.node_count = args.node_count
    if args.entrypoint is not None:
        job.runtime.start_commands = [args.entrypoint]
    return project


def _options(made: Plan, project: TrainingProject, key: str, args: argparse.Namespace) -> list[str]:
    paths = {folder.purpose: folder.path for folder in made.folders}
    nodes = project.job.compute.node_count
    config = {"truss_train": {**made.recorded, "start_commands": list(made.commands)}}
    options = ["--project", project.name, "--run-id", key, "--name", made.job or key, "--grace", str(args.grace)]
    options += ["--restarts", str(args.restarts), "--set", f"truss_train={json.dumps(config['truss_train'])}"]
    for reference in made.checkpoints:
        options += ["--load", _address(reference, project.name)]
    if "loaded checkpoints" in paths:
        options += ["--into", paths["loaded checkpoints"]]
    if "checkpoints" in paths:
        options += ["--checkpoints", paths["checkpoints"]]
    return options + (["--nodes", str(nodes)] if nodes > 1 else [])


def _address(reference: Reference, own_project: str) -> str:
    """A reference as ``runtree exec --load`` takes it: whatever names a run in any project, or the latest of a project."""
    if reference.job is None:
        return f"{reference.project}/"
    job = reference.job
    # A job of another project is known by its own name alone, too; one that says where it is is not looked for elsewhere.
    if reference.project is not None and "/" not in job:
        job = f"{reference.project}/{job}"
    return f"{job}@{reference.name}" if reference.name else job


def _variables(made: Plan, environment: Mapping[str, str]) -> dict[str, str]:
    """What the commands are started with, before ``exec`` sets what is its own."""
    contract = {each.name: each.value for each in made.variables}
    # What is off is not there, whatever was there before.
    kept = {name: value for name, value in environment.items() if name not in contract}
    secret = {each.variable: environment[each.source] for each in made.secrets if each.source is not None}
    return {**kept, **made.settings, **secret, **{name: value for name, value in contract.items() if value is not None}}


def _gpus(project: TrainingProject, environment: Mapping[str, str]) -> int | None:
    """How many GPUs each node has here, if those are fewer than the configuration asks for."""
    accelerator = project.job.compute.accelerator
    asked = accelerator.count if accelerator is not None and accelerator.accelerator else 0
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    there = (
        len(glob.glob("/dev/nvidia[0-9]*"))
        if visible is None
        else len([each for each in visible.split(",") if each.strip()])
    )
    return there if there < asked else None


def _plain(name: str) -> str:
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in name)
    return f"_{plain}" if plain.startswith(".") or not plain else plain


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
