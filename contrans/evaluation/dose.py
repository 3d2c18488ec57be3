"""The dose of an edit: how far it moves a model's predictions on neutral text, in nats.

A strength means little by itself: residual norms, and a concept's share of them, differ
by orders of magnitude between models. The mean Kullback-Leibler divergence per token
between the unedited and the edited model's next-token distributions,
KL(p_unedited || p_edited), means the same everywhere. It is smooth in the strength and
close to quadratic where it is small, so a dose that is asked for is found in a few
probes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from contrans.data import load_corpus
from contrans.models.collect import batch_tokens
from contrans.models.edits import Control, NoControl, shares_lower_blocks
from contrans.models.lm import LM
from contrans.models.logits import Reading

WINDOW = 32
"""Tokens of a text that are read; of a longer one, its first."""
PREDICTIONS = 512
"""Next-token distributions compared: the last half of every window, text by text."""
HELD = 1 << 27
"""Logarithms of probabilities kept at once; half a GiB in float32."""
AT_ONCE = 16
"""Distributions compared at once."""
PROBES = 8
"""Rounds of probing before a dose counts as out of reach."""
NEUTRAL_STEP = 40
"""Every so many a text of the built-in corpus serves as neutral text."""
TOLERANCE = 0.03
"""Relative error of the dose at which the probing ends."""
STEP = 2.0
"""Ratio between neighbouring strengths of a round."""


@dataclass(frozen=True, slots=True)
class Dose:
    """What an edit does to the predictions on neutral text."""

    kl: float
    """Mean divergence per token, in nats."""
    p95: float
    """95th percentile over tokens, in nats."""
    stderr: float
    """Standard error of the mean over texts, in nats; NaN for one text."""
    tokens: int
    """Tokens whose prediction was compared."""


class OutOfReach(ValueError):
    """No strength gives the dose that was asked for."""


def neutral_texts() -> list[str]:
    """Texts of the built-in corpus that doses are measured on, of all its kinds."""
    return list(load_corpus().texts[::NEUTRAL_STEP])


def windows_of(lm: LM, texts: Sequence[str]) -> tuple[list[list[int]], list[range]]:
    """Token ids of windows of texts, and the columns compared in each.

    Only the last half of a window counts: predictions after a few words are those of
    the middle of a text, and no attention sink at its beginning is among them.

    Raises:
        ValueError: when no text has three tokens.
    """
    rows, wanted, total = [], [], 0
    for text in texts:
        ids = lm.encode([text])[0][:WINDOW] if text.strip() else []
        if len(ids) < 3:
            continue
        rows.append(ids)
        wanted.append(range(len(ids) // 2, len(ids)))
        total += len(wanted[-1])
        if total >= PREDICTIONS:
            break
    if not rows:
        raise ValueError(
            f"none of {len(texts)} texts has three tokens; a dose needs neutral texts"
        )
    return rows, wanted


@torch.no_grad()
def doses(lm: LM, texts: Sequence[str], controls: Sequence[Control]) -> list[Dose]:
    """The dose of each of several controls, against the model as it now is.

    What lies below the lowest edit runs once for all controls that are no more than
    edits of the residual stream.

    Args:
        lm: the model.
        texts: neutral texts; so many as `PREDICTIONS` asks for are read.
        controls: what is measured; a control that hands over another model is refused.

    Returns:
        One dose for each control, in nats per token.

    Raises:
        ValueError: for no usable text, or a control that changes the model itself.
    """
    rows, wanted = windows_of(lm, texts)
    found = [np.zeros(sum(map(len, wanted))) for _ in controls]
    vocabulary = cast(Tensor, lm.model.get_input_embeddings().weight).shape[0]
    most = max(HELD // vocabulary, WINDOW)
    start = place = 0
    while start < len(rows):
        stop, size = start, 0
        while stop < len(rows) and (stop == start or size + len(wanted[stop]) <= most):
            size += len(wanted[stop])
            stop += 1
        piece = _divergences(lm, rows[start:stop], wanted[start:stop], controls)
        for mine, values in zip(found, piece, strict=True):
            mine[place : place + size] = values
        start, place = stop, place + size
    lengths = np.array([len(columns) for columns in wanted])
    return [_summary(values, lengths) for values in found]


def _summary(values: np.ndarray, lengths: np.ndarray) -> Dose:
    """Mean, tail and standard error, with texts as the units."""
    mean = float(values.mean())
    starts = np.cumsum([0, *lengths[:-1]])
    residual = np.add.reduceat(values, starts) - mean * lengths
    n, stderr = len(lengths), math.nan
    if n > 1:
        stderr = math.sqrt(n / (n - 1) * float((residual**2).sum())) / len(values)
    return Dose(mean, float(np.quantile(values, 0.95)), stderr, len(values))


def _divergences(
    lm: LM,
    rows: Sequence[Sequence[int]],
    wanted: Sequence[range],
    controls: Sequence[Control],
) -> list[np.ndarray]:
    """Divergences of every prediction under every control, in the order of rows."""
    starts = np.cumsum([0, *map(len, wanted)])
    first = torch.tensor([columns.start for columns in wanted])
    offsets = torch.from_numpy(starts[:-1])
    together = [c for c in controls if shares_lower_blocks(c, lm)]
    base: list[Tensor | None] = [None] * int(starts[-1])
    found = [np.zeros(int(starts[-1])) for _ in controls]
    places = [i for i, c in enumerate(controls) if shares_lower_blocks(c, lm)]

    def take(some: Sequence[Control], owners: Sequence[int | None]) -> None:
        budget = batch_tokens(lm)
        for hit in Reading(lm, rows, wanted, budget, some, share=False).found():
            index = (offsets[hit.row] + hit.column - first[hit.row]).tolist()
            owner = owners[hit.control]
            for begin in range(0, len(index), AT_ONCE):
                part = index[begin : begin + AT_ONCE]
                slots = hit.slot[begin : begin + AT_ONCE].to(hit.logits.device)
                logs = torch.log_softmax(hit.logits[slots].float(), dim=-1)
                if owner is None:
                    for i, line in zip(part, logs, strict=True):
                        base[i] = line
                    continue
                before = torch.stack([b for i in part if (b := base[i]) is not None])
                kl = (before.exp() * (before - logs)).sum(-1)
                found[owner][part] = kl.clamp_min(0.0).double().cpu().numpy()

    take([NoControl(), *together], [None, *places])
    for i, control in enumerate(controls):
        if i in places:
            continue
        with control.on(lm) as active:
            if active is not lm:
                raise ValueError(
                    f"{control} puts another model in place of {lm.name!r}; a dose "
                    "compares one model with and without an edit"
                )
            take([NoControl()], [i])
    return found


def strength_for(
    lm: LM,
    texts: Sequence[str],
    control: Callable[[float], Control],
    kl: float,
    *,
    start: float = 1.0,
    tolerance: float = TOLERANCE,
) -> tuple[float, Dose]:
    """The strength at which a control has a given dose, and the dose measured there.

    Args:
        lm: the model.
        texts: neutral texts.
        control: makes the control of a (positive) strength.
        kl: mean divergence per token that is wanted, in nats.
        start: a first guess of the strength, of any size.
        tolerance: relative error of the dose that is good enough.

    Raises:
        ValueError, OutOfReach: see `strengths_for`.
    """
    return strengths_for(lm, texts, control, [kl], start=start, tolerance=tolerance)[0]


def strengths_for(
    lm: LM,
    texts: Sequence[str],
    control: Callable[[float], Control],
    kls: Sequence[float],
    *,
    start: float = 1.0,
    tolerance: float = TOLERANCE,
) -> list[tuple[float, Dose]]:
    """The strengths at which a control has each of several doses.

    The logarithm of the dose is nearly linear in that of the strength, with slope two;
    every round probes the best guess for each dose that is still wanted, all in one
    pass, and what a probe finds serves the guesses for all others.

    Args:
        lm: the model.
        texts: neutral texts.
        control: makes the control of a (positive) strength.
        kls: mean divergences per token that are wanted, in nats.
        start: a first guess of a strength, of any size.
        tolerance: relative error of the doses that is good enough.

    Returns:
        For each dose, the strength and the dose measured there.

    Raises:
        ValueError: when a dose is not a positive number.
        OutOfReach: when no strength has a dose, such as that of a zero vector.
    """
    for kl in kls:
        if not (math.isfinite(kl) and kl > 0):
            raise ValueError(f"a dose of {kl} nats per token is none; give one above 0")
    known: dict[float, Dose] = {}
    tried = [start / STEP, start, start * STEP]
    for _ in range(PROBES):
        tried = [s for s in dict.fromkeys(tried) if s not in known]
        found = doses(lm, texts, [control(s) for s in tried])
        known |= zip(tried, found, strict=True)
        best = [_nearest(known, kl) for kl in kls]
        wanted = [
            kl
            for kl, s in zip(kls, best, strict=True)
            if not abs(known[s].kl - kl) <= tolerance * kl
        ]
        if not wanted:
            return [(s, known[s]) for s in best]
        guesses = [_next(known, kl) for kl in wanted]
        tried = [guess for guess, _ in guesses]
        if len(wanted) == 1:  # else the guesses of one dose are neighbours of another's
            [(guess, spread)] = guesses
            tried = [guess / spread, guess, guess * spread]
    reached = max(d.kl for d in known.values() if math.isfinite(d.kl))
    raise OutOfReach(
        f"no strength up to {max(known):.3g} gives {wanted[0]:g} nats per token (the "
        f"most was {reached:.3g}); ask for less, or use another vector or other layers"
    )


def _nearest(known: dict[float, Dose], kl: float) -> float:
    """The strength whose dose comes nearest; any, where none has a finite one."""
    finite = [s for s in known if math.isfinite(known[s].kl)] or list(known)
    return min(finite, key=lambda s: abs(known[s].kl - kl))


def _next(known: dict[float, Dose], kl: float) -> tuple[float, float]:
    """The strength to probe next, and how far around it."""
    usable = {s: d.kl for s, d in known.items() if math.isfinite(d.kl) and d.kl > 0}
    below = [s for s, value in usable.items() if value <= kl]
    above = [s for s, value in usable.items() if value > kl]
    if below and above:
        low, high = max(below), min(above)
        if low > high:  # not monotone: stay at the gentle side
            low = max((s for s in below if s < high), default=high / STEP)
        rise = math.log(usable[high] / usable[low]) if low in usable else 2.0
        share = math.log(kl / usable[low]) / rise if rise > 0 else 0.5
        guess = low * (high / low) ** min(max(share, 0.05), 0.95)
        return guess, (high / low) ** 0.1
    if not usable:
        return max(known) * STEP**6, STEP**2
    edge = min(usable) if above else max(usable)
    jump = math.sqrt(kl / usable[edge])
    return edge * min(max(jump, STEP**-8), STEP**8), STEP
