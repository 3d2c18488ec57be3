"""Figure 4: emotion vectors of every size in every size, as two heat maps."""

from collections.abc import Callable

import numpy as np

from contrans.data import EMOTIONS
from contrans.experiments.paper.claims import (
    average,
    difference,
    judge,
    pooled,
    untestable,
)
from contrans.experiments.paper.concept_tasks import emotion
from contrans.experiments.paper.plan import Model
from contrans.experiments.paper.transplants import Route, best, strongest
from contrans.experiments.paper.workbench import Lab
from contrans.report.blocks import Cell, Table
from contrans.report.figures import heat
from contrans.report.sheet import Sheet

NOTHING = 0.05
"""What we read "neither give nor receive" as: changes within five points."""
WHERE = "§6.3, Figure 4"
Scores = tuple[list[float], list[float], list[float]]
"""Without an edit, with the vector, under the strongest control."""
Grid = dict[tuple[str, str], Scores]
"""By (source, target)."""


def run(lab: Lab) -> Sheet:
    """All pairs of sizes; each transplant at its own best strength."""
    plan = lab.plan.sizes
    assert plan is not None
    names = [str(model) for model in plan.models]
    prompts = [
        text
        for name in EMOTIONS
        for text in emotion(lab.plan, name, lab.limit).test_task.texts
    ]
    grid: Grid = {}
    for target in plan.models:
        for source in plan.models:
            grid[str(source), str(target)] = _cell(lab, source, target)

    def table(score: Callable[[list[float], list[float]], float]) -> np.ndarray:
        return np.array([[score(*grid[s, t][:2]) for t in names] for s in names])

    change = table(lambda base, after: float(np.mean(after) - np.mean(base)))
    times = table(
        lambda base, after: float(np.mean(after) / max(np.mean(base), _least(base)))
    )
    rows: list[tuple[Cell, ...]] = []
    for (source, target), (base, after, control) in grid.items():
        one, other = average(base, prompts), average(after, prompts)
        change_ = difference(after, base, prompts)
        rows.append((source, target, one, other, change_, average(control, prompts)))
    without = set(plan.without)
    texts = "those without concepts neither give nor receive any", "the others do both"
    inner = [v for (s, t), v in grid.items() if not {s, t} & without]
    outer = [v for (s, t), v in grid.items() if {s, t} & without]
    claims = [
        judge(
            texts[1],
            WHERE,
            pooled([(after, base) for base, after, _ in inner], [prompts] * len(inner)),
            above=0,
            how="with the vector minus no edit, all other pairs pooled",
        )
    ]
    claims.append(
        judge(
            "more than any random vector or shuffled map does",
            "ours",
            pooled(
                [(after, control) for _, after, control in inner],
                [prompts] * len(inner),
            ),
            above=0,
            how="with the vector minus the strongest control, the same pairs",
        )
    )
    if outer:
        claims.insert(
            0,
            judge(
                texts[0],
                WHERE,
                pooled(
                    [(after, base) for base, after, _ in outer], [prompts] * len(outer)
                ),
                above=-NOTHING,
                below=NOTHING,
                how=f"with the vector minus no edit, pairs with {', '.join(without)}",
            ),
        )
    else:
        why = "the plan names no model without concepts"
        claims.insert(0, untestable(texts[0], WHERE, why))
    return Sheet(
        title="Every size into every size",
        about="Emotion vectors of each model in each model, itself included: the mean "
        "change of Token Acc on scenarios of other emotions, and the ratio to no edit.",
        tables=(
            Table(
                "",
                "By pair",
                (
                    "source",
                    "target",
                    "no edit [95%]",
                    "with the vector [95%]",
                    "change [95%]",
                    "strongest control [95%]",
                ),
                tuple(rows),
                ("change [95%]",),
            ),
        ),
        claims=tuple(claims),
        notes=(
            "The ratio takes one hit as the least score without an edit.",
            "Models that should have no concepts yet: "
            + (", ".join(plan.without) or "none named"),
        ),
        draw=lambda: heat(
            {"change of Token Acc": change, "ratio to no edit": times},
            names,
            ("source", "target"),
        ),
    )


def _cell(lab: Lab, source: Model, target: Model) -> Scores:
    base: list[float] = []
    after: list[float] = []
    control: list[float] = []
    route = Route(source, target)
    for name in EMOTIONS:
        subject = emotion(lab.plan, name, lab.limit)
        planted = best(lab, route, subject, tried=1)
        task, texts = subject.test_task, lab.fluent_test
        base.extend(lab.measure(target, task, texts=texts).values)
        after.extend(lab.measure(target, task, planted.steer(), texts=texts).values)
        control.extend(strongest(lab, route, subject, planted).values)
    return base, after, control


def _least(base: list[float]) -> float:
    """One hit, where there was none: so that the ratio is a number."""
    return 1 / len(base)
