"""A backend elsewhere: a store that any machine reaches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from runtree.compat.art.backend import Backend
from runtree.compat.art.training import Trainer
from runtree.errors import Invalid
from runtree.store import find_store


class ServerlessBackend(Backend):
    """Keeps models in a remote store, so that every machine sees the same checkpoints, metrics and deletions.

    Args:
        remote: ``s3://bucket/prefix`` (``gs://``, ``az://``), or a directory that machines share; ``RUNTREE_REMOTE`` unless given.
        trainer: What trains; see :func:`runtree.compat.art.trainer`.
        init: What else ``runtree.init`` is given where a run is launched.
        api_key, base_url: ART's; taken, and without a meaning here: access is what the environment says (``AWS_…``).

    Raises:
        Invalid: Nothing says where the remote store is.
    """

    def __init__(
        self,
        remote: str | os.PathLike[str] | None = None,
        *,
        trainer: Trainer | None = None,
        init: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> None:
        named = remote if remote is not None else os.environ.get("RUNTREE_REMOTE") or None
        if named is None:
            raise Invalid(
                "ServerlessBackend keeps models in a remote store, and nothing says where that is",
                hint='set RUNTREE_REMOTE=s3://bucket/prefix, or pass it: ServerlessBackend("s3://bucket/prefix")',
            )
        # The store is the remote: nothing has to be pushed to it, whatever RUNTREE_REMOTE says to `runtree.init`.
        super().__init__(find_store(named), trainer=trainer, init={"remote": "", **(init or {})})
