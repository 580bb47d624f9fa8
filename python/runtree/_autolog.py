"""``runtree.autolog``: the integrations of the libraries that a program uses, without a line for each."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runtree import _live, _warn
from runtree.errors import Error, InvalidType

if TYPE_CHECKING:
    from runtree.run import Run

# By the module that has what is changed: importing it is what turns an integration on. A package whose `__init__` imports the classes
# is named itself, so that it is whole by then; transformers imports its trainer when somebody asks for it.
_TRIGGERS = {
    "transformers.trainer": "transformers",
    "accelerate": "accelerate",
    "lightning": "lightning",
    "pytorch_lightning": "lightning",
    "orbax.checkpoint": "orbax",
}

_lock = threading.RLock()
_on: dict[str, ModuleType] = {}
_keywords: dict[str, Any] = {}
_run: Run | None = None


def autolog(*, disable: bool = False, **init_keywords: Any) -> None:
    """Turns on what runtree has for transformers, Accelerate, Lightning and Orbax: metrics are logged, checkpoints taken in.

    Libraries that are imported already get theirs at once, others when they are imported; nothing is imported here. The run is this
    process's live one; without any it begins with the first training, as ``runtree.init(**init_keywords)``. One run is shared by all.
    Called again, the new keywords count. What each does is on its page in docs/integrations/.

    Args:
        disable: Undoes it: the libraries are as they were. A run that began goes on.
        init_keywords: What :func:`runtree.init` takes.

    Raises:
        InvalidType: ``runtree.init`` has no such keyword.
    """
    from runtree._init import init

    try:
        inspect.signature(init).bind_partial(**init_keywords)
    except TypeError as error:
        raise InvalidType(f"autolog takes what runtree.init takes: {error}") from None
    with _lock:
        _finder.remove()
        _turn_off()
        _keywords.clear()
        if disable:
            return
        _keywords.update(init_keywords)
        _finder.insert()
        for trigger, library in _TRIGGERS.items():
            module = sys.modules.get(trigger)
            if module is not None and not getattr(module.__spec__, "_initializing", False):
                _turn_on(library)


def shared_run(init_keywords: dict[str, Any]) -> Run:
    """The run that integrations log to: the live one of this process, else one that begins now, as the keywords say."""
    global _run
    with _lock:
        if _run is not None and not _run.finished:
            return _run
        live = list(_live._runs.values())  # pyright: ignore[reportPrivateUsage]
        if live:
            # Whoever began one last means that.
            return live[-1]
        from runtree._init import init

        _run = init(**init_keywords)
        return _run


def _turn_on(library: str) -> None:
    with _lock:
        if library in _on:
            return
        try:
            module = importlib.import_module(f"runtree.integrations.{library}")
            module.autolog(**_keywords)
        except Error:
            raise
        except Exception as error:
            # A version that is not known here: the program's own import must not fail for it.
            _warn.once(f"autolog {library}", f"autolog does nothing for {library}: {error}")
            return
        _on[library] = module


def _turn_off() -> None:
    for module in _on.values():
        module.undo()
    _on.clear()


class _Finder(MetaPathFinder):
    """Sees libraries being imported. It finds nothing itself: it asks the others, and adds to what loads the module."""

    def __init__(self) -> None:
        self._asking = threading.local()

    def insert(self) -> None:
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _TRIGGERS or getattr(self._asking, "name", None) == fullname:
            return None
        self._asking.name = fullname
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking.name = None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, _TRIGGERS[fullname])
        return spec


class _Loader(Loader):
    """The loader of a library, which tells when it is done."""

    def __init__(self, own: Any, library: str) -> None:
        self._own = own
        self._library = library

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module has its own loader, as without us: packages look for their files with it.
        module.__loader__ = self._own
        if module.__spec__ is not None:
            module.__spec__.loader = self._own
        self._own.exec_module(module)
        if _finder in sys.meta_path:
            _turn_on(self._library)


_finder = _Finder()
