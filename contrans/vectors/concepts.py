"""Refine: a concept as one direction per layer, from states with and without it.

The paper's estimator is the mean difference (A1). The others answer the same call, so
that a comparison is a loop over `METHODS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from contrans.core.registry import unknown
from contrans.core.types import ConceptVector, PairedStates
from contrans.vectors.sinks import sink_pairs, without_sinks

Estimator = Callable[
    [Float[Tensor, "prompts hidden"], Float[Tensor, "prompts hidden"]],
    Float[Tensor, " hidden"],
]


def _mean(positive: Tensor, negative: Tensor) -> Tensor:
    """V = mean(h+) - mean(h-), with its natural length (A1)."""
    return positive.mean(0) - negative.mean(0)


def _principal(positive: Tensor, negative: Tensor) -> Tensor:
    """First principal direction of the paired differences, pointing to the positives.

    The differences are not centred: their common part is the concept. The length is
    the mean projection of the differences, so that it compares with the mean.
    """
    differences = positive - negative
    first = torch.linalg.svd(differences, full_matrices=False).Vh[0]
    return (differences @ first).mean() * first


def _to_mean(normal: Tensor, mean: Tensor) -> Tensor:
    """`normal`, scaled to the projection of the mean on it; zero stays zero."""
    unit = normal / normal.norm().clamp_min(torch.finfo(normal.dtype).tiny)
    return (mean @ unit) * unit


def _logistic(positive: Tensor, negative: Tensor) -> Tensor:
    """Normal of a regularised logistic regression, scaled to the mean separation."""
    x = torch.cat([positive, negative])
    scale = x.std(0).clamp_min(torch.finfo(x.dtype).eps)
    y = np.repeat([1, 0], [len(positive), len(negative)])
    model = LogisticRegression(C=0.1, max_iter=2000)
    model.fit(((x - x.mean(0)) / scale).numpy(), y)
    normal = torch.from_numpy(model.coef_[0]) / scale
    return _to_mean(normal, _mean(positive, negative))


def _whitened(positive: Tensor, negative: Tensor) -> Tensor:
    """Linear discriminant: within-class covariance (shrunk) inverse times the mean.

    Shrinkage towards the identity by Ledoit and Wolf; scaled to the mean separation.
    Without any spread within the sides, as for a single pair, it is the mean itself.
    """
    from sklearn.covariance import ledoit_wolf

    centred = torch.cat([positive - positive.mean(0), negative - negative.mean(0)])
    mean = _mean(positive, negative)
    if not centred.any():
        return mean
    covariance, _ = ledoit_wolf(centred.numpy())
    return _to_mean(torch.linalg.solve(torch.from_numpy(covariance), mean), mean)


METHODS: dict[str, Estimator] = {
    "mean": _mean,
    "pca": _principal,
    "logistic": _logistic,
    "whitened": _whitened,
}


def _at(states: PairedStates, layer: int, estimate: Estimator) -> Tensor:
    kept = without_sinks(states, layer)
    positive, negative = kept.positive.at(layer), kept.negative.at(layer)
    return estimate(positive.double(), negative.double()).float()


def _left_out(states: PairedStates) -> dict[str, list[int]]:
    """Pairs that took no part, by layer; layers where all did are not named."""
    found = {
        str(layer): sink_pairs(states, layer).nonzero()[:, 0].tolist()
        for layer in states.layers
    }
    return {layer: pairs for layer, pairs in found.items() if pairs}


def concept_vector(states: PairedStates, *, method: str = "mean") -> ConceptVector:
    """One direction per layer that separates the positive from the negative states.

    At each layer, pairs with a state that is an attention sink or massive activation
    (`contrans.vectors.sinks`) are left out; the provenance says which, by layer.

    Args:
        states: states of prompt pairs.
        method: "mean" (the paper, A1), "pca", "logistic" or "whitened".

    Raises:
        KeyError: for an unknown method.
        ValueError: when there is no difference at all between the sides.
    """
    if method not in METHODS:
        raise unknown("concept method", method, METHODS)
    estimate = METHODS[method]
    directions = torch.stack([_at(states, layer, estimate) for layer in states.layers])
    if not directions.any():
        raise ValueError(
            f"the positive and negative states of {states.concept!r} do not differ at "
            "any layer; the texts may be equal or end in the same tokens the model "
            "reads as the same: let the concept be visible before the last token"
        )
    return ConceptVector(
        directions,
        layers=states.layers,
        model=states.positive.model,
        concept=states.concept,
        name=states.positive.name,
        provenance={
            **states.positive.provenance,
            "method": f"concept/{method}",
            "position": states.positive.position,
            "pairs": len(states),
            "left_out": _left_out(states),
        },
    )


def mean_difference(states: PairedStates) -> ConceptVector:
    """The paper's refinement: mean of positive minus mean of negative states (A1)."""
    return concept_vector(states, method="mean")


def principal_direction(states: PairedStates) -> ConceptVector:
    """First principal direction of the paired differences, with its sign fixed."""
    return concept_vector(states, method="pca")


def logistic_direction(states: PairedStates) -> ConceptVector:
    """Normal of a logistic regression between the sides."""
    return concept_vector(states, method="logistic")


def whitened_difference(states: PairedStates) -> ConceptVector:
    """Mean difference whitened by the within-class covariance (LDA)."""
    return concept_vector(states, method="whitened")


@dataclass(frozen=True, slots=True)
class Reliability:
    """How dependable a direction is at one layer (H.3)."""

    layer: int
    cosine: float
    """Mean pairwise cosine of the differences of the held-out pairs."""
    auroc: float
    """Area under the ROC curve of held-out states projected on the direction."""
    separation: float
    """Cohen's d of the held-out projections."""


def reliability(vector: ConceptVector, held_out: PairedStates) -> list[Reliability]:
    """Judge a vector, layer by layer, on pairs it was not made from (H.3).

    Without pairs that hold an attention sink, as the vector itself.
    """
    found, every = [], held_out
    for layer in vector.layers:
        held_out = without_sinks(every, layer)
        unit = vector[layer].double()
        unit = unit / unit.norm().clamp_min(torch.finfo(unit.dtype).tiny)
        differences = held_out.differences(layer)
        lengths = differences.norm(dim=1, keepdim=True)
        units = differences / lengths.clamp_min(torch.finfo(unit.dtype).tiny)
        n = len(units)
        pairwise = (float(units.sum(0) @ units.sum(0)) - float((units**2).sum())) / max(
            n * (n - 1), 1
        )
        plus = (held_out.positive.at(layer).double() @ unit).numpy()
        minus = (held_out.negative.at(layer).double() @ unit).numpy()
        spread = np.sqrt((plus.var() + minus.var()) / 2)
        gap = float(plus.mean() - minus.mean())
        found.append(
            Reliability(
                layer=layer,
                cosine=pairwise,
                auroc=float(
                    roc_auc_score(
                        np.repeat([1, 0], [n, n]), np.concatenate([plus, minus])
                    )
                ),
                separation=gap / max(float(spread), np.finfo(float).tiny),
            )
        )
    return found
