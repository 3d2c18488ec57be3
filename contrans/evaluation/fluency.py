"""Perplexity: what an edit costs on neutral text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contrans.activations import Progress
from contrans.edits import Control, NoControl, shares_lower_blocks
from contrans.evaluation.scoring import score_continuations_under
from contrans.models import LM

WINDOW = 1024
"""Tokens in a window at most; longer texts are read in windows that overlap by half."""


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Perplexity of a model on some texts."""

    value: float
    """exp of the token-weighted mean negative log-likelihood; infinite if above e^700."""
    stderr: float
    """Standard error by the delta method; NaN for a single text in a single window."""
    tokens: int
    """Tokens scored."""


def windows(length: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """(start, first scored, end) of windows that score every token but the first once.

    Example:
        >>> windows(7, 4, 2)
        [(0, 1, 4), (2, 4, 6), (3, 6, 7)]
        >>> windows(4, 4, 2)
        [(0, 1, 4)]
    """
    found, scored = [], 1
    while scored < length:
        end = min(length, window if scored == 1 else scored + stride)
        found.append((max(end - window, 0), scored, end))
        scored = end
    return found


def perplexity(
    lm: LM,
    texts: Sequence[str],
    *,
    window: int | None = None,
    stride: int | None = None,
    tokens_per_batch: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """Token-weighted perplexity, with whatever control is active.

    The first token of a text is scored only after a BOS token, where the tokenizer
    puts one. Every window of a long text begins with it, too.

    Args:
        lm: the model.
        texts: neutral texts.
        window: tokens per forward pass; None takes the model's context, up to 1024.
        stride: new tokens per window after the first; None is half a window.
        tokens_per_batch: padded tokens per batch; None chooses by device.
        progress: called with (windows done, windows in all).

    Raises:
        ValueError: when there is nothing to score, or for a window that does not fit.
    """
    [nll], tokens, owners = _losses(
        lm, texts, window, stride, tokens_per_batch=tokens_per_batch, progress=progress
    )
    return _summary(nll, tokens, owners)


def perplexity_under(
    lm: LM, texts: Sequence[str], controls: Sequence[Control]
) -> list[Perplexity]:
    """Perplexity under each of several controls, in one pass where they allow it."""
    if not all(shares_lower_blocks(control, lm) for control in controls):
        found = []
        for control in controls:
            with control.on(lm) as active:  # may be another model, with other tokens
                found.append(perplexity(active, texts))
        return found
    losses, tokens, owners = _losses(lm, texts, None, None, controls=controls)
    return [_summary(nll, tokens, owners) for nll in losses]


def text_losses(
    lm: LM,
    texts: Sequence[str],
    *,
    window: int | None = None,
    stride: int | None = None,
    progress: Progress | None = None,
) -> list[tuple[float, float]]:
    """What `perplexity` is made of, text by text, so that two controls can be paired.

    Args:
        lm: the model, with whatever control is active.
        texts: neutral texts.
        window: tokens per forward pass; None takes the model's context, up to 1024.
        stride: new tokens per window after the first; None is half a window.
        progress: called with (windows done, windows in all).

    Returns:
        Per text, (negative log-likelihood in nats, tokens scored); (0, 0) for a text
        with nothing to score.

    Raises:
        ValueError: when there is nothing to score at all.
    """
    [nll], tokens, owners = _losses(lm, texts, window, stride, progress=progress)
    sums = np.zeros((len(texts), 2))
    np.add.at(sums, owners, np.stack([nll, tokens], axis=1))
    return [(float(loss), float(count)) for loss, count in sums]


def _losses(
    lm: LM,
    texts: Sequence[str],
    window: int | None,
    stride: int | None,
    *,
    tokens_per_batch: int | None = None,
    progress: Progress | None = None,
    controls: Sequence[Control] = (NoControl(),),
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Per window: negative log-likelihood under every control, tokens scored, text."""
    window = min(lm.context, WINDOW) if window is None else window
    head = lm.special_affixes[0]
    inner = window - max(len(head) - 1, 0)
    stride = max(inner // 2, 1) if stride is None else stride
    if not 2 <= inner <= window <= lm.context or not 1 <= stride < inner:
        raise ValueError(
            f"window {window} with stride {stride} does not fit {lm.name!r}, whose "
            f"context is {lm.context}; choose 2 <= window <= {lm.context} and a stride "
            "below the window"
        )
    items: list[tuple[list[int], list[int]]] = []
    owners: list[int] = []
    for row, text in enumerate(texts):
        ids = list(
            lm.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        )
        if head and ids[: len(head)] == head:
            ids = ids[len(head) :]
        # One slot stands for the BOS tokens, or for the first token where there are none.
        slots = ([head] if head else []) + [[i] for i in ids]
        for start, first, end in windows(len(slots), inner, stride):
            lead = head if head and start > 0 else []
            begin = start + 1 if lead else start
            context = lead + [i for slot in slots[begin:first] for i in slot]
            items.append((context, [i for slot in slots[first:end] for i in slot]))
            owners.append(row)
    if not items:
        raise ValueError(
            f"nothing to score: {len(texts)} texts without two tokens; give longer texts"
        )
    scores = score_continuations_under(
        lm, items, controls, tokens_per_batch=tokens_per_batch, progress=progress
    )
    losses = [-score.total.numpy() for score in scores]
    return losses, scores[0].tokens.numpy(), np.array(owners)


def _summary(nll: np.ndarray, tokens: np.ndarray, owners: np.ndarray) -> Perplexity:
    """Ratio estimate over texts (over windows, when there is one text only)."""
    tokens = tokens.astype(np.float64)
    mean = float(nll.sum() / tokens.sum())
    value = math.exp(mean) if mean < 700 else math.inf
    units = owners if len(np.unique(owners)) > 1 else np.arange(len(owners))
    index = np.unique(units, return_inverse=True)[1].reshape(-1)
    residual = np.bincount(index, weights=nll - mean * tokens)
    n = len(residual)
    stderr = math.nan
    if n > 1 and math.isfinite(value):
        variance = n / (n - 1) * float((residual**2).sum()) / float(tokens.sum()) ** 2
        stderr = value * math.sqrt(variance)
    return Perplexity(value, stderr, int(tokens.sum()))
