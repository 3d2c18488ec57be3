"""A Hugging Face model written as a GGUF file, in float32 or float16.

For models whose tokenizer llama.cpp's own converter does not recognise, such as those
of the zoo and other freshly trained ones, and for exact comparisons. It writes a few
architectures, each checked against the logits of transformers; everything else is for
`convert_hf_to_gguf.py` of llama.cpp.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from contrans.core.files import atomic
from contrans.export.gguf.tokenizer import add_tokenizer
from contrans.models.anatomy import (
    ANATOMY,
    UnsupportedModelError,
    anatomy_of,
    llama_cpp_name,
)
from contrans.models.gguf_file import require_gguf
from contrans.models.lm import LM
from contrans.models.loading import load_model

_WAY_OUT = "convert it with convert_hf_to_gguf.py of llama.cpp"


@dataclass(frozen=True, slots=True)
class _Architecture:
    name: str
    """What llama.cpp calls it."""
    interleaved: bool = False
    """Rotary pairs are neighbours there, and halves in transformers: q and k change."""


def write_model(
    model: LM | str | Path,
    path: str | Path,
    *,
    dtype: Literal["F32", "F16"] = "F32",
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a model as a GGUF file, one tensor at a time.

    Example:
        write_model("zoo/large", "large.gguf")

    Args:
        model: a loaded model, or what `load_model` takes.
        path: the new file.
        dtype: of the matrices; biases and norms are F32 always.
        force: overwrite.
        progress: called with (tensors done, tensors in all).

    Raises:
        UnsupportedModelError: for a family that is not written here, or a rotary
            embedding other than the default.
        ValueError: for a tokenizer that is not byte-level BPE, or a quantised model.
        FileExistsError: when the file exists and `force` is false.
        ImportError: without the `gguf` package.
    """
    gguf = require_gguf()
    lm = model if isinstance(model, LM) else load_model(model, dtype="float32")
    config = lm.model.config
    kind = _architecture(lm)
    names = gguf.get_tensor_name_map(
        {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[kind.name], lm.layers
    )
    tensors = list(_tensors(lm, kind, names))
    with (
        atomic(Path(path), force=force) as temporary,
        closing(gguf.GGUFWriter(temporary, kind.name)) as writer,
    ):
        writer.add_name(lm.name)
        _add_sizes(writer, config, lm.layers)
        single = dtype == "F32"
        types = gguf.LlamaFileType
        writer.add_file_type(types.ALL_F32 if single else types.MOSTLY_F16)
        add_tokenizer(writer, lm, int(config.vocab_size))
        for name, _, weight in tensors:
            form = torch.float32 if single or weight.dim() == 1 else torch.float16
            number = torch.empty(0, dtype=form).numpy().dtype
            size = weight.numel() * number.itemsize
            writer.add_tensor_info(name, tuple(weight.shape), number, size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, (_, heads, weight) in enumerate(tensors, start=1):
            plain = weight.detach().to("cpu", torch.float32)
            plain = interleave(plain, heads) if heads else plain
            form = torch.float32 if single or weight.dim() == 1 else torch.float16
            writer.write_tensor_data(plain.to(form).contiguous().numpy())
            if progress is not None:
                progress(done, len(tensors))


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Rows of a q or k projection (weight or bias) as llama.cpp's rotary wants them.

    Within each head, transformers turns row i with row i + half; llama.cpp turns
    neighbours. The reverse of the permutation in Meta's conversion to transformers.

    Example:
        >>> interleave(torch.arange(8), heads=2).tolist()
        [0, 2, 1, 3, 4, 6, 5, 7]
    """
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _architecture(lm: LM) -> _Architecture:
    config = lm.model.config
    known = anatomy_of(config)
    kind = _Architecture(llama_cpp_name(config.model_type), known.rotary_neighbours)
    if not known.gguf_written:
        written = (kind for kind, known in ANATOMY.items() if known.gguf_written)
        raise UnsupportedModelError(
            f"{lm.name!r} is of architecture {config.model_type!r}; GGUF models are "
            f"written here for {', '.join(written)}: {_WAY_OUT}"
        )
    rope = _rope(config)
    if rope["rope_type"] != "default":
        raise UnsupportedModelError(
            f"{lm.name!r} has a rotary embedding of type {rope['rope_type']!r}; only "
            f"the default is written here: {_WAY_OUT}"
        )
    if getattr(config, "hidden_act", "silu") != "silu":
        raise UnsupportedModelError(
            f"{lm.name!r} has the activation {config.hidden_act!r}, but llama.cpp takes "
            f"silu for {kind.name!r}; there is no way to serve it there"
        )
    return kind


def _rope(config: Any) -> dict[str, Any]:
    """Theta and type of the rotary embedding, in the forms of transformers 4 and 5."""
    found = getattr(config, "rope_parameters", None)
    if found is None:
        found = {
            "rope_theta": config.rope_theta,
            **(getattr(config, "rope_scaling", None) or {}),
        }
    return {"rope_type": "default", **found}


def _add_sizes(writer: Any, config: Any, layers: int) -> None:
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    context = int(config.max_position_embeddings)
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        context = min(context, int(window))  # llama.cpp would look further back
    writer.add_vocab_size(config.vocab_size)
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(_rope(config)["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _tensors(
    lm: LM, kind: _Architecture, names: Any
) -> Iterator[tuple[str, int, Tensor]]:
    """Name in the file, heads to interleave by (0: none), and weight."""
    config = lm.model.config
    heads = {
        "q_proj": config.num_attention_heads,
        "k_proj": config.num_key_value_heads,
    }
    for name, weight in lm.model.named_parameters():
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None or not weight.is_floating_point():
            raise UnsupportedModelError(
                f"{lm.name!r} has a parameter {name} of {weight.dtype}, for which a "
                f"GGUF model of {kind.name!r} has no place; load it unquantised, or "
                f"{_WAY_OUT}"
            )
        turned = heads.get(name.split(".")[-2], 0) if kind.interleaved else 0
        yield found, turned, weight
