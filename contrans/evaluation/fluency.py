"""Perplexity: what an edit costs on neutral text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contrans.models.collect import Progress
from contrans.models.edits import Control, NoControl
from contrans.models.lm import LM
from contrans.models.scoring import score_continuations_under

WINDOW = 1024
"""Tokens in a window at most; longer texts are read in windows that overlap by half."""


FLUENCY = "perplexity"
"""The metric of a text."""
Losses = tuple[tuple[float, float], ...]
"""Per text, (negative log-likelihood in nats, tokens scored)."""


@dataclass(frozen=True, slots=True)
class Fluency:
    """Perplexity on some texts, as a thing to be measured beside tasks."""

    texts: tuple[str, ...]
    name: str = FLUENCY
    metric: str = FLUENCY
    chance: float | None = None
    higher_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Perplexity of a model on some texts."""

    value: float
    """exp of the token-weighted mean negative log-likelihood; infinite if above e^700."""
    stderr: float
    """Standard error by the delta method; NaN for a single text in a single window."""
    tokens: int
    """Tokens scored."""


def windows(
    length: int, window: int, stride: int, first: int = 1
) -> list[tuple[int, int, int]]:
    """(start, first scored, end) of windows that score every token from `first` on once.

    Args:
        length: tokens of the document.
        window: tokens of a forward at most.
        stride: tokens scored by each forward after the first.
        first: the first token that is scored.

    Example:
        >>> windows(7, 4, 2)
        [(0, 1, 4), (2, 4, 6), (3, 6, 7)]
        >>> windows(4, 4, 2)
        [(0, 1, 4)]
    """
    found, scored = [], first
    while scored < length:
        end = min(length, window if scored == first else scored + stride)
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
    puts one. Every window of a long text begins with it, too. Without BOS the first
    token is an attention sink, whose state predicts nothing and feels no edit: the
    second one is not scored either (in SmolLM2-135M it costs 13.4 nats, the later ones
    5.0).

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
    return summary(_by_text(nll, tokens, owners, len(texts)))


def losses_under(
    lm: LM, texts: Sequence[str], controls: Sequence[Control]
) -> list[Losses]:
    """What `perplexity` is made of, under each of several controls that share a pass.

    Args:
        lm: the model, as `load_model` returns it.
        texts: the texts.
        controls: the controls, each applied alone.

    Returns:
        Per control and text, what `text_losses` gives; of a single text the same per
        window, so that it has a standard error.
    """
    losses, tokens, owners = _losses(lm, texts, None, None, controls=controls)
    return [_by_text(nll, tokens, owners, len(texts)) for nll in losses]


def text_losses(
    lm: LM,
    texts: Sequence[str],
    *,
    window: int | None = None,
    stride: int | None = None,
    progress: Progress | None = None,
    empty: bool = False,
) -> list[tuple[float, float]]:
    """What `perplexity` is made of, text by text, so that two controls can be paired.

    Args:
        lm: the model, with whatever control is active.
        texts: neutral texts.
        window: tokens per forward pass; None takes the model's context, up to 1024.
        stride: new tokens per window after the first; None is half a window.
        progress: called with (windows done, windows in all).

        empty: allow texts of which none has anything to score, such as one piece of
            many.

    Returns:
        Per text, (negative log-likelihood in nats, tokens scored); (0, 0) for a text
        with nothing to score.

    Raises:
        ValueError: when there is nothing to score at all, and `empty` is false.
    """
    [nll], tokens, owners = _losses(
        lm, texts, window, stride, progress=progress, empty=empty
    )
    return list(_sums(nll, tokens, owners, len(texts)))


def _losses(
    lm: LM,
    texts: Sequence[str],
    window: int | None,
    stride: int | None,
    *,
    tokens_per_batch: int | None = None,
    progress: Progress | None = None,
    controls: Sequence[Control] = (NoControl(),),
    empty: bool = False,
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Per window: negative log-likelihood under every control, tokens scored, text."""
    window = min(lm.context, WINDOW) if window is None else window
    head = lm.special_affixes[0]
    inner = window - max(len(head) - 1, 0)
    stride = max(inner // 2, 1) if stride is None else stride
    begun = 1 if head else 2
    if not begun < inner <= window <= lm.context or not 1 <= stride < inner:
        raise ValueError(
            f"window {window} with stride {stride} does not fit {lm.name!r}, whose "
            f"context is {lm.context}; choose {begun + 1} <= window <= {lm.context} and "
            "a stride below the window"
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
        for start, first, end in windows(len(slots), inner, stride, begun):
            lead = head if head and start > 0 else []
            begin = start + 1 if lead else start
            context = lead + [i for slot in slots[begin:first] for i in slot]
            items.append((context, [i for slot in slots[first:end] for i in slot]))
            owners.append(row)
    if not items and empty:
        return [np.zeros(0) for _ in controls], np.zeros(0), np.zeros(0, dtype=np.int64)
    if not items:
        raise ValueError(
            f"nothing to score: {len(texts)} texts of {begun} tokens at most; "
            "give longer texts"
        )
    scores = score_continuations_under(
        lm, items, controls, tokens_per_batch=tokens_per_batch, progress=progress
    )
    losses = [-score.total.numpy() for score in scores]
    return losses, scores[0].tokens.numpy(), np.array(owners)


def _by_text(
    nll: np.ndarray, tokens: np.ndarray, owners: np.ndarray, texts: int
) -> Losses:
    """Windows added up by text; the windows themselves, when there is one text only."""
    if texts == 1:
        owners, texts = np.arange(len(owners)), len(owners)
    return _sums(nll, tokens, owners, texts)


def _sums(nll: np.ndarray, tokens: np.ndarray, owners: np.ndarray, n: int) -> Losses:
    columns = [
        np.bincount(owners, weights=x, minlength=n).tolist() for x in (nll, tokens)
    ]
    return tuple(zip(*columns, strict=True))


def summary(losses: Losses) -> Perplexity:
    """Perplexity and its standard error: a ratio estimate over texts that were scored.

    Example:
        >>> summary(((0.0, 2.0), (0.0, 3.0)))
        Perplexity(value=1.0, stderr=0.0, tokens=5)
    """
    nll, tokens = np.array(losses, dtype=np.float64).reshape(-1, 2).T
    n, total = int((tokens > 0).sum()), float(tokens.sum())
    mean = float(nll.sum()) / total if total else math.nan
    value = math.exp(mean) if not mean >= 700 else math.inf
    stderr = math.nan
    if n > 1 and math.isfinite(value):
        residual = nll - mean * tokens
        stderr = value * math.sqrt(n / (n - 1) * float((residual**2).sum())) / total
    return Perplexity(value, stderr, int(total))
