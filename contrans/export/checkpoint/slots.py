"""Which bias of a block adds a constant to the residual stream, for each architecture.

The last thing a block does is to add the output of its MLP to the stream, so a constant
in the bias of the MLP's output projection is a constant in the stream, wherever nothing
rescales that output. Each row was measured against a forward hook; the tests repeat it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from contrans.models.anatomy import ANATOMY, UnsupportedModelError, anatomy_of

WAYS_OUT = (
    "Use the vector without baking: contrans generate MODEL --steer VECTOR (or ct.Steer "
    "in Python) applies it by a hook, and contrans export VECTOR --gguf FILE writes a "
    "control vector for llama.cpp"
)


@dataclass(frozen=True, slots=True)
class Host:
    """How the written checkpoint takes the edit."""

    kind: Literal["native", "re-hosted"]
    slot: str
    """Module inside a block whose bias carries the edit."""
    scale: float = 1.0
    """The bias is the edit times this."""
    biased: tuple[str, ...] = ()
    """Modules of every block that must have a bias; missing ones are written as zero."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Native: the fields of config.json that change. Re-hosted: all of config.json."""
    fused: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    """Modules to split: their parts and the rows of each."""


def native_host(config: Any) -> Host:
    """The slot of an architecture that has one.

    Args:
        config: the model's configuration, as transformers reads it.

    Raises:
        UnsupportedModelError: when nothing in a block adds a constant to the stream.
    """
    known = anatomy_of(config)
    if known.bias is None:
        raise refused(config.model_type)
    if getattr(config, "do_layer_norm_before", True) is False:  # the norm undoes a bias
        if not config.layer_norm_elementwise_affine:
            raise UnsupportedModelError(
                "this OPT normalises after its MLP and its norm has no bias, so nothing "
                f"in it adds a constant to the stream. {WAYS_OUT}"
            )
        return Host("native", "final_layer_norm")
    changes = dict(known.bias_config)
    parts = getattr(config, "pretraining_tp", 1) or 1
    if parts != 1 and "mlp_bias" in changes:
        changes["pretraining_tp"] = 1  # old releases left biases out above 1
    elif parts > 1 and getattr(config, "slow_but_exact", False):
        changes["slow_but_exact"] = False
    # where the stream adds multiplier * MLP, as in Granite
    scale = 1.0 / getattr(config, "residual_multiplier", 1.0)
    return Host("native", known.bias, scale, known.biased, changes)


def refused(kind: str) -> UnsupportedModelError:
    """The error for an architecture that cannot be baked: the reason and the way out."""
    if kind in ANATOMY and ANATOMY[kind].unbaked:
        return UnsupportedModelError(
            f"a {kind!r} checkpoint cannot carry the edit: {ANATOMY[kind].unbaked}. "
            f"{WAYS_OUT}"
        )
    native = sorted(kind for kind, known in ANATOMY.items() if known.bias is not None)
    hosted = sorted(kind for kind, known in ANATOMY.items() if known.as_llama)
    return UnsupportedModelError(
        f"no place for the edit is known in architecture {kind!r} (known: "
        f"{', '.join(native)}, and re-hosted as Llama: {', '.join(hosted)}). {WAYS_OUT}"
    )
