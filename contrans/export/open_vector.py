"""A vector from whatever a person names: a file of ours or of others, or a concept."""

from dataclasses import replace
from pathlib import Path

from contrans.core.artifacts import load
from contrans.core.types import ConceptVector

_SUFFIXES = (".safetensors", ".gguf", ".pt", ".pth")


def read_vector(path: Path) -> tuple[ConceptVector, float]:
    """A vector, and the strength that its file asks for.

    Also read: GGUF control vectors (llama.cpp, repeng), and .pt files of
    steering-vectors and of lm-evaluation-harness; their strength is scaled in.

    Raises:
        FileNotFoundError, ValueError: see the readers.
    """
    if path.suffix == ".gguf":
        from contrans.export.gguf.control_vector import read_control_vector

        return read_control_vector(path), 1.0
    if path.suffix in (".pt", ".pth"):
        from contrans.export.neighbours import read_pt

        return read_pt(path), 1.0
    vector = load(path, "concept-vector")
    return vector, vector.strength


def find_vector(reference: str) -> ConceptVector:
    """A vector from a file, a folder of `contrans transplant`, or the concept library.

    Its provenance holds the strength that the file asks for, where that is not 1.

    Raises:
        FileNotFoundError, KeyError, ValueError: when there is none; what to give instead.
    """
    vector, strength = read_vector(_file(reference))
    if strength == vector.provenance.get("strength", 1.0):
        return vector
    return replace(vector, provenance={**vector.provenance, "strength": strength})


def _file(reference: str) -> Path:
    path = Path(reference)
    if path.is_dir():
        return path / "vector.safetensors"
    if path.exists() or path.suffix in _SUFFIXES:
        return path
    from contrans.library import resolve

    try:
        return resolve(reference, "vector")
    except KeyError as error:
        raise KeyError(
            f"no vector {reference!r}: neither a file, nor a folder of contrans "
            f"transplant (looked in {Path.cwd()}), nor in the concept library "
            f"({error.args[0]})"
        ) from error
