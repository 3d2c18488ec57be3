"""Rows of token ids: padded to a rectangle, and grouped into batches."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor


def pad(
    rows: Sequence[Sequence[int]], fill: int, *, side: Literal["left", "right"]
) -> tuple[Tensor, Tensor]:
    """Rows of token ids as a rectangle, with the mask of the real ones.

    Args:
        rows: token ids, [rows][tokens].
        fill: the id of padding.
        side: where padding goes.

    Example:
        >>> pad([[5], [6, 7]], 0, side="left")[0].tolist()
        [[0, 5], [6, 7]]
    """
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        span = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, span] = torch.tensor(row, dtype=torch.long)
        mask[i, span] = 1
    return ids, mask


def token_batches(rows: Sequence[Sequence[int]], budget: int) -> Iterable[list[int]]:
    """Indices of rows in batches of similar length, at most `budget` padded tokens.

    Example:
        >>> list(token_batches([[1] * 4, [1], [1] * 2], 4))
        [[1, 2], [0]]
    """
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda i: len(rows[i])):
        if batch and (len(batch) + 1) * len(rows[index]) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
