"""What libraries call a checkpoint, as a name that a REF can have."""

from __future__ import annotations

import re

# Longest name that a checkpoint can have, in bytes.
_LONGEST = 128


def checkpoint_name(text: str) -> str | None:
    """The text without what separates the parts of a REF, and without control characters; None if nothing is left."""
    plain = re.sub(r"[/#@\x00-\x1f\x7f]", "_", text)
    while len(plain.encode()) > _LONGEST:
        plain = plain[:-1]
    return plain or None
