"""Where a run comes from: found out beside the training, complete, and off when asked."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import runtree
from runtree import _environment, _machine
from runtree._redact import Redactor
from runtree._system import Sampler, gpus


class Written:
    """What a collector writes."""

    def __init__(self, attempt: int = 1, slow: float = 0.0) -> None:
        self.attempt = attempt
        self.facts: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.slow = slow

    def add_process_facts(self, facts: dict[str, str]) -> None:
        self.facts.update(facts)

    def log_file_bytes(self, name: str, data: bytes) -> None:
        time.sleep(self.slow)
        self.files[name] = data


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=trunk", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("lr = 0.1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "x")
    return folder


def collected(folder: Path, **keywords: Any) -> Written:
    written = Written(**keywords)
    _environment.Collector(written, str(folder), True, Redactor({})).stop(30)
    return written


def test_the_commit_and_what_was_changed_since_are_recorded(repository: Path) -> None:
    clean = collected(repository)
    assert clean.facts["git_commit"] == git(repository, "rev-parse", "HEAD")
    assert (clean.facts["git_branch"], clean.facts["git_dirty"]) == ("trunk", "no")
    assert "git.diff" not in clean.files
    assert "git_remote" not in clean.facts
    (repository / "train.py").write_text("lr = 0.2\n")
    (repository / "new file").write_text("x")
    git(repository, "remote", "add", "origin", "https://me:secret@host/a.git")
    dirty = collected(repository)
    assert dirty.facts["git_dirty"] == "1 changed, 1 untracked"
    assert dirty.facts["git_remote"] == "https://host/a.git"
    diff = dirty.files["git.diff"]
    git(repository, "stash", "-q")
    (repository / "p.diff").write_bytes(diff)
    git(repository, "apply", "p.diff")
    assert (repository / "train.py").read_text() == "lr = 0.2\n"
    later = collected(repository, attempt=3)
    assert set(later.files) == {"attempt-3/git.diff", "attempt-3/requirements.txt"}
    assert later.facts["git_diff"] == "attempt-3/git.diff"


def test_a_large_diff_is_cut_and_says_so(repository: Path) -> None:
    (repository / "train.py").write_text("x = 1\n" * 400_000)
    diff = collected(repository).files["git.diff"]
    assert _environment.MOST_DIFF_BYTES < len(diff) < _environment.MOST_DIFF_BYTES + 200
    assert diff.endswith(b"# runtree: cut here, after 1048576 bytes\n")


def test_a_repository_runs_nothing_of_its_own(repository: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    evil = tmp_path / "evil.sh"
    evil.write_text(f"#!/bin/sh\ntouch {proof}\ncat\n")
    evil.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "core.pager", "diff.x.textconv", "diff.x.command"):
        git(repository, "config", key, str(evil))
    (repository / ".gitattributes").write_text("*.py diff=x\n")
    (repository / "train.py").write_text("lr = 0.3\n")
    written = collected(repository)
    assert b"lr = 0.3" in written.files["git.diff"]
    assert not proof.exists()


def test_a_folder_without_git_and_a_repository_without_commits_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not any(name.startswith("git") for name in collected(empty).facts)
    git(empty, "init", "-q")
    assert "git_commit" not in collected(empty).facts
    monkeypatch.setenv("PATH", str(empty))
    assert not any(name.startswith("git") for name in collected(empty).facts)


def test_packages_and_machine_are_listed(tmp_path: Path) -> None:
    written = collected(tmp_path)
    lines = written.files["requirements.txt"].decode().splitlines()
    assert lines == sorted(lines, key=str.lower) or len(lines) > 5
    assert any(line.startswith("numpy==") for line in lines)
    assert any(line.startswith("pytest==") for line in lines)
    assert int(written.facts["cpus"]) >= 1
    assert int(written.facts["memory_bytes"]) > 1 << 20
    assert "Linux" in written.facts["platform"]


FAKE = """#!/bin/sh
case "$1" in
  *name*) printf 'NVIDIA H100 80GB HBM3, 550.1\\nNVIDIA H100 80GB HBM3, 550.1\\n';;
  *) printf '97, 40000, 81559, 512.33, 61\\n 3, 12, 81559, [N/A], 30\\n';;
esac
"""


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two GPUs, as far as a program on PATH can tell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "nvidia-smi"
    command.write_text(FAKE)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return command


def test_gpus_are_named_and_sampled(nvidia: Path) -> None:
    assert _environment.gpu_names() == ["2 x NVIDIA H100 80GB HBM3 (driver 550.1)"]
    found = gpus(str(nvidia))
    assert found["sys/gpu0_utilization_percent"] == 97
    assert found["sys/gpu0_power_watts"] == 512.33
    assert found["sys/gpu1_temperature_celsius"] == 30
    assert "sys/gpu1_power_watts" not in found
    for broken in ("#!/bin/sh\nexit 9\n", "#!/bin/sh\nprintf '\\377garbage\\n'\n", "#!/bin/sh\nprintf 'a, b\\n'\n"):
        nvidia.write_text(broken)
        assert gpus(str(nvidia)) == {}
        assert _environment.gpu_names() in ([], ["1 x a (driver b)"])


def stopped(store: Path) -> Sampler:
    """A sampler whose samples are the test's alone: its own thread takes none."""
    sampler = Sampler(lambda values: None, store)
    sampler.stop()
    return sampler


def test_the_numbers_of_a_machine_have_the_names_of_the_table(nvidia: Path, tmp_path: Path) -> None:
    sampler = stopped(tmp_path)
    (tmp_path / "written").write_bytes(os.urandom(1 << 20))
    values = sampler.sample()
    table = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
    for name, value in values.items():
        assert name.replace("gpu0", "gpu<i>").replace("gpu1", "gpu<i>") in table, name
        assert value >= 0
    assert {"sys/rss_bytes", "sys/threads", "sys/memory_percent", "sys/store_used_percent"} <= set(values)
    assert 0 < values["sys/store_used_percent"] <= 100
    assert values["sys/rss_bytes"] > 1 << 20
    assert values["sys/threads"] >= 2
    if _machine.network_bytes() is not None:
        assert "sys/network_sent_bytes_per_second" in values


def test_a_machine_without_proc_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_machine, "_PROC", tmp_path / "nothing")
    monkeypatch.setenv("PATH", str(tmp_path))
    sampler = stopped(tmp_path / "gone")
    assert set(sampler.sample()) == {"sys/process_cpu_percent"}


def test_the_share_of_busy_cpus_is_that_of_the_interval(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stat(user: int, idle: int, waiting: int) -> None:
        (tmp_path / "stat").write_text(f"cpu  {user} 5 5 {idle} {waiting} 0 0 0 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n")

    monkeypatch.setattr(_machine, "_PROC", tmp_path)
    stat(user=100, idle=900, waiting=0)
    sampler = stopped(tmp_path)
    stat(user=130, idle=950, waiting=20)
    assert sampler.sample()["sys/cpu_percent"] == pytest.approx(30.0)
    # Not a jiffy has passed: nothing is known of this interval.
    assert "sys/cpu_percent" not in sampler.sample()
    stat(user=230, idle=950, waiting=20)
    assert sampler.sample()["sys/cpu_percent"] == pytest.approx(100.0)


def test_counters_that_went_back_are_no_rates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readings = iter([(100.0, 0.0), (50.0, 10.0), (60.0, 30.0)])
    monkeypatch.setattr(_machine, "network_bytes", lambda: next(readings))
    sampler = stopped(tmp_path)
    first = sampler.sample()
    assert "sys/network_received_bytes_per_second" not in first
    assert first["sys/network_sent_bytes_per_second"] > 0
    assert sampler.sample()["sys/network_received_bytes_per_second"] > 0


def test_a_run_knows_where_it_comes_from_and_forks_know_their_own(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    (repository / "train.py").write_text("lr = 0.5\n")
    run = runtree.init("x", console=False, system_metrics=False)
    run.log({"loss": 1.0})
    run._collector.stop(30)
    run.save({"a": 1}).result()
    run.finish()
    facts = run.processes()[0]["facts"]
    assert facts["git_commit"] == git(repository, "rev-parse", "HEAD")
    assert facts["git_diff"] == "git.diff"
    assert "platform" in facts
    assert run.files() == ["git.diff", "requirements.txt"]
    assert b"lr = 0.5" in run.file("git.diff")
    child = runtree.init("x", fork_run_id=run.id, fork_step=0, environment=False, console=False, system_metrics=False)
    child.finish()
    assert child.files() == []
    assert set(child.processes()[0]["facts"]) == {"host", "pid", "python", "runtree"}


def test_it_is_off_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_ENVIRONMENT", "none")
    run = runtree.init("x", console=False, system_metrics=False)
    assert run._collector is None
    run.finish()
    assert set(run.processes()[0]["facts"]) == {"host", "pid", "python", "runtree"}
    monkeypatch.setenv("RUNTREE_ENVIRONMENT", "some")
    with pytest.raises(runtree.Invalid, match="RUNTREE_ENVIRONMENT"):
        runtree.init("x")


def test_a_short_program_does_not_wait_for_its_environment(tmp_path: Path) -> None:
    written = Written(slow=30.0)
    collector = _environment.Collector(written, str(tmp_path), True, Redactor({}))
    began = time.monotonic()
    collector.stop(0.2)
    assert time.monotonic() - began < 2


def test_what_can_not_be_recorded_is_told_once_and_does_not_raise(tmp_path: Path) -> None:
    class Refusing(Written):
        def log_file_bytes(self, name: str, data: bytes) -> None:
            raise runtree.Unavailable("the disk is full")

    heard: list[str] = []
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *rest, **more: heard.append(str(message))  # type: ignore[assignment]
        _environment.Collector(Refusing(), str(tmp_path), True, Redactor({})).stop(30)
    assert len(heard) == 1
    assert "the disk is full" in heard[0]


def test_starting_a_run_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    runtree.init("x", console=False, system_metrics=False).finish()
    best = 9.0
    for _ in range(5):
        began = time.perf_counter()
        run = runtree.init("x", console=False, system_metrics=False)
        best = min(best, time.perf_counter() - began)
        run.finish()
    assert best < 0.2, "50 ms on an idle machine: what takes long happens on a thread"
