"""A constant edit folded into a GGUF model: `blk.N.ffn_down.bias`.

llama.cpp adds that bias to the output of the MLP of block N, which goes straight into
the residual stream: the same as adding the vector to the output of the block. So every
program on llama.cpp (llama-server, Ollama, LM Studio) serves the steered model without
an option, block 0 included. Everything else is copied byte for byte, whatever its
quantisation; one tensor is in memory at a time.

The bias is F32, also in quantised models: an F16 one aborts llama.cpp at decode.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

from contrans.core.files import atomic
from contrans.core.types import ConceptVector
from contrans.core.version import __version__
from contrans.export.constant import constant_edit, vectors_of
from contrans.models.anatomy import UnsupportedModelError
from contrans.models.edits import Control
from contrans.models.gguf_file import (
    BF16,
    F16,
    F32,
    MAGIC,
    GgufFile,
    TensorPlace,
    open_gguf,
    padded,
    provenance_text,
    string_entry,
    tensor_entry,
)

ARCHITECTURE = "llama"
"""The one architecture whose blocks llama.cpp gives an optional bias after the MLP."""
PROVENANCE = "contrans.baked"
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class GgufBakeReport:
    """What `bake_gguf` wrote."""

    path: Path
    layers: tuple[int, ...]
    """Blocks edited."""
    added_to: tuple[int, ...]
    """Those that had a bias before, to which the edit was added."""
    tensors: int
    """Tensors of the new file."""
    size: int
    """Bytes of the new file."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor of the new file: a place in the old one, or new bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    content: TensorPlace | bytes

    @property
    def size(self) -> int:
        if isinstance(self.content, bytes):
            return len(self.content)
        return self.content.stop - self.content.start


def bake_gguf(
    control: Control | ConceptVector,
    source: str | Path,
    out: str | Path,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> GgufBakeReport:
    """Write a GGUF model that is steered by itself.

    Example:
        bake_gguf(Steer(anger, layers=[0, 4], strength=2.0), "7b.Q4_K_M.gguf", "out.gguf")

    Args:
        control: a vector, a `Steer`, or several composed.
        source: a GGUF model of architecture llama (Llama, Mistral and their kin).
        out: the new file.
        force: overwrite `out`.
        progress: called with (tensors done, tensors in all).

    Raises:
        FileNotFoundError: when there is no such model.
        UnsupportedModelError: for an architecture without that bias.
        ValueError: for a wrong width, a block that the model lacks, a split or damaged
            file, or a control that is more than a constant vector.
        FileExistsError: when `out` exists and `force` is false.
    """
    file = open_gguf(source)
    depth, width = _check_model(file)
    edit = constant_edit(control, depth=depth)
    _check_edit(edit, file, width)
    parts, added_to = _plan(file, edit)
    said = {
        "version": __version__,
        "concept": [vector.concept for vector in vectors_of(control)],
        "model": [vector.model for vector in vectors_of(control)],
        "layers": list(edit),
        "lengths": [float(push.norm()) for push in edit.values()],
    }
    entry = string_entry(_free_key(file), provenance_text(said))
    with atomic(Path(out), force=force) as temporary, temporary.open("wb") as target:
        _write(target, file, parts, entry, progress)
        size = target.tell()
    return GgufBakeReport(Path(out), tuple(edit), added_to, len(parts), size)


def _check_model(file: GgufFile) -> tuple[int, int]:
    """Depth and width of a model that takes the bias."""
    kind = file.architecture
    if kind == "controlvector":
        raise ValueError(
            f"{file.path} is a control vector, not a model; name the vector first and "
            "the model after --bake-gguf"
        )
    if kind != ARCHITECTURE:
        raise UnsupportedModelError(
            f"{file.path} is of architecture {kind!r}, for which llama.cpp loads no bias "
            f"to put an edit into (it does for {ARCHITECTURE!r}: Llama, Mistral). Serve "
            "a control vector instead: contrans export VECTOR --gguf FILE, then "
            "--control-vector FILE; or, for Qwen2 and Phi-3, bake the Hugging Face "
            "model (contrans export VECTOR --bake MODEL -o DIR) and convert that"
        )
    if int(file.metadata.get("split.count", 1)) > 1:
        raise ValueError(
            f"{file.path} is one of {file.metadata['split.count']} pieces; join them "
            "first: llama-gguf-split --merge FIRST-PIECE MERGED.gguf"
        )
    if int(file.metadata.get(f"{kind}.expert_count", 0)) > 0:
        raise UnsupportedModelError(
            f"{file.path} is a mixture of experts, and its blocks have no single MLP "
            "bias; serve a control vector instead: contrans export VECTOR --gguf FILE"
        )
    try:
        return (
            int(file.metadata[f"{kind}.block_count"]),
            int(file.metadata[f"{kind}.embedding_length"]),
        )
    except KeyError as error:
        raise ValueError(
            f"{file.path} does not say {error.args[0]}; it is no complete model: convert "
            "or download it again"
        ) from error


def _check_edit(edit: Mapping[int, Tensor], file: GgufFile, width: int) -> None:
    if not edit:
        raise ValueError("there is no edit to bake; choose at least one layer")
    for layer, push in edit.items():
        if push.shape[-1] != width:
            raise ValueError(
                f"a vector of width {push.shape[-1]} does not fit {file.path} of width "
                f"{width}; transplant it into this model: contrans transplant"
            )
        if file.tensor(f"blk.{layer}.ffn_down.weight") is None:
            raise UnsupportedModelError(
                f"{file.path} has no blk.{layer}.ffn_down.weight, so llama.cpp would "
                "not read a bias beside it; serve a control vector instead: contrans "
                "export VECTOR --gguf FILE"
            )


def _plan(
    file: GgufFile, edit: Mapping[int, Tensor]
) -> tuple[list[_Part], tuple[int, ...]]:
    """The tensors of the new file, in the order of their data."""
    biases = {f"blk.{layer}.ffn_down.bias": layer for layer in edit}
    parts, added_to = [], []
    for tensor in sorted(file.tensors, key=lambda tensor: tensor.start):
        layer = biases.pop(tensor.name, None)
        if layer is None:
            parts.append(_Part(tensor.name, tensor.shape, tensor.kind, tensor))
            continue
        total = _bias(file, tensor) + edit[layer].double().numpy()
        parts.append(_Part(tensor.name, tensor.shape, F32, _raw(total)))
        added_to.append(layer)
    for name, layer in biases.items():
        push = edit[layer].numpy()
        parts.append(_Part(name, push.shape, F32, _raw(push)))
    return parts, tuple(sorted(added_to))


def _raw(numbers: np.ndarray) -> bytes:
    return numbers.astype("<f4").tobytes()


def _bias(file: GgufFile, tensor: TensorPlace) -> np.ndarray:
    """The numbers of a bias that is there already, in float64."""
    count = int(np.prod(tensor.shape))
    if tensor.kind == F32:
        return np.frombuffer(file.read(tensor, 4 * count), "<f4").astype("f8")
    if tensor.kind == F16:
        return np.frombuffer(file.read(tensor, 2 * count), "<f2").astype("f8")
    if tensor.kind == BF16:
        short = np.frombuffer(file.read(tensor, 2 * count), "<u2").astype("<u4")
        return (short << 16).view("<f4").astype("f8")
    raise ValueError(
        f"{tensor.name} in {file.path} is {tensor.type_name}; a bias must be F32: "
        "convert the model again with a current llama.cpp"
    )


def _free_key(file: GgufFile) -> str:
    """A key for the note on this edit; a model can be baked more than once."""
    key, count = PROVENANCE, 1
    while key in file.keys:
        count += 1
        key = f"{PROVENANCE}.{count}"
    return key


def _write(
    target: BinaryIO,
    file: GgufFile,
    parts: list[_Part],
    entry: bytes,
    progress: Callable[[int, int], None] | None,
) -> None:
    with file.path.open("rb") as source:
        keys = len(file.keys) + 1
        target.write(MAGIC + struct.pack("<IQQ", file.version, len(parts), keys))
        _copy(source, target, *file.entries)
        target.write(entry)
        offset = 0
        for part in parts:
            target.write(tensor_entry(part.name, part.shape, part.kind, offset))
            offset += padded(part.size, file.alignment)
        _pad(target, file.alignment)
        for done, part in enumerate(parts, start=1):
            if isinstance(part.content, bytes):
                target.write(part.content)
            else:
                _copy(source, target, part.content.start, part.content.stop)
            _pad(target, file.alignment)
            if progress is not None:
                progress(done, len(parts))


def _copy(source: BinaryIO, target: BinaryIO, start: int, stop: int) -> None:
    source.seek(start)
    left = stop - start
    while left > 0:
        piece = source.read(min(left, _CHUNK))
        if not piece:
            raise ValueError(f"{source.name} ended early; download or write it again")
        target.write(piece)
        left -= len(piece)


def _pad(target: BinaryIO, alignment: int) -> None:
    target.write(b"\0" * (padded(target.tell(), alignment) - target.tell()))
