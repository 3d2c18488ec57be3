"""Randomness: always an argument, never a trace left behind."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(seed: int) -> torch.Generator:
    """A CPU random generator seeded with `seed`."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A scope in which torch's global randomness starts from `seed`.

    The state of the generators outside the scope is untouched, so that sampling
    here never changes what the caller draws next.
    """
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
