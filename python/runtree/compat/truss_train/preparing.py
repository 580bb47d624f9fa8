"""The disk of a job: its workspace, its directories, and the paths that scripts have written down."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from runtree.compat.truss_train.planning import Files, Plan
from runtree.compat.truss_train.variables import Folder
from runtree.errors import Conflict, Invalid, NotFound

#: What ``truss train push`` takes at most, of a workspace.
LARGEST_WORKSPACE = 5 * 10**9
IGNORES = ".truss_ignore"
# A store beside the configuration is what the job is recorded in, not a part of it.
_NEVER = (".runtree",)
_LOCK = "running"
# In every cache.
_JOBS = "/runtree/jobs/"


def lock(folder: Path) -> int:
    """Makes the folder of a job, and says that the job runs, until this process and all it starts have ended."""
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise Conflict(
            f"job {folder.name} is running", hint="give another --run-id, or wait until it has ended"
        ) from error
    os.set_inheritable(held, True)
    return held


def copy_workspace(files: Files, target: Path) -> Path:
    """Copies what a plan says into ``target``, which is new, and returns the folder that the commands run in.

    Links are copied as links. What ``.truss_ignore`` names is left out, as is runtree's store.

    Raises:
        Invalid: It has more than 5 GB.
        NotFound: A directory that the configuration names is not there.
    """
    ignored = _ignored(Path(files.root))
    if target.exists():
        shutil.rmtree(target)
    left = LARGEST_WORKSPACE
    for source, to, excluded in _trees(files, target):
        if not source.is_dir():
            raise NotFound(f"{source} is not a directory", hint="workspace and external_dirs name directories")
        left -= sum(_sizes(source, excluded, ignored))
        if left < 0:
            raise Invalid(
                f"the workspace {files.root} has more than 5 GB",
                hint=f"leave out what the job does not need: exclude_dirs, {IGNORES}, or a directory of its own for the code",
            )
        _copy(source, to, excluded, ignored)
    return target / files.folder


def _trees(files: Files, target: Path) -> Iterator[tuple[Path, Path, tuple[str, ...]]]:
    yield Path(files.root), target, (*files.excluded, *_NEVER)
    for path in files.external:
        yield Path(path), target / os.path.basename(path), _NEVER


def _ignored(root: Path) -> Callable[[str], bool]:
    """What the patterns in ``.truss_ignore`` match, of paths relative to the root."""
    try:
        lines = (root / IGNORES).read_text().splitlines()
    except FileNotFoundError:
        return lambda _: False
    try:
        import pathspec
    except ImportError as error:
        raise Invalid(
            f"{root / IGNORES} has patterns, and nothing here can read them", hint="pip install pathspec"
        ) from error
    patterns: Any = pathspec.PathSpec.from_lines("gitwildmatch", lines)  # pyright: ignore
    return patterns.match_file


def _kept(
    folder: Path, root: Path, excluded: Iterable[str], ignored: Callable[[str], bool]
) -> Iterator[os.DirEntry[str]]:
    is_top = folder == root
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            is_folder = entry.is_dir(follow_symlinks=False)
            relative = os.path.relpath(entry.path, root) + ("/" if is_folder else "")
            if not (is_top and entry.name in excluded) and not ignored(relative):
                yield entry


def _sizes(root: Path, excluded: Iterable[str], ignored: Callable[[str], bool]) -> Iterator[int]:
    folders = [root]
    while folders:
        for entry in _kept(folders.pop(), root, excluded, ignored):
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry.stat(follow_symlinks=False).st_size


def _copy(root: Path, target: Path, excluded: Iterable[str], ignored: Callable[[str], bool]) -> None:
    folders = [(root, target)]
    while folders:
        source, to = folders.pop()
        to.mkdir(parents=True, exist_ok=True)
        for entry in _kept(source, root, excluded, ignored):
            here = to / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append((Path(entry.path), here))
            elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                shutil.copy2(entry.path, here, follow_symlinks=False)


def make_folders(plan: Plan, folder: Path, team: Path) -> list[str]:
    """Makes the directories of a job, and links the paths that scripts may have written down to them; says which it could not."""
    refused: list[str] = []
    (folder / "scratch").mkdir(exist_ok=True)
    for each in plan.folders:
        path = Path(each.path)
        if each.purpose == "cache of the team" and not path.is_dir():
            # One for all projects; its link is among what each project has.
            team.mkdir(parents=True, exist_ok=True)
            path.symlink_to(team)
        path.mkdir(parents=True, exist_ok=True)
        if each.asked != each.path:
            refused += _link(each, folder.parent.parent)
    return refused


def _link(folder: Folder, jobs: Path) -> Iterator[str]:
    asked = Path(folder.asked)
    if asked.is_symlink() and _is_of_ended_job(asked, jobs):
        asked.unlink()
    try:
        asked.parent.mkdir(parents=True, exist_ok=True)
        asked.symlink_to(folder.path)
    except FileExistsError:
        if not (asked.is_symlink() and os.readlink(asked) == folder.path):
            yield f"{asked} is not linked to {folder.path}: something is there; scripts that do not ask the environment find that"
    except OSError as error:
        yield f"{asked} is not linked to {folder.path}: {error.strerror or error}"


def _is_of_ended_job(link: Path, jobs: Path) -> bool:
    """Whether a link leads into the folder of a job of ours that does not run any more, or is gone."""
    target = Path(os.readlink(link))
    if not target.exists():
        return _JOBS in f"{target}/"
    if jobs not in target.parents:
        return False
    job = jobs.joinpath(*target.relative_to(jobs).parts[:2])
    try:
        held = os.open(job / _LOCK, os.O_RDWR)
    except OSError:
        return not target.exists()
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(held)
    return True


def write_script(commands: Iterable[str], path: Path) -> None:
    """The start commands as one script: each in a shell of its own, until one fails, whose code is the script's.

    A signal is waited out: no shell must end before the command that it started, which may be saving. No other command follows it.
    """
    waits = "trap : INT TERM HUP\n"
    lines = ["set -e", "trap 'stopped=1' INT TERM HUP"]
    for number, each in enumerate(commands):
        lines += ['[ -z "$stopped" ] || exit 143'] if number else []
        lines.append(f"/bin/sh -c {shlex.quote(waits + each)}")
    path.write_text("\n".join(lines) + "\n")
