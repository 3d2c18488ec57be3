"""Files of `torch.save`, which other tools use: written plain, read without running code.

A `.pt` file is a pickle, and a pickle can run code. torch's restricted reader accepts
tensors, numbers, text, lists and dictionaries, and of classes only those named here.
"""

import io
import struct
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from contrans.core.files import atomic

_DAMAGED = (
    UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    AssertionError,
    struct.error,
)
"""What torch raises for bytes that it did not write."""


def write_torch(value: Any, path: str | Path, *, force: bool = False) -> None:
    """Write tensors, numbers, text and dictionaries of them, atomically.

    The same value gives the same bytes.

    Args:
        value: what `torch.load(weights_only=True)` can read again.
        path: the file.
        force: write over what is there.

    Raises:
        FileExistsError: when the file exists and `force` is false.
    """
    buffer = io.BytesIO()  # a path would leave the temporary name inside the archive
    torch.save(value, buffer)
    with atomic(Path(path), force=force) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_torch(
    path: str | Path, *, classes: Sequence[tuple[type, str]] = (), instead: str
) -> Any:
    """Read a file of `torch.save` on the CPU, refusing anything that could run code.

    Args:
        path: the file.
        classes: (class, full name in the file): what may stand in for a class of
            another package, which then need not be installed.
        instead: how to write the file again so that it can be read, for the message.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no file of `torch.save`, or holds other classes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the name and the folder")
    try:
        with _allowed(classes), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles by other tools than torch
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read without running code stored in it, or it is damaged "
            f"({reason}); contrans reads plain tensors only. Where you trust the file, "
            f"{instead}"
        ) from error


def _allowed(classes: Sequence[tuple[type, str]]) -> AbstractContextManager[Any]:
    """The restricted reader with some classes more; torch before 2.5 has no such thing."""
    scope = getattr(torch.serialization, "safe_globals", None)
    return nullcontext() if scope is None or not classes else scope(list(classes))
