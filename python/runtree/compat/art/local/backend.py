"""A backend on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtree.compat.art import places
from runtree.compat.art.backend import Backend
from runtree.compat.art.training import Trainer
from runtree.store import find_store


class LocalBackend(Backend):
    """Keeps models in a store on this machine.

    Args:
        path: Where ART kept everything (``.art``): the store is ``path/.runtree``, unless ``path`` is itself a store. Models that ART
            left there can be forked and go on; nothing of them is changed. Unless given, the store is the one ``runtree.init`` takes
            (``RUNTREE_STORE``, the nearest ``.runtree`` upwards), and ART's directory the nearest ``.art`` upwards.
        store: The store, wherever it is: a directory or an address.
        trainer: What trains; see :func:`runtree.compat.art.trainer`.
        init: What else ``runtree.init`` is given where a run is launched.
        in_process: ART's; taken, and without a meaning here.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] | None = None,
        store: str | os.PathLike[str] | None = None,
        trainer: Trainer | None = None,
        init: Mapping[str, Any] | None = None,
        in_process: bool = False,
    ) -> None:
        given = None if path is None else Path(path).expanduser().absolute()
        if store is None and given is not None:
            store = given if (given / "runtree.json").exists() else given / ".runtree"
        art_path = places.find_art(Path.cwd()) if given is None else given
        super().__init__(find_store(store), art_path=art_path, trainer=trainer, init=init)
