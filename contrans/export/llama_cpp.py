"""Concept vectors in llama-cpp-python, switched on and off as the model runs.

The binding has no argument for control vectors; this calls `llama_set_adapter_cvec` of
llama.cpp, past two traps:

- Its buffer holds `width * (blocks - 1)` numbers, the row of block N at N - 1. A shorter
  buffer leaves rows of the vector that was set before: it is always passed whole.
- `Llama` keeps the states of the last prompt. Those were made with the old vector, so
  they are dropped whenever the vector changes.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from contrans.core.types import ConceptVector
from contrans.export.constant import constant_edit
from contrans.export.gguf.control_vector import check_blocks, read_control_vector
from contrans.models.edits import Control

Llama = Any
"""A `llama_cpp.Llama`; the package is optional."""


@contextmanager
def steered(
    llm: Llama,
    control: Control | ConceptVector | str | Path,
    *,
    strength: float = 1.0,
) -> Iterator[Llama]:
    """Steer a llama.cpp model while the context lasts.

    Example:
        llm = llama_cpp.Llama("7b.Q4_K_M.gguf")
        with steered(llm, "anger.gguf", strength=1.5):
            print(llm("The meeting was moved again.", max_tokens=40))

    Args:
        llm: a `llama_cpp.Llama`.
        control: a control vector file, a vector, a `Steer`, or several composed.
        strength: multiplies what the control adds.

    Contexts do not nest: llama.cpp holds one control vector, and after the context it
    holds none. Compose controls to use several.

    Raises:
        ValueError: for another width, a block that the model does not have or that a
            control vector cannot reach, or a control that is more than a constant.
        ImportError: without llama-cpp-python.
    """
    binding = require_llama_cpp()
    width, depth = int(llm.n_embd()), int(binding.llama_model_n_layer(llm.model))
    if isinstance(control, str | Path):
        control = read_control_vector(control)
    rows = _rows(control, width, depth) * np.float32(strength)
    _set(binding, llm, rows)
    try:
        yield llm
    finally:
        _set(binding, llm, None)


def require_llama_cpp() -> Any:
    """The llama-cpp-python binding.

    Raises:
        ImportError: when it is not installed.
    """
    try:
        return import_module("llama_cpp")
    except ImportError as error:
        raise ImportError(
            "running GGUF models needs llama-cpp-python: pip install "
            '"contrans[llama]" (it compiles llama.cpp, which takes minutes)'
        ) from error


def _rows(
    control: Control | ConceptVector, width: int, depth: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The whole buffer: one row for each block from 1 on, zeros where nothing is added."""
    edit = constant_edit(control, depth=depth)
    check_blocks(edit)
    rows = np.zeros((depth - 1, width), np.float32)
    for layer, push in edit.items():
        if push.shape[-1] != width:
            raise ValueError(
                f"a vector of width {push.shape[-1]} does not fit a model of width "
                f"{width}; transplant it into this model: contrans transplant"
            )
        rows[layer - 1] = push.numpy()
    return rows


def _set(binding: Any, llm: Llama, rows: np.ndarray | None) -> None:
    """Hand the vector to llama.cpp (None: take it away), and forget the old states."""
    width = int(llm.n_embd())
    if rows is None:
        data, length, last = None, 0, 0
    else:
        data = rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        length, last = rows.size, rows.shape[0]
    code = binding.llama_set_adapter_cvec(llm.ctx, data, length, width, 1, last)
    if code != 0:
        raise ValueError(f"llama.cpp refused the control vector (code {code})")
    llm.reset()
