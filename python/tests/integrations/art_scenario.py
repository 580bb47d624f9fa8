"""The real ``art.local.LocalBackend`` with runtree attached. Run by ``test_art.py``, which checks what is said here.

Real are the backend, the models, ``register``, ``train``, ``log``, adapter leases and all paths. Stood in for is what needs a GPU:
the service, which writes adapters where and how ART's own does (``UnslothService``), and the tokenising before it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

for name in ("litellm", "litellm.types", "litellm.types.utils"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["litellm.types.utils"].Choices = type("Choices", (), {})  # type: ignore[attr-defined]

import art  # type: ignore[import-not-found]  # noqa: E402
import torch  # noqa: E402
from art.local import LocalBackend  # type: ignore[import-not-found]  # noqa: E402
from art.utils.get_model_step import get_step_from_dir  # type: ignore[import-not-found]  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import runtree  # noqa: E402
from runtree.integrations.art import attach  # noqa: E402

# After the others, which look whether it is installed.
sys.modules["wandb"] = types.ModuleType("wandb")
BASE = "OpenPipe/Qwen3-14B-Instruct"
QUIET = {"console": False, "system_metrics": False, "environment": False}
told: dict[str, Any] = {}


class Service:
    """What trains, as far as directories go."""

    def __init__(self, model: Any, path: str) -> None:
        self.output_dir = Path(path) / model.project / "models" / model.name

    def write(self, step: int, value: float) -> None:
        place = self.output_dir / "checkpoints" / f"{step:04d}"
        os.makedirs(place, exist_ok=True)
        save_file({"lora_A": torch.full((8, 64), value)}, place / "adapter_model.safetensors", {"format": "pt"})
        config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": BASE}
        (place / "adapter_config.json").write_text(json.dumps(config))

    def last(self) -> float | None:
        place = self.output_dir / "checkpoints" / f"{get_step_from_dir(str(self.output_dir)):04d}"
        return float(load_file(place / "adapter_model.safetensors")["lora_A"][0, 0]) if place.exists() else None

    async def start_openai_server(self, config: Any) -> tuple[str, int]:
        if self.last() is None:
            self.write(0, 0.0)
        self.value = self.last()
        return "127.0.0.1", 1

    async def train(self, tensors: Any, config: Any, more: Any, verbose: bool) -> Any:
        self.value += config.learning_rate
        self.write(get_step_from_dir(str(self.output_dir)) + 1, self.value)
        yield {"loss": 1.0 / self.value}


def backend_of(path: str = ".art") -> Any:
    backend = LocalBackend(path=path, in_process=True)
    ones = torch.ones(1, 4)
    tensors: dict[str, Any] = {
        "tokens": ones.long(), "group_ids": ones.long(), "parent_ids": ones.long(), "input_pos": ones.long(),
        "assistant_mask": ones.bool(), "logprobs": ones, "advantages": ones, "weights": ones, "pixel_values": [None],
        "image_grid_thw": [None],
    }  # fmt: skip
    backend._get_packed_tensors = lambda *_, **__: tensors

    async def service_of(model: Any) -> Any:
        if model.name not in backend._services:
            backend._services[model.name] = Service(model, backend._path)
        return backend._services[model.name]

    # Its own imports Megatron before it looks what there is.
    backend._get_service = service_of
    return backend


async def model_of(backend: Any, name: str, **fields: Any) -> Any:
    model = art.TrainableModel(name=name, project="p", base_model=BASE, **fields)
    backend._services[name] = Service(model, backend._path)
    return model


def directories(name: str, path: str = ".art") -> list[str]:
    return sorted(each.name for each in (Path(path) / "p" / "models" / name / "checkpoints").iterdir())


def steps(name: str, **options: Any) -> list[int]:
    return [each.step for each in runtree.Store().run(name, project="p").checkpoints(**options)]


async def training() -> None:
    async with backend_of() as backend:
        attachment = attach(backend, init=QUIET)
        model = await model_of(backend, "agent")
        await model.register(backend)
        rewards = [0.1, 0.9, 0.5]
        for reward in rewards:
            result = await backend.train(model, [], learning_rate=1.0)
            await model.log(metrics={"reward": reward}, split="val", step=result.step)
        # A skipped update: ART copies the directory.
        backend._get_packed_tensors = lambda *_, **__: None
        await backend.train(model, [])
        told["step"] = await model.get_step()
        told["name"] = backend._model_inference_name(model)
        told["written"] = directories("agent")
        async with backend.adapter_lease(model, 1):
            plan = await model.delete_checkpoints()
            told["leased"] = directories("agent")
        told["plan"] = sorted(each.checkpoint.step for each in plan.decisions if each.keep)
        more = await model.delete_checkpoints(best_checkpoint_metric="val/reward")
        told["kept"] = directories("agent")
        told["model.json"] = sorted(json.loads(Path(".art/p/models/agent/model.json").read_text()))
        await model.register(backend)
    run = attachment.run(model)
    assert run is not None
    told["rewards"] = run.history("val/reward").values.tolist()
    told["run"] = [run.display_id, run.status, run.attempt]
    told["complete"] = steps("agent")
    [gone] = [each.checkpoint for each in more.decisions if each.checkpoint.step == 1]
    gone.undelete()
    told["came back"] = steps("agent")
    gone.delete()


async def forking() -> None:
    async with backend_of() as backend:
        attach(backend, init=QUIET)
        child = await model_of(backend, "child")
        told["fork"] = await backend._experimental_fork_checkpoint(child, from_model="agent", not_after_step=3)
        await child.register(backend)
        told["from"] = backend._services["child"].value
        await backend.train(child, [], learning_rate=0.25)
        told["again"] = await backend._experimental_fork_checkpoint(child, from_model="agent", not_after_step=3)
        told["child"] = [await child.get_step(), directories("child"), backend._services["child"].last()]
        try:
            await backend._experimental_fork_checkpoint(child, from_model="child")
        except runtree.Conflict as error:
            told["itself"] = str(error)
        # Registered first, as ART's own scripts do; ART's own fork would be ignored.
        late = await model_of(backend, "late")
        await late.register(backend)
        backend._services["late"].write(7, 7.0)
        try:
            await backend._experimental_fork_checkpoint(late, from_model="agent", not_after_step=3)
        except runtree.Conflict as error:
            told["later"] = "later than step 2" in str(error)
        await backend._experimental_fork_checkpoint(late, from_model="agent", not_after_step=3, force=True)
        told["late"] = [await late.get_step(), directories("late")]
        told["replaced"] = sorted(each.name for each in Path(".art/p/models/late/replaced").iterdir())


async def torn() -> None:
    """A crash while a checkpoint was written, and a machine that has nothing but the store."""
    place = Path(".art/p/models/child/checkpoints/0004")
    place.mkdir()
    (place / "adapter_config.json").write_text("{}")
    async with backend_of() as backend:
        attach(backend, init=QUIET)
        model = await model_of(backend, "child")
        told["ART's step"] = get_step_from_dir(".art/p/models/child")
        told["our step"] = await backend._get_step(model)
        await model.register(backend)
        told["torn"] = [directories("child"), Path(".art/p/models/child/torn/0004-1").exists()]
    async with backend_of("elsewhere") as backend:
        attachment = attach(backend, store=".runtree", init=QUIET)
        model = await model_of(backend, "child")
        told["elsewhere before"] = await backend._get_step(model)
        await model.register(backend)
        told["elsewhere"] = [directories("child", "elsewhere"), backend._services["child"].value]
        # As ART's pipeline asks for it.
        await backend.train(model, [], learning_rate=0.25)
        await backend._delete_checkpoint_files(model, [4])
        told["pipeline"] = [directories("child", "elsewhere"), steps("child")]
        attachment.detach()
        told["detached"] = sorted(name for name in vars(backend) if "train" in name or "fork" in name)


async def sft() -> None:
    """A backend in a plain ``with``, and supervised training, which ART does batch by batch."""
    with backend_of() as backend:
        model = await model_of(backend, "sft")

        async def batches(*_: Any, **__: Any) -> Any:
            for number in range(2):
                yield {"loss/train": 1.0 - number}
            backend._services["sft"].write(1, 1.0)

        backend._train_sft = batches
        attach(backend, init=QUIET)
        await model.register(backend)
        told["sft"] = [each["loss/train"] async for each in backend._train_sft(model, [], None, None)]
    told["sft run"] = [steps("sft"), runtree.Store().run("sft", project="p").status]


async def page(path: str) -> None:
    """The code of the page of the documentation, as it is shown."""
    rewards = iter([0.5, 0.75, 0.25])

    async def rollouts(model: Any) -> list[Any]:
        return []

    async def evaluate(model: Any) -> float:
        return next(rewards)

    names: dict[str, Any] = {"rollouts": rollouts, "evaluate": evaluate}
    for block in re.findall(r"```python\n(.*?)```", Path(path).read_text(), re.DOTALL):
        exec(compile(block, path, "exec", dont_inherit=True), names)
    sys.modules["art.local"].LocalBackend = backend_of  # type: ignore[attr-defined]
    await names["main"]("page", 3)
    store = runtree.Store()
    told["page"] = [each.step for each in store.run("page", project="my-project").checkpoints()]
    told["page fork"] = await names["lower"]("lower", "page", 2)
    fork = store.run("lower", project="my-project")
    told["page lower"] = [fork.fork_step, [each.step for each in fork.checkpoints(inherited=False)]]


async def main() -> None:
    await training()
    await forking()
    await torn()
    await sft()
    await page(sys.argv[1])
    print(json.dumps(told), flush=True)


asyncio.run(main())
