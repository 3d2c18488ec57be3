"""What a training step sees: rows of packed tokens, a pure function of the step.

Nothing here keeps a position, so that an interrupted training goes on exactly where
it stopped.
"""

import itertools
import random

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from contrans.models.zoo import world
from contrans.models.zoo.tokenizer import BOS, EOS

IGNORED = -100
"""The label of a token that is not learned."""

Batch = tuple[Int[Tensor, "rows length"], Int[Tensor, "rows length"]]


def tokens(
    tokenizer: Tokenizer, *, seed: int, count: int, mix: dict[str, float] = world.LIFE
) -> np.ndarray:
    """`count` tokens of the world, documents joined end to end.

    Args:
        tokenizer: of the zoo.
        seed: of the text.
        count: so many.
        mix: share of each kind of document.
    """
    parts: list[np.ndarray] = []
    total = 0
    documents = world.documents(seed, mix)
    while total < count:
        for encoded in tokenizer.encode_batch(list(itertools.islice(documents, 2_000))):
            parts.append(np.array([*encoded.ids, EOS], dtype=np.uint16))
            total += len(parts[-1])
    return np.concatenate(parts)[:count]


def curriculum(tokenizer: Tokenizer, *, seed: int, count: int) -> np.ndarray:
    """What a model reads in its life: school first, then everything.

    Args:
        tokenizer: of the zoo.
        seed: of the text.
        count: tokens in all.
    """
    shares = np.cumsum([share for share, _ in world.CURRICULUM])
    ends = [0, *(round(count * end) for end in shares[:-1]), count]
    return np.concatenate(
        [
            tokens(tokenizer, seed=seed, count=stop - start, mix=mix)
            for (start, stop), (_, mix) in zip(
                itertools.pairwise(ends), world.CURRICULUM, strict=True
            )
            if stop > start
        ]
    )


class Pretraining:
    """A stream of tokens, read once from beginning to end."""

    def __init__(self, stream: np.ndarray) -> None:
        self.stream = stream

    def batch(self, step: int, rows: int, length: int) -> Batch:
        """The rows of one step: inputs, and the same shifted by one.

        Args:
            step: of the training, from 0.
            rows: of the batch.
            length: tokens of a row.

        Raises:
            ValueError: when the text ends before.
        """
        size = rows * length
        window = self.stream[step * size : (step + 1) * size + 1].astype(np.int64)
        if len(window) <= size:
            raise ValueError(
                f"step {step} ends at token {(step + 1) * size}, but there are only "
                f"{len(self.stream)} tokens; generate more text"
            )
        window = torch.from_numpy(window)
        return window[:-1].view(rows, length), window[1:].view(rows, length)


class Alignment:
    """Lessons packed into rows; only the answers are learned."""

    def __init__(self, tokenizer: Tokenizer, *, seed: int) -> None:
        self.tokenizer = tokenizer
        self.seed = seed

    def batch(self, step: int, rows: int, length: int) -> Batch:
        """The rows of one step, labels hidden where the prompt is.

        Args:
            step: of the training, from 0.
            rows: of the batch.
            length: tokens of a row.
        """
        rng = random.Random(f"lessons {self.seed} {step}")
        packed = [self._row(rng, length) for _ in range(rows)]
        inputs = torch.tensor([row[:-1] for row, _ in packed])
        labels = torch.tensor([row[1:] for _, row in packed])
        return inputs, labels

    def _row(self, rng: random.Random, length: int) -> tuple[list[int], list[int]]:
        row: list[int] = []
        labels: list[int] = []
        while len(row) <= length:
            prompt, answer = world.lesson(rng)
            asked = self._encode(prompt)
            told = [*self._encode(answer), EOS]
            row += [BOS, *asked, *told]
            labels += [IGNORED] * (1 + len(asked)) + told
        return row[: length + 1], labels[: length + 1]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids
