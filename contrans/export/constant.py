"""What of a control can leave contrans: a constant added at every position, or nothing.

A file for another engine, or a bias in a checkpoint, adds the same vector to every
token of every text. `constant_edit` turns a control into those vectors, and refuses
what no constant can do.
"""

import torch
from torch import Tensor

from contrans.control import Composed, Control, NoControl, Steer
from contrans.types import ConceptVector


def constant_edit(
    control: Control | ConceptVector, *, depth: int | None = None
) -> dict[int, Tensor]:
    """The vector that a control adds to the output of each block, in float32.

    Args:
        control: a vector (added once, at all its layers), a `Steer`, several of them
            composed, or `NoControl`.
        depth: number of blocks of the model; needed for layers counted from the end.

    Raises:
        ValueError: when the control does anything else than adding constants at every
            position, or names a block that the model does not have.
    """
    if isinstance(control, ConceptVector):
        control = Steer(control)
    if isinstance(control, NoControl):
        return {}
    if isinstance(control, Composed):
        total: dict[int, Tensor] = {}
        for part in control.parts:
            for layer, push in constant_edit(part, depth=depth).items():
                total[layer] = total[layer] + push if layer in total else push
        return dict(sorted(total.items()))
    if not isinstance(control, Steer):
        raise ValueError(
            f"a {type(control).__name__} cannot be written as a constant vector; only "
            "Steer, or several of them composed, can: use the others through "
            "contrans generate, chat and eval"
        )
    _check_constant(control)
    pushes = control.pushes(depth)
    for layer in pushes:
        if depth is not None and not 0 <= layer < depth:
            raise ValueError(
                f"the model has no block {layer}; it has {depth} blocks, 0 to "
                f"{depth - 1}: choose --layers among them"
            )
    return {layer: pushes[layer].to("cpu", torch.float32) for layer in sorted(pushes)}


def _check_constant(steer: Steer) -> None:
    wrong = None
    if steer.positions != "all":
        wrong = f"positions={steer.positions!r}"
    elif steer.skip_bos:
        wrong = "skip_bos=True"
    elif steer.keep_norm:
        wrong = "keep_norm=True"
    if wrong is not None:
        raise ValueError(
            f"{wrong} depends on the text, and a file or a bias adds the same vector "
            "everywhere; leave that option out, or steer with contrans itself"
        )


def vectors_of(control: Control | ConceptVector) -> list[ConceptVector]:
    """The concept vectors behind a control, for names and provenance."""
    if isinstance(control, ConceptVector):
        return [control]
    if isinstance(control, Steer):
        return [control.vector]
    if isinstance(control, Composed):
        return [v for part in control.parts for v in vectors_of(part)]
    return []
