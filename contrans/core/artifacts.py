"""Files: one format for every artefact, written atomically, never overwritten silently.

An artefact is a safetensors file whose header carries its provenance as JSON. Pickle
is neither written nor read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from contrans.core.files import atomic
from contrans.core.types import (
    ConceptVector,
    FitReport,
    HiddenStates,
    LinearMap,
    PairedStates,
    Site,
)
from contrans.core.version import __version__

Value = HiddenStates | PairedStates | ConceptVector | LinearMap


def pack_states(value: HiddenStates) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of states by name, and what the header says about them."""
    meta = {
        "layers": value.layers,
        "model": value.model,
        "position": value.position,
        "counts": value.counts,
        "name": value.name,
        "provenance": dict(value.provenance),
    }
    return {"values": value.values}, meta


def _unpack_states(tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> HiddenStates:
    return HiddenStates(
        tensors["values"],
        layers=tuple(meta["layers"]),
        model=meta["model"],
        position=meta["position"],
        counts=None if meta["counts"] is None else tuple(meta["counts"]),
        name=meta["name"],
        provenance=meta["provenance"],
    )


def _pack_pairs(value: PairedStates) -> tuple[dict[str, Tensor], dict[str, Any]]:
    _, positive = pack_states(value.positive)
    _, negative = pack_states(value.negative)
    tensors = {"positive": value.positive.values, "negative": value.negative.values}
    return tensors, {
        "positive": positive,
        "negative": negative,
        "concept": value.concept,
    }


def _unpack_pairs(tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> PairedStates:
    sides = (
        _unpack_states({"values": tensors[side]}, meta[side])
        for side in ("positive", "negative")
    )
    return PairedStates(*sides, concept=meta["concept"])


def _pack_vector(value: ConceptVector) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {"directions": value.directions}
    if value.norms is not None:
        tensors["norms"] = value.norms
    meta = {
        "layers": value.layers,
        "model": value.model,
        "concept": value.concept,
        "name": value.name,
        "provenance": dict(value.provenance),
    }
    return tensors, meta


def _unpack_vector(
    tensors: Mapping[str, Tensor], meta: dict[str, Any]
) -> ConceptVector:
    return ConceptVector(
        tensors["directions"],
        layers=tuple(meta["layers"]),
        model=meta["model"],
        concept=meta["concept"],
        norms=tensors.get("norms"),
        name=meta["name"],
        provenance=meta["provenance"],
    )


_MAP_TENSORS = ("left", "right", "bias", "spectrum", "basis")


def _pack_map(value: LinearMap) -> tuple[dict[str, Tensor], dict[str, Any]]:
    meta = {
        "source": asdict(value.source),
        "target": asdict(value.target),
        "method": value.method,
        "report": asdict(value.report),
        "provenance": dict(value.provenance),
    }
    return {name: getattr(value, name) for name in _MAP_TENSORS}, meta


def _unpack_map(tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> LinearMap:
    lists = {k: tuple(v) for k, v in meta["report"].items() if isinstance(v, list)}
    report = {**meta["report"], **lists}
    return LinearMap(
        **{name: tensors[name] for name in _MAP_TENSORS},
        source=Site(**meta["source"]),
        target=Site(**meta["target"]),
        method=meta["method"],
        report=FitReport(**report),
        provenance=meta["provenance"],
    )


_Pack = Callable[[Any], tuple[dict[str, Tensor], dict[str, Any]]]
_Unpack = Callable[[Mapping[str, Tensor], dict[str, Any]], Value]
_KINDS: dict[str, tuple[type, _Pack, _Unpack]] = {
    "hidden-states": (HiddenStates, pack_states, _unpack_states),
    "paired-states": (PairedStates, _pack_pairs, _unpack_pairs),
    "concept-vector": (ConceptVector, _pack_vector, _unpack_vector),
    "linear-map": (LinearMap, _pack_map, _unpack_map),
}


def save(value: Value, path: str | Path, *, force: bool = False) -> None:
    """Write an artefact: safetensors, with its provenance in the header.

    Args:
        value: states, a vector or a map.
        path: the file.
        force: write over what is there.

    Raises:
        FileExistsError: when the file exists and `force` is false.
        TypeError: when `value` is not an artefact of contrans.
    """
    for kind, (cls, pack, _) in _KINDS.items():
        if isinstance(value, cls):
            tensors, meta = pack(value)
            header = {
                "contrans": json.dumps({"kind": kind, "version": __version__, **meta})
            }
            flat = {  # copies: safetensors refuses tensors that share memory
                name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, tensor in tensors.items()
            }
            with atomic(Path(path), force=force) as temporary:
                temporary.write_bytes(to_bytes(flat, metadata=header))
            return
    known = ", ".join(cls.__name__ for cls, _, _ in _KINDS.values())
    raise TypeError(f"cannot save a {type(value).__name__}; known artefacts: {known}")


def read_header(path: str | Path) -> dict[str, Any]:
    """The provenance of an artefact, without reading its tensors.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is not an artefact of contrans.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the name and the folder")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(_not_ours(path, error)) from error
    if "contrans" not in meta:
        raise ValueError(
            f"{path} is a safetensors file but not one of contrans; expected a vector, "
            "a map or states written by contrans"
        )
    try:
        found = json.loads(meta["contrans"])
        return {**found, "kind": found["kind"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error


_FORMATS = {
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"PK\x03\x04": "a zip archive, such as .npz of NumPy or .pt of torch",
    b"\x80": "a pickle (.pkl, .svec or old .pt), which could run code",
    b"GGUF": "a GGUF file: give it the suffix .gguf",
    b"version https://git-lfs": "a pointer of git-lfs: fetch the file itself (git lfs pull)",
}


def _not_ours(path: Path, error: Exception) -> str:
    """What is said of a file that is no safetensors file, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(24)
    for magic, what in _FORMATS.items():
        if start.startswith(magic) and start[1:2] != b"\0":
            return (
                f"{path} is {what}, not a safetensors file; a vector is read from "
                ".safetensors, .gguf or .pt, and made of numbers in Python: "
                "ConceptVector(directions, layers=(L,), model=lm.fingerprint)"
            )
    return (
        f"{path} is not a readable safetensors file ({error}); it may be truncated or "
        "made by another tool: write it again"
    )


_TYPES: dict[str, type] = {
    "model": str,
    "concept": str,
    "name": str,
    "method": str,
    "layers": list,
    "provenance": dict,
    "report": dict,
}


def _check_types(meta: Mapping[str, Any]) -> None:
    """Refuse a header whose fields are of other types than `save` writes.

    Raises:
        TypeError: naming the field.
    """
    for name, kind in _TYPES.items():
        if name in meta and not isinstance(meta[name], kind):
            raise TypeError(f"{name} is {meta[name]!r:.40}, not {kind.__name__}")
    for layer in meta.get("layers", ()):
        if type(layer) is not int:
            raise TypeError(f"layers hold {layer!r:.40}, not whole numbers")
    for side in ("positive", "negative"):
        if side in meta:
            _check_types(meta[side])


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"the header of {path} is damaged ({type(error).__name__}: {error}); write the "
        "file again"
    )


def load(path: str | Path, kind: str | None = None) -> Any:
    """Read an artefact written by `save`.

    Args:
        path: the file.
        kind: when given, the kind expected, such as "concept-vector".

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not an artefact of contrans, or of another kind.
    """
    meta = read_header(path)
    found = meta.pop("kind")
    meta.pop("version", None)
    if not isinstance(found, str):
        raise _damaged(Path(path), TypeError(f"its kind is {found!r:.40}"))
    if kind is not None and found != kind:
        raise ValueError(f"{path} holds {found!r}; this needs {kind!r}")
    if found not in _KINDS:
        raise ValueError(
            f"{path} holds {found!r}, which this version of contrans does not know "
            f"(known: {', '.join(_KINDS)}); a newer contrans may have written it"
        )
    with safe_open(Path(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        _check_types(meta)
        return _KINDS[found][2](tensors, meta)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise _damaged(Path(path), error) from error
