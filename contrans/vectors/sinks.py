"""Rows that are no states like the others: attention sinks and massive activations.

The first token of a text, and in some blocks a few others, carry states that are tens to
hundreds of times as long as the rest (Sun et al., "Massive Activations in Large Language
Models", arXiv 2402.17762; Xiao et al., "Efficient Streaming Language Models with
Attention Sinks", arXiv 2309.17453). One such row among thousands is most of the variance
of all, so that a map or a mean that holds it is about little else. They are found by
what they are, per block: by the length of the row, against the median of all lengths.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contrans.core.types import HiddenStates, PairedStates

FAR = 10.0
"""Times the median length from which a row can be a sink.

In SmolLM2-135M ordinary rows reach 3 times the median, its sink 11 to 175. Whole kinds of
rows that are longer stay: those that end in "the", 4% of a corpus and up to 10 times as
long in its early blocks; up to 8 times, before some words, in the zoo.
"""
MODIFIED_Z = 3.5
"""Deviations of the logarithm of a length from which it is an outlier: the rule of
Iglewicz and Hoaglin (1993), |x - median| > 3.5 MAD / 0.6745."""
NAMED, SHORTENED = 3, 40
"""Texts that a message names, and characters of each."""


def outlying(lengths: Float[Tensor, "rows ..."]) -> Bool[Tensor, "rows ..."]:
    """Which rows are far longer than the others.

    Both must hold: `FAR` times the median, and an outlier of the logarithms by
    `MODIFIED_Z`. Short rows are none, nor those of NaN.

    Args:
        lengths: Euclidean length of each row, at one or several layers.

    Example:
        >>> outlying(torch.tensor([240.0, 231.0, 22621.0, 255.0])).tolist()
        [False, False, True, False]
    """
    tiny = torch.finfo(torch.float64).tiny
    logs = lengths.double().clamp_min(tiny).log()
    middle = logs.nanmedian(0).values
    deviation = (logs - middle).abs().nanmedian(0).values / 0.6745
    limit = (MODIFIED_Z * deviation).clamp_min(math.log(FAR))
    return (logs > middle + limit) & (middle > math.log(tiny))


def sinks(states: HiddenStates, layer: int) -> Bool[Tensor, " prompts"]:
    """Which rows of states are far longer than the others at a layer."""
    return outlying(states.at(layer).double().norm(dim=1))


def sink_pairs(states: PairedStates, layer: int) -> Bool[Tensor, " prompts"]:
    """Which pairs hold a row far longer than the others of both sides, at a layer.

    None, where that would be half of the pairs or more: what is common is no accident.
    """
    sides = [side.at(layer).double() for side in (states.positive, states.negative)]
    found = outlying(torch.cat(sides).norm(dim=1)).view(2, -1).any(0)
    return found if 2 * int(found.sum()) < len(found) else torch.zeros_like(found)


def without_sinks(states: PairedStates, layer: int) -> PairedStates:
    """The pairs that are left at a layer."""
    found = sink_pairs(states, layer)
    return states.rows((~found).nonzero()[:, 0].tolist()) if found.any() else states


def left_out(what: str, rows: Sequence[int], texts: Sequence[str]) -> str | None:
    """What to tell the user of texts that were left out; None when none were.

    Args:
        what: that were left out, and of what: "corpus texts were left out of the map".
        rows: places of those left out.
        texts: all texts.

    Example:
        >>> print(left_out("texts were left out", [1], ["It rains.", "The"]))
        1 of 2 texts were left out: 'The'. Their states are over 10 times as long...
    """
    if not rows:
        return None
    names = [repr(_short(texts[row])) for row in rows[:NAMED]]
    more = len(rows) - len(names)
    return (
        f"{len(rows)} of {len(texts)} {what}: {', '.join(names)}"
        f"{f' and {more} more' if more else ''}. Their states are over {FAR:g} times as "
        "long as the median one (attention sinks or massive activations), so that they "
        "would outweigh all others"
    )


def _short(text: str) -> str:
    return text if len(text) <= SHORTENED else f"...{text[3 - SHORTENED :]}"
