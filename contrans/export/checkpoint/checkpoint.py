"""A model on disk: which file holds which tensor, without loading it."""

import errno
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from contrans.core.files import FULL
from contrans.export.checkpoint.shards import open_weights
from contrans.models import zoo
from contrans.models.anatomy import UnsupportedModelError, anatomy_of
from contrans.models.fingerprint import weights_fingerprint
from contrans.models.locate import locate

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
SMALL_FILES = (
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.tiktoken",
    "*.md",
    "LICENSE*",
)
"""What is fetched of a repository besides the weights."""
RENAMED = {"lm_head.weight": "embed_out.weight"}
"""Parameter to tensor, where transformers 5 renames on loading (GPT-NeoX)."""
_LOCAL = FULL | {errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE}
"""Errors of this machine, which say nothing about the hub."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A folder of safetensors files and a config.json."""

    name: str
    folder: Path
    raw: dict[str, Any]
    """config.json"""
    where: dict[str, str]
    """Tensor to file."""
    tokenizer: Path
    """Folder of the tokenizer."""
    revision: str | None = None

    @property
    def files(self) -> list[str]:
        """The weight files, in order."""
        return sorted(set(self.where.values()))

    @property
    def size(self) -> int:
        """Bytes of all weight files."""
        return sum((self.folder / file).stat().st_size for file in self.files)

    @cached_property
    def config(self) -> Any:
        """The configuration, as transformers reads it."""
        return AutoConfig.from_pretrained(self.folder)

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return int(self.config.get_text_config().num_hidden_layers)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.config.get_text_config().hidden_size)

    @cached_property
    def blocks(self) -> str:
        """What the names of tensors of blocks begin with, such as `model.layers`.

        Some checkpoints leave the outermost module out of their names.
        """
        path = anatomy_of(self.config).blocks
        for start in (path, path.partition(".")[2]):
            if start and any(name.startswith(f"{start}.0.") for name in self.where):
                return start
        raise UnsupportedModelError(
            f"{self.folder} holds no tensors named {path or 'MODULE'}.0...; found names "
            f"like {sorted(self.where)[:3]}. Load the model with transformers and save "
            "it again (save_pretrained), which writes the usual names"
        )

    @cached_property
    def fingerprint(self) -> str:
        """The hash that `LM.fingerprint` gives for the loaded model."""
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(self.config)
        outer = f"{empty.base_model_prefix}."
        named = dict(empty.named_parameters())

        def find(name: str) -> str:
            for known in (name, name.removeprefix(outer), RENAMED.get(name)):
                if known in self.where:
                    return known
            raise UnsupportedModelError(
                f"{self.folder} has no tensor {name!r}, which architecture "
                f"{self.config.model_type!r} needs; the checkpoint is incomplete or "
                "names its tensors in an old way: load it with transformers and save it "
                "again (save_pretrained)"
            )

        return weights_fingerprint(named.items(), lambda name: self._tensor(find(name)))

    def _tensor(self, name: str) -> Tensor:
        with open_weights(self.folder / self.where[name]) as file:
            return file.get_tensor(name)


def open_checkpoint(model: str | Path, *, revision: str | None = None) -> Checkpoint:
    """Find a checkpoint: a folder, a name of the zoo, or a hub id.

    Of a hub repository, only safetensors, the tokenizer and the small files are fetched.

    Raises:
        FileNotFoundError: when there is no such model.
        ValueError: when it has no safetensors, or its index is damaged.
    """
    name = str(model)
    place = locate(name, revision)
    if place.kind != "hub":
        folder, tokenizer = Path(place.model), Path(place.tokenizer)
    else:
        folder = tokenizer = _fetch(name, revision)
        commit = folder.name if folder.parent.name == "snapshots" else None
        revision = revision or commit
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(
            f"{folder} has no config.json; name the folder of a model"
        )
    try:
        raw = json.loads(config.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{config} is not readable JSON ({error})") from error
    if (folder / "adapter_config.json").is_file():
        raise UnsupportedModelError(
            f"{name!r} holds an adapter (adapter_config.json), which would go on top of "
            "the baked weights; merge it first (merge_and_unload in PEFT), then bake"
        )
    if raw.get("quantization_config"):
        raise UnsupportedModelError(
            f"{name!r} is quantised ({raw['quantization_config'].get('quant_method')}); "
            "bake into the unquantised checkpoint, then quantise that"
        )
    return Checkpoint(name, folder, raw, _where(folder, name), tokenizer, revision)


def _where(folder: Path, name: str) -> dict[str, str]:
    """Tensor to file, from the index or from the single file."""
    index = folder / INDEX
    try:
        if index.is_file():
            found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        elif (folder / SINGLE).is_file():
            with open_weights(folder / SINGLE) as file:
                found = dict.fromkeys(file.keys(), SINGLE)
        else:
            raise _no_safetensors(folder, name)
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{INDEX} of {name!r} in {folder} cannot be read ({error}); download or save "
            "the model again"
        ) from error
    for file in set(found.values()):
        if Path(file).name != file:
            raise ValueError(
                f"{INDEX} of {name!r} names {file!r}, which is not a plain file name; "
                "do not trust this checkpoint"
            )
    missing = sorted({f for f in found.values() if not (folder / f).is_file()})
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing[:3])}, named in {INDEX}; download the "
            "model again"
        )
    return found


def _no_safetensors(folder: Path, name: str) -> FileNotFoundError:
    old = sorted(p.name for p in folder.glob("*.bin"))
    if not old:
        return FileNotFoundError(
            f"{folder} has neither {SINGLE} nor {INDEX}; name the folder of a model"
        )
    return FileNotFoundError(
        f"{name!r} has its weights as pickle ({old[0]}), which can run code and is not "
        "read here; write it as safetensors first: python -c 'from transformers import "
        "AutoModelForCausalLM as M, AutoTokenizer as T; n, d = "
        f'"{name}", "DIR"; M.from_pretrained(n, dtype="auto").save_pretrained(d); '
        "T.from_pretrained(n).save_pretrained(d)', then bake DIR"
    )


def _fetch(name: str, revision: str | None) -> Path:
    """The snapshot of a hub repository: first the small files, then the weights.

    Raises:
        FileNotFoundError: when the hub has no such model for us.
        OSError: when it cannot be stored here, such as on a full disk.
    """
    try:
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=list(SMALL_FILES))
        )
        index = folder / INDEX
        files = {SINGLE}
        if index.is_file():
            found = json.loads(index.read_text(encoding="utf-8"))
            files = set(found.get("weight_map", {}).values())
        snapshot_download(name, revision=revision, allow_patterns=sorted(files))
    except (
        OSError,
        HFValidationError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
    ) as error:
        if isinstance(error, OSError) and error.errno in _LOCAL:
            raise
        raise FileNotFoundError(
            f"no model {name!r}: neither a folder, nor a name of the zoo "
            f"({', '.join(zoo.names())}), nor reachable on the hub. Check the spelling, "
            "your connection, and `hf auth login` for gated models "
            f"({str(error).splitlines()[0]})"
        ) from error
    return folder
