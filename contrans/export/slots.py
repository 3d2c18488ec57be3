"""Which bias of a block adds a constant to the residual stream, for each architecture.

The last thing a block does is to add the output of its MLP to the stream, so a constant
in the bias of the MLP's output projection is a constant in the stream, wherever nothing
rescales that output. Each row was measured against a forward hook; the tests repeat it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from contrans.anatomy import UnsupportedModelError

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


_GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_PLAIN = {
    "gpt2": "mlp.c_proj",
    "gpt_bigcode": "mlp.c_proj",
    "gpt_neo": "mlp.c_proj",
    "gpt_neox": "mlp.dense_4h_to_h",
    "gptj": "mlp.fc_out",
    "phi": "mlp.fc2",
}
"""Architectures whose slot always exists."""


def _llama(config: Any) -> Host:
    changes: dict[str, Any] = {"mlp_bias": True}
    if getattr(config, "pretraining_tp", 1) not in (None, 1):
        changes["pretraining_tp"] = 1  # old releases left biases out above 1
    return Host("native", "mlp.down_proj", biased=_GATED, config=changes)


def _granite(config: Any) -> Host:
    scale = 1.0 / config.residual_multiplier  # the stream adds multiplier * MLP
    return Host("native", "mlp.down_proj", scale, _GATED, {"mlp_bias": True})


def _starcoder2(_config: Any) -> Host:
    attention = tuple(f"self_attn.{name}_proj" for name in "qkvo")
    biased = (*attention, "mlp.c_fc", "mlp.c_proj")
    return Host("native", "mlp.c_proj", biased=biased, config={"use_bias": True})


def _opt(config: Any) -> Host:
    if not config.do_layer_norm_before:
        if not config.layer_norm_elementwise_affine:
            raise UnsupportedModelError(
                "this OPT normalises after its MLP and its norm has no bias, so nothing "
                f"in it adds a constant to the stream. {WAYS_OUT}"
            )
        return Host("native", "final_layer_norm")  # the norm undoes a bias before it
    attention = tuple(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out"))
    biased = (*attention, "fc1", "fc2")
    return Host("native", "fc2", biased=biased, config={"enable_bias": True})


def _bloom(config: Any) -> Host:
    slow = getattr(config, "slow_but_exact", False)
    if slow and getattr(config, "pretraining_tp", 1) > 1:
        return Host("native", "mlp.dense_4h_to_h", config={"slow_but_exact": False})
    return Host("native", "mlp.dense_4h_to_h")


_SPECIAL: dict[str, Callable[[Any], Host]] = {
    "llama": _llama,
    "granite": _granite,
    "starcoder2": _starcoder2,
    "opt": _opt,
    "bloom": _bloom,
}
NATIVE = (*_SPECIAL, *_PLAIN)
"""Architectures that have a slot of their own."""

_POST_NORM = (
    "it normalises what its MLP puts out before adding it, so a bias there would be "
    "rescaled for every token, and its norm has no bias"
)
_EXPERTS = (
    "each token passes through experts of its own choice, which have no bias, and no "
    "module after them has one"
)
_QK_NORM = (
    "its MLP has no bias, and it normalises queries and keys, which Llama does not, so "
    "it cannot be re-hosted as Llama"
)
REFUSED = {
    "qwen3": _QK_NORM,
    "gemma": "its MLP has no bias, and its norms and embeddings are not those of Llama",
    "gemma2": _POST_NORM,
    "gemma3": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "olmo2": _POST_NORM,
    "mixtral": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
}
"""Architectures without a slot, and why."""


def native_host(config: Any) -> Host:
    """The slot of an architecture that has one.

    Args:
        config: the model's configuration, as transformers reads it.

    Raises:
        UnsupportedModelError: when nothing in a block adds a constant to the stream.
    """
    kind = config.model_type
    if kind in _SPECIAL:
        return _SPECIAL[kind](config)
    if kind in _PLAIN:
        return Host("native", _PLAIN[kind])
    raise refused(kind)


def refused(kind: str) -> UnsupportedModelError:
    """The error for an architecture that cannot be baked: the reason and the way out."""
    if kind in REFUSED:
        return UnsupportedModelError(
            f"a {kind!r} checkpoint cannot carry the edit: {REFUSED[kind]}. {WAYS_OUT}"
        )
    return UnsupportedModelError(
        f"no place for the edit is known in architecture {kind!r} (known: "
        f"{', '.join(sorted(NATIVE))}, and re-hosted as Llama: mistral, phi3, qwen2). "
        f"{WAYS_OUT}"
    )
