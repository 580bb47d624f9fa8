"""A small decoder that writes characters, in plain torch."""

import hashlib

import numpy as np
import torch
from problems import END, LETTERS, LONGEST
from torch import nn
from torch.nn import functional

# Prompts are padded on the left, so that all completions of a batch begin at the same place.
PAD, ASK = " ", ">"
CHARACTERS = PAD + ASK + END + LETTERS
PROMPT, COMPLETION = LONGEST + 1, LONGEST + 1
WIDTH, HEADS, LAYERS = 64, 4, 2


def make_exact():
    """The same bits every time on the same machine: one thread, no algorithm that adds in another order."""
    torch.set_num_threads(1)
    # `use_deterministic_algorithms` says the same to the compiler, too, whose import takes a second.
    torch.set_deterministic_debug_mode("error")


def encode(rows):
    """Texts of one length as tokens, int64 [rows, length]."""
    return torch.tensor([[CHARACTERS.index(each) for each in row] for row in rows])


def prompts(texts):
    """What the model is asked, int64 [texts, PROMPT]."""
    return encode([text.rjust(LONGEST, PAD) + ASK for text in texts])


class Block(nn.Module):
    """Attention to what is before, then a layer of its own for each place."""

    def __init__(self):
        super().__init__()
        self.norm, self.second_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.look, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.think = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        rows, length, _ = x.shape
        parts = self.look(self.norm(x)).view(rows, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.think(self.second_norm(x))


class Policy(nn.Module):
    """Tokens [rows, length] to the logits of each next one [rows, length, characters]. About 100,000 parameters, float32."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.token = nn.Embedding(len(CHARACTERS), WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(PROMPT + COMPLETION, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(CHARACTERS))

    def forward(self, tokens):
        return self.head(self.norm(self.blocks(self.token(tokens) + self.place[: tokens.shape[1]])))

    @torch.no_grad()
    def complete(self, texts, seed):
        """A completion of each text, END included if the model wrote it; random numbers follow from the seed."""
        dice = torch.Generator().manual_seed(seed)
        tokens = prompts(texts)
        for _ in range(COMPLETION):
            chances = self(tokens)[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=dice)], 1)
        written = ["".join(CHARACTERS[each] for each in row) for row in tokens[:, PROMPT:].tolist()]
        return [text[: text.index(END) + 1] if END in text else text for text in written]

    def loss(self, texts, completions, weights):
        """The mean over all written characters of their negative log-likelihood, times the weight of their row; float32 []."""
        written = torch.tensor([[place < len(text) for place in range(COMPLETION)] for text in completions])
        tokens = torch.cat([prompts(texts), encode([text.ljust(COMPLETION, PAD) for text in completions])], 1)
        logits = self(tokens[:, :-1])[:, PROMPT - 1 :]
        each = functional.cross_entropy(logits.transpose(1, 2), tokens[:, PROMPT:], reduction="none")
        return (each * torch.tensor(weights)[:, None])[written].sum() / written.sum()


def count_tokens(texts, completions):
    """Characters that a batch trains on or from: those of the texts, of the questions and of the completions."""
    return sum(map(len, texts)) + len(texts) + sum(map(len, completions))


def write_weights(model):
    """All parameters as bytes: float32, in the order of `parameters()`."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy().tobytes()


def read_weights(model, data):
    """Puts what `write_weights` gave into a model."""
    nn.utils.vector_to_parameters(torch.from_numpy(np.frombuffer(data, np.float32).copy()), model.parameters())


def version_of(step, data):
    """What weights are called: their step alone would be the name of other weights, too, in another run or before a crash."""
    return f"{step}-{hashlib.blake2b(data, digest_size=8).hexdigest()}"
