"""Anatomy: one record per family of models, for everything that depends on the family."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel


class UnsupportedModelError(ValueError):
    """The architecture is not in the table and its blocks were not named."""


@dataclass(frozen=True, slots=True)
class AsLlama:
    """How a family that computes what a Llama computes differs from one in its files."""

    attention_bias: bool = False
    """Its q, k and v have a bias."""
    fused: bool = False
    """Its q, k and v are one matrix, and so are the gate and up projections."""
    window_by_layer: bool = False
    """Its window slides only in layers of type "sliding_attention"."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What is known of a family of models. Tests measure each entry."""

    blocks: str
    """Path of the list of blocks."""
    by_token: tuple[str, ...] = ()
    """Modules of a block that look at one token at a time and hold most of its products,
    from tensor to tensor: all that matters above the attention."""
    packs: bool = False
    """It takes explicit positions and a four-dimensional mask, so that several texts may
    stand in one row."""
    bias: str | None = None
    """Module of a block whose bias adds a constant to the stream."""
    biased: tuple[str, ...] = ()
    """Modules of every block that have a bias as soon as that one has."""
    bias_config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of config.json that say so."""
    as_llama: AsLlama | None = None
    """It can be written as a Llama, whose MLP may have a bias."""
    unbaked: str = ""
    """Why nothing in a block adds a constant to the stream."""
    gguf: str | None = None
    """What llama.cpp calls it, where that is not the same letters."""
    gguf_written: bool = False
    """`contrans.export.gguf.model` writes it, each checked against transformers."""
    rotary_neighbours: bool = False
    """Rotary pairs are neighbours in llama.cpp, and halves in transformers."""


_ABOVE = ("self_attn.o_proj", "mlp")
_GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_MLP_BIAS = {
    "bias": "mlp.down_proj",
    "biased": _GATED,
    "bias_config": {"mlp_bias": True},
}
_QKVO = tuple(f"self_attn.{name}_proj" for name in "qkvo")
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
_PLAIN = Anatomy("model.layers")
_WHOLE = replace(_PLAIN, by_token=_ABOVE, packs=True)
_POST = replace(_WHOLE, unbaked=_POST_NORM)
_MOE = replace(_PLAIN, unbaked=_EXPERTS)
_BESIDE_IMAGES = Anatomy(
    "model.language_model.layers",
    unbaked="its text blocks stand beside a vision tower, and are baked only alone: save "
    "the text model by itself, if it is of an architecture that takes a bias",
)
_GPT2 = Anatomy("transformer.h", bias="mlp.c_proj")
ANATOMY: dict[str, Anatomy] = {
    "llama": replace(_WHOLE, **_MLP_BIAS, gguf_written=True, rotary_neighbours=True),
    "mistral": replace(
        _WHOLE,
        as_llama=AsLlama(),
        gguf="llama",
        gguf_written=True,
        rotary_neighbours=True,
    ),
    "mixtral": replace(_MOE, packs=True, gguf="llama"),
    "qwen2": replace(
        _WHOLE,
        as_llama=AsLlama(attention_bias=True, window_by_layer=True),
        gguf_written=True,
    ),
    "qwen3": replace(_WHOLE, unbaked=_QK_NORM, gguf_written=True),
    "qwen2_moe": _MOE,
    "qwen3_moe": replace(_MOE, packs=True),
    "gemma": replace(
        _PLAIN,
        unbaked="its MLP has no bias, and its norms and embeddings are not those of Llama",
    ),
    "gemma2": _POST,
    "gemma3_text": replace(_POST, gguf="gemma3"),
    "gemma3": Anatomy("model.language_model.layers", unbaked=_POST_NORM),
    "phi": replace(_PLAIN, bias="mlp.fc2", gguf="phi2"),
    "phi3": replace(_WHOLE, as_llama=AsLlama(fused=True)),
    "olmo": _PLAIN,
    "olmo2": replace(_POST, gguf_written=True),
    "granite": replace(_PLAIN, **_MLP_BIAS),
    "stablelm": _PLAIN,
    "starcoder2": replace(
        _PLAIN,
        bias="mlp.c_proj",
        biased=(*_QKVO, "mlp.c_fc", "mlp.c_proj"),
        bias_config={"use_bias": True},
    ),
    "cohere": _PLAIN,
    "smollm3": _PLAIN,
    "gpt2": replace(_GPT2, by_token=("attn.c_proj", "mlp"), packs=True),
    "gpt_bigcode": _GPT2,
    "gpt_neo": _GPT2,
    "gptj": replace(_GPT2, bias="mlp.fc_out"),
    "bloom": replace(_GPT2, bias="mlp.dense_4h_to_h"),
    "falcon": replace(_GPT2, bias=None),
    "gpt_neox": Anatomy(
        "gpt_neox.layers",
        by_token=("attention.dense", "mlp"),
        packs=True,
        bias="mlp.dense_4h_to_h",
    ),
    "opt": Anatomy(
        "model.decoder.layers",
        bias="fc2",
        biased=(*(f"self_attn.{n}_proj" for n in ("q", "k", "v", "out")), "fc1", "fc2"),
        bias_config={"enable_bias": True},
    ),
    "mpt": Anatomy("transformer.blocks"),
    "llava": _BESIDE_IMAGES,
    "mistral3": _BESIDE_IMAGES,
    "qwen2_vl": _BESIDE_IMAGES,
    "qwen2_5_vl": _BESIDE_IMAGES,
    "smolvlm": replace(_BESIDE_IMAGES, blocks="model.text_model.layers"),
    "idefics3": replace(_BESIDE_IMAGES, blocks="model.text_model.layers"),
}
"""`config.model_type` to what is known of the family. A new family is one entry."""
UNKNOWN = Anatomy("")
"""Of a family that is not in the table: nothing."""


def anatomy_of(config: Any) -> Anatomy:
    """What is known of the family that a configuration belongs to."""
    return ANATOMY.get(config.model_type, UNKNOWN)


def llama_cpp_name(model_type: str) -> str:
    """What llama.cpp calls a family.

    Example:
        >>> llama_cpp_name("mistral"), llama_cpp_name("gpt_neox")
        ('llama', 'gptneox')
    """
    return ANATOMY.get(model_type, UNKNOWN).gguf or model_type.replace("_", "")


def find_blocks(model: PreTrainedModel, blocks: str | None = None) -> str:
    """The path of the list of blocks: given by the user, or from the table.

    Raises:
        UnsupportedModelError: when neither knows; the message lists candidates.
    """
    kind = model.config.model_type
    path = blocks or anatomy_of(model.config).blocks
    if path:
        with suppress(AttributeError):  # there is nothing at that path
            if isinstance(model.get_submodule(path), nn.ModuleList):
                return path
    config = model.config.get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    wrong = f"{blocks!r} is no list of blocks in" if blocks else "no known anatomy for"
    raise UnsupportedModelError(
        f"{wrong} architecture {kind!r} ({type(model).__name__}); name the path of its "
        f"blocks, such as load_model(..., blocks={(lists or ['model.layers'])[0]!r}) or "
        "--blocks (--blocks-source, --blocks-target) on the command line. "
        f"Lists of {count} modules in this model: {', '.join(lists) or 'none'}"
    )
