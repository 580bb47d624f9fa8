"""A configuration file, executed as it is: from its path to the one project in it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from runtree.compat.truss_train.definitions import TrainingJob, TrainingProject
from runtree.compat.truss_train.errors import ConfigError
from runtree.compat.truss_train.installing import standing_aside, standing_in
from runtree.errors import Error

# What is imported meanwhile is of the whole process.
_one_at_a_time = threading.RLock()

_OURS = Path(__file__).parents[2]


def load_config(
    path: str | os.PathLike[str], *, classes: Literal["runtree", "truss_train"] = "runtree"
) -> TrainingProject:
    """Executes a configuration file in a namespace of its own and returns the project it defines.

    ``import truss_train`` in the file gives runtree's classes, whether the real package is installed or not: the same file means the
    same everywhere, and nothing is sent. Modules beside the file can be imported, and are forgotten afterwards. ``__name__`` is the
    file's stem, so that what stands under ``if __name__ == "__main__"`` is not run. Relative paths in the file are relative to the
    working directory, as they are for ``truss train``.

    Args:
        path: The file. Its folder is the workspace, if the configuration says no other.
        classes: ``"truss_train"`` has the real package in the file, which must be installed (for a file that imports more of it);
            what it defines is checked once more, and converted.

    Raises:
        ConfigError: There is no such file, it fails (the message begins with its path and the line), or it has none or several
            projects.
    """
    file = Path(os.path.abspath(path))
    try:
        source = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror or error}",
            hint="a configuration is a Python file that defines a TrainingProject",
        ) from error
    with _one_at_a_time, standing_in() if classes == "runtree" else standing_aside():
        kind: type[Any] = TrainingProject if classes == "runtree" else _real(file)
        module = _execute(file, source)
    # Under two names it is the same project.
    found = {id(value): (name, value) for name, value in vars(module).items() if isinstance(value, kind)}
    if len(found) != 1:
        raise _not_one(file, module, [name for name, _ in found.values()])
    ((_, project),) = found.values()
    return project if classes == "runtree" else _converted(project, file)


def _execute(file: Path, source: bytes) -> ModuleType:
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    with _beside(file, module):
        try:
            exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
        except (Exception, SystemExit) as error:
            raise _failed(file, error) from error
    return module


@contextlib.contextmanager
def _beside(file: Path, module: ModuleType) -> Generator[None]:
    """Lets the file import what lies beside it; without ``__pycache__``, which would be copied with the workspace."""
    folder, before, bytecode = str(file.parent), dict(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    # Dataclasses and pickle look the module up; one that is imported already is not hidden.
    sys.modules.setdefault(module.__name__, module)
    try:
        yield
    finally:
        sys.dont_write_bytecode = bytecode
        sys.path.remove(folder)
        for name, loaded in list(sys.modules.items()):
            if name not in before and (loaded is module or _lies_in(sys.modules.get(name.split(".")[0]), folder)):
                del sys.modules[name]


def _lies_in(module: ModuleType | None, folder: str) -> bool:
    origin = getattr(module, "__file__", None)
    # folder/name.py, or folder/name/__init__.py; an environment below the folder is something else.
    return origin is not None and folder in (os.path.dirname(origin), os.path.dirname(os.path.dirname(origin)))


def _failed(file: Path, error: BaseException) -> ConfigError:
    where = f"{file}"
    if isinstance(error, SyntaxError) and error.filename is not None:
        where, said = f"{error.filename}:{error.lineno}", f"{type(error).__name__}: {error.msg}"
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(Path(frame.filename), file)]
        if frames:
            where = f"{frames[-1].filename}:{frames[-1].lineno}"
        said = error.message if isinstance(error, Error) else f"{type(error).__name__}: {error}"
    return ConfigError(f"{where}: {said}", hint=_hint(file, error))


def _is_users(source: Path, file: Path) -> bool:
    if source == file:
        return True
    return file.parent in source.parents and _OURS not in source.parents and "site-packages" not in source.parts


def _hint(file: Path, error: BaseException) -> str | None:
    if isinstance(error, Error):
        return error.hint
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] in ("truss", "truss_train"):
        return (
            "runtree has truss_train, truss_train.definitions and truss.base.truss_config; for more of truss install it "
            'and load the file with load_config(path, classes="truss_train")'
        )
    if (
        isinstance(error, FileNotFoundError)
        and isinstance(error.filename, str)
        and (file.parent / error.filename).exists()
    ):
        return f"relative paths are relative to the working directory: cd {file.parent}"
    return None


def _not_one(file: Path, module: ModuleType, names: list[str]) -> ConfigError:
    if names:
        return ConfigError(
            f"{file}: {len(names)} TrainingProjects, {', '.join(names)}: which one is meant?",
            hint="a configuration has one; import the others' parts from a file beside it",
        )
    jobs = [name for name, value in vars(module).items() if isinstance(value, TrainingJob)]
    hint = f'project = TrainingProject(name="…", job={jobs[0] if jobs else "…"})'
    return ConfigError(f"{file}: no TrainingProject at the top level of the file", hint=hint)


def _real(file: Path) -> type[Any]:
    try:
        from truss_train import TrainingProject as Real  # pyright: ignore
    except ImportError as error:
        raise ConfigError(
            f"{file}: the real truss_train is not installed: {error}", hint="pip install truss"
        ) from error
    return Real  # pyright: ignore


def _converted(project: Any, file: Path) -> TrainingProject:
    try:
        return TrainingProject.model_validate(
            {**project.model_dump(mode="json"), "job": project.job.model_dump(mode="json")}, strict=False
        )
    except ValueError as error:
        raise ConfigError(f"{file}: {error}", hint="runtree knows the classes of truss_train 0.18") from error
