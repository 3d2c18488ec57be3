"""Figure 2(b): states of six emotions before and after the fear vector, by PCA.

The plane is fitted on the states before the edit. Arrows go from the centre of each
emotion to where the edit puts it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from contrans.data import EMOTIONS
from contrans.experiments.paper.claims import average, difference, judge
from contrans.experiments.paper.concept_tasks import emotion, emotions
from contrans.experiments.paper.effect_table import from_planted, gain, measure_group
from contrans.experiments.paper.transplants import Route, best, controls
from contrans.experiments.paper.workbench import Lab
from contrans.report.blocks import Table
from contrans.report.figures import legend, scatter
from contrans.report.plots import INK, STYLE
from contrans.report.sheet import Sheet
from contrans.vectors.sinks import sinks

FEELING = "fear"
WHERE = "§4.2, Figure 2(b)"


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    before: np.ndarray
    after: np.ndarray
    kinds: tuple[str, ...]
    share: float


def run(lab: Lab) -> Sheet:
    """Do the states of the other emotions move to those of fear?"""
    plan = lab.plan.emotions
    assert plan is not None
    route = Route(plan.weak, plan.targets[0].model)
    subject = emotion(lab.plan, FEELING, lab.limit)
    planted = best(lab, route, subject)
    layer = planted.layers[1]
    lm = lab.lm(route.target)

    def states(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """States that are no attention sinks, and which those are."""
        found = lab.stages.states(lm, list(texts), [layer], "states of emotions")
        kept = (~sinks(found, layer)).numpy()
        return found.at(layer).double().numpy()[kept], kept

    texts, every = positives(lab)
    before, kept = states(texts)
    kinds = tuple(np.array(every)[kept].tolist())
    centre = states(subject.validate.positive)[0].mean(0)
    push = planted.raw * planted.vector[layer]
    others = np.array([kind != FEELING for kind in kinds])

    def nearer(by: torch.Tensor) -> np.ndarray:
        """Per text of another emotion, the share of its distance to fear that goes."""
        old = np.linalg.norm(before[others] - centre, axis=1)
        new = np.linalg.norm(before[others] + by.double().numpy() - centre, axis=1)
        return (old - new) / old

    moved = nearer(push)
    draws = controls(lab, route, subject, planted).values()
    drawn = [c.strength * c.vector[layer] for steers in draws for c in steers]
    control = max((nearer(by) for by in drawn), key=np.mean)
    pca = PCA(2).fit(before)
    shift = (pca.transform(before + push.double().numpy()), pca.transform(before))
    plane = _Plane(
        shift[1], shift[0], kinds, float(pca.explained_variance_ratio_.sum())
    )
    group = measure_group(
        lab, "", route.target, subject.test_task, [from_planted("moved", planted)]
    )
    rows = tuple(
        (name, average(moved[[k == name for k in np.array(kinds)[others]]]))
        for name in EMOTIONS
        if name != FEELING
    )
    return Sheet(
        title=f"PCA of states in {route.target}, before and after {FEELING}",
        about=f"States of the last token of test scenarios after block {layer}, and "
        f"the same plus the {FEELING} vector of {route.source} (alpha {planted.raw:.2f}, "
        f"relative {planted.relative:.2f}). The plane holds {plane.share:.0%} of the "
        "variance. The centre of fear is that of validation scenarios.",
        tables=(
            Table(
                "",
                f"Share of the distance to {FEELING} that goes",
                ("states of", "share [95%]"),
                rows,
                ("share [95%]",),
            ),
        ),
        claims=(
            judge(
                f"states of other emotions move to those of {FEELING}",
                WHERE,
                average(moved),
                above=0,
                how="share of the distance to the centre of fear that the edit removes",
            ),
            judge(
                "more than any random vector or shuffled map moves them",
                "ours",
                difference(moved, control),
                above=0,
                how="the same minus that of the strongest control of equal length",
            ),
            judge(
                f"so that the model names {FEELING}",
                WHERE,
                gain([group], "moved"),
                above=0,
                how="Token Acc with the vector minus without, test scenarios",
            ),
        ),
        draw=lambda: _draw(plane),
    )


def positives(lab: Lab) -> tuple[list[str], tuple[str, ...]]:
    """Test scenarios of all six emotions, and which emotion each is of."""
    texts: list[str] = []
    kinds: list[str] = []
    for name, subject in emotions(lab.plan, lab.limit).items():
        texts += subject.positives
        kinds += [name] * len(subject.positives)
    return texts, tuple(kinds)


def _draw(plane: _Plane) -> Figure:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 4.6), layout="constrained")
        axes = figure.subplots()
        scatter(axes, plane.after, plane.kinds, EMOTIONS, alpha=0.18)
        scatter(axes, plane.before, plane.kinds, EMOTIONS)
        for name in EMOTIONS:
            rows = [kind == name for kind in plane.kinds]
            start, end = plane.before[rows].mean(0), plane.after[rows].mean(0)
            look = {"arrowstyle": "->", "color": INK, "linewidth": 1.6}
            axes.annotate("", xy=tuple(end), xytext=tuple(start), arrowprops=look)
        axes.set_xlabel("first component (pale: after the edit)")
        axes.set_ylabel("second component")
        legend(figure, EMOTIONS)
    return figure
