"""Checkpoints as directories that ``from_pretrained`` loads."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from runtree import _ranks
from runtree.checkpoint import Checkpoint
from runtree.errors import Corrupt, Error
from runtree.store import cache_dir

#: What a state tree of the mixin has uppermost, besides what a training needs.
FILES, MODEL, ADAPTERS = "files", "model", "adapters"


def is_trainer_state(checkpoint: Checkpoint) -> bool:
    """Whether it is a state tree, as the mixin saves them, and not a directory."""
    try:
        return bool(_ranks.keys(checkpoint, "trainer", 0))
    except Error:
        return False


def pretrained_dir(checkpoint: Checkpoint) -> Path:
    """A directory in the cache that ``from_pretrained`` loads: made once, every byte verified. It is not to be written into.

    A checkpoint that was saved as a directory is that directory. Of a state tree it is the model's weights as safetensors, its
    config, and the files that ``RuntreeTrainerMixin`` saved with it; adapters of PEFT as PEFT writes them.

    Raises:
        NotFound: The state has no model.
        Corrupt: Its bytes are damaged.
    """
    if not is_trainer_state(checkpoint):
        return checkpoint.dir()
    target = cache_dir() / "pretrained" / checkpoint._store.id / checkpoint.id
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, so that it appears whole, by a rename.
    with tempfile.TemporaryDirectory(prefix=f"{checkpoint.id}.", dir=target.parent) as place:
        made = Path(place) / "made"
        keys = _ranks.keys(checkpoint, "trainer", 0)
        if ADAPTERS in keys:
            _write_adapters(checkpoint, made)
        else:
            checkpoint.export(made, layout="hf")
        if FILES in keys:
            _write_files(checkpoint.load(keys=f"{FILES}*")[FILES], made)
        for path in made.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
        try:
            made.rename(target)
        except OSError:
            # Another process was faster: it wrote the same bytes.
            if not target.is_dir():
                raise
    return target


def _inside(name: str) -> str:
    """A name that stays in the directory: it was read from a store."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise Corrupt(f"file name {name!r} leaves the directory of its checkpoint")
    return name


def _write_files(files: dict[str, bytes], directory: Path) -> None:
    for name, content in files.items():
        path = directory / _inside(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _write_adapters(checkpoint: Checkpoint, directory: Path) -> None:
    save_file: Any = import_module("safetensors.torch").save_file
    adapters: dict[str, dict[str, Any]] = checkpoint.load(keys=f"{ADAPTERS}.*")[ADAPTERS]
    for name, weights in adapters.items():
        place = directory if name == "default" else directory / _inside(name)
        place.mkdir(parents=True, exist_ok=True)
        # A shared tensor stands twice there: the format has no sharing.
        plain = {key: value.detach().clone().contiguous() for key, value in weights.items()}
        save_file(plain, place / "adapter_model.safetensors", metadata={"format": "pt"})
