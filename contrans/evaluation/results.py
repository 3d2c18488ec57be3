"""Measure tasks under controls, and keep every number with what it needs beside it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from contrans.core.cache import Cache
from contrans.evaluation.fluency import Perplexity, summary
from contrans.evaluation.measure import measure, steps
from contrans.evaluation.statistics import Estimate, mean, paired
from contrans.evaluation.task import Measurement, Task
from contrans.models.collect import Progress
from contrans.models.edits import Control
from contrans.models.lm import LM


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One control on one task; or on perplexity alone, where there are no tasks."""

    control: str
    task: str
    metric: str
    n: int
    chance: float | None
    higher_is_better: bool
    score: Interval | None
    difference: Interval | None
    """Score minus that of the baseline, item by item; None for the baseline."""
    extra: Mapping[str, float]
    """Means of further numbers, by name."""
    perplexity: Perplexity | None
    perplexity_ratio: float | None
    """Perplexity divided by that of the baseline."""


@dataclass(frozen=True, slots=True)
class Results:
    """A table of controls and tasks on one model."""

    model: str
    fingerprint: str
    baseline: str
    seed: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """All numbers as JSON; NaN and infinity become null."""
        return json.dumps(_finite(asdict(self)), indent=2)

    def to_markdown(self) -> str:
        """The table that a person reads."""
        fluent = any(row.perplexity is not None for row in self.rows)
        head = [
            "task",
            "control",
            "score [95% interval]",
            f"change from {self.baseline} [95%]",
            "n",
            "chance",
        ] + ["perplexity ± s.e. (ratio)"] * fluent
        lines = [head, ["---"] * len(head)]
        for row in self.rows:
            arrow = (
                "" if row.higher_is_better or not row.metric else " (lower is better)"
            )
            cells = [
                f"{row.task}: {row.metric}{arrow}" if row.metric else "-",
                row.control,
                _interval(row.score),
                _interval(row.difference, signed=True),
                str(row.n) if row.score else "-",
                "-" if row.chance is None else f"{row.chance:.3f}",
            ]
            if fluent:
                cells.append(_fluency(row))
            lines.append(cells)
        table = "\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines)
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"{table}\n{notes}" if notes else table


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _interval(value: Interval | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    mark = "+" if signed else ""
    return f"{value.value:{mark}.3f} [{value.low:{mark}.3f}, {value.high:{mark}.3f}]"


def _fluency(row: Row) -> str:
    if row.perplexity is None:
        return "-"
    error = row.perplexity.stderr
    after = f" ± {error:.2f}" if math.isfinite(error) else ""
    ratio = row.perplexity_ratio
    share = f" ({ratio:.3f})" if ratio is not None and math.isfinite(ratio) else ""
    return f"{row.perplexity.value:.2f}{after}{share}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def evaluate(
    lm: LM,
    tasks: Task | Sequence[Task],
    controls: Mapping[str, Control],
    *,
    perplexity_texts: Sequence[str] | None = None,
    baseline: str | None = None,
    seed: int = 0,
    cache: Cache | None = None,
    progress: Progress | None = None,
) -> Results:
    """Measure every task under every control, and perplexity under the same edits.

    Args:
        lm: the model.
        tasks: one or several; see `make_task`.
        controls: by name, such as `{"base": NoControl(), "anger": Steer(vector)}`.
        perplexity_texts: neutral texts; None leaves perplexity out.
        baseline: the control to which the others are compared, item by item; None
            takes the first.
        seed: noted in the results, for whoever drew items or vectors by it.
        cache: of finished measurements, by which an interrupted call goes on; None
            keeps nothing.
        progress: called with (pieces done, pieces in all).

    Raises:
        ValueError: when there is nothing to measure, or the baseline is no control.
    """
    tasks = list(tasks) if isinstance(tasks, Sequence) else [tasks]
    if not controls or not (tasks or perplexity_texts):
        raise ValueError(
            "nothing to measure; give at least one control, such as "
            "{'base': NoControl()}, and one task or perplexity_texts"
        )
    if len({task.name for task in tasks}) != len(tasks):
        names = ", ".join(task.name for task in tasks)
        raise ValueError(f"tasks need different names to be told apart; got {names}")
    baseline = next(iter(controls)) if baseline is None else baseline
    if baseline not in controls:
        raise ValueError(
            f"the baseline {baseline!r} is none of the controls; choose one of "
            f"{', '.join(controls)}"
        )
    texts = perplexity_texts or ()
    total = len(controls) * sum(steps(task) for task in tasks)
    total += len(controls) * steps(None, texts)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    names, values = list(controls), list(controls.values())
    found: dict[tuple[str, str], Measurement] = {}
    for task in tasks:
        measured = measure(task, lm, values, cache=cache, step=advance)
        found |= {(task.name, name): m for name, m in zip(names, measured, strict=True)}
    fluency: dict[str, Perplexity] = {}
    if texts:
        read = measure(None, lm, values, texts, cache=cache, step=advance)
        fluency = {n: summary(m.losses) for n, m in zip(names, read, strict=True)}
    rows = [
        _row(name, task, found, fluency, baseline)
        for task in tasks or [None]
        for name in controls
    ]
    notes = {
        f"{task}: {note}": None
        for (task, _), m in found.items()
        for note in (*m.notes, mean(m.values).caution)
        if note
    }
    return Results(lm.name, lm.fingerprint, baseline, seed, tuple(rows), tuple(notes))


def _interval_of(found: Estimate) -> Interval:
    return Interval(found.value, found.low, found.high)


def _row(
    control: str,
    task: Task | None,
    found: Mapping[tuple[str, str], Measurement],
    fluency: Mapping[str, Perplexity],
    baseline: str,
) -> Row:
    here, base = fluency.get(control), fluency.get(baseline)
    ratio = here.value / base.value if here and base else None
    if task is None:
        return Row(control, "", "", 0, None, True, None, None, {}, here, ratio)
    measured, before = found[task.name, control], found[task.name, baseline]
    difference = None
    if control != baseline:
        difference = _interval_of(paired(measured.values, before.values))
    return Row(
        control=control,
        task=task.name,
        metric=measured.metric or task.metric,
        n=len(measured.values),
        chance=task.chance,
        higher_is_better=task.higher_is_better,
        score=_interval_of(mean(measured.values)),
        difference=difference,
        extra={key: float(np.mean(value)) for key, value in measured.extra.items()},
        perplexity=here,
        perplexity_ratio=ratio,
    )
