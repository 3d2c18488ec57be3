"""Controls: anything with `on(lm)` that returns a context in which the model is steered.

`Steer` adds concept vectors to the residual stream at chosen layers (A5):

    H[t] <- H[t] + strength * v[t]                                     raw
    H[t] <- H[t] + strength * m[t] * v[t] / |v[t]|                     relative (H9)

with m[t] the mean length of the stream at layer t on neutral text, BOS excluded.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from contrans.core.seeds import generator
from contrans.core.types import ConceptVector, Unit, Where
from contrans.models.edits import (
    Control as Control,
    NoControl as NoControl,
    residual_edits,
)
from contrans.models.hooks import Edit, edit_residual
from contrans.models.lm import LM

SAFE_RELATIVE_STRENGTH = 1.0
"""Above this, random vectors of equal length begin to have effects of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Steer:
    """Add a concept vector to the residual stream.

    Example:
        with Steer(anger, layers=[24], strength=2.0).on(lm):
            lm.generate("The meeting was moved again.")
    """

    vector: ConceptVector
    layers: Iterable[int] | None = None
    """Blocks to edit; None takes every layer of the vector."""
    strength: float = 1.0
    """The paper's alpha, or a share of the residual norm; see `unit`."""
    unit: Unit = "raw"
    """"raw" multiplies the vector as fitted; "relative" is a share of the stream."""
    positions: Where = "all"
    """Tokens to edit: "all" (the paper), "prompt", or "generated"."""
    skip_bos: bool = False
    """Leave a leading BOS token alone. The paper edits it."""
    keep_norm: bool = False
    """Rescale each edited state to its old length (H10)."""
    any_model: bool = False
    """Allow a vector whose fingerprint is not the model's, such as its quantised copy."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ValueError(
                f"strength {self.strength} is no finite number; give one, such as 1"
            )
        if self.unit not in get_args(Unit):
            raise ValueError(f"unknown unit {self.unit!r}; choose 'raw' or 'relative'")
        if self.positions not in get_args(Where):
            raise ValueError(
                f"unknown positions {self.positions!r}; choose one of {get_args(Where)}"
            )
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))

    def pushes(self, depth: int | None = None) -> dict[int, Tensor]:
        """The vector that is added at each layer, in float32.

        Args:
            depth: number of blocks of the model; needed when `layers` counts from the
                end.

        Raises:
            KeyError: when the vector does not cover a layer.
            ValueError: for relative strength without known residual norms, or layers
                counted from the end of a model of unknown depth.
        """
        layers = self.vector.layers if self.layers is None else tuple(self.layers)
        if depth is None and any(layer < 0 for layer in layers):
            raise ValueError(
                f"layers {layers} count from the end, but of which model? Give plain "
                "layers, or the number of blocks: pushes(lm.layers)"
            )
        found = {}
        for layer in layers:
            layer = layer + (depth or 0) if layer < 0 else layer
            v = self.vector[layer]
            if self.unit == "relative":
                if self.vector.norms is None:
                    raise ValueError(
                        "relative strength needs the residual norms of the model: use "
                        "with_norms(vector, lm), or unit='raw'"
                    )
                norm = self.vector.norms[self.vector.layers.index(layer)]
                length = v.norm()
                if float(length) == 0.0:
                    raise ValueError(
                        f"the direction at layer {layer} is zero and has no relative "
                        "strength; choose layers where the vector is not zero"
                    )
                v = v * (norm / length)
            found[layer] = self.strength * v
            if not torch.isfinite(found[layer]).all():
                raise ValueError(
                    f"strength {self.strength:g} makes numbers at layer {layer} that "
                    "float32 cannot hold; choose a smaller one"
                )
        return found

    def edits(self, depth: int | None = None) -> dict[int, Edit]:
        """What is done to the stream at each layer; nothing at strength 0."""
        if self.strength == 0.0:
            return {}
        pushes = self.pushes(depth)
        return {layer: _adder(push, self.keep_norm) for layer, push in pushes.items()}

    def residual_edits(self, lm: LM) -> Mapping[int, Edit] | None:
        """The additions, where they are made at every token.

        Raises:
            ValueError: when the vector belongs to another model.
        """
        check_fits(self.vector, lm, any_model=self.any_model)
        everywhere = self.positions == "all" and not self.skip_bos
        return self.edits(lm.layers) if everywhere else None

    @property
    def cache_key(self) -> dict[str, Any]:
        """Everything that this control does: what is added where."""
        layers = self.vector.layers if self.layers is None else tuple(self.layers)
        pushes: dict[str, Any] = {}
        if all(layer >= 0 for layer in layers):
            for layer, push in self.pushes().items():
                pushes[str(layer)] = push
        else:  # which blocks those are, the model alone can say
            pushes |= {
                "layers": list(layers),
                "of": list(self.vector.layers),
                "directions": self.vector.directions,
                "norms": self.vector.norms,
                "strength": [self.strength, self.unit],
            }
        return {
            "pushes": pushes,
            "positions": self.positions,
            "skip_bos": self.skip_bos,
            "keep_norm": self.keep_norm,
        }

    def additions(self) -> tuple["Steer", ...]:
        """The vectors that it adds: itself."""
        return (self,)

    def __str__(self) -> str:
        layers = self.vector.layers if self.layers is None else tuple(self.layers)
        return (
            f"{self.vector.concept} x {self.strength:g} ({self.unit}) at layers "
            f"{layers}, {self.positions} tokens"
        )

    @contextmanager
    def on(self, lm: LM) -> Iterator[LM]:
        """Add the vector while the context lasts.

        Raises:
            ValueError: when the vector belongs to another model.
        """
        check_fits(self.vector, lm, any_model=self.any_model)
        with edit_residual(
            lm,
            self.edits(lm.layers),
            positions=self.positions,
            skip_bos=self.skip_bos,
            by_token=True,
        ):
            yield lm


@runtime_checkable
class Fingerprinted(Protocol):
    """A model as far as a vector has to know it, in memory or on disk."""

    @property
    def name(self) -> str:
        """What it was loaded as."""
        ...

    @property
    def hidden(self) -> int:
        """Width of its residual stream."""
        ...

    @cached_property
    def fingerprint(self) -> str:
        """Hash of its weights."""
        ...


def check_fits(
    vector: ConceptVector, model: Fingerprinted, *, any_model: bool = False
) -> None:
    """Refuse a vector of another model.

    Args:
        vector: the concept vector.
        model: anything with a fingerprint.
        any_model: take a vector of another model too.

    Raises:
        ValueError: when the width differs, or the weights and `any_model` is false.
    """
    if vector.hidden != model.hidden:
        raise ValueError(
            f"a vector of width {vector.hidden} (for {vector.name!r}) does not fit "
            f"{model.name!r} of width {model.hidden}; transplant it: "
            f"contrans transplant {vector.name} {model.name} ..."
        )
    if not any_model and vector.model != model.fingerprint:
        raise ValueError(
            f"this vector was made for {vector.name!r} ({vector.model}), not for "
            f"{model.name!r} ({model.fingerprint}); transplant it (contrans transplant "
            f"{vector.name} {model.name} ...) or, if both are the same model in other "
            "precision, pass any_model=True (--any-model on the command line)"
        )


def _adder(push: Tensor, keep_norm: bool) -> Edit:
    """The edit that adds `push`, on the device and in the dtype of the stream."""
    placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def edit(hidden: Tensor) -> Tensor:
        key = (hidden.device, hidden.dtype)
        if key not in placed:
            placed[key] = push.to(*key)
        if not keep_norm:
            return hidden + placed[key]
        fine = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        moved = fine + placed[key]
        old, new = fine.norm(dim=-1, keepdim=True), moved.norm(dim=-1, keepdim=True)
        kept = moved * (old / new.clamp_min(torch.finfo(fine.dtype).tiny))
        return kept.to(hidden.dtype)

    return edit


@dataclass(frozen=True, slots=True)
class Composed:
    """Several controls at once, applied in order."""

    parts: tuple[Control, ...]

    @contextmanager
    def on(self, lm: LM) -> Iterator[LM]:
        """Enter every part, each on what the one before gave; leave them all."""
        with ExitStack() as stack:
            for part in self.parts:
                lm = stack.enter_context(part.on(lm))
            yield lm

    def residual_edits(self, lm: LM) -> Mapping[int, Edit] | None:
        """The edits of all parts, in their order; None where one of them does more."""
        found: dict[int, Edit] = {}
        for part in self.parts:
            edits = residual_edits(part, lm)
            if edits is None:
                return None
            for layer, edit in edits.items():
                found[layer] = _both(found[layer], edit) if layer in found else edit
        return found

    def additions(self) -> tuple[Steer, ...] | None:
        """The vectors that the parts add; None where one of them does anything else."""
        found: list[Steer] = []
        for part in self.parts:
            more = additions(part)
            if more is None:
                return None
            found += more
        return tuple(found)

    def __str__(self) -> str:
        return " + ".join(map(str, self.parts)) or "none"


def _both(first: Edit, then: Edit) -> Edit:
    return lambda hidden: then(first(hidden))


def additions(control: Control) -> tuple[Steer, ...] | None:
    """The vectors that a control adds; None where it does not say, or does more."""
    found = getattr(control, "additions", None)
    return None if found is None else found()


def compose(*parts: Control) -> Composed:
    """Several controls at once: several concepts, or a concept and a guard.

    Example:
        compose(Steer(honesty, strength=1.0), Steer(fairness, strength=0.5))
    """
    return Composed(tuple(parts))


def with_norms(vector: ConceptVector, norms: dict[int, float]) -> ConceptVector:
    """The vector with the residual norms of its model, for relative strength (H9).

    Args:
        vector: any vector of the model.
        norms: from `collect.residual_norms(lm, texts)`.
    """
    return replace(
        vector, norms=torch.tensor([norms[layer] for layer in vector.layers])
    )


def random_like(vector: ConceptVector, *, seed: int = 0) -> ConceptVector:
    """A random direction of the same length at every layer: the first control."""
    drawn = torch.randn(vector.directions.shape, generator=generator(seed))
    lengths = vector.directions.norm(dim=1, keepdim=True)
    scaled = drawn / drawn.norm(dim=1, keepdim=True) * lengths
    return replace(
        vector,
        directions=scaled,
        concept=f"random (norm of {vector.concept})",
        provenance={"method": "random", "seed": seed},
    )


def matched_norm(vector: ConceptVector, like: ConceptVector) -> ConceptVector:
    """`vector` with the length of `like` at every layer (for comparisons at equal norm).

    A zero direction stays zero.
    """
    old = vector.directions.norm(dim=1, keepdim=True)
    new = like.directions.norm(dim=1, keepdim=True)
    safe = old.clamp_min(torch.finfo(torch.float32).tiny)
    return replace(vector, directions=vector.directions * (new / safe))
