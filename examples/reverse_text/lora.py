"""A LoRA adapter of the policy, as a directory with what its optimizer knows: a training that goes on from it goes on exactly."""

import copy
import functools
import json

import policy
import torch
from problems import answer, texts
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize

RANK = 4
BASE_MODEL = "reverse-text/tiny"
#: What AdamW keeps of each parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Lora(nn.Module):
    """What is added to a weight [out, in]: two matrices of a low rank. Nothing, at first."""

    def __init__(self, weight):
        super().__init__()
        self.a = nn.Parameter(torch.randn(RANK, weight.shape[1]))
        self.b = nn.Parameter(torch.zeros(weight.shape[0], RANK))

    def forward(self, weight):
        return weight + self.b @ self.a


@functools.cache
def base_model(steps=60):
    """The base model: a policy that has seen a few examples, the same in every process."""
    model = policy.Policy(seed=7)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        batch = texts("base model", step, 32)
        optimizer.zero_grad()
        model.loss(batch, [answer(text) for text in batch], [1.0] * len(batch)).backward()
        optimizer.step()
    return model.requires_grad_(False)


class Agent:
    """The base model with an adapter: what writes, and what is trained."""

    def __init__(self):
        self.model = copy.deepcopy(base_model())
        torch.manual_seed(7)
        for layer in [each for each in self.model.modules() if isinstance(each, nn.Linear)]:
            parametrize.register_parametrization(layer, "weight", Lora(layer.weight))
        self.adapter = {name: each for name, each in self.model.named_parameters() if each.requires_grad}
        self.optimizer = torch.optim.AdamW(self.adapter.values())

    def load(self, directory):
        """Takes an adapter and its moments from a directory that `save` wrote."""
        self.model.load_state_dict(load_file(directory / "adapter_model.safetensors"), strict=False)
        moments = load_file(directory / "optimizer.safetensors")
        for name, parameter in self.adapter.items():
            self.optimizer.state[parameter] = {moment: moments[f"{name}/{moment}"] for moment in _MOMENTS}

    def save(self, directory):
        """Writes both, and what vLLM and PEFT want to know of an adapter."""
        save_file({name: each.detach() for name, each in self.adapter.items()}, directory / "adapter_model.safetensors")
        moments = {
            f"{name}/{moment}": self.optimizer.state[parameter][moment]
            for name, parameter in self.adapter.items()
            for moment in _MOMENTS
        }
        save_file(moments, directory / "optimizer.safetensors")
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "base_model_name_or_path": BASE_MODEL}
        (directory / "adapter_config.json").write_text(json.dumps(config))

    def complete(self, text, seed):
        """A completion of a text."""
        # The sum of base and adapter is made once, not for each character.
        with parametrize.cached():
            return self.model.complete([text], seed)[0]

    def train(self, texts, completions, advantages, learning_rate):
        """A step of policy gradient; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self.model.loss(texts, completions, advantages)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()
