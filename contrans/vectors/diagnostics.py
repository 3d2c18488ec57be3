"""Will this source work for this target? Answers before anything is generated (H.3).

A high R² says little: on text that does not vary along the concept, the map predicts
states well and moves the concept nowhere. So we ask the map about the concept itself.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from contrans.core.types import ConceptVector, HiddenStates, LinearMap, PairedStates
from contrans.vectors.maps import r_squared_raw
from contrans.vectors.sinks import sink_pairs, sinks, without_sinks

LOW_COSINE = 0.4
"""Below this cosine with the target's own vector, transplants had no effect.

On the zoo, maps fitted on neutral text reached -0.03 to 0.20. On the built-in corpus, two
trainings and six emotions, ten transplants that worked had 0.45 to 0.77, the two that were
weak 0.24 and 0.29 (`docs/results/zoo.md`); span and R² did not tell them apart.
"""
LOW_AUROC = 0.6
"""Below this the mapped vector does not tell the target's own pairs apart; 0.5 is chance."""
LOW_SPREAD = 0.1
"""Below this spread the corpus does not vary along the concept at all."""
LOW_SPAN = 0.5
"""Below this share of the vector inside the span of the corpus, most of it is lost."""


@dataclass(frozen=True, slots=True)
class Promise:
    """How much of a concept a mapped vector is, on held-out pairs of the target."""

    cosine: float
    """With the target's own mean difference."""
    auroc: float
    """Area under the ROC curve of the target's states projected on the mapped vector."""

    @property
    def value(self) -> float:
        """The cosine times `2 AUROC - 1`; 0 where either says no.

        Neither alone will do: with few pairs a direction far from the target's own tells
        them apart by chance, and a cosine says nothing about the spread along it.
        """
        return max(self.cosine, 0.0) * max(2 * self.auroc - 1, 0.0)


def promise(
    moved: Float[Tensor, " target"], pairs: PairedStates, layer: int
) -> Promise:
    """Judge a mapped vector by pairs in the target, before anything is generated.

    What predicts the effect of a vector is its agreement with the concept in the target,
    not how well the map predicts states.

    Args:
        moved: the vector, in the target's space.
        pairs: held-out pairs of the concept in the target.
        layer: the block that it is for.
    """
    pairs = without_sinks(pairs, layer)
    own = pairs.differences(layer).mean(0)
    plus, minus = (
        side.at(layer).double() @ moved.double()
        for side in (pairs.positive, pairs.negative)
    )
    above = (plus[:, None] > minus).double() + (plus[:, None] == minus).double() / 2
    return Promise(_cosine(moved, own), float(above.mean()))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the map does to this concept, measured before any generation."""

    span: float
    """Share of the vector inside the (effective) row space of the corpus (H.3)."""
    spread: float
    """Deviation of the corpus along the concept, in units of the concept's length.

    1 means that corpus texts differ along the concept as much as the pairs do.
    """
    cosine_own: float
    """Cosine of the mapped vector with the target's own mean difference."""
    auroc: float
    """How well the mapped vector tells the target's held-out pairs apart; 0.5: not."""
    r2_pairs: float
    """How well mapped pair differences predict the target's, on held-out pairs."""
    length_ratio: float
    """Length of the mapped vector over that of the target's own."""
    warnings: tuple[str, ...]
    """What is wrong and what to do; empty when nothing is."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found that makes a transplant pointless."""
        return not self.warnings


def span(link: LinearMap, v: Float[Tensor, " source"]) -> float:
    """Share of a direction that the map can see: ||gain V^T v||^2 / ||v||^2 (H.3)."""
    inside = link.spectrum.double() * (link.basis.double().mT @ v.double())
    total = float((v.double() ** 2).sum())
    return float((inside**2).sum()) / total if total else 0.0


def spread(states: Float[Tensor, "n source"], v: Float[Tensor, " source"]) -> float:
    """Standard deviation of states along a direction, over the direction's length."""
    length = v.double().norm()
    if float(length) == 0.0:
        return 0.0
    along = states.double() @ (v.double() / length)
    return float(along.std() / length)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def diagnose(
    vector: ConceptVector,
    link: LinearMap,
    *,
    corpus: HiddenStates,
    source_pairs: PairedStates,
    target_pairs: PairedStates,
) -> Diagnosis:
    """Ask the map about the concept itself.

    Rows and pairs that are attention sinks (`contrans.vectors.sinks`) in either model are left
    out of every figure.

    Args:
        vector: the concept in the source model.
        link: the fitted map.
        corpus: source states of the texts that the map was fitted on.
        source_pairs: held-out concept pairs in the model that the vector is from.
        target_pairs: the same pairs in the target model.

    Returns:
        The figures, and a warning with a remedy for each that is low.
    """
    s, t = link.source.layer, link.target.layer
    v = vector[s]
    kept = ~(sink_pairs(source_pairs, s) | sink_pairs(target_pairs, t))
    theirs = target_pairs.differences(t)[kept]
    own = theirs.mean(0)
    mapped = link.directions(v)
    inside = span(link, v)
    across = spread(corpus.at(s)[~sinks(corpus, s)], v)
    rows = kept.nonzero()[:, 0].tolist()
    promised = promise(mapped, target_pairs.rows(rows), t)
    cosine, auroc = promised.cosine, promised.auroc
    notes = []
    remedy = (
        "fit the map on text that talks about the concept's domain, varies along the "
        "concept, and is cut at random words so that last tokens vary (--corpus FILE); "
        "the built-in corpus does this for the built-in concepts"
    )
    if inside < LOW_SPAN:
        notes.append(
            f"low coverage: only {inside:.0%} of the concept lies in the span of the "
            f"corpus. Do: use more texts (now {link.report.n}), or {remedy}"
        )
    if across < LOW_SPREAD:
        notes.append(
            f"low coverage: the corpus hardly varies along the concept (spread "
            f"{across:.2f}; the pairs have 1). A map fitted on it transfers nothing, "
            f"however high its R². Do: {remedy}"
        )
    if cosine < LOW_COSINE:
        notes.append(
            f"low coverage: the mapped vector has a cosine of {cosine:.2f} with the "
            f"target's own (below {LOW_COSINE}), as when the corpus does not vary along "
            f"the concept; R² does not show this. Expect little effect, and trust the "
            f"controls. Do: {remedy}; or try other layers (--layers S:T)"
        )
    if auroc < LOW_AUROC:
        notes.append(
            f"the mapped vector does not tell the target's held-out pairs apart (AUROC "
            f"{auroc:.2f}; 0.50 is chance). Expect little effect. Do: {remedy}"
        )
    predicted = link.directions(source_pairs.differences(s)[kept].float()).double()
    return Diagnosis(
        span=inside,
        spread=across,
        cosine_own=cosine,
        auroc=auroc,
        r2_pairs=r_squared_raw(theirs, predicted),
        length_ratio=float(mapped.double().norm() / own.norm().clamp_min(1e-30)),
        warnings=tuple(f"layers {s}:{t}: {note}" for note in notes),
    )
