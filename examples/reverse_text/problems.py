"""The task: given a text, write it backwards. What is random follows from a seed and a step, never from what ran before."""

import difflib
import hashlib
import random

LETTERS = "abcdefgh"
LONGEST = 6
END = "."


def number(*of):
    """A number of 63 bits that follows from a few values: the seed of whatever is random at one place of a training."""
    digest = hashlib.blake2b(repr(of).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def texts(seed, place, count):
    """Texts of 3 to LONGEST letters: the same for the same seed and place (a step, "data")."""
    dice = random.Random(number(seed, place))
    return ["".join(dice.choices(LETTERS, k=dice.randint(3, LONGEST))) for _ in range(count)]


def answer(text):
    """What a perfect model writes."""
    return text[::-1] + END


def reward(text, completion):
    """How well a completion is the text backwards: 1 if it is, 0 if it has nothing of it."""
    return difflib.SequenceMatcher(None, completion, answer(text), autojunk=False).ratio()


def advantages(rewards):
    """What each completion of one text was worth beside the others, in standard deviations: zeros where all were worth the same."""
    mean = sum(rewards) / len(rewards)
    deviation = (sum((each - mean) ** 2 for each in rewards) / len(rewards)) ** 0.5
    return [(each - mean) / deviation if deviation > 1e-9 else 0.0 for each in rewards]
