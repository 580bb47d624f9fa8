"""Names of models and projects, which become keys of runs and, in what ART wrote, directories.

ART puts them into paths as they are: a model called ``../../../esc`` is written outside of its root. Here they are refused.
"""

from __future__ import annotations

from runtree.errors import Invalid, InvalidType

# What ends a directory's name, and what the REF grammar reads as something else.
_IN_PATHS = "/\\"
_IN_REFS = "#@:"


def check_source(what: str, name: object) -> str:
    """A name that is looked up, in a store or in directories that ART made.

    Raises:
        InvalidType: It is no text.
        Invalid: It is empty, leaves its directory, or has a control character.
    """
    if not isinstance(name, str):
        raise InvalidType(f"{what} {name!r} is a {type(name).__name__}, not a name")
    if not name or name in (".", "..") or any(each in _IN_PATHS or not each.isprintable() for each in name):
        raise Invalid(f"{what} {name!r} is no name: it would leave its directory", hint="a name has no / and no \\")
    return name


def check_new(what: str, name: object) -> str:
    """A name that is given: also one that a REF can spell.

    Raises:
        InvalidType: It is no text.
        Invalid: See :func:`check_source`; or it has one of ``# @ :``.
    """
    text = check_source(what, name)
    if any(each in _IN_REFS for each in text):
        raise Invalid(f"{what} {text!r} has one of # @ : in it", hint="take - or _ instead")
    return text
