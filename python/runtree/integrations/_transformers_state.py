"""What the mixin saves of a ``Trainer``, and how it goes back.

A state tree: ``model`` (its state dict) or ``adapters`` (of PEFT, by name), ``config``, ``optimizer``, ``scheduler``, ``scaler`` if
there is one, ``rng``, and ``files``: those that the Trainer writes beside the weights, ``trainer_state.json`` among them. No pickle:
there is no ``training_args.bin``; the arguments are in the run's config.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers.trainer_callback import ExportableState

import runtree
from runtree import _native
from runtree.errors import NotFound
from runtree.integrations._transformers_pretrained import ADAPTERS, FILES, MODEL
from runtree.integrations._transformers_urls import SCHEME
from runtree.store import Store

if TYPE_CHECKING:
    from runtree.checkpoint import Checkpoint
    from runtree.run import Run

TRAINER_STATE = "trainer_state.json"


class Loaded(NamedTuple):
    """A state that a training goes on from."""

    place: str
    """The directory that stands for it."""
    tree: dict[str, Any]
    checkpoint: Checkpoint


def is_peft(model: Any) -> bool:
    """Whether it is a model of PEFT."""
    return hasattr(model, "peft_config") and hasattr(model, "base_model") and hasattr(model, "load_adapter")


def needs_directories(model: Any) -> bool:
    """Whether only its own ``save_pretrained`` knows what of it is to be saved."""
    if is_peft(model) and type(model).__module__.startswith("peft"):
        return False
    return getattr(model, "_hf_peft_config_loaded", False) or getattr(model, "hf_quantizer", None) is not None


# ---- Saving.


def gather(trainer: Any, files: dict[str, bytes]) -> dict[str, Any]:
    """The state of a trainer; its tensors are those that are trained, not copies."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    files = {**files, TRAINER_STATE: _json(dataclasses.asdict(trainer.state))}
    state: dict[str, Any] = {}
    if is_peft(model):
        from peft import get_peft_model_state_dict

        state[ADAPTERS] = {name: get_peft_model_state_dict(model, adapter_name=name) for name in model.peft_config}
        for name, config in model.peft_config.items():
            files[f"{'' if name == 'default' else f'{name}/'}adapter_config.json"] = _adapter_config(model, config)
    else:
        ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
        state[MODEL] = {name: value for name, value in model.state_dict().items() if name not in ignored}
        config: Any = getattr(model, "config", None)
        if hasattr(config, "to_json_string"):
            settings = json.loads(config.to_json_string())
            state["config"] = {**settings, "architectures": [type(model).__name__], "dtype": _dtype(model)}
        if hasattr(model, "can_generate") and model.can_generate():
            files["generation_config.json"] = model.generation_config.to_json_string().encode()
    state[FILES] = files
    if not trainer.args.save_only_model:
        state["optimizer"] = trainer.optimizer.state_dict()
        state["scheduler"] = trainer.lr_scheduler.state_dict()
        if getattr(trainer.accelerator, "scaler", None) is not None:
            state["scaler"] = trainer.accelerator.scaler.state_dict()
        state["rng"] = runtree.rng()
    return state


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")


def _json(value: Any) -> bytes:
    # As `TrainerState.save_to_json` writes it.
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _adapter_config(model: Any, config: Any) -> bytes:
    """The file of an adapter's config, as ``save_pretrained`` writes it: it names its base, and is for inference."""
    with tempfile.TemporaryDirectory(prefix="runtree-") as place:
        mode, config.inference_mode = config.inference_mode, True
        if config.base_model_name_or_path is None:
            base = model.base_model if config.is_prompt_learning else model.base_model.model
            config.base_model_name_or_path = base.__dict__.get("name_or_path") or None
        try:
            config.save_pretrained(place)
        finally:
            config.inference_mode = mode
        return (Path(place) / "adapter_config.json").read_bytes()


def processing_files(trainer: Any) -> dict[str, bytes]:
    """The files of the tokenizer or processor, by name: they do not change while it trains."""
    processing = trainer.processing_class or getattr(trainer.data_collator, "tokenizer", None)
    if processing is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="runtree-") as place:
        processing.save_pretrained(place)
        root = Path(place)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def export_callbacks(trainer: Any) -> None:
    """Puts the states of callbacks into the trainer's, as the Trainer does when it saves."""
    found: dict[str, list[Any]] = {}
    for each in [*trainer.callback_handler.callbacks, trainer.control]:
        if isinstance(each, ExportableState):
            found.setdefault(type(each).__name__, []).append(each.state())
    for name, values in found.items():
        trainer.state.stateful_callbacks[name] = values[0] if len(values) == 1 else values


# ---- Loading.


def named(run: Run, address: str) -> Checkpoint:
    """The checkpoint of a ``runtree://`` address; without a store of its own it is in the run's."""
    place, ref = _native.split_reference(address.removeprefix(SCHEME))
    store = run.store if place is None else Store(place)
    return store.checkpoint(ref, project=run.project)


def trainer_state_text(tree: dict[str, Any]) -> str:
    """The trainer's state, without the best model's address, which the Trainer takes for a directory."""
    state = _trainer_state(tree)
    return json.dumps({**state, "best_model_checkpoint": None})


def best_address(tree: dict[str, Any]) -> str | None:
    """Where the best model is."""
    return _trainer_state(tree)["best_model_checkpoint"]


def _trainer_state(tree: dict[str, Any]) -> dict[str, Any]:
    content = tree.get(FILES, {}).get(TRAINER_STATE)
    if content is None:
        raise NotFound(
            "the checkpoint has no trainer_state.json: RuntreeTrainerMixin did not save it",
            hint="load its weights into the model before training instead: run.load(ref, into={'model': model})",
        )
    return json.loads(content)


def load_model(trainer: Any, tree: dict[str, Any]) -> None:
    """Puts weights into a trainer's model; they leave the tree, so that they are not in memory twice for long."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    if ADAPTERS in tree:
        from peft import set_peft_model_state_dict

        for name, weights in tree.pop(ADAPTERS).items():
            if name not in model.peft_config:
                raise NotFound(f"the model has no adapter {name!r}; it has {', '.join(model.peft_config)}")
            set_peft_model_state_dict(model, weights, adapter_name=name)
        return
    trainer._issue_warnings_after_load(model.load_state_dict(tree.pop(MODEL), strict=False))
