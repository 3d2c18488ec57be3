"""Where the blocks of an architecture are: the one table, and how it is read."""

from contextlib import suppress

from torch import nn
from transformers import PreTrainedModel


class UnsupportedModelError(ValueError):
    """The architecture is not in the table and its blocks were not named."""


_LLAMA, _GPT2, _NEOX = "model.layers", "transformer.h", "gpt_neox.layers"
BLOCKS = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "qwen2_moe": _LLAMA,
    "qwen3_moe": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "gemma3": "model.language_model.layers",
    "phi": _LLAMA,
    "phi3": _LLAMA,
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "granite": _LLAMA,
    "stablelm": _LLAMA,
    "starcoder2": _LLAMA,
    "cohere": _LLAMA,
    "smollm3": _LLAMA,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": _GPT2,
    "gptj": _GPT2,
    "bloom": _GPT2,
    "falcon": _GPT2,
    "gpt_neox": _NEOX,
    "opt": "model.decoder.layers",
    "mpt": "transformer.blocks",
}
"""Anatomy: `config.model_type` to the path of the list of blocks."""


def find_blocks(model: PreTrainedModel, blocks: str | None = None) -> str:
    """The path of the list of blocks: given by the user, or from the table.

    Raises:
        UnsupportedModelError: when neither knows; the message lists candidates.
    """
    kind = model.config.model_type
    path = blocks or BLOCKS.get(kind)
    if path is not None:
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
