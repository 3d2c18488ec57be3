"""The same function as a Llama: for architectures that lack the bias that Llama has.

Mistral, Qwen2 and Phi-3 compute what a Llama computes, under other names and with other
switches, as long as no sliding window cuts the text and the rotary embedding is one that
Llama knows. Written as a Llama with `mlp_bias`, they take the edit.
"""

from collections.abc import Mapping
from typing import Any

from contrans.export.checkpoint.slots import WAYS_OUT, Host, refused
from contrans.models.anatomy import AsLlama, UnsupportedModelError, anatomy_of

_COPIED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "tie_word_embeddings",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
_AS_WRITTEN = ("dtype", "torch_dtype", "transformers_version")
_ATTENTION = tuple(f"self_attn.{name}_proj" for name in "qkvo")
_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def llama_host(config: Any, raw: Mapping[str, Any], context: int | None) -> Host:
    """A Llama that computes what the model of `config` computes.

    Args:
        config: the model's configuration, as transformers reads it.
        raw: its config.json.
        context: most tokens that will be served, for models with a sliding window.

    Raises:
        UnsupportedModelError: when it would not be the same function.
        ValueError: for a `context` that does not fit.
    """
    how = anatomy_of(config).as_llama
    if how is None:
        raise refused(config.model_type)
    theta, scaling = _rope(config, raw)
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    written = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{name: getattr(config, name, None) for name in _COPIED},
        **{name: raw[name] for name in _AS_WRITTEN if name in raw},
        "head_dim": size,
        "attention_bias": how.attention_bias,
        "mlp_bias": True,
        "rope_theta": theta,  # read before transformers 5
        "rope_scaling": scaling or None,
        "rope_parameters": {"rope_type": "default", **scaling, "rope_theta": theta},
    }
    if how.fused:
        _check_phi3(config, raw, scaling)
    if served := _served(config, how, context, scaling):
        written["max_position_embeddings"] = served
    fused: dict[str, tuple[tuple[str, int], ...]] = {}
    if how.fused:
        rows = (heads * size, kv * size, kv * size)
        half = config.intermediate_size
        fused = {
            "self_attn.qkv_proj": tuple(zip(_ATTENTION[:3], rows, strict=True)),
            "mlp.gate_up_proj": ((_MLP[0], half), (_MLP[1], half)),
        }
    biased = (*_ATTENTION, *_MLP) if how.attention_bias else _MLP
    return Host("re-hosted", _MLP[-1], 1.0, biased, written, fused)


def _rope(config: Any, raw: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Base of the rotary embedding, and its scaling (empty: the default kind).

    Both forms of config.json are read: `rope_parameters`, written since transformers 5,
    and `rope_theta` with `rope_scaling` before.
    """
    old = raw.get("rope_scaling") or {}
    new = raw.get("rope_parameters") or {}
    known = getattr(config, "rope_parameters", None) or {}
    theta = (
        new.get("rope_theta")
        or raw.get("rope_theta")
        or known.get("rope_theta")
        or getattr(config, "rope_theta", 10_000.0)
    )
    scaling = {k: v for k, v in {**new, **old}.items() if k != "rope_theta"}
    scaling.setdefault("rope_type", scaling.pop("type", "default"))
    if scaling.get("partial_rotary_factor") == 1.0:
        scaling.pop("partial_rotary_factor")
    if scaling == {"rope_type": "default"}:
        scaling = {}
    return float(theta), scaling


def _check_phi3(config: Any, raw: Mapping[str, Any], scaling: Mapping) -> None:
    known = getattr(config, "rope_parameters", None) or {}
    part = raw.get("partial_rotary_factor") or known.get("partial_rotary_factor", 1.0)
    if not scaling and part == 1.0:
        return
    found = (
        f"rope type {scaling['rope_type']!r}" if scaling else f"{part:.0%} of a head"
    )
    raise UnsupportedModelError(
        f"this Phi-3 rotates by {found}, which Llama does not compute the same way; only "
        "the default rotary embedding over whole heads (Phi-3-mini-4k, Phi-3-medium-4k) "
        f"can be re-hosted as Llama. {WAYS_OUT}"
    )


def _served(
    config: Any, how: AsLlama, context: int | None, scaling: Mapping
) -> int | None:
    """The context to write when a sliding window bounds it; None leaves it alone."""
    window = config.sliding_window
    if how.window_by_layer:
        kinds = getattr(config, "layer_types", None) or ()
        window = window if "sliding_attention" in kinds else None
    full = config.max_position_embeddings
    if context is not None and not 0 < context <= full:
        raise ValueError(
            f"context {context} does not fit a model of {full} positions; choose "
            f"between 1 and {window or full}"
        )
    if window is None or (context or full) <= window:
        limited = window is not None and context is not None and context < full
        if limited and scaling:
            raise UnsupportedModelError(
                f"this model scales its rotary embedding ({scaling['rope_type']}), which "
                f"depends on the context it names, so {full} cannot be written as "
                f"{context}. {WAYS_OUT}"
            )
        return context if limited else None
    raise UnsupportedModelError(
        f"this {config.model_type!r} model looks back {window} tokens at most (sliding "
        f"window) but serves {context or full}; re-hosted as Llama, which has no window, "
        f"longer texts would come out differently. Bake with context={window} "
        f"(--context {window}) if you serve no longer texts. {WAYS_OUT}"
    )
