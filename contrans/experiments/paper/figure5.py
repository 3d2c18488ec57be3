"""Figure 5: how many pairs of examples does a vector need?"""

import random

import numpy as np

from contrans.data import EMOTIONS
from contrans.experiments.paper.claims import average, difference, judge
from contrans.experiments.paper.concept_tasks import Subject, emotion, first_pairs
from contrans.experiments.paper.transplants import Route, best, plant, strongest
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Planted
from contrans.report.blocks import Cell, Table
from contrans.report.figures import lines
from contrans.report.sheet import Sheet

COUNTS = (1, 5, 10, 20, 50, 100, 200)
DRAWS = 3
"""Random choices of the pairs, averaged text by text."""
FEW = 20
STABLE = 0.10
"""What we read "relatively stable" as: within ten points of all pairs."""
WHERE = "appendix B.2, Figure 5"


def run(lab: Lab) -> Sheet:
    """Layers and raw strength stay those chosen for all pairs, as in the paper."""
    plan = lab.plan.emotions
    assert plan is not None
    route = Route(plan.weak, plan.targets[0].model)
    base: list[float] = []
    control: list[float] = []
    scores: dict[int, list[float]] = {}
    prompts: list[str] = []
    for name in EMOTIONS:
        subject = emotion(lab.plan, name, lab.limit)
        prompts += subject.test_task.texts
        every = len(subject.refine)
        main = best(lab, route, subject)
        base.extend(lab.measure(route.target, subject.test_task).values)
        control.extend(strongest(lab, route, subject, main).values)
        for count in [*(c for c in COUNTS if c < every), every]:
            found = _score(lab, route, subject, main, count)
            scores.setdefault(count, []).extend(found)
    counts = sorted(scores)
    most = counts[-1]
    few = min(counts, key=lambda c: abs(c - FEW))
    rows: list[tuple[Cell, ...]] = [
        (
            count,
            average(scores[count], prompts),
            difference(scores[count], scores[most], prompts),
        )
        for count in counts
    ]
    return Sheet(
        title=f"Number of pairs, {route.source} into {route.target}",
        about=f"Token Acc on scenarios of other emotions, six emotions pooled, with "
        f"vectors made from fewer pairs ({DRAWS} draws each). Layers and raw strength "
        "are those that validation chose for all pairs.",
        tables=(
            Table(
                "",
                "By number of pairs",
                ("pairs", "Token Acc [95%]", "minus that of all pairs [95%]"),
                (
                    ("no edit", average(base, prompts), None),
                    ("strongest control, all pairs", average(control, prompts), None),
                    *rows,
                ),
                ("minus that of all pairs [95%]",),
            ),
        ),
        claims=(
            judge(
                f"{few} pairs already have the effect",
                WHERE,
                difference(scores[few], base, prompts),
                above=0,
                how=f"vector of {few} pairs minus no edit, pooled",
            ),
            judge(
                f"{few} pairs do more than any random vector or shuffled map",
                "ours",
                difference(scores[few], control, prompts),
                above=0,
                how=f"vector of {few} pairs minus the strongest control, pooled",
            ),
            judge(
                f"more pairs than {few} change little",
                WHERE,
                difference(scores[most], scores[few], prompts),
                above=-STABLE,
                below=STABLE,
                how=f"vector of {most} pairs minus vector of {few}, pooled",
            ),
        ),
        draw=lambda: lines(
            [float(count) for count in counts],
            {
                "vector of so many pairs": [
                    average(scores[c], prompts) for c in counts
                ],
                "no edit": [average(base, prompts)] * len(counts),
            },
            ("pairs", "Token Acc on other emotions"),
        ),
    )


def _score(
    lab: Lab, route: Route, subject: Subject, main: Planted, count: int
) -> list[float]:
    every = list(range(len(subject.refine)))
    found = []
    for draw in range(1 if count == len(every) else DRAWS):
        order = every.copy()
        if count < len(every):
            random.Random(draw).shuffle(order)
        pairs = first_pairs(subject.refine, order, count)
        vector = plant(lab, route, pairs, main.layers)
        planted = Planted(vector, main.layers, main.raw, 0.0)
        steer = planted.steer()
        found.append(lab.measure(route.target, subject.test_task, steer).values)
    return np.mean(found, axis=0).tolist()
