"""Randomness: always an argument, never a trace left behind."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SEEDS = 2**63 - 1
"""The largest seed."""


def _checked(seed: int) -> int:
    if not -SEEDS <= seed <= SEEDS:
        raise ValueError("the seed is too large; choose one below 2**63")
    return seed


def generator(seed: int) -> torch.Generator:
    """A CPU random generator seeded with `seed`.

    Raises:
        ValueError: when no generator takes such a seed.
    """
    return torch.Generator().manual_seed(_checked(seed))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A scope in which torch's global randomness starts from `seed`.

    The state of the generators outside the scope is untouched, so that sampling
    here never changes what the caller draws next.
    """
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_checked(seed))
        yield
