"""States beyond memory: an artefact that is filled in place on disk.

A safetensors file is a header and the numbers behind it. Where the shape is known
beforehand the header is written first and the numbers are mapped, so that rows go to
disk as they come and only pages in use stay in memory.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from contrans.core.artifacts import pack_states
from contrans.core.files import atomic
from contrans.core.types import HiddenStates
from contrans.core.version import __version__


@contextmanager
def mapped_states(
    shape: HiddenStates, rows: int, path: str | Path, *, force: bool = False
) -> Iterator[Tensor]:
    """The values of states on disk, to be filled; `path` appears when the block ends.

    Args:
        shape: everything about the states but their values, which have no rows.
        rows: how many rows there will be.
        path: where they go.
        force: overwrite what is there.

    Yields:
        A float32 tensor of `rows` rows whose memory is the file.

    Raises:
        FileExistsError: when the file exists and `force` is false.
        OSError: when the disk is full; nothing is left behind.
    """
    sizes = [rows, *shape.values.shape[1:]]
    count = int(np.prod(sizes))
    _, meta = pack_states(shape)
    about = {"kind": "hidden-states", "version": __version__, **meta}
    header = {
        "__metadata__": {"contrans": json.dumps(about)},
        "values": {"dtype": "F32", "shape": sizes, "data_offsets": [0, 4 * count]},
    }
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with atomic(Path(path), force=force) as temporary:
        with temporary.open("wb") as file:
            file.write(len(raw).to_bytes(8, "little") + raw)
            if hasattr(os, "posix_fallocate"):  # else a full disk ends the process
                os.posix_fallocate(file.fileno(), 0, 8 + len(raw) + 4 * count)
        numbers = np.memmap(
            temporary, "<f4", "r+", offset=8 + len(raw), shape=tuple(sizes)
        )
        yield torch.from_numpy(numbers)
        numbers.flush()


def open_mapped(path: str | Path) -> Tensor:
    """The values of states on disk, read as they are used; changes stay in memory."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        values = json.loads(file.read(length))["values"]
    start = 8 + length + values["data_offsets"][0]
    shape = tuple(values["shape"])
    return torch.from_numpy(np.memmap(path, "<f4", "c", offset=start, shape=shape))
