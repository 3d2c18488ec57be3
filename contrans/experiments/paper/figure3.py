"""Figure 3: emotions carried from the final checkpoint of a pretraining to earlier ones."""

import numpy as np

from contrans.data import EMOTIONS
from contrans.evaluation import Measurement
from contrans.experiments.paper.claims import average, difference, judge, pooled
from contrans.experiments.paper.concept_tasks import emotion
from contrans.experiments.paper.effect_table import gains
from contrans.experiments.paper.transplants import Route, best, strongest
from contrans.experiments.paper.workbench import Lab
from contrans.report.blocks import Cell, Table
from contrans.report.figures import lines
from contrans.report.sheet import Sheet

WHERE = "§6.1, Figure 3"


def run(lab: Lab) -> Sheet:
    """Every checkpoint, six emotions pooled; the same test scenarios throughout."""
    models = lab.plan.checkpoints
    final = models[-1]
    base: dict[str, list[Measurement]] = {str(m): [] for m in models}
    moved: dict[str, list[Measurement]] = {str(m): [] for m in models}
    control: dict[str, list[Measurement]] = {str(m): [] for m in models}
    strengths: dict[str, list[float]] = {str(m): [] for m in models}
    prompts: list[str] = []
    for name in EMOTIONS:
        subject = emotion(lab.plan, name, lab.limit)
        prompts += subject.test_task.texts
        for model in models:
            route = Route(final, model)
            planted = best(lab, route, subject, tried=1)
            task, texts = subject.test_task, lab.fluent_test
            base[str(model)].append(lab.measure(model, task, texts=texts))
            steer = planted.steer()
            moved[str(model)].append(lab.measure(model, task, steer, texts=texts))
            control[str(model)].append(strongest(lab, route, subject, planted))
            strengths[str(model)].append(planted.relative)
    names = [str(model) for model in models]
    before, after, controlled = (
        {n: _pool(x[n]) for n in names} for x in (base, moved, control)
    )
    change = {n: _change(base[n], moved[n]) for n in names}
    rows: list[tuple[Cell, ...]] = [
        (
            *(n, average(before[n], prompts), average(after[n], prompts)),
            difference(after[n], before[n], prompts),
            average(controlled[n], prompts),
            float(
                np.mean(
                    [
                        a.perplexity / b.perplexity
                        for a, b in zip(moved[n], base[n], strict=True)
                    ]
                )
            ),
            float(np.mean(strengths[n])),
        )
        for n in names
    ]
    first, last = names[0], names[-1]
    return Sheet(
        title="Checkpoints of one pretraining",
        about=f"Emotion vectors of the final checkpoint in each of {len(names)} "
        "checkpoints, each at the layers and strength that validation chooses; Token "
        "Acc on scenarios of other emotions, six emotions pooled.",
        tables=(
            Table(
                "",
                "By checkpoint",
                (
                    "checkpoint",
                    "no edit [95%]",
                    "with the vector [95%]",
                    "change [95%]",
                    "strongest control [95%]",
                    "mean ratio of perplexities",
                    "mean relative strength",
                ),
                tuple(rows),
                ("change [95%]",),
            ),
        ),
        claims=(
            judge(
                "the effect of the vector grows with pretraining",
                WHERE,
                difference(change[last], change[first], prompts),
                above=0,
                how=f"effect at {last} minus effect at {first}, same scenarios",
            ),
            judge(
                "false positives decline with pretraining",
                WHERE,
                difference(before[first], before[last], prompts),
                above=0,
                how=f"no edit at {first} minus no edit at {last}, same scenarios",
            ),
            judge(
                "everywhere more than any random vector or shuffled map does",
                "ours",
                pooled(
                    [(after[n], controlled[n]) for n in names], [prompts] * len(names)
                ),
                above=0,
                how="with the vector minus the strongest control, checkpoints pooled",
            ),
        ),
        draw=lambda: lines(
            names,
            {
                "with the vector": [average(after[n], prompts) for n in names],
                "no edit (false positives)": [
                    average(before[n], prompts) for n in names
                ],
                "strongest control": [average(controlled[n], prompts) for n in names],
            },
            ("checkpoint", "Token Acc on other emotions"),
        ),
    )


def _pool(parts: list[Measurement]) -> list[float]:
    return [value for part in parts for value in part.values]


def _change(base: list[Measurement], moved: list[Measurement]) -> np.ndarray:
    pairs = zip(moved, base, strict=True)
    return np.concatenate([gains(one, other) for one, other in pairs])
