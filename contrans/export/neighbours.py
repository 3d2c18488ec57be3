"""Vectors of neighbouring tools, in and out: steering-vectors and repeng.

All of us count alike: layer N is the output of zero-based block N, and the vector is
added there at every token. What differs is the file:

- steering-vectors has no file of its own. People pickle its `SteeringVector` with
  `torch.save`; that is read here without running code and without the package. Written
  is the plain dictionary of its fields, which it takes back with
  `SteeringVector(**torch.load(FILE, weights_only=True))`.
- repeng writes GGUF control vectors, the files of llama.cpp
  (`contrans.export.gguf.control_vector`).

For objects in memory there are `from_...` and `to_...`. Checked against
steering-vectors 0.12.2 and repeng 0.4.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrans.core.types import ConceptVector
from contrans.export.constant import constant_edit, vectors_of
from contrans.export.gguf.control_vector import (
    check_fit,
    read_control_vector,
    write_control_vector,
)
from contrans.export.lm_eval import from_entries
from contrans.export.torch_file import read_torch, write_torch
from contrans.models.edits import Control
from contrans.models.lm import LM

_WHOLE_BLOCK = "decoder_block"
"""The layer type of steering-vectors that means the output of a block."""


@dataclass
class _Stored:
    """Stands in for the class `SteeringVector` in a file of `torch.save`."""

    layer_activations: dict[int, Tensor] = field(default_factory=dict)
    layer_type: str = _WHOLE_BLOCK


_CLASSES: list[tuple[type, str]] = [
    (_Stored, "steering_vectors.steering_vector.SteeringVector"),
    (_Stored, "steering_vectors.SteeringVector"),
]


def write_steering_vectors(
    control: Control | ConceptVector,
    path: str | Path,
    *,
    depth: int | None = None,
    force: bool = False,
) -> None:
    """Write a vector for steering-vectors, with its strength scaled in.

    There: `SteeringVector(**torch.load(FILE, weights_only=True)).apply(model)`.

    Args:
        control: a vector, a `Steer` on all tokens, or several composed.
        path: the file.
        depth: number of blocks of the model, for layers counted from the end.
        force: replace an existing file.

    Raises:
        ValueError: when the control is more than one constant vector per layer.
        FileExistsError: when the file exists and `force` is false.
    """
    write_torch(
        {
            "layer_activations": _filled(control, depth),
            "layer_type": _WHOLE_BLOCK,
        },
        path,
        force=force,
    )


def read_steering_vectors(
    path: str | Path, *, lm: LM | None = None, concept: str | None = None
) -> ConceptVector:
    """Read a `SteeringVector` saved by `torch.save`, or the dictionary of its fields.

    Such a file does not say which model it is for: give `lm` to check that it fits and
    to bind it, or use the vector with `Steer(..., any_model=True)`.

    Args:
        path: the file.
        lm: the model that it is for.
        concept: its name; None takes the file's.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when reading it would run code (as with a file of `pickle.dump`),
            when it holds something else, or does not fit `lm`.
    """
    found = _stored(_read(path))
    if not isinstance(found, _Stored):
        raise ValueError(
            f"{path} holds a {type(found).__name__}, not a SteeringVector; write it "
            "with torch.save(vector, FILE)"
        )
    return from_steering_vectors(found, lm=lm, concept=concept or Path(path).stem)


def read_pt(path: str | Path, *, lm: LM | None = None) -> ConceptVector:
    """Read a `.pt` file: of steering-vectors, or a steering file of lm-evaluation-harness.

    Raises:
        FileNotFoundError, ValueError: see `read_steering_vectors` and
            `contrans.export.lm_eval.read_steering_file`.
    """
    found = _stored(_read(path))
    if isinstance(found, _Stored):
        return from_steering_vectors(found, lm=lm, concept=Path(path).stem)
    return from_entries(found, path, lm=lm)


def _read(path: str | Path) -> Any:
    return read_torch(
        path,
        classes=_CLASSES,
        instead="load it with the tool that wrote it and save plain tensors: for "
        'steering-vectors, torch.save(dataclasses.asdict(vector), "vector.pt").',
    )


def _stored(found: Any) -> Any:
    """The dictionary of the fields of a `SteeringVector` as its stand-in."""
    if isinstance(found, Mapping) and "layer_activations" in found:
        kind = found.get("layer_type", _WHOLE_BLOCK)
        return _Stored(found["layer_activations"], kind)
    return found


def from_steering_vectors(
    vector: Any, *, lm: LM | None = None, concept: str = "concept"
) -> ConceptVector:
    """A `steering_vectors.SteeringVector` as a concept vector.

    Args:
        vector: anything with `layer_activations` and `layer_type`.
        lm: the model that it is for; without it the vector names no model.
        concept: its name.

    Raises:
        ValueError: when it acts inside a block, is empty, or does not fit `lm`.
    """
    if vector.layer_type != _WHOLE_BLOCK:
        raise ValueError(
            f"this SteeringVector acts on {vector.layer_type!r}, inside a block; "
            f"contrans adds to the residual stream only: train it with "
            f"layer_type={_WHOLE_BLOCK!r}"
        )
    rows = {
        int(layer): torch.as_tensor(row).detach().float().reshape(-1).cpu()
        for layer, row in vector.layer_activations.items()
    }
    return _vector(rows, "steering-vectors", lm, concept, {})


def to_steering_vectors(
    control: Control | ConceptVector, *, depth: int | None = None
) -> Any:
    """A `steering_vectors.SteeringVector`, with the strength scaled in.

    Raises:
        ImportError: when steering-vectors is not installed.
        ValueError: when the control is more than one constant vector per layer.
    """
    try:
        from steering_vectors import SteeringVector  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(
            f"steering-vectors is not installed ({error}): pip install "
            "steering-vectors, or write a file with write_steering_vectors"
        ) from error
    return SteeringVector(layer_activations=_filled(control, depth))


def write_repeng(
    control: Control | ConceptVector,
    path: str | Path,
    *,
    model_type: str | None = None,
    depth: int | None = None,
    force: bool = False,
) -> None:
    """Write what `repeng.ControlVector.import_gguf(FILE)` reads: a GGUF control vector.

    Args:
        control: a vector, a `Steer` on all tokens, or several composed.
        path: the file; no colon in its name.
        model_type: of the model's config, such as "llama"; repeng warns where vectors
            of different types are added.
        depth: number of blocks of the model, for layers counted from the end.
        force: replace an existing file.

    Raises:
        ValueError: for block 0, which GGUF control vectors cannot hold; see
            `contrans.export.gguf.control_vector.write_control_vector` for the others.
    """
    write_control_vector(control, path, model_hint=model_type, depth=depth, force=force)


def read_repeng(path: str | Path, *, lm: LM | None = None) -> ConceptVector:
    """Read what `repeng.ControlVector.export_gguf(FILE)` writes.

    Raises:
        FileNotFoundError, ValueError: see `read_control_vector`.
    """
    return read_control_vector(path, lm=lm)


def from_repeng(
    vector: Any, *, lm: LM | None = None, concept: str = "concept"
) -> ConceptVector:
    """A `repeng.ControlVector` as a concept vector.

    Args:
        vector: anything with `directions` (zero-based block to array) and `model_type`.
        lm: the model that it is for; without it the vector names no model.
        concept: its name.

    Raises:
        ValueError: when it is empty or does not fit `lm`.
    """
    rows = {
        int(layer): torch.from_numpy(np.array(row, dtype=np.float32)).reshape(-1)
        for layer, row in vector.directions.items()
    }
    return _vector(rows, "repeng", lm, concept, {"hint": str(vector.model_type)})


def to_repeng(
    control: Control | ConceptVector, *, model_type: str, depth: int | None = None
) -> Any:
    """A `repeng.ControlVector`, with the strength scaled in.

    repeng wants a direction for every layer that its `ControlModel` handles: build that
    with `layer_ids=list(vector.directions)`.

    Args:
        control: a vector, a `Steer` on all tokens, or several composed.
        model_type: of the model's config, such as "llama".
        depth: number of blocks of the model, for layers counted from the end.

    Raises:
        ImportError: when repeng is not installed.
        ValueError: when the control is more than one constant vector per layer.
    """
    try:
        from repeng import ControlVector  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(
            f"repeng is not installed ({error}): pip install repeng, or write a file "
            "with write_repeng"
        ) from error
    directions = {k: v.numpy() for k, v in _filled(control, depth).items()}
    return ControlVector(model_type=model_type, directions=directions)


def _filled(control: Control | ConceptVector, depth: int | None) -> dict[int, Tensor]:
    """What is added at each layer, each in memory of its own."""
    edit = constant_edit(control, depth=depth)
    if not edit:
        named = ", ".join(v.concept for v in vectors_of(control)) or "no vector"
        raise ValueError(
            f"there is nothing to write ({named}); choose at least one layer"
        )
    return {layer: push.clone() for layer, push in edit.items()}


def _vector(
    rows: Mapping[int, Tensor],
    origin: str,
    lm: LM | None,
    concept: str,
    about: Mapping[str, Any],
) -> ConceptVector:
    layers = tuple(sorted(rows))
    widths = sorted({len(row) for row in rows.values()})
    if len(widths) != 1 or layers[0] < 0:
        raise ValueError(
            f"the vector of {origin} has layers {layers} of widths {widths}; it needs "
            "one direction of one width for each zero-based block"
        )
    if lm is not None:
        check_fit(f"the vector of {origin}", widths[0], layers, lm)
    return ConceptVector(
        torch.stack([rows[layer] for layer in layers]),
        layers=layers,
        model="" if lm is None else lm.fingerprint,
        concept=concept,
        name="" if lm is None else lm.name,
        provenance={"method": f"read from {origin}", **about},
    )
