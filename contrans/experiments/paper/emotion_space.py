"""Are the emotions apart in a model's states? t-SNE to see it, a probe to say it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from contrans.data import EMOTIONS
from contrans.experiments.paper.concept_tasks import emotions
from contrans.experiments.paper.figure2b import positives
from contrans.experiments.paper.plan import Model
from contrans.experiments.paper.workbench import Lab
from contrans.vectors.sinks import sinks

CHANCE = 1 / len(EMOTIONS)
NEIGHBOURS = 30.0
"""t-SNE's perplexity, its usual value."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """States of emotions at one layer of one model."""

    points: np.ndarray
    """Two coordinates per test scenario that is no attention sink."""
    kinds: tuple[str, ...]
    """Their emotions."""
    correct: tuple[float, ...]
    """Per test scenario, 1 where a probe fitted on other templates names the emotion."""
    validation: float
    """The probe's accuracy on validation scenarios."""


def space(lab: Lab, model: Model, layer: int, *, embed: bool = True) -> Space:
    """Test scenarios of six emotions after one block.

    Args:
        lab: models and data.
        model: whose states.
        layer: zero-based block.
        embed: whether to compute the two coordinates, the slow part.
    """
    lm, found = lab.lm(model), emotions(lab.plan, lab.limit)

    def states(
        texts: Sequence[str], kinds: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """States, of what kind each is, and which are no attention sinks."""
        read = lab.stages.states(lm, texts, [layer], "states")
        return read.at(layer).numpy(), np.array(kinds), (~sinks(read, layer)).numpy()

    def labelled(part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = {n: list(getattr(s, part).positive) for n, s in found.items()}
        names = [name for name, group in rows.items() for _ in group]
        return states([text for group in rows.values() for text in group], names)

    x, y, kept = labelled("refine")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    probe.fit(x[kept], y[kept])
    held, held_kinds, _ = labelled("validate")
    test, kinds, kept = states(*positives(lab))
    right = probe.predict(test) == kinds
    test, kinds = test[kept], kinds[kept]
    points = _embed(test, lab.plan.seed) if embed else np.zeros((len(test), 2))
    return Space(
        points,
        tuple(kinds.tolist()),
        tuple(right.astype(float)),
        float(probe.score(held, held_kinds)),
    )


def _embed(states: np.ndarray, seed: int) -> np.ndarray:
    near = min(NEIGHBOURS, (len(states) - 1) / 3)
    tsne = TSNE(perplexity=near, init="pca", random_state=seed, n_jobs=1)
    return tsne.fit_transform(states.astype(np.float32))
