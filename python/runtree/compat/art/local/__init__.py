"""ART's ``art.local``."""

from runtree.compat.art.local.backend import LocalBackend

__all__ = ["LocalBackend"]
