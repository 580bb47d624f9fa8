"""Texts that the store keeps: UTF-8, which not every ``str`` is."""

from __future__ import annotations

from collections.abc import Iterable

from runtree.errors import Invalid


def require_text(what: str, *texts: object) -> None:
    """Refuses lone surrogates, as in file names that are not UTF-8, by name."""
    for text in texts:
        try:
            if isinstance(text, str):
                text.encode()
        except UnicodeEncodeError:
            raise Invalid(
                f"{what} {text!r} is not Unicode text",
                hint='it has lone surrogates; text.encode(errors="replace").decode() has none',
            ) from None


def as_tags(tags: str | Iterable[str] | None) -> list[str]:
    """One tag or several as a list."""
    if tags is None:
        return []
    plain = [tags] if isinstance(tags, str) else [str(tag) for tag in tags]
    require_text("tag", *plain)
    return plain
