"""A model on disk: which file holds which tensor, without loading it."""

import errno
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
from contrans.models import zoo
from contrans.models.anatomy import UnsupportedModelError, anatomy_of
from contrans.models.fingerprint import weights_fingerprint
from contrans.models.locate import locate
from contrans.models.soundness import (
    INDEX,
    SINGLE,
    check_tensors,
    open_weights,
    read_config,
    read_json,
    read_tokenizer,
    reading,
    tensor_files,
)

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
        with reading(f"config.json of {self.name!r}"):
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
        with reading(f"config.json of {self.name!r}"), torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(self.config)
        outer = f"{empty.base_model_prefix}."
        named = dict(empty.named_parameters())
        tied = empty.state_dict().keys() - named
        places = {
            name: known
            for name in named
            for known in (RENAMED.get(name), name.removeprefix(outer), name)
            if known in self.where
        }
        check_tensors(
            self.name,
            self.config,
            named,
            named.keys() - places,
            self.where.keys() - set(places.values()) - tied,
        )

        def values(name: str) -> Tensor:
            tensor = self._tensor(places[name])
            shapes = places[name], tuple(tensor.shape), tuple(named[name].shape)
            if shapes[1] != shapes[2]:
                check_tensors(self.name, self.config, named, (), (), [shapes])
            return tensor

        return weights_fingerprint(named.items(), values)

    def _tensor(self, name: str) -> Tensor:
        with open_weights(self.folder / self.where[name]) as file:
            return file.get_tensor(name)


def open_checkpoint(model: str | Path, *, revision: str | None = None) -> Checkpoint:
    """Find a checkpoint: a folder, a name of the zoo, or a hub id.

    Of a hub repository, only safetensors, the tokenizer and the small files are fetched.

    Raises:
        FileNotFoundError: when there is no such model.
        ValueError: when it is quantised or not whole: see `contrans.models.soundness`.
    """
    name = str(model)
    place = locate(name, revision)
    if place.kind != "hub":
        folder, tokenizer = Path(place.model), Path(place.tokenizer)
    else:
        folder = tokenizer = _fetch(name, revision)
        commit = folder.name if folder.parent.name == "snapshots" else None
        revision = revision or commit
    raw = read_config(folder)
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
    where = tensor_files(folder, name)
    read_tokenizer(tokenizer, name)
    return Checkpoint(name, folder, raw, where, tokenizer, revision)


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
            files = set(read_json(index).get("weight_map", {}).values())
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
