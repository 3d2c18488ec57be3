"""Transplant: carry a concept vector into another model by a fitted map (A4)."""

from dataclasses import replace

from contrans.core.types import ConceptVector, LinearMap

DEPTH = 0.75
"""The paper's relative depth: block 24 of 32, block 30 of 40."""


def paper_layer(layers: int) -> int:
    """The block at the paper's relative depth of 0.75 (0.3).

    Example:
        >>> paper_layer(32), paper_layer(40), paper_layer(80)
        (24, 30, 60)
    """
    return min(round(DEPTH * layers), layers - 1)


def pair_layers(source: int, target: int, *, low: float = 0.0) -> list[tuple[int, int]]:
    """Blocks of equal relative depth in two models of so many blocks.

    Args:
        source: number of blocks of the source.
        target: number of blocks of the target.
        low: skip target blocks below this relative depth.

    Example:
        >>> pair_layers(4, 6, low=0.5)
        [(2, 3), (2, 4), (3, 5)]
    """
    pairs = []
    for t in range(target):
        if (t + 0.5) / target < low:
            continue
        s = round((t + 1) / target * source) - 1
        pairs.append((min(max(s, 0), source - 1), t))
    return pairs


def transplant(vector: ConceptVector, link: LinearMap) -> ConceptVector:
    """The vector in the space of the target model: `v F` (A4).

    Raises:
        ValueError: when the vector is not from the model that the map starts at.
        KeyError: when it does not cover the map's source layer.
    """
    if vector.model != link.source.model:
        raise ValueError(
            f"the vector lives in {vector.name!r} ({vector.model}) but the map starts "
            f"at {link.source.name!r} ({link.source.model}); refit the map on the model "
            "of the vector"
        )
    moved = link.directions(vector[link.source.layer])
    return ConceptVector(
        moved[None],
        layers=(link.target.layer,),
        model=link.target.model,
        concept=vector.concept,
        name=link.target.name,
        provenance={
            "method": f"transplant/{link.method}",
            "source_layer": link.source.layer,
            "vector": dict(vector.provenance),
            "map": dict(link.provenance),
        },
    )


def assume_model(vector: ConceptVector, link: LinearMap) -> ConceptVector:
    """The vector labelled as one of the map's source model.

    The paper refines on an aligned model but fits the map between *base* models: same
    space, other weights. This says so explicitly.

    Raises:
        ValueError: when the widths differ, so that it cannot be the same space.
    """
    if vector.hidden != link.left.shape[0]:
        raise ValueError(
            f"the vector has width {vector.hidden}, the map takes "
            f"{link.left.shape[0]}; they cannot share a space"
        )
    return replace(vector, model=link.source.model)
