"""What a program says about its live run besides values: config, tags, name, notes, files, alerts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtree import _warn
from runtree._native import plain_config
from runtree._redact import secret_config_keys
from runtree._text import as_tags, require_text
from runtree.errors import Invalid, InvalidType
from runtree.stored import StoredRun

if TYPE_CHECKING:
    from runtree import _native

_LEVELS = ("info", "warn", "error")


class Saying(StoredRun):
    """That half of a live run."""

    _writer: _native.RunWriter | None
    _config: dict[str, Any]
    _tags: list[str]

    def _refuse_finished(self) -> None:
        raise NotImplementedError

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Sets config keys, deep-merged."""
        self._refuse_finished()
        if not isinstance(config, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"config is a {type(config).__name__}, not a mapping")
        patch = plain_config(dict(config))
        warn_of_secrets(patch)
        if self._writer is not None and not self._writer.inert:
            self._writer.update_config(patch)
        self._config = _merged(self._config, patch)

    def add_tags(self, *tags: str) -> None:
        """Adds tags."""
        self._refuse_finished()
        plain = as_tags(tags)
        if self._writer is not None and not self._writer.inert:
            self._writer.add_tags(plain)
        self._tags += [tag for tag in dict.fromkeys(plain) if tag not in self._tags]

    def set_name(self, name: str) -> None:
        """Renames it."""
        self._refuse_finished()
        require_text("run name", name)
        if self._writer is not None and not self._writer.inert:
            self._writer.set_name(name)

    def set_notes(self, notes: str) -> None:
        """Sets its notes."""
        self._refuse_finished()
        require_text("notes", notes)
        if self._writer is not None and not self._writer.inert:
            self._writer.set_notes(notes)

    def alert(self, title: str, text: str = "", level: str = "info") -> None:
        """Says something that somebody should see: in the run's header and in lists. ``level`` is ``info``, ``warn`` or ``error``.

        Never waits for a disk. A title is cut after 256 bytes, a text after 16 KiB.
        """
        self._refuse_finished()
        for what, value in {"an alert's title": title, "an alert's text": text}.items():
            require_text(what, value)
        if level not in _LEVELS:
            raise Invalid(f"alert level {level!r} is not one of 'info', 'warn', 'error'")
        if not title.strip():
            raise Invalid("an alert has a title")
        if self._writer is not None and not self._writer.inert:
            self._writer.alert(title, text, level)

    def log_file(self, path: str | Path, name: str | None = None) -> None:
        """Attaches a file."""
        self._refuse_finished()
        if self._writer is not None and not self._writer.inert:
            self._writer.log_file(Path(path), name)


def warn_of_secrets(config: Mapping[str, Any]) -> None:
    """A config is kept as it is; who puts a secret into it is told once."""
    found = list(secret_config_keys(config))
    if found:
        names = ", ".join(sorted(found)[:5])
        _warn.once(
            "config_secrets",
            f"config has what looks like secrets ({names}): everybody who can read the store can read them",
        )


def _merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in patch.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownArgumentType]
    return merged
