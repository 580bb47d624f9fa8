"""Lightning's logger and callback: :class:`RuntreeLogger`, :class:`RuntreeCallback`."""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import runtree
from runtree import _warn
from runtree._init import as_config
from runtree.errors import Error, Invalid, Unavailable
from runtree.integrations._lightning import Callback, FSDPStrategy, Logger, ModelParallelStrategy
from runtree.integrations._lightning_io import METRICS, NOTE, RuntreeCheckpointIO
from runtree.integrations._lightning_paths import read
from runtree.integrations._names import checkpoint_name
from runtree.integrations._rates import Rates
from runtree.integrations._source import Source, checked_on_fork, distributed
from runtree.run import Run

# What of hyperparameters is kept as it is; anything else by its name.
_PLAIN = (type(None), bool, int, float, str)


class RuntreeLogger(Logger):
    """Writes what Lightning logs to a run: ``Trainer(logger=RuntreeLogger(run))``.

    Args:
        run: The live run. Without one, this process's only one, else ``runtree.init`` is called with ``init_keywords`` on all ranks
            when the trainer starts: with Lightning's own launcher the ranks find each other only then.
        checkpoints: Whether files that ``ModelCheckpoint`` writes are taken in, byte for byte. Not with
            :class:`RuntreeCheckpointIO`, with which they are in the run already.
        init_keywords: See ``run``.
    """

    def __init__(
        self, run: Run | None = None, *, checkpoints: bool = False, _join: bool = False, **init_keywords: Any
    ) -> None:
        super().__init__()
        self._source = Source(run, init_keywords, join=_join)
        self._checkpoints = checkpoints

    @property
    def experiment(self) -> Run:
        """The run. Lightning asks for it on all ranks when it starts."""
        return self._source.get()

    @property
    def name(self) -> str | None:
        """The run's project."""
        run = self._source.known
        return None if run is None else run.project

    @property
    def version(self) -> int | str | None:
        """The run's display id: ``ModelCheckpoint`` writes below ``<root>/<project>/<display id>``."""
        run = self._source.known
        return None if run is None else run.display_id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs the values of a step. On other ranks than the first it does nothing, unless the run has ``log_ranks="all"``."""
        run = self._source.get()
        if run.rank == 0 or not run._quiet:
            run.log(metrics, step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Adds hyperparameters to the run's config; of what is no plain value, the name of its class."""
        run = self._source.get()
        if run.finished:
            run._quiet_log()
        elif run.rank == 0 and not run.disabled:
            run.update_config(_plain(as_config(params) or {}))

    def save(self) -> None:
        """Nothing to do: what is logged is on its way."""

    def finalize(self, status: str) -> None:
        """Waits until what was logged is durable. The run goes on: ``trainer.test`` may come, and others write to it."""
        run = self._source.known
        if run is not None and not run.finished:
            with contextlib.suppress(Error):
                run.flush()

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Takes in the file that was written, with ``checkpoints=True``. ``ModelCheckpoint`` may delete it at once."""
        path = str(checkpoint_callback._last_checkpoint_saved)
        if not self._checkpoints or not os.path.exists(path) or read(path) is not None:
            return
        run = self._source.get()
        if run.rank != 0 or run.disabled:
            return
        value = checkpoint_callback.best_k_models.get(path)
        metrics = (
            {} if value is None or checkpoint_callback.monitor is None else {checkpoint_callback.monitor: float(value)}
        )
        # A directory of its own, which is what a checkpoint of files is.
        directory = Path(tempfile.mkdtemp(prefix=".runtree-", dir=os.path.dirname(path) or "."))
        try:
            inside = directory / os.path.basename(path)
            if os.path.isdir(path):
                shutil.copytree(path, inside, copy_function=_link)
            else:
                _link(path, inside)
            run.save_dir(
                directory, step=checkpoint_callback._last_global_step_saved, name=checkpoint_name(Path(path).stem),
                metrics=metrics, sharded=False, rank=0, world_size=1,
            )  # fmt: skip
        except (OSError, Unavailable) as error:
            _warn.once(f"{run.id} checkpoints", f"{path} was not taken in: {error}")
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _link(source: Any, target: Any) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    if getattr(value, "shape", None) == ():
        # A tensor or an array of one number.
        return value.item()
    name = value if isinstance(value, type) or callable(value) else type(value)
    return getattr(name, "__qualname__", type(value).__qualname__)


def _listed(state: Any) -> Any:
    """Generators without arrays of numpy, which ``torch.load(weights_only=True)`` refuses in files that Lightning itself writes."""
    if isinstance(state, Mapping):
        return {key: _listed(each) for key, each in state.items()}
    return state.tolist() if type(state).__module__ == "numpy" else state


class RuntreeCallback(Callback):
    """What makes going on exact: the random generators of every rank, and the learning rate of a fork.

    A checkpoint that is saved where a validation has just ended has its metrics, for ``best:val_loss`` and retention.

    Lightning's checkpoints have no generators; with this they do, and are restored on as many ranks as there were. A checkpoint
    that was saved at the end of an epoch goes on as if nothing had been; in mid-epoch that needs a data loader with ``state_dict``.

    Args:
        on_fork: The learning rate after a checkpoint of another run was loaded: ``"use-args"``, that of ``configure_optimizers``, at
            the place where its schedule is; ``"keep"``, the checkpoint's. What a run saved itself is always restored as it was.
        rng: Whether generators are saved and restored.
    """

    def __init__(self, on_fork: str = "use-args", *, rng: bool = True) -> None:
        self._on_fork = checked_on_fork(on_fork)
        self._rng = rng
        self._rates: Rates | None = None
        self._is_fork = False
        self._validated: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The generators of all ranks, and what the last validation came to. A call of all ranks, as saving is."""
        return {**self._generators(), METRICS: self._validated}

    def _generators(self) -> dict[str, Any]:
        if not self._rng:
            return {}
        mine = _listed(runtree.rng().state_dict())
        ranks = distributed()
        if ranks is None:
            return {"rng": [mine]}
        found: list[Any] = [None] * ranks.get_world_size()
        ranks.all_gather_object(found, mine)
        return {"rng": found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Puts the generators back; those of another number of ranks are nobody's, and stay as they are."""
        saved: list[Any] = state_dict.get("rng", [])
        ranks = distributed()
        rank, size = (0, 1) if ranks is None else (ranks.get_rank(), ranks.get_world_size())
        if self._rng and len(saved) == size:
            try:
                runtree.rng().load_state_dict(saved[rank])
            except Invalid as error:
                _warn.once("lightning rng", f"random generators are not restored: {error}")

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Tells of a strategy that writes past the run."""
        strategy: Any = trainer.strategy
        past = isinstance(strategy, (FSDPStrategy, ModelParallelStrategy)) and not hasattr(strategy, "paths")
        if past and isinstance(strategy.checkpoint_io, RuntreeCheckpointIO):
            _warn.once(
                f"lightning {type(strategy).__name__}",
                f"{type(strategy).__name__} writes its shards by itself, not into the run: "
                "use strategy=RuntreeModelParallelStrategy(run), or RuntreeLogger(run, checkpoints=True), which takes files in",
            )

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Notes the metrics: they are those of a checkpoint that is saved at this step."""
        if not trainer.sanity_checking:
            values = {str(name): float(value) for name, value in trainer.callback_metrics.items()}
            self._validated = {"step": trainer.global_step, "values": values}

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Notes whether the checkpoint is another run's."""
        self._is_fork = bool((checkpoint.get(NOTE) or {}).get("foreign"))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Notes what the script has set, before it is restored."""
        schedulers = [each.scheduler for each in trainer.lr_scheduler_configs]
        self._rates = Rates(trainer.optimizers, [each for each in schedulers if hasattr(each, "optimizer")])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Puts the rate of the script back, in a fork."""
        if self._is_fork and self._on_fork == "use-args" and self._rates is not None:
            self._rates.put_back()
        self._rates, self._is_fork = None, False
