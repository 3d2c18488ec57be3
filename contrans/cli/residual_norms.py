"""Residual norms travel in the provenance of states, for relative strengths later.

Imports torch: verbs import this module inside their functions.
"""

from collections.abc import Mapping
from typing import Any

from contrans.control.steer import with_norms
from contrans.core.types import ConceptVector
from contrans.data import load_corpus
from contrans.models.collect import residual_norms
from contrans.models.lm import LM

NORM_TEXTS = 64
"""Built-in texts on which the residual norm is measured."""


def measured(lm: LM, layers: tuple[int, ...]) -> dict[str, float]:
    """Mean residual norm per layer on neutral text, as provenance holds it."""
    texts = load_corpus(None).texts[:NORM_TEXTS]
    found = residual_norms(lm, texts, layers=layers)
    return {str(layer): norm for layer, norm in found.items()}


def carried(
    vector: ConceptVector, provenance: Mapping[str, Any] | None
) -> ConceptVector:
    """The vector with the norms that provenance remembers, if it does for all layers."""
    known = (provenance or {}).get("norms", {})
    found = {int(layer): float(norm) for layer, norm in known.items()}
    if not set(vector.layers) <= set(found):
        return vector
    return with_norms(vector, found)
