"""What of a control can leave contrans: a constant added at every position, or nothing.

A file for another engine, or a bias in a checkpoint, adds the same vector to every
token of every text. `constant_edit` turns a control into those vectors, and refuses
what no constant can do.
"""

import torch
from torch import Tensor

from contrans.control.steer import Steer, additions
from contrans.core.types import ConceptVector
from contrans.models.edits import Control


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
    total: dict[int, Tensor] = {}
    for steer in single_edits(control):
        for layer, push in steer.pushes(depth).items():
            if depth is not None and not 0 <= layer < depth:
                raise ValueError(
                    f"the model has no block {layer}; it has {depth} blocks, 0 to "
                    f"{depth - 1}: choose --layers among them"
                )
            push = push.to("cpu", torch.float32)
            total[layer] = total[layer] + push if layer in total else push
    return dict(sorted(total.items()))


def single_edits(control: Control | ConceptVector) -> tuple[Steer, ...]:
    """The vectors that a control adds, each at every position of every text.

    Raises:
        ValueError: when the control does anything else.
    """
    if isinstance(control, ConceptVector):
        return (Steer(control),)
    found = additions(control)
    if found is None:
        raise ValueError(
            f"a {type(control).__name__} cannot be written as a constant vector; only "
            "Steer, or several of them composed, can: use the others through "
            "contrans generate, chat and eval"
        )
    for steer in found:
        _check_constant(steer)
    return found


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
    return [steer.vector for steer in additions(control) or ()]
