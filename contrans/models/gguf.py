"""GGUF files as models: read through transformers once, kept as an ordinary folder.

Dequantising takes 16 to 41 s for models of 100 to 300 million parameters, each time.
So the first load converts the file into a folder of the cache, named by the content of
the file, and later loads read that folder. Its numbers are the dequantised ones in
float32: exactly what transformers computes with.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock

from contrans.core.cache import cache_folder
from contrans.core.files import sync, write_text
from contrans.models.gguf_file import GgufFile, open_gguf, require_gguf
from contrans.models.soundness import check_loaded, read_tokenizer, reading

SCHEMA = 1
"""Changes when the conversion does; folders of another one are not used."""
INDEX = "contrans-gguf.json"
"""Written last: a folder without it was interrupted and is made again."""
BLOCK = 1 << 22
"""Bytes hashed at a time."""


def is_gguf(name: str) -> bool:
    """Whether a model name means a GGUF file.

    Example:
        >>> is_gguf("small.Q4_K_M.gguf"), is_gguf("org/repo:file.gguf"), is_gguf("gpt2")
        (True, True, False)
    """
    return name.lower().endswith(".gguf")


def locate(name: str, revision: str | None = None) -> Path:
    """The file that a name means: a path, or `org/repo:file.gguf` on the hub.

    Args:
        name: the name as the user gave it.
        revision: branch, tag or commit on the hub.

    Raises:
        FileNotFoundError: when there is no such file, with what to try.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    repo, colon, file = name.partition(":")
    if not colon or repo.count("/") != 1 or not file:
        raise FileNotFoundError(
            f"no file {name}; check the name and the folder. A GGUF file on the hub is "
            "named org/repo:file.gguf"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise FileNotFoundError(
            f"no file {file!r} in {repo!r} that could be reached on the hub "
            f"({str(error).splitlines()[0]}); check the spelling, your connection, and "
            "`hf auth login` for gated models"
        ) from error


def as_folder(path: Path) -> Path:
    """The folder of a GGUF model that transformers loads, converted on first use.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, split, or of a form that transformers
            does not read.
        ImportError: when the `gguf` package is missing.
    """
    found = open_gguf(path)
    _check_readable(found)
    folder = cache_folder() / "gguf" / _key(path)
    if (folder / INDEX).is_file():
        return folder
    require_gguf()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / INDEX).is_file():
            _convert(found, folder)
    return folder


def _check_readable(found: GgufFile) -> None:
    """Refuse what is not a whole language model before any work is done."""
    parts = int(found.metadata.get("split.count", 1) or 1)
    if parts > 1:
        raise ValueError(
            f"{found.path} is one of {parts} files of a split model; join them first: "
            "llama-gguf-split --merge FIRST-FILE OUT.gguf"
        )
    if found.metadata.get("general.type", "model") != "model" or not found.tensors:
        raise ValueError(
            f"{found.path} holds no model ({found.metadata.get('general.type')!r}, "
            f"{len(found.tensors)} tensors); vectors and adapters are not loaded as "
            "models"
        )
    if "tokenizer.ggml.tokens" not in found.keys:
        raise ValueError(
            f"{found.path} has no tokenizer; convert the model again with its tokenizer"
        )
    known = _architectures()
    if _spelled(found.architecture) not in known:
        raise ValueError(
            f"{found.path} is of architecture {found.architecture!r}, which the "
            f"installed transformers does not read from GGUF (it reads "
            f"{', '.join(sorted(known))}); use the checkpoint that the file was made "
            "from"
        )


def _architectures() -> frozenset[str]:
    """Architectures that the installed transformers reads from GGUF."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    sections = {"general", "tokenizer", "tokenizer_config"}
    return frozenset(map(_spelled, set(GGUF_SUPPORTED_ARCHITECTURES) - sections))


def _spelled(architecture: str) -> str:
    """Transformers writes qwen2_moe where llama.cpp writes qwen2moe."""
    return architecture.replace("_", "").replace("-", "")


def _key(path: Path) -> str:
    """A hash of the file's content and of what reads it."""
    import transformers

    seen = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(BLOCK):
            seen.update(piece)
    seen.update(f"{SCHEMA} {transformers.__version__}".encode())
    return seen.hexdigest()[:32]


def _convert(found: GgufFile, folder: Path) -> None:
    """Read the file with transformers and write an ordinary checkpoint."""
    import transformers

    path = found.path
    model = _read_model(path)
    tokenizer = read_tokenizer(path.parent, path, gguf_file=path.name)
    shutil.rmtree(folder, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _plain(model).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _drop_tokens_beyond(temporary, model.get_input_embeddings().weight.shape[0])
        for file in temporary.glob("*.safetensors"):
            sync(file)
        about = {
            "file": path.name,
            "architecture": found.architecture,
            "schema": SCHEMA,
            "transformers": transformers.__version__,
        }
        write_text(temporary / INDEX, json.dumps(about, indent=2) + "\n")
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _drop_tokens_beyond(folder: Path, rows: int) -> None:
    """Take out tokens that the converter invented and that have no embedding.

    transformers adds `<|endoftext|>` to GPT-2 vocabularies; where the file has none, a
    text that holds these characters would index behind the embedding.
    """
    path = folder / "tokenizer.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    kept = [token for token in raw["added_tokens"] if token["id"] < rows]
    dropped = {token["content"] for token in raw["added_tokens"]} - {
        token["content"] for token in kept
    }
    if not dropped:
        return
    raw["added_tokens"] = kept
    write_text(path, json.dumps(raw, ensure_ascii=False), force=True)
    path = folder / "tokenizer_config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    said = {
        key: None if isinstance(value, str) and value in dropped else value
        for key, value in said.items()
        if key not in ("added_tokens_decoder", "extra_special_tokens")
    }
    write_text(path, json.dumps(said, indent=2, ensure_ascii=False), force=True)


def _read_model(path: Path) -> Any:
    """The dequantised model in float32, every one of its tensors from the file."""
    from transformers import AutoModelForCausalLM

    advice = (
        "a newer release of transformers may read it, or use the checkpoint that the "
        "file was made from"
    )
    with reading(str(path), advice):
        model, said = cast(
            Any,
            AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                dtype=torch.float32,
                output_loading_info=True,
            ),
        )
    check_loaded(model, said, str(path))
    return model


def _plain(model: Any) -> Any:
    """The same weights in a model that does not remember GGUF and can be saved."""
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain
