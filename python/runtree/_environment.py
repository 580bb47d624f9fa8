"""Where a run comes from: command line, commit, what was changed since, packages, machine.

What is known at once goes into the launch's record. What takes a while (git, the list of packages, drivers) is found out on a
thread beside the training
and added to the process's facts; the diff and the packages are files of the run. Secrets are taken out of all of it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from runtree import _warn
from runtree._redact import Redactor, without_credentials
from runtree.errors import Error, Invalid, RuntreeWarning

MOST_DIFF_BYTES = 1 << 20
_GIT_SECONDS = 20.0
# What `finish` waits for at most; a short program need not know its packages.
PATIENCE_SECONDS = 2.0
_packages: str | None = None


class Writer(Protocol):
    """Where it goes."""

    @property
    def attempt(self) -> int:
        """The launch."""
        ...

    def add_process_facts(self, facts: dict[str, str]) -> None:
        """Adds facts of the process."""
        ...

    def log_file_bytes(self, name: str, data: bytes) -> None:
        """Attaches a file."""
        ...


def wanted(environ: Mapping[str, str], given: bool) -> bool:
    """Whether to record more than a process needs to be told from others."""
    text = environ.get("RUNTREE_ENVIRONMENT", "")
    if text not in ("", "all", "none"):
        raise Invalid(
            f"RUNTREE_ENVIRONMENT {text!r} is neither 'all' nor 'none'", hint="RUNTREE_ENVIRONMENT=none, or unset it"
        )
    return given and text != "none"


def process_facts(everything: bool, redact: Redactor | None = None) -> dict[str, str]:
    """What is known at once."""
    from runtree._native import __version__

    facts = {
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "python": platform.python_version(),
        "runtree": __version__,
    }
    if not everything:
        return facts
    redact = Redactor() if redact is None else redact
    facts["command"] = redact.command(sys.argv) or sys.executable
    facts["directory"] = os.getcwd()
    for name in ("torch", "numpy", "jax"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            facts[name] = str(version)
    commit = git_commit(Path.cwd())
    if commit is not None:
        facts["git_commit"] = commit
    return facts


def git_commit(start: Path) -> str | None:
    """The commit that is checked out here, read from `.git` (a process would cost more than all the rest of init)."""
    for folder in (start, *start.parents):
        head = folder / ".git" / "HEAD"
        try:
            text = head.read_text().strip()
            if not text.startswith("ref: "):
                return text[:40] or None
            ref = text[5:]
            loose = folder / ".git" / ref
            if loose.exists():
                return loose.read_text().strip()[:40]
            for line in (folder / ".git" / "packed-refs").read_text().splitlines():
                if line.endswith(" " + ref):
                    return line[:40]
        except (OSError, UnicodeDecodeError):
            if head.exists():
                return None
    return None


class Collector:
    """Finds out the rest on a thread; never raises into the program."""

    def __init__(self, writer: Writer, directory: str, is_main: bool, redact: Redactor | None = None) -> None:
        self._writer = writer
        self._directory = directory
        self._is_main = is_main
        self._redact = Redactor() if redact is None else redact
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="runtree-environment", daemon=True)
        self._thread.start()

    def stop(self, patience: float = PATIENCE_SECONDS) -> None:
        """Waits for it a moment; what is not known then is not recorded."""
        self._thread.join(timeout=patience)
        self._stopped = True

    def _run(self) -> None:
        steps: list[Callable[[], None]] = [self._machine]
        if self._is_main:
            # One rank speaks for all: they run the same code.
            steps = [self._git, self._machine, self._attach_packages]
        for step in steps:
            if self._stopped:
                return
            try:
                step()
            except Exception as error:
                if not self._stopped:
                    self._tell(error)

    @staticmethod
    def _tell(error: Exception) -> None:
        text = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"
        # Where warnings are errors this one would end a thread, and nobody's program.
        with contextlib.suppress(RuntreeWarning):
            _warn.once("environment", f"the environment of the run is not fully recorded: {text}")

    def _machine(self) -> None:
        self._writer.add_process_facts(machine_facts())

    def _git(self) -> None:
        git = shutil.which("git")
        if git is None or self._run_git(git, "rev-parse", "--is-inside-work-tree") != b"true\n":
            return
        facts: dict[str, str] = {}
        for name, arguments in (
            ("git_commit", ("rev-parse", "HEAD")),
            ("git_branch", ("symbolic-ref", "--short", "HEAD")),
            ("git_remote", ("remote", "get-url", "origin")),
        ):
            text = (self._run_git(git, *arguments) or b"").decode(errors="replace").strip()
            if text:
                facts[name] = without_credentials(text)
        changed = self._run_git(git, "status", "--porcelain", "--untracked-files=normal") or b""
        lines = changed.decode(errors="replace").splitlines()
        untracked = sum(line.startswith("??") for line in lines)
        facts["git_dirty"] = f"{len(lines) - untracked} changed, {untracked} untracked" if lines else "no"
        if len(lines) > untracked and "git_commit" in facts:
            diff = self._diff(git)
            if diff:
                name = self._file_name("git.diff")
                self._writer.log_file_bytes(name, diff)
                facts["git_diff"] = name
        self._writer.add_process_facts(facts)

    def _diff(self, git: str) -> bytes:
        text = (
            self._run_git(git, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv", most=MOST_DIFF_BYTES + 1)
            or b""
        )
        shown = self._redact(text[:MOST_DIFF_BYTES].decode(errors="replace"))
        if len(text) > MOST_DIFF_BYTES:
            shown += f"\n# runtree: cut here, after {MOST_DIFF_BYTES} bytes\n"
        return shown.encode()

    def _attach_packages(self) -> None:
        self._writer.log_file_bytes(self._file_name("requirements.txt"), packages().encode())

    def _file_name(self, name: str) -> str:
        attempt = self._writer.attempt
        return name if attempt <= 1 else f"attempt-{attempt}/{name}"

    def _run_git(self, git: str, *arguments: str, most: int = 1 << 20) -> bytes | None:
        """What git prints, at most so many bytes; None if it fails. Takes no locks, asks nothing, runs no hook of the repository."""
        environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        command = [git, "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
        with subprocess.Popen(
            command,
            cwd=self._directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            timer = threading.Timer(_GIT_SECONDS, process.kill)
            timer.start()
            try:
                output = process.stdout.read(most)
                if len(output) == most:
                    process.kill()
                    process.wait()
                    return output
                return output if process.wait() == 0 else None
            finally:
                timer.cancel()


def machine_facts() -> dict[str, str]:
    """Platform, processors, memory, GPUs. Asks torch for nothing that would start CUDA: a process that did can not fork any more."""
    facts = {"platform": platform.platform(), "cpus": str(_cpus())}
    with contextlib.suppress(OSError, ValueError):
        facts["memory_bytes"] = str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    torch: Any = sys.modules.get("torch")
    cuda = getattr(getattr(torch, "version", None), "cuda", None)
    if cuda is not None:
        facts["cuda"] = str(cuda)
    names = gpu_names()
    if names:
        facts["gpus"] = ", ".join(names)
    return facts


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_names() -> list[str]:
    """``2 x NVIDIA H100``, with the driver's version."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        answer = subprocess.run(
            [command, "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return []
    counts: dict[str, int] = {}
    for line in answer.stdout.splitlines():
        name, _, driver = (part.strip() for part in line.partition(","))
        if name:
            label = f"{name} (driver {driver})" if driver else name
            counts[label] = counts.get(label, 0) + 1
    return [f"{count} x {label}" for label, count in counts.items()]


def packages() -> str:
    """``name==version`` of everything that is installed, a line each."""
    global _packages
    if _packages is None:
        from importlib.metadata import distributions

        found: dict[str, str] = {}
        for distribution in distributions():
            # The training has the interpreter in between.
            time.sleep(0)
            name = distribution.metadata["Name"]
            if name and name.lower() not in found:
                found[name.lower()] = f"{name}=={distribution.version}"
        _packages = "".join(found[name] + "\n" for name in sorted(found))
    return _packages
