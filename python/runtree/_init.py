"""``runtree.init``: one run for this launch."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from runtree import _environment, _launch, _live, _pickled, _remote, _warn
from runtree._bringing import bring, is_here, names_other_store
from runtree._native import plain_config
from runtree._saying import warn_of_secrets
from runtree._text import as_tags, require_text
from runtree.errors import Invalid, InvalidType
from runtree.run import Run
from runtree.store import Store, find_store

_RESUME = {True: "allow", False: "never", "allow": "allow", "never": "never", "must": "must"}


def init(
    project: str | None = None,
    name: str | None = None,
    *,
    config: Any = None,
    tags: str | Sequence[str] | None = None,
    notes: str | None = None,
    store: str | os.PathLike[str] | None = None,
    remote: str | os.PathLike[str] | None = None,
    keep_local: int | None = None,
    run_id: str | None = None,
    resume: str | bool = "never",
    resume_from: str | int = "latest",
    fork_run_id: str | int | None = None,
    fork_step: int | None = None,
    fork: str | None = None,
    base: str | None = None,
    inherit_config: bool = True,
    inherit_tags: bool = False,
    retention: Any = None,
    log_ranks: str = "main",
    system_metrics: bool = True,
    console: bool = True,
    environment: bool = True,
    staging_bytes: int | None = None,
) -> Run:
    """Starts a run: a new one, a fork, or the next launch of one that exists. On several ranks it is one run.

    Args:
        project: Where it belongs; ``RUNTREE_PROJECT``, else the name of the working directory.
        name: Its name; generated unless given, ``<parent>-f<k>`` for a fork.
        config: Its config: a mapping, an ``argparse.Namespace``, a dataclass.
        tags: Its tags.
        notes: Words about it.
        store: A directory or ``s3://bucket/prefix`` (``gs://``, ``az://``); ``RUNTREE_STORE``, else the nearest ``.runtree``
            upwards, else ``./.runtree``.
        remote: Another store, a directory or ``s3://bucket/prefix``, that the run is pushed to in the background while it goes on;
            ``RUNTREE_REMOTE``. It is made if it is not there, the bucket itself never. While it can not be reached the run goes on as
            ever, and it is caught up with later: ``health()`` and ``finish()`` say how far it is behind, and
            ``save(...).result(durable="remote")`` waits for it.
        keep_local: How many of the run's newest checkpoints stay in ``store`` once the remote has them; all unless given. An older
            one is said to be there when it is asked for, and comes back with ``runtree pull --restore``.
        run_id: Your own name for it, unique in the project: the same name again is the same run.
        resume: What to do if ``run_id`` exists: ``"never"`` (refuse), ``"allow"`` (also ``True``), ``"must"``.
        resume_from: The checkpoint to resume from: ``"latest"``, a step, ``"<=500"``, ``"best:loss"``, ``"last-good"``.
        fork_run_id: Fork this run (display id, name, key, number) at exactly ``fork_step``, the last step it inherits.
        fork_step: See ``fork_run_id``; neither goes without the other.
        fork: Fork at a checkpoint, by REF: ``"MMP-42"`` (its newest), ``"MMP-42@500"``, ``"MMP-42@last-good"``; one of another store,
            ``"s3://bucket/prefix#project/run@<=500"``, is copied here first, with the history that leads to it.
        base: Start from a checkpoint of another run without inheriting its history.
        inherit_config: Whether a fork starts with the config of the run that owns the fork step.
        inherit_tags: Whether a fork takes its tags too.
        retention: Which of its checkpoints are kept, from now on: a :class:`runtree.Retention`, or a dict of its rules, like
            ``{"keep_last": 2, "keep_best": "val/loss:min"}``. It is applied after each commit; what goes is in the trash
            first. Unless given, what was said before counts: of the run, its project or the store (``runtree retention``).
        log_ranks: ``"main"``: rank 0 logs; ``"all"``: every rank, in a series of its own.
        system_metrics: Whether CPU, memory and GPUs are sampled.
        console: Whether what is printed is kept, without secrets.
        environment: Whether command line, commit, what was changed since, packages and machine are recorded, without secrets
            (``RUNTREE_ENVIRONMENT=none`` turns it off, too).
        staging_bytes: Most memory that saves of this process copy into (``RUNTREE_STAGING_BYTES``); half of what the process may use
            unless given, 128 MiB at least. A state that is larger is copied in turns, for which ``save`` waits. Tensors of a GPU
            go through as much pinned memory besides. As far as ``/dev/shm`` (``RUNTREE_STAGING_DIR``; ``none``: private memory) has
            room, it lies there: what was staged when the process is killed is written by the next ``init`` on the machine.

    Raises:
        ValueError: The arguments contradict each other, or ``fork_step`` is not in the parent's history (the message has the range).
        Conflict: ``run_id`` exists and ``resume`` is ``"never"``, or it was forked from elsewhere.
        NotFound: There is no such parent, or nothing to resume.
    """
    environ = os.environ
    pushed = _remote.wish(remote, keep_local, find_store(store), environ)
    _live.check_grace()
    staging_bytes = _staging_bytes(staging_bytes, environ)
    staging_dir = _staging_dir(environ)
    rules = _retention_rules(retention)
    # The default cannot be told from a script that says "never": a launcher that says otherwise has its way with both.
    resume = _resume(environ.get("RUNTREE_RESUME") or resume if resume == "never" else resume)
    if log_ranks not in ("main", "all"):
        raise Invalid(f"log_ranks {log_ranks!r} is not one of 'main', 'all'")
    fork = _check_fork(fork, fork_run_id, fork_step, base)
    environment = _environment.wanted(environ, environment)
    settings = None if config is None else plain_config(as_config(config))
    if settings:
        warn_of_secrets(settings)
    if _is_disabled(environ):
        return _nothing(
            project or environ.get("RUNTREE_PROJECT") or _default_project(), name, run_id, settings, as_tags(tags),
            None if fork_run_id is None else str(fork_run_id), fork_step,
        )  # fmt: skip
    project = project or environ.get("RUNTREE_PROJECT") or _default_project()
    run_id = run_id or environ.get("RUNTREE_RUN_ID") or None
    for what, text in {"project": project, "run key": run_id, "run name": name, "notes": notes}.items():
        require_text(what, text)
    stored = Store(store, create=True)
    if staging_bytes is not None:
        stored.native.limit_staging(staging_bytes)
    stored.native.stage_in(staging_dir)
    stored.native.recover_staged()
    if run_id is not None:
        again = _live.by_key(project, run_id, stored.location)
        if again is not None:
            # A cell that is run twice means the run it began.
            if settings:
                again.update_config(settings)
            return again
    launch = _launch.detect(environ)
    if fork_run_id is not None:
        _live.catch_up(stored.location)

    def start(told: _launch.Agreement | None, launch_key: str | None, run_key: str | None) -> tuple[Run, str]:
        def here(ref: str | None) -> str | None:
            # Whoever was told which run it is needs no copy of what that one starts from.
            if ref is None or told is not None:
                return ref
            goes_on = run_key is not None and resume != "never" and is_here(stored, project, run_key)
            # Nor does a run that goes on: the other store may be away.
            return None if goes_on and names_other_store(ref) else bring(stored, ref, project)

        writer = stored.native.start_run(
            {
                "project": project,
                "name": name,
                "key": run_key,
                "resume": resume,
                "resume_from": str(resume_from),
                "fork_run": None if fork_run_id is None else str(fork_run_id),
                "fork_step": fork_step,
                "fork": here(fork),
                "base": here(base),
                "config": settings,
                "tags": as_tags(tags),
                "notes": notes,
                "inherit_config": inherit_config,
                "inherit_tags": inherit_tags,
                "launch_key": launch_key,
                "has_launcher": launch.has_launcher,
                "run": None if told is None else told.run,
                "rank": launch.rank,
                "world_size": launch.world_size,
                "log_all_ranks": log_ranks == "all",
                "retention": rules,
                "process": _environment.process_facts(environment),
            }
        )
        _remote.begin(writer, pushed)
        setup = _launch.Setup(launch.rank, launch.world_size, log_ranks == "all")
        return Run(stored, writer, setup), writer.run

    run: Run = _launch.agree(launch, run_id, start)
    _begin(run)
    _compare_config(run, settings)
    run._start_helpers(console, system_metrics, environment)  # pyright: ignore[reportPrivateUsage]
    return run


def _nothing(
    project: str,
    name: str | None,
    key: str | None,
    config: dict[str, Any] | None,
    tags: list[str],
    parent: str | None,
    fork_step: int | None,
) -> Run:
    """A disabled run: it answers what init was told, so that scripts that print it go on."""
    label = None if parent is None else {"id": "", "display_id": parent, "name": parent}
    born: dict[str, Any] = {
        "id": "", "display_id": "disabled", "number": 0, "key": key, "project": project, "name": name or "disabled",
        "experiment": name or "disabled", "created": 0, "parent": label, "owner": label, "fork_step": fork_step, "base": None,
        "status": "running", "status_reason": None, "attempt": 0, "last_step": None,
    }  # fmt: skip
    return _pickled.disabled(born, config or {}, list(dict.fromkeys(tags)))


def _compare_config(run: Run, settings: dict[str, Any] | None) -> None:
    """A run that goes on keeps its config, which may have been changed since; what init was given besides is added or told."""
    if not settings or run.rank != 0:
        return
    new, other = _differences(run.config, settings)
    if new:
        run.update_config(new)
    if other:
        told = ", ".join(f"{key} {kept!r}, not {given!r}" for key, kept, given in other[:5])
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        _warn.once(
            f"{run.id} config",
            f"run {run.display_id} keeps its config where init was given another: {told}{more}; "
            "read run.config, or change it with run.update_config()",
        )


def _differences(
    kept: Mapping[str, Any], given: Mapping[str, Any], below: str = ""
) -> tuple[dict[str, Any], list[tuple[str, Any, Any]]]:
    """What of ``given`` is new, nested as it was; and what contradicts: dotted path, kept, given."""
    new: dict[str, Any] = {}
    other: list[tuple[str, Any, Any]] = []
    for key, value in given.items():
        if key not in kept:
            new[key] = value
        elif isinstance(value, Mapping) and isinstance(kept[key], Mapping):
            deeper, more = _differences(kept[key], cast("Mapping[str, Any]", value), f"{below}{key}.")
            other += more
            if deeper:
                new[key] = deeper
        elif kept[key] != value:
            other.append((f"{below}{key}", kept[key], cast("Any", value)))
    return new, other


def _begin(run: Run) -> None:
    """Shows warnings and the one line that says what was started."""
    _live.adopt(run)
    writer = run._writer  # pyright: ignore[reportPrivateUsage]
    assert writer is not None
    if run.rank == 0:
        print(_line(run), file=sys.stderr, flush=True)
    run._show(writer.take_warnings())  # pyright: ignore[reportPrivateUsage]


def _line(run: Run) -> str:
    parts = [f"runtree: {run.display_id} {run.name}"]
    if run.fork_run_id is not None:
        text = f"forked from {run.parent} at step {run.fork_step}"
        if run.parent != run.fork_run_id:
            text += f" (which {run.fork_run_id} owns)"
        parts.append(text)
    if run.base is not None:
        parts.append(f"based on {run.base}")
    if run.attempt > 1:
        start = run.resumed_from
        where = "" if start is None else f" from checkpoint {start.step}"
        parts.append(f"attempt {run.attempt}, continues at step {run.next_step}{where}")
    place = run.store.location
    parts.append(f"store {place}")
    default = str(Path.cwd() / ".runtree") == place
    parts.append("look: runtree serve" if default else f"look: RUNTREE_STORE={place} runtree serve")
    return " · ".join(parts)


def _is_disabled(environ: Mapping[str, str]) -> bool:
    mode = environ.get("RUNTREE_MODE", "")
    if mode not in ("", "disabled"):
        raise Invalid(f"RUNTREE_MODE {mode!r} is not 'disabled'", hint="RUNTREE_MODE=disabled, or unset it")
    return mode == "disabled"


def _retention_rules(policy: Any) -> dict[str, Any] | None:
    if policy is None:
        return None
    from runtree.retention import rules_of

    return rules_of(policy)


def _resume(resume: str | bool) -> str:
    known = _RESUME.get(resume)
    if known is None:
        raise Invalid(f"resume {resume!r} is not one of 'never', 'allow', 'must'")
    return known


def _staging_bytes(given: Any, environ: Mapping[str, str]) -> int | None:
    text = environ.get("RUNTREE_STAGING_BYTES")
    if given is None and text:
        if not text.isdecimal():
            raise Invalid(f"RUNTREE_STAGING_BYTES {text!r} is not a number of bytes", hint="for 4 GiB: 4294967296")
        given = int(text)
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int):
        raise InvalidType(f"staging_bytes {given!r} is not a number of bytes")
    if not 0 < given < 1 << 63:
        raise Invalid(f"staging_bytes {given} is not a number of bytes that there can be")
    return given


def _staging_dir(environ: Mapping[str, str]) -> str | None:
    """Where what is staged outlives the process: a directory of a file system in memory."""
    text = environ.get("RUNTREE_STAGING_DIR")
    if not text:
        return "/dev/shm" if os.path.isdir("/dev/shm") else None
    if text == "none":
        return None
    if not os.path.isdir(text):
        raise Invalid(
            f"RUNTREE_STAGING_DIR {text!r} is not a directory",
            hint="a directory of a tmpfs, like /dev/shm, or none: then what is staged ends with the process",
        )
    return text


def _check_fork(fork: str | None, run: str | int | None, step: Any, base: str | None) -> str | None:
    if (run is None) != (step is None):
        raise Invalid(
            "fork_run_id and fork_step are given together or not at all",
            hint="fork at a run's newest checkpoint with fork=" + repr(str(run) if run is not None else "MMP-42"),
        )
    if run is not None and (isinstance(run, bool) or not isinstance(run, (str, int))):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidType(f"fork_run_id {run!r} is neither a run's name nor its number")
    if step is not None and (isinstance(step, bool) or not hasattr(step, "__index__")):
        raise InvalidType(f"fork_step {step!r} is not a whole number")
    if step is not None and not -(2**63) <= operator.index(step) < 2**63:
        raise Invalid(f"fork_step {step} is not a step: they have 64 bits")
    if fork is not None and run is not None:
        raise Invalid("fork and fork_run_id are two ways to say one thing: give one of them")
    if fork is None and run is None and base is None:
        # A launcher's word, where the script says nothing of its own.
        fork = os.environ.get("RUNTREE_FORK") or None
    if base is not None and (fork is not None or run is not None):
        raise Invalid("base and fork contradict each other: a fork inherits its parent's history, a base does not")
    return fork


def as_config(config: Any) -> dict[str, Any] | None:
    """A config as a plain dict."""
    if config is None:
        return None
    if type(config).__module__.startswith("omegaconf"):
        config = import_module("omegaconf").OmegaConf.to_container(config, resolve=True)
    if isinstance(config, Mapping):
        return _plain(cast("Mapping[Any, Any]", config))
    if hasattr(config, "__dataclass_fields__") and not isinstance(config, type):
        import dataclasses

        return dataclasses.asdict(config)
    if hasattr(config, "__dict__") and not isinstance(config, type):
        return _plain(cast("dict[str, Any]", vars(config)))
    raise InvalidType(f"config is a {type(config).__name__}, not a mapping")


def _plain(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(key): _plain(cast("Mapping[Any, Any]", value)) if isinstance(value, Mapping) else value
        for key, value in mapping.items()
    }


def _default_project() -> str:
    name = "".join(
        "-" if character in "/#@" or not character.isprintable() else character for character in Path.cwd().name
    )
    return name or "default"
