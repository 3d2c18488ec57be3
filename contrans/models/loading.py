"""Load a model: by hub id, folder or name of the embedded zoo."""

from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HFValidationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from contrans.models import zoo
from contrans.models.anatomy import UnsupportedModelError, find_blocks
from contrans.models.generation import check_generation
from contrans.models.lm import LM
from contrans.models.locate import locate
from contrans.models.soundness import (
    check_loaded,
    pickled,
    read_config,
    read_json,
    read_tokenizer,
    reading,
    shortened,
    tensor_files,
)


def wrap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str | None = None,
    blocks: str | None = None,
) -> LM:
    """An `LM` from a model and a tokenizer that are already in memory.

    Args:
        model: in memory; it is put into eval mode.
        tokenizer: its tokenizer.
        name: None takes the model's.
        blocks: path of the list of blocks, where the anatomy is unknown.

    Raises:
        UnsupportedModelError: see `find_blocks`.
    """
    label = name or model.config.name_or_path or type(model).__name__
    check_generation(model, label)
    return LM(model.eval(), tokenizer, label, find_blocks(model, blocks))


def load_model(
    name: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device_map: str | dict[str, Any] | None = None,
    quantize: Literal["8bit", "4bit"] | None = None,
    revision: str | None = None,
    blocks: str | None = None,
    trust_remote_code: bool = False,
) -> LM:
    """Load a model: hub id, folder, GGUF file, named model, or the zoo (`zoo/small`).

    Args:
        name: where the model is: see `locate`.
        dtype: "auto" keeps the checkpoint's on accelerators and takes float32 on a
            CPU for the zoo and GGUF files; or "float32", "bfloat16", "float16".
        device_map: as in transformers, such as "auto" for several GPUs.
        quantize: load in 8 or 4 bits (needs the `quantized` extra and a GPU).
        revision: branch, tag or commit on the hub.
        blocks: path of the list of blocks, for architectures not in `ANATOMY`.
        trust_remote_code: run code that comes with the model. Off, and visible.

    Raises:
        FileNotFoundError: when there is no such model, with what to try.
        ValueError: when the model is not whole: see `contrans.models.soundness`.
        UnsupportedModelError: when its blocks are not known.
    """
    label = str(name)
    place = locate(label, revision)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if place.kind in ("zoo", "gguf"):
        dtype = torch.float32 if dtype == "auto" else dtype
    elif revision is not None:
        options["revision"] = revision
    if isinstance(dtype, str) and dtype != "auto":
        dtype = _dtype(dtype)
    if quantize is not None:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=quantize == "8bit", load_in_4bit=quantize == "4bit"
        )
    if device_map is None and torch.cuda.is_available():
        device_map = "auto"
    if place.kind != "hub":
        read_config(Path(place.model))
        tensor_files(Path(place.model), label)
        own = Path(place.model) / "generation_config.json"
        if own.is_file():
            read_json(own)  # transformers would pass over a broken one
    with reading(f"the model {label!r}", "check config.json, or download it again"):
        try:
            kind = _kind(place.model, **options)
            loaded: Any = kind.from_pretrained(
                place.model,
                dtype=dtype,
                device_map=device_map,
                use_safetensors=True,
                ignore_mismatched_sizes=quantize is None,  # `check_loaded` names them
                output_loading_info=True,
                **options,
            )
        except (OSError, HFValidationError) as error:  # the latter: a path, release 4
            if place.kind != "hub":
                raise
            raise _nowhere(label, error) from error
    model, said = loaded
    check_loaded(model, said, label)
    check_generation(model, label)
    options.pop("quantization_config", None)
    rows = model.get_input_embeddings().weight.shape[0]
    tokenizer = read_tokenizer(place.tokenizer, label, rows=rows, **options)
    return LM(
        model.eval(), tokenizer, label, find_blocks(model, blocks), revision=revision
    )


def _kind(source: str, **options: Any) -> Any:
    """What loads a model: as a language model, or as one that also sees images.

    Raises:
        UnsupportedModelError: when its architecture is neither.
    """
    options.pop("quantization_config", None)
    config = AutoConfig.from_pretrained(source, **options)
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or ()):
        return AutoModelForCausalLM  # code of its own, where that is trusted
    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in kind._model_mapping:
            return kind
    raise UnsupportedModelError(
        f"{source} is of architecture {config.model_type!r}, which does not write text "
        "from left to right; name a causal language model"
    )


def _nowhere(label: str, error: Exception) -> FileNotFoundError:
    """The error for a model that the hub does not give."""
    if "safetensors" in str(error):
        return pickled(label, "pytorch_model.bin")
    return FileNotFoundError(
        f"no model {label!r}: neither a folder with config.json, nor a name of the zoo "
        f"({', '.join(zoo.names())}), nor reachable on the hub. Check the spelling, "
        f"your connection, and `hf auth login` for gated models ({shortened(error)})"
    )


def _dtype(name: str) -> torch.dtype:
    short = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    found = getattr(torch, short.get(name, name), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(
            f"unknown dtype {name!r}; choose auto, float32, bfloat16 or float16"
        )
    return found
