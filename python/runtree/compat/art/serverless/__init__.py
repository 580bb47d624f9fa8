"""ART's ``art.serverless``."""

from runtree.compat.art.serverless.backend import ServerlessBackend

__all__ = ["ServerlessBackend"]
