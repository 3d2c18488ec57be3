"""A short hash of a model's weights, from memory or from a checkpoint on disk."""

import hashlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

SAMPLES = 16
"""Numbers read of every parameter."""


def weights_fingerprint(
    parameters: Iterable[tuple[str, Tensor]], values: Callable[[str], Tensor]
) -> str:
    """A hash of the weights, the same in float32 and bfloat16.

    It samples 16 numbers of every parameter, so it takes milliseconds and still tells
    a fine-tuned model from its base.

    Args:
        parameters: names, and tensors whose shape and dtype count (meta ones will do).
        values: the numbers of a parameter, by name.
    """
    seen = hashlib.sha256()
    for name, parameter in sorted(parameters, key=lambda entry: entry[0]):
        seen.update(f"{name}{tuple(parameter.shape)}".encode())
        if not parameter.is_floating_point() or not parameter.numel():
            continue
        flat = values(name).reshape(-1)
        index = torch.linspace(0, flat.numel() - 1, SAMPLES, dtype=torch.float64)
        sample = flat[index.long().to(flat.device)].to("cpu", torch.bfloat16)
        seen.update(sample.view(torch.int16).numpy().tobytes())
    return seen.hexdigest()[:16]
