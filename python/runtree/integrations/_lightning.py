"""Lightning under either of its names: ``lightning.pytorch``, or ``pytorch_lightning`` where the program uses that one."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.plugins.io import CheckpointIO, TorchCheckpointIO
    from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
else:
    _names = ["lightning.pytorch", "pytorch_lightning"]
    # The one that is in use: their classes do not mix.
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
        _names.reverse()
    try:
        pl: Any = import_module(_names[0])
    except ModuleNotFoundError:
        pl = import_module(_names[1])

    Callback = import_module(f"{pl.__name__}.callbacks").Callback
    Logger = import_module(f"{pl.__name__}.loggers").Logger
    CheckpointIO = import_module(f"{pl.__name__}.plugins.io").CheckpointIO
    TorchCheckpointIO = import_module(f"{pl.__name__}.plugins.io").TorchCheckpointIO
    FSDPStrategy = import_module(f"{pl.__name__}.strategies").FSDPStrategy
    ModelParallelStrategy = import_module(f"{pl.__name__}.strategies").ModelParallelStrategy

__all__ = [
    "Callback", "CheckpointIO", "FSDPStrategy", "Logger", "ModelParallelStrategy", "TorchCheckpointIO", "pl",
]  # fmt: skip
