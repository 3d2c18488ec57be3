"""Control vectors of llama.cpp: GGUF files with one direction for each block.

llama.cpp adds the tensor `direction.N` to the output of zero-based block N, at every
token: the same place as layer N of contrans. Block 0 cannot be edited in this way, and
blocks without a tensor are left alone. Two programs write such files:

- repeng, whose number is the zero-based block as well;
- `llama-cvector-generator` of llama.cpp, which calls what it reads at the output of
  block N `direction.{N + 1}`. llama.cpp applies it one block later than it was read.

`read_control_vector` gives every file the meaning that it has when it is applied.
"""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrans.core.files import atomic
from contrans.core.types import ConceptVector
from contrans.core.version import __version__
from contrans.export.constant import constant_edit, single_edits, vectors_of
from contrans.models.edits import Control
from contrans.models.gguf_file import (
    F32,
    GgufFile,
    TensorPlace,
    open_gguf,
    provenance_text,
    require_gguf,
)
from contrans.models.lm import LM

ARCHITECTURE = "controlvector"
MODEL_HINT = f"{ARCHITECTURE}.model_hint"
LAYER_COUNT = f"{ARCHITECTURE}.layer_count"
PROVENANCE = "contrans.vector"
"""Key of our own; llama.cpp and repeng pass over it."""
_PREFIX = "direction."


def write_control_vector(
    control: Control | ConceptVector,
    path: str | Path,
    *,
    model_hint: str | None = None,
    depth: int | None = None,
    provenance: bool = True,
    force: bool = False,
) -> None:
    """Write a control vector for `llama-cli --control-vector FILE` and its like.

    The strength is scaled in: `Steer(vector, layers=[4], strength=2.0)` writes twice
    the vector, and llama.cpp adds it at scale 1. A bare `ConceptVector` is written as
    it is, at all its layers, for use with `--control-vector-scaled FILE:SCALE`.

    Example:
        write_control_vector(Steer(anger, layers=[24], strength=2.0), "anger.gguf")

    Args:
        control: a vector, a `Steer`, or several composed.
        path: the file; no colon in its name or its folders.
        model_hint: the architecture, such as "llama"; shown by tools, checked by none.
        depth: number of blocks of the model, to refuse directions beyond it.
        provenance: add what the vector is and where it came from as one more key.
        force: overwrite.

    Raises:
        ValueError: for block 0, a block beyond `depth`, a colon in the name, nothing to
            write, or a control that is more than a constant vector.
        FileExistsError: when the file exists and `force` is false.
        ImportError: without the `gguf` package.
    """
    path = Path(path)
    _check_name(path)
    edit = constant_edit(control, depth=depth)
    check_blocks(edit)
    vectors = vectors_of(control)
    writers = require_gguf()
    with (
        atomic(path, force=force) as temporary,
        closing(writers.GGUFWriter(temporary, ARCHITECTURE)) as writer,
    ):
        writer.add_string(MODEL_HINT, model_hint or vectors[0].name or "unknown")
        writer.add_uint32(LAYER_COUNT, len(edit))
        if provenance:
            writer.add_string(PROVENANCE, provenance_text(_describe(control, edit)))
        for layer, push in edit.items():
            writer.add_tensor(f"{_PREFIX}{layer}", push.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _check_name(path: PurePath) -> None:
    if ":" in str(path).removeprefix(path.drive):
        raise ValueError(
            f"{path} holds a colon, at which llama.cpp cuts FILE:SCALE; choose a name "
            "without one"
        )


def check_blocks(edit: Mapping[int, Tensor]) -> None:
    """Refuse what no control vector of llama.cpp can hold.

    Raises:
        ValueError: when there is nothing to add, or something to add to block 0.
    """
    if not edit:
        raise ValueError("there is no direction to write; choose at least one layer")
    if 0 in edit:
        raise ValueError(
            "llama.cpp cannot add a control vector to block 0 (it refuses the file); "
            "choose --layers from 1 on, or bake the edit into the model, which reaches "
            "block 0 too: contrans export VECTOR --bake-gguf MODEL.gguf -o OUT.gguf"
        )


def _describe(
    control: Control | ConceptVector, edit: Mapping[int, Tensor]
) -> dict[str, Any]:
    """What `read_control_vector` needs to give our own files back as they were."""
    vectors = vectors_of(control)
    made = _made(control)
    first = vectors[0]
    norms = {}
    if first.norms is not None:
        known = dict(zip(first.layers, first.norms.tolist(), strict=True))
        norms = {str(layer): known[layer] for layer in edit if layer in known}
    return {
        "version": __version__,
        "concept": "+".join(vector.concept for vector in vectors),
        "model": first.model,
        "name": first.name,
        "norms": norms,
        "provenance": made[0] if len(made) == 1 else {"parents": made},
    }


def _made(control: Control | ConceptVector) -> list[dict[str, Any]]:
    """How each vector was made; a strength that is scaled in is not to be used again."""
    if isinstance(control, ConceptVector):
        return [dict(control.provenance)]
    made = []
    for steer in single_edits(control):
        known = {k: v for k, v in steer.vector.provenance.items() if k != "strength"}
        applied = {"value": steer.strength, "unit": steer.unit}
        made.append({**known, "applied_strength": applied})
    return made


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a file says about itself."""

    concept: str
    model: str
    name: str
    norms: Mapping[str, float]
    provenance: Mapping[str, Any]


def read_control_vector(path: str | Path, *, lm: LM | None = None) -> ConceptVector:
    """Read a control vector of contrans, repeng or llama.cpp.

    `direction.N` becomes layer N: the zero-based block where llama.cpp applies it,
    whoever wrote the file (see above for what that means for llama.cpp's own
    generator). Files of other programs do not say which model they belong to; give
    `lm` to check width and depth and to bind the vector to that model.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, is no control vector, or holds what
            llama.cpp would refuse too: block 0, numbers other than F32, more than one
            axis, other tensors; or when it does not fit `lm`.
    """
    file = open_gguf(path)
    if file.architecture != ARCHITECTURE:
        raise ValueError(
            f"{path} holds architecture {file.architecture!r}, not a control vector "
            f"({ARCHITECTURE!r})" + _model_hint(file)
        )
    found = {_block(file, tensor): tensor for tensor in file.tensors}
    if not found:
        raise ValueError(f"{path} holds no direction; write it again")
    widths = sorted({tensor.shape[0] for tensor in found.values()})
    if len(widths) > 1:
        raise ValueError(
            f"{path} holds directions of widths {widths}; all must have the width of "
            "one model: write it again"
        )
    layers = tuple(sorted(found))
    rows = [
        np.frombuffer(file.read(found[layer], 4 * widths[0]), "<f4").astype("f4")
        for layer in layers
    ]
    origin = _origin(file)
    norms = None
    if all(str(layer) in origin.norms for layer in layers):
        norms = torch.tensor([float(origin.norms[str(layer)]) for layer in layers])
    if lm is not None:
        check_fit(path, widths[0], layers, lm)
    return ConceptVector(
        torch.from_numpy(np.stack(rows)),
        layers=layers,
        model=origin.model or (lm.fingerprint if lm is not None else ""),
        concept=origin.concept,
        norms=norms,
        name=origin.name or (lm.name if lm is not None else ""),
        provenance=origin.provenance,
    )


def check_fit(path: str | Path, width: int, layers: tuple[int, ...], lm: LM) -> None:
    """Refuse directions that a model has no place for.

    Args:
        path: the file, for messages.
        width: of its directions.
        layers: that it has directions for.
        lm: the model, as `load_model` returns it.

    Raises:
        ValueError: for another width, or a block that the model does not have.
    """
    if width != lm.hidden:
        raise ValueError(
            f"{path} holds directions of width {width}, but {lm.name!r} has width "
            f"{lm.hidden}; it was made for another model: transplant its concept with "
            "contrans transplant"
        )
    if layers[-1] >= lm.layers:
        raise ValueError(
            f"{path} holds a direction for block {layers[-1]}, but {lm.name!r} has "
            f"{lm.layers} blocks, 0 to {lm.layers - 1}; it was made for another model"
        )


def _model_hint(file: GgufFile) -> str:
    if file.tensor("token_embd.weight") is not None:
        return "; it is a model: name it with --bake-gguf, and the vector first"
    return "; name a file of contrans, repeng or llama-cvector-generator"


def _block(file: GgufFile, tensor: TensorPlace) -> int:
    """The block of a direction, after the checks that llama.cpp makes too."""
    number = tensor.name.removeprefix(_PREFIX)
    if number == tensor.name or not number.isdecimal():
        raise ValueError(
            f"{file.path} holds a tensor {tensor.name!r}; a control vector has only "
            "direction.1, direction.2 and so on"
        )
    if int(number) == 0:
        raise ValueError(
            f"{file.path} holds direction.0, and llama.cpp refuses such a file: block 0 "
            "cannot be edited by a control vector. Write it again without"
        )
    if tensor.kind != F32 or len(tensor.shape) != 1:
        raise ValueError(
            f"{tensor.name} in {file.path} is {tensor.type_name} with "
            f"{len(tensor.shape)} axes; llama.cpp takes F32 with one axis only: write "
            "it again"
        )
    return int(number)


def _origin(file: GgufFile) -> _Origin:
    hint = str(file.metadata.get(MODEL_HINT, ""))
    try:
        said = json.loads(file.metadata[PROVENANCE])
        return _Origin(
            str(said["concept"]),
            str(said["model"]),
            str(said["name"]),
            dict(said["norms"]),
            dict(said["provenance"]),
        )
    except (KeyError, ValueError, TypeError):  # written by another program
        source = {"method": "control vector", "file": file.path.name, "hint": hint}
        return _Origin(file.path.stem, "", "", {}, source)
