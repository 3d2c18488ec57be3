"""The values that flow between the stages: small, immutable, with shapes in the types.

Axes: `prompts` rows of text, `layers` blocks of a model, `hidden` the width of its
residual stream. Layer `l` is the output of block `l`, counted from zero.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

Position = Literal["last", "mean", "all"]
Where = Literal["all", "prompt", "generated"]
Unit = Literal["raw", "relative"]


def _layer_index(layers: tuple[int, ...], layer: int, what: str) -> int:
    if layer not in layers:
        raise KeyError(
            f"no {what} for layer {layer}; this value covers layers {layers}"
        )
    return layers.index(layer)


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a residual stream: the output of block `layer` of `model`."""

    model: str
    """Weight fingerprint of the model."""
    layer: int
    """Zero-based block."""
    name: str = ""
    """Name under which the model was loaded."""


@dataclass(frozen=True, slots=True)
class PromptPairs:
    """Texts with and without a concept; row i of one side belongs to row i of the other.

    Raises:
        ValueError: when the sides are empty or of unequal length.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    concept: str = "concept"

    def __post_init__(self) -> None:
        if len(self.positive) != len(self.negative):
            raise ValueError(
                f"{len(self.positive)} positive but {len(self.negative)} negative "
                f"texts for {self.concept!r}; pairs need equal numbers: drop the "
                "surplus or write the missing ones"
            )
        if not self.positive:
            raise ValueError(
                f"no pairs for {self.concept!r}; give at least one positive and one "
                "negative text (20 pairs or more are sensible)"
            )

    def __len__(self) -> int:
        return len(self.positive)


@dataclass(frozen=True, slots=True, eq=False)
class HiddenStates:
    """Residual-stream states of texts at some layers of one model.

    For position "all" there is one row per token; `counts[i]` rows belong to text i.
    """

    values: Float[Tensor, "prompts layers hidden"]
    layers: tuple[int, ...]
    model: str
    """Weight fingerprint of the model."""
    position: Position = "last"
    counts: tuple[int, ...] | None = None
    name: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.values.shape[-1]

    def at(self, layer: int) -> Float[Tensor, "prompts hidden"]:
        """The states at one layer.

        Raises:
            KeyError: when that layer was not collected.
        """
        return self.values[:, _layer_index(self.layers, layer, "states")]

    def rows(self, index: Iterable[int]) -> "HiddenStates":
        """A selection of rows, in the given order."""
        chosen = torch.as_tensor(list(index), dtype=torch.long)
        return replace(self, values=self.values[chosen], counts=None)


@dataclass(frozen=True, slots=True, eq=False)
class PairedStates:
    """States of the positive and of the negative texts of one concept."""

    positive: HiddenStates
    negative: HiddenStates
    concept: str = "concept"

    def __post_init__(self) -> None:
        left, right = self.positive, self.negative
        if left.values.shape != right.values.shape or left.layers != right.layers:
            raise ValueError(
                f"positive states {tuple(left.values.shape)} at layers {left.layers} do "
                f"not match negative states {tuple(right.values.shape)} at layers "
                f"{right.layers}; collect both sides with the same options"
            )

    def __len__(self) -> int:
        return len(self.positive)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers collected."""
        return self.positive.layers

    def differences(self, layer: int) -> Float[Tensor, "prompts hidden"]:
        """Positive minus negative state of each pair at one layer, in float64."""
        return self.positive.at(layer).double() - self.negative.at(layer).double()

    def rows(self, index: Iterable[int]) -> "PairedStates":
        """A selection of pairs, in the given order."""
        index = list(index)
        return replace(
            self, positive=self.positive.rows(index), negative=self.negative.rows(index)
        )


@dataclass(frozen=True, slots=True, eq=False)
class ConceptVector:
    """One direction per layer of one model; a value with arithmetic.

    Example:
        >>> one = torch.ones(1, 3)
        >>> v = ConceptVector(one, layers=(4,), model="abc")
        >>> (2 * v - v)[4].tolist()
        [1.0, 1.0, 1.0]
    """

    directions: Float[Tensor, "layers hidden"]
    layers: tuple[int, ...]
    model: str
    """Weight fingerprint of the model that the directions live in."""
    concept: str = "concept"
    norms: Float[Tensor, " layers"] | None = None
    """Mean length of the residual stream at each layer on neutral text, BOS excluded."""
    name: str = ""
    """Name under which the model was loaded."""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.directions.shape[0] != len(self.layers):
            raise ValueError(
                f"{self.directions.shape[0]} directions for {len(self.layers)} layers "
                f"{self.layers}; give one direction per layer"
            )
        if not torch.isfinite(self.directions).all():
            raise ValueError(
                f"the vector of {self.concept!r} holds NaN or infinite numbers; look at "
                "the states it was made from (float16 overflow is the usual cause: load "
                "the model in bfloat16 or float32)"
            )

    def __getitem__(self, layer: int) -> Float[Tensor, " hidden"]:
        return self.directions[_layer_index(self.layers, layer, "direction")]

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.directions.shape[-1]

    @property
    def strength(self) -> float:
        """The strength that was chosen for it, as its provenance says; else 1.

        Raises:
            ValueError: when that is no finite number.
        """
        said = self.provenance.get("strength", 1.0)
        number = isinstance(said, int | float) and not isinstance(said, bool)
        if not number or not abs(said) < float("inf"):
            raise ValueError(
                f"the vector of {self.concept!r} says strength {said!r:.60}, which is no "
                "finite number; its file is damaged: make it again, or give --strength"
            )
        return float(said)

    def select(self, layers: Iterable[int]) -> "ConceptVector":
        """The same vector at fewer layers."""
        chosen = tuple(layers)
        index = [_layer_index(self.layers, layer, "direction") for layer in chosen]
        norms = None if self.norms is None else self.norms[index]
        return replace(
            self, directions=self.directions[index], layers=chosen, norms=norms
        )

    def norm(self, layer: int) -> float:
        """Euclidean length of the direction at one layer."""
        return float(self[layer].double().norm())

    def relative_strength(self, layer: int, raw: float = 1.0) -> float | None:
        """`raw` times the length of the direction, as a share of the residual norm."""
        if self.norms is None:
            return None
        share = self.norm(layer) / float(self.norms[self.layers.index(layer)])
        return raw * share

    def _combine(self, other: "ConceptVector", sign: float) -> "ConceptVector":
        if self.model != other.model:
            raise ValueError(
                f"cannot combine a vector of model {self.model!r} ({self.name}) with "
                f"one of {other.model!r} ({other.name}); transplant one of them first"
            )
        if self.layers != other.layers:
            raise ValueError(
                f"cannot combine vectors of layers {self.layers} and {other.layers}; "
                "use .select(layers) to give both the same layers"
            )
        joined = f"{self.concept}{'+' if sign > 0 else '-'}{other.concept}"
        return replace(
            self,
            directions=self.directions + sign * other.directions,
            concept=joined,
            provenance={
                "method": "arithmetic",
                "parents": [dict(self.provenance), dict(other.provenance)],
            },
        )

    def __add__(self, other: "ConceptVector") -> "ConceptVector":
        return self._combine(other, 1.0)

    def __sub__(self, other: "ConceptVector") -> "ConceptVector":
        return self._combine(other, -1.0)

    def __mul__(self, factor: float) -> "ConceptVector":
        return replace(self, directions=factor * self.directions)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "ConceptVector":
        return self * (1.0 / divisor)

    def __neg__(self) -> "ConceptVector":
        return self * -1.0


@dataclass(frozen=True, slots=True)
class FitReport:
    """What held-out text says about a linear map; see `maps.fit_linear_map`."""

    n: int
    """Texts fitted on."""
    n_test: int
    """Texts held out."""
    r2: float | None
    """Held-out share of the variance of target states explained (optimistic score)."""
    r2_differences: float | None
    """The same for differences of held-out states, in which the mean cancels."""
    effective_rank: float
    """Participation ratio of the singular values of the source states."""
    rank: int
    """Rank of the map."""
    ridge: float
    """Ridge strength per row (H1); 0 without."""
    loo_error: float | None
    """Closed-form leave-one-out mean squared error at that ridge strength (H4)."""
    warnings: tuple[str, ...] = ()
    left_out: tuple[int, ...] = ()
    """Rows that took no part: attention sinks and the like, see `contrans.vectors.sinks`."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearMap:
    """An affine map between two residual streams, kept as two thin factors.

    A *state* moves by the whole map, `h F + b` with `F = left @ right`. A *direction*
    (a difference of two states) moves by the linear part alone, `v F`: the bias
    cancels. The factors are float64, since an unregularised `right` holds the
    inverses of small singular values; what comes out is float32.
    """

    left: Float[Tensor, "source rank"]
    right: Float[Tensor, "rank target"]
    bias: Float[Tensor, " target"]
    source: Site
    target: Site
    method: str
    report: FitReport
    spectrum: Float[Tensor, " rank"]
    """Shrinkage of each component of `basis`, between 0 (dropped) and 1 (kept)."""
    basis: Float[Tensor, "source rank"]
    """Orthonormal directions of the source that the fitted text varies along."""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def directions(
        self, v: Float[Tensor, "*batch source"]
    ) -> Float[Tensor, "*batch target"]:
        """Map directions, such as concept vectors (A4)."""
        return ((v.double() @ self.left.double()) @ self.right.double()).float()

    def states(
        self, h: Float[Tensor, "*batch source"]
    ) -> Float[Tensor, "*batch target"]:
        """Map states."""
        moved = (h.double() @ self.left.double()) @ self.right.double()
        return (moved + self.bias.double()).float()

    def matrix(self) -> Float[Tensor, "source target"]:
        """The dense matrix F, float64. For inspection; nothing in contrans needs it."""
        return self.left.double() @ self.right.double()
