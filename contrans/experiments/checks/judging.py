"""From numbers to pass, fail or undecided: the interval decides, never the mean.

A bound passes when the interval lies wholly on its right side, fails when it lies
wholly on its wrong side, and is undecided between. A change against a baseline fails
when it is for the worse at the suite's confidence, after Holm's correction over all
comparisons with the baseline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contrans.core.verdicts import Case, Status
from contrans.evaluation import Measurement
from contrans.evaluation.fluency import FLUENCY
from contrans.evaluation.statistics import (
    Estimate,
    holm,
    mean,
    paired,
    perplexity_ratio,
    unpaired,
)
from contrans.experiments.checks.suite import Bound, Controls
from contrans.report.format import equals_p

ROUNDING = 1e-4
"""Changes that another machine or library makes to the same computation."""
_WORST: Sequence[Status] = ("fail", "undecided", "pass")


@dataclass(frozen=True, slots=True)
class Place:
    """Which measurement a case is about, and how it is read."""

    model: str
    vector: str | None
    task: str
    sign: float
    """1 where more is better, else -1."""
    confidence: float


def judge_bound(
    place: Place, kind: str, bound: Bound, now: Measurement, base: Measurement | None
) -> list[Case]:
    """Cases of a lower and an upper bound on an effect, a score or a ratio.

    Args:
        place: model, vector and task.
        kind: "effect", "score" or "ratio".
        bound: the least and the most.
        now: what was measured.
        base: the same without an edit; needed for effects and ratios.
    """
    found = _estimate(place, kind, now, base)
    cases = []
    for limit, word in ((bound.min, "at least"), (bound.max, "at most")):
        if limit is None:
            continue
        if word == "at least":
            status = _side(found.low >= limit, found.high < limit)
        else:
            status = _side(found.high <= limit, found.low > limit)
        asked = f"{kind} {word} {limit:g}"
        cases.append(_case(place, asked, status, now.metric, found))
    return cases


def _side(right: bool, wrong: bool) -> Status:
    return "pass" if right else "fail" if wrong else "undecided"


def _estimate(
    place: Place, kind: str, now: Measurement, base: Measurement | None
) -> Estimate:
    level = place.confidence
    if now.losses:
        alone = [(0.0, count) for _, count in now.losses]  # a perplexity of one
        against = base.losses if kind == "ratio" and base is not None else alone
        return perplexity_ratio(now.losses, against, confidence=level)
    if kind == "score" or base is None:
        return mean(now.values, confidence=level)
    return _gain(place, now, base)


def _gain(place: Place, now: Measurement, then: Measurement) -> Estimate:
    """Now minus then, a gain above zero; paired where the items are the same.

    Where less is better the sides are swapped, so that scores stay as they are and
    those of 0 and 1 are still known as such.
    """
    sides = [now.values, then.values]
    if place.sign < 0:
        sides.reverse()
    same = now.items == then.items and len(now.values) == len(then.values)
    compare = paired if same else unpaired
    return compare(*sides, confidence=place.confidence)


def judge_controls(
    place: Place,
    controls: Controls,
    now: Measurement,
    base: Measurement,
    draws: Sequence[Measurement],
) -> list[Case]:
    """The vector against random ones of its length; every draw counts.

    Args:
        place: model, vector and task.
        controls: how many draws, and what is asked of them.
        now: what was measured under the vector.
        base: the same without an edit.
        draws: the same under each random vector.
    """
    ahead = [_gain(place, now, draw) for draw in draws]
    verdicts: list[Status] = [
        _side(gap.low > controls.margin, gap.high < controls.margin) for gap in ahead
    ]
    nearest = min(ahead, key=lambda gap: gap.value)
    asked = f"{controls.margin:g} above random vectors of equal length"
    said = f"the nearest of {len(draws)} draws"
    cases = [_case(place, asked, _worst(verdicts), now.metric, nearest, said)]
    if controls.max is not None:
        effects = [_estimate(place, "effect", draw, base) for draw in draws]
        verdicts = [
            _side(e.high <= controls.max, e.low > controls.max) for e in effects
        ]
        strongest = max(effects, key=lambda effect: effect.value)
        asked = f"effect of random vectors at most {controls.max:g}"
        said = f"the strongest of {len(draws)} draws"
        cases.append(_case(place, asked, _worst(verdicts), now.metric, strongest, said))
    return cases


def _worst(found: Sequence[Status]) -> Status:
    return next(status for status in _WORST if status in found)


def judge_baseline(
    places: Sequence[tuple[Place, bool]],
    now: Sequence[Measurement],
    before: Sequence[Measurement | None],
    *,
    tolerance: float,
) -> list[Case]:
    """Is anything worse than it was? One case per measurement, corrected together.

    Args:
        places: with each, whether a change in either direction is for the worse.
        now: what was measured.
        before: the same from the baseline; None where it has no such entry.
        tolerance: changes for the worse up to this are none.
    """
    unlike = [_unlike(*sides) for sides in zip(now, before, strict=True)]
    compared: Mapping[int, Estimate] = {
        i: _change(place, new, old)
        for i, ((place, _), new, old) in enumerate(
            zip(places, now, before, strict=True)
        )
        if old is not None and unlike[i] is None
    }
    p_values = [
        _p_worse(found, places[i][1], tolerance, texts=bool(now[i].losses))
        for i, found in compared.items()
    ]
    adjusted = dict(zip(compared, holm(p_values), strict=True))
    cases = []
    for i, (place, _) in enumerate(places):
        asked = "no worse than the baseline"
        if i not in compared:
            said = f"{unlike[i]}; write it anew with --update-baseline"
            cases.append(_case(place, asked, "fail", now[i].metric, None, said))
            continue
        found, p = compared[i], adjusted[i]
        status = "fail" if p < (1 - place.confidence) / 2 else "pass"
        said = f"{equals_p(p)} after Holm's correction over {len(compared)}"
        if not found.paired:
            said += "; other items than in the baseline, so not paired"
        cases.append(_case(place, asked, status, now[i].metric, found, said))
    return cases


def _unlike(new: Measurement, old: Measurement | None) -> str | None:
    """Why two measurements cannot be compared; None where they can."""
    if old is None:
        return "not in the baseline"
    if new.metric != old.metric or bool(new.losses) != bool(old.losses):
        return f"the baseline holds {old.metric or 'scores'}, not {new.metric}"
    if new.items == old.items and len(new.values) != len(old.values):
        return f"the baseline holds {len(old.values)} of {len(new.values)} scores"
    if new.losses and (new.items, len(new.losses)) != (old.items, len(old.losses)):
        return "the baseline was measured on other texts"
    if new.losses and new.tokenizer != old.tokenizer:
        return "the baseline was measured with another tokenizer"
    return None


def _change(place: Place, new: Measurement, old: Measurement) -> Estimate:
    """The gain since then; for texts now divided by then."""
    if new.losses:
        return perplexity_ratio(new.losses, old.losses, confidence=place.confidence)
    return _gain(place, new, old)


def _p_worse(found: Estimate, either: bool, tolerance: float, *, texts: bool) -> float:
    """One-sided p-value of "it is not worse by more than the tolerance"."""
    tolerance = max(tolerance, ROUNDING)
    if texts:
        return found.p_above(1.0 + tolerance)
    worse = found.p_below(-tolerance)
    if not either:
        return worse
    # Two tests, each of which may be the smaller by chance.
    return min(2 * min(worse, found.p_above(tolerance)), 1.0)


def _case(
    place: Place,
    bound: str,
    status: Status,
    metric: str,
    found: Estimate | None,
    said: str = "",
) -> Case:
    value, low, high = (found.value, found.low, found.high) if found else (None,) * 3
    if found is not None and found.caution:
        said = "; ".join(filter(None, (said, found.caution)))
    return Case(
        place.model,
        place.vector,
        place.task,
        bound,
        status,
        metric or FLUENCY,
        value,
        low,
        high,
        found.n if found else 0,
        said,
    )
