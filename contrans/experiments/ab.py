"""A/B: the same prompts under two conditions, and a verdict with its sample size.

The difference is B minus A, item by item, in the direction in which the task is better.
Several tasks are corrected together by Holm's method, so that one of them does not win
by chance.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contrans.core.cache import Cache, cache_folder
from contrans.core.verdicts import Comparison, Outcome
from contrans.evaluation import Measurement
from contrans.evaluation.fluency import Fluency
from contrans.evaluation.measure import Measurable, Measurements
from contrans.evaluation.statistics import (
    CONFIDENCE,
    POWER,
    Estimate,
    detectable,
    holm,
    mean,
    paired,
    perplexity_ratio,
)
from contrans.experiments.cached import Stages
from contrans.experiments.checks.resolve import get_vector, load_spec, make_steer
from contrans.experiments.checks.suite import ModelSpec, VectorSpec
from contrans.models.edits import Control, NoControl
from contrans.models.lm import LM

GENERATED_TOKENS = 40
"""Tokens generated per prompt and side at most."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One side: a model, with or without a vector."""

    label: str
    model: ModelSpec
    vector: VectorSpec | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    found: dict[str, Measurement]
    written: list[str]
    lengths: dict[str, list[int]]
    """For texts: bytes of each, the common unit of different tokenizers."""


def compare_ab(
    a: Arm,
    b: Arm,
    tasks: Sequence[Measurable],
    *,
    generations: int = 0,
    prompts: Sequence[str] = (),
    seed: int = 0,
    confidence: float = CONFIDENCE,
    cache: str | Path | None = None,
    trust_remote_code: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Measure both sides on the same items and say which is better, or that none is.

    Args:
        a: the side that is compared with, such as the unedited model.
        b: the side in question.
        tasks: tasks, or `Fluency` for perplexity on texts.
        generations: how many prompts both sides continue, side by side.
        prompts: for the generations; without them, the first prompts of the tasks.
        seed: by which concepts were split; noted in the result.
        confidence: of the intervals; the verdict is made at the same level.
        cache: folder of finished measurements, by which an interrupted comparison goes
            on; None uses `$CONTRANS_CACHE` or `~/.cache/contrans`.
        trust_remote_code: run code that comes with the models.
        progress: called with (stage, done, total).

    Raises:
        ValueError: when there is nothing to measure, or names repeat.
    """
    if not tasks:
        raise ValueError("nothing to compare on; give a task, a concept or a text")
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise ValueError(f"tasks need different names; got {', '.join(names)}")
    chosen = list(prompts) or _prompts(tasks)
    chosen = chosen[:generations]
    store = Cache(cache or cache_folder())
    report = None if progress is None else lambda d, n: progress("measure", d, n)
    total = 2 * (len(tasks) + bool(chosen))
    measurements = Measurements(store, report, total=total)
    stages = Stages(Cache(store.folder), progress)
    sides: list[_Side] = []
    lm: LM | None = None
    for i, arm in enumerate((a, b)):
        if lm is None or arm.model != (a, b)[i - 1].model:
            lm = None  # both would not fit, perhaps
            gc.collect()
            lm = load_spec(arm.model, trust_remote_code=trust_remote_code)
        sides.append(_measure(arm, lm, tasks, chosen, measurements, stages))
    outcomes = _judge(a, b, tasks, sides, confidence=confidence)
    written = [
        {"prompt": prompt, "a": one, "b": two}
        for prompt, one, two in zip(
            chosen, sides[0].written, sides[1].written, strict=True
        )
    ]
    return Comparison(
        a.label,
        b.label,
        tuple(outcomes),
        tuple(written),
        confidence,
        seed,
        tuple(measurements.notes),
        measured=measurements.measured,
        cached=measurements.cached,
    )


def _prompts(tasks: Sequence[Measurable]) -> list[str]:
    """Prompts to continue: those of the tasks, in turn."""
    asked = [t for t in tasks if not isinstance(t, Fluency)]
    columns = [getattr(task, "prompts", task.texts) for task in asked or tasks]
    longest = max(len(column) for column in columns)
    rows = [c[i] for i in range(longest) for c in columns if i < len(c)]
    return list(dict.fromkeys(rows))


def _measure(
    arm: Arm,
    lm: LM,
    tasks: Sequence[Measurable],
    prompts: Sequence[str],
    measurements: Measurements,
    stages: Stages,
) -> _Side:
    control: Control = NoControl()
    if arm.vector is not None:
        vector = get_vector(arm.vector, lm, stages, None)
        control = make_steer(arm.vector, vector, lm)
    found = {task.name: measurements.get(lm, task, control) for task in tasks}
    written: list[str] = []
    if prompts:
        written = measurements.texts(lm, prompts, control, GENERATED_TOKENS)
    lengths = {
        task.name: [len(text.encode()) for text in task.texts]
        for task in tasks
        if isinstance(task, Fluency)
    }
    return _Side(found, written, lengths)


def _judge(
    a: Arm,
    b: Arm,
    tasks: Sequence[Measurable],
    sides: Sequence[_Side],
    *,
    confidence: float,
) -> list[Outcome]:
    gaps: list[Estimate] = []
    scores: list[tuple[Estimate, Estimate]] = []
    for task in tasks:
        first, second = (side.found[task.name] for side in sides)
        if isinstance(task, Fluency):
            units = _units(first, second, sides[0].lengths[task.name])
            gaps.append(perplexity_ratio(units[1], units[0], confidence=confidence))
            alone = [
                perplexity_ratio(s, [(0.0, n) for _, n in s], confidence=confidence)
                for s in units
            ]
            scores.append((alone[0], alone[1]))
            continue
        x, y = first.values, second.values
        gaps.append(paired(y, x, confidence=confidence))
        scores.append((mean(x, confidence=confidence), mean(y, confidence=confidence)))
    adjusted = holm([gap.p() for gap in gaps])
    alpha = 1 - confidence
    return [
        _outcome(
            (a.label, b.label),
            task,
            [side.found[task.name] for side in sides],
            gap,
            score,
            p,
            alpha,
            len(tasks),
        )
        for task, gap, score, p in zip(tasks, gaps, scores, adjusted, strict=True)
    ]


def _units(
    first: Measurement, second: Measurement, lengths: Sequence[int]
) -> list[list[tuple[float, float]]]:
    """Losses per token; per byte where the two sides count different tokens."""
    sides = [list(first.losses), list(second.losses)]
    if first.tokenizer == second.tokenizer:
        return sides
    if len(lengths) == 1:  # losses of its windows, which differ between tokenizers
        sides = [[(sum(loss for loss, _ in side), 0.0)] for side in sides]
    return [
        [(loss, float(n)) for (loss, _), n in zip(side, lengths, strict=True)]
        for side in sides
    ]


def _outcome(
    labels: tuple[str, str],
    task: Measurable,
    measured: Sequence[Measurement],
    gap: Estimate,
    scores: tuple[Estimate, Estimate],
    p: float,
    alpha: float,
    m: int,
) -> Outcome:
    text = isinstance(task, Fluency)
    change = float(np.log(gap.value)) if text else gap.value
    up = change > 0
    verdict = "no difference"
    if p < alpha and change != 0:
        verdict = "better" if up == task.higher_is_better else "worse"
    shown = detectable(gap, alpha=alpha / m)
    a, b = labels
    metric = measured[0].metric or task.metric
    if text and measured[0].tokenizer != measured[1].tokenizer:
        metric += " per byte"
    return Outcome(
        task=task.name,
        metric=metric,
        n=gap.n,
        chance=task.chance,
        a=_three(scores[0]),
        b=_three(scores[1]),
        difference=_three(gap),
        p=p,
        verdict=verdict,
        detectable=float(np.exp(shown)) if text else shown,
        said=_sentence((a, b), task.name, verdict, gap, shown),
    )


def _three(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _sentence(
    labels: tuple[str, str], task: str, verdict: str, gap: Estimate, shown: float
) -> str:
    """The verdict; where it is "no difference", what so many prompts could have shown."""
    a, b = labels
    caution = f" ({gap.caution})" if gap.caution else ""
    if verdict != "no difference":
        return f"{task}: {b} is {verdict} than {a} at {gap.n} prompts{caution}"
    size = f"a ratio of {np.exp(shown):.3f}" if gap.ratio else f"{shown:.3f}"
    return (
        f"{task}: no difference at {gap.n} prompts{caution}; so many show a true "
        f"difference of {size} in about {POWER:.0%} of runs, and half of that takes four "
        "times as many"
    )
