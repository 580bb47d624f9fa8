"""``runtree://REF`` where Transformers and PEFT take a path or a name on the Hub."""

# What is patched has no types here.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runtree import _live, _native
from runtree.errors import Error
from runtree.integrations._transformers_pretrained import pretrained_dir
from runtree.store import Store

if TYPE_CHECKING:
    from runtree.run import Run

SCHEME = "runtree://"
# Where a name comes in: classes with a `from_pretrained` of their own. All others inherit one of these or call it.
_CLASSES = {
    "transformers": (
        "PreTrainedModel", "PreTrainedTokenizerBase", "PreTrainedConfig", "GenerationConfig", "ProcessorMixin",
        "FeatureExtractionMixin", "ImageProcessingMixin", "BaseVideoProcessor", "AutoConfig", "AutoTokenizer", "AutoProcessor",
        "AutoFeatureExtractor", "AutoImageProcessor", "AutoVideoProcessor",
    ),
    "transformers.models.auto.auto_factory": ("_BaseAutoModelClass", "_BaseAutoBackboneClass"),
    # Each of these has a copy of the method for its documentation.
    "transformers.models.auto.modeling_auto": (),
    "peft": ("PeftModel", "PeftConfig"),
    "peft.config": ("PeftConfigMixin",),
}  # fmt: skip
_METHODS = {"peft": (("PeftModel", "load_adapter"),)}
_patched: list[tuple[Any, str, Any]] = []


def directory_of(name: Any) -> Any:
    """The directory of a ``runtree://REF``; anything else is returned as it is."""
    if not isinstance(name, str) or not name.startswith(SCHEME):
        return name
    place, ref = _native.split_reference(name[len(SCHEME) :])
    store = Store(place)
    for run in list(_live._runs.values()):
        if run.store.location == store.location:
            settle(run)
    return str(pretrained_dir(store.checkpoint(ref)))


def settle(run: Run) -> None:
    """Waits for what a live run has logged and saved: who names a checkpoint means it, too."""
    run._catch_up()
    for pending in list(run._pending):
        # What went wrong is told by the run.
        with contextlib.suppress(Error):
            pending.result()


def enable_urls() -> None:
    """Makes ``from_pretrained("runtree://MMP-42@best:eval/loss:min")`` load from the store, through :func:`pretrained_dir`.

    After the scheme stands a REF, of ``RUNTREE_STORE`` or with its own store: ``runtree://s3://bucket/prefix#MMP-42``. It holds for
    models, tokenizers, configs, processors, ``generation_config`` and, if PEFT is installed, adapters (``PeftModel.from_pretrained``
    and ``load_adapter``, ``PeftConfig.from_pretrained``): it wraps ``from_pretrained`` of their base classes and of the ``Auto…``
    ones, where it replaces an argument that begins with ``runtree://`` by a directory, and changes nothing else. Calling it again
    does nothing; :func:`disable_urls` takes it back.
    """
    if _patched:
        return
    for module_name, named in _CLASSES.items():
        module = _module(module_name)
        if module is None:
            continue
        contents: dict[str, Any] = vars(module)
        names: list[str] = [*named] or [name for name, each in contents.items() if isinstance(each, type)]
        for name in names:
            _patch(getattr(module, name, None), "from_pretrained")
    for module_name, methods in _METHODS.items():
        for name, method in methods:
            _patch(getattr(_module(module_name), name, None), method)


def disable_urls() -> None:
    """Takes :func:`enable_urls` back."""
    while _patched:
        owner, name, original = _patched.pop()
        setattr(owner, name, original)


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


def _patch(owner: Any, name: str) -> None:
    original: Any = vars(owner).get(name) if owner is not None else None
    if original is None or any(owner is known and name == what for known, what, _ in _patched):
        return
    inner: Any = getattr(original, "__func__", original)

    @functools.wraps(inner)
    def with_urls(*args: Any, **keywords: Any) -> Any:
        return inner(*map(directory_of, args), **{key: directory_of(value) for key, value in keywords.items()})

    _patched.append((owner, name, original))
    setattr(owner, name, type(original)(with_urls) if original is not inner else with_urls)
