"""Secrets are taken out of what a run records about itself, before anything is written: console, command line, git remote and diff.

What counts as one: the value of an environment variable whose name says so, and texts of a known shape. What a config holds is
the user's own
word and is left alone; a key that looks like a secret's is warned of once.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

MARK = "[redacted]"
# Shorter values ("true", "1", "debug") would blank half of a log.
_SHORTEST_VALUE = 8
_LOOK_AGAIN_SECONDS = 1.0

_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)S?\d*(?:_|$)", re.IGNORECASE)
# As names of options and config keys: "key" and "token" alone are too common there ("--sort-key", "max_token").
_SECRET_KEY = re.compile(
    r"(?:^|[_.\-])(?:api[_\-]?key|access[_\-]?key|secret[_\-]?key|private[_\-]?key|auth[_\-]?token|access[_\-]?token|api[_\-]?token"
    r"|hf[_\-]?token|bearer[_\-]?token|token|secret|client[_\-]?secret|password|passwd|passphrase)$",
    re.IGNORECASE,
)

# Each begins with something that is rare, so that a line without it costs one scan.
_SHAPES = re.compile(
    r"""
      \b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b                              # AWS key ids
    | \bhf_[A-Za-z0-9]{20,}                                                # Hugging Face
    | \b(?:sk|rk|pk)-(?=[a-z_-]*[0-9A-Z])[A-Za-z0-9_-]{20,}                # OpenAI, Anthropic and others
    | \bgh[pousr]_[A-Za-z0-9]{30,}                                         # GitHub
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bglpat-[A-Za-z0-9_-]{16,}                                           # GitLab
    | \bwandb_v\d+_[A-Za-z0-9_]{20,}                                       # W&B
    | \bxox[abposr]-[A-Za-z0-9-]{10,}                                      # Slack
    | \bAIza[0-9A-Za-z_-]{30,}                                             # Google
    | \beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}   # JSON web tokens
    """,
    re.VERBOSE,
)
_BEARER = re.compile(
    r"(\bAuthorization[\"']?\s*[:=]\s*[\"']?\s*(?:Bearer|Basic|Token)\s+|\bBearer\s+)([A-Za-z0-9._~+/=-]{8,})",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#:@]*):([^\s/?#@]+)@")
_URL_USER = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@]+@")
# `WANDB_API_KEY=0123…`, `"password": "…"`: what follows a name that says what it is. A key of W&B or AWS has no shape of its own.
_NAMED = re.compile(
    r"(\b[A-Za-z0-9_.\-]*(?:api[_\-]?key|access[_\-]?key|secret[_\-]?key|secret|token|password|passwd|passphrase)[\"']?\s*[=:]\s*[\"']?)"
    r"([^\s\"',;&\[\](){}]{8,})",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[0-9.,_e+-]+\Z", re.IGNORECASE)


class Redactor:
    """Takes secrets out of texts. Cheap where there are none; sees variables that are set later within a second."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        # When the variables were looked at, what they hide, and what finds it. Replaced whole, and without a lock: a signal that
        # ends the run comes while its thread prints, and prints itself.
        self._known: tuple[float, tuple[str, ...], re.Pattern[str] | None] = (-_LOOK_AGAIN_SECONDS, (), None)

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        values = self._values()
        if values is not None:
            text = values.sub(MARK, text)
        if "-" in text or "_" in text or "A" in text or "eyJ" in text:
            text = _SHAPES.sub(MARK, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1\2:{MARK}@", text)
        if "earer" in text or "uthorization" in text or "BEARER" in text or "AUTHORIZATION" in text:
            text = _BEARER.sub(rf"\1{MARK}", text)
        if "=" in text or ":" in text:
            text = _NAMED.sub(_named, text)
        return text

    def command(self, arguments: Sequence[str]) -> str:
        """A command line in one text, without the values of options that name secrets."""
        shown: list[str] = []
        is_secret = False
        for argument in arguments:
            if is_secret and not argument.startswith("-"):
                shown.append(argument if _NUMBER.match(argument) else MARK)
                is_secret = False
                continue
            name, equals, value = argument.partition("=")
            is_secret = not equals and argument.startswith("-") and is_secret_key(name.lstrip("-"))
            if equals and is_secret_key(name.lstrip("-")) and value and not _NUMBER.match(value):
                shown.append(f"{name}={MARK}")
            else:
                shown.append(self(argument))
        return " ".join(shown)

    def _values(self) -> re.Pattern[str] | None:
        looked, secrets, pattern = self._known
        now = time.monotonic()
        if now - looked < _LOOK_AGAIN_SECONDS:
            return pattern
        found = secret_values(self._environ)
        if found != secrets:
            pattern = re.compile("|".join(map(re.escape, found))) if found else None
        self._known = (now, found, pattern)
        return pattern


def secret_values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Values of variables that name secrets, the longest first, line by line where they have several."""
    found: set[str] = set()
    for name, value in list(environ.items()):
        if _SECRET_NAME.search(name):
            found.update(line for line in (line.strip() for line in value.splitlines()) if len(line) >= _SHORTEST_VALUE)
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def is_secret_key(name: str) -> bool:
    """Whether an option or a config key names a secret."""
    return _SECRET_KEY.search(name) is not None


def without_credentials(url: str) -> str:
    """The URL of a repository without user and password."""
    return _URL_USER.sub(r"\1", url)


def secret_config_keys(config: Mapping[str, Any], below: str = "") -> Iterable[str]:
    """Dotted paths of config keys that look like those of secrets and hold text."""
    for key, value in config.items():
        path = f"{below}{key}"
        if isinstance(value, Mapping):
            yield from secret_config_keys(cast("Mapping[str, Any]", value), f"{path}.")
        elif isinstance(value, str) and len(value) >= _SHORTEST_VALUE and is_secret_key(str(key)):
            yield path


def _named(match: re.Match[str]) -> str:
    value = match.group(2)
    # Counts of tokens and the like; what was redacted already; a name of a variable that holds it.
    if _NUMBER.match(value) or value.startswith((MARK, "$", "<", "***")):
        return match.group(0)
    return f"{match.group(1)}{MARK}"
