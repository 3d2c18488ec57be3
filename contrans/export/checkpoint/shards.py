"""Rewriting safetensors files tensor by tensor, so that memory holds one at a time.

A safetensors file is eight bytes (the length of the header, little-endian), a JSON
header with name, dtype, shape and place of every tensor, and the bytes of the tensors
one after the other (https://github.com/huggingface/safetensors, section Format). Inputs
are memory-mapped; what is copied through is never held whole.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contrans.export.checkpoint.slots import Host
from contrans.models.soundness import check_numbers, open_weights

BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of one number, by the name that safetensors gives its dtype."""
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Dtypes that a bias may have."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor to write; its numbers are read when its turn comes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        """Length in the file."""
        return math.prod(self.shape) * BYTES[self.dtype]


@dataclass(slots=True)
class Tally:
    """What the rewriting of all files did."""

    where: dict[str, str] = field(default_factory=dict)
    """Tensor to file."""
    bytes: int = 0
    numbers: int = 0
    added: int = 0
    """Biases that the checkpoint did not have."""
    edited: int = 0
    """Biases that carry the edit."""
    dtypes: set[str] = field(default_factory=set)
    """Of the biases that carry the edit."""
    rounding: float = 0.0
    """Largest error of a stored bias, as a share of the edit's largest number."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What to change: which modules are split, get biases, or an edit."""

    base: str
    """The checkpoint that is read, as it was named."""
    host: Host
    blocks: str
    """What the names of tensors of blocks begin with."""
    pushes: Mapping[str, Tensor]
    """What is added to each bias, by full name, float64."""
    known: frozenset[str]
    """All tensors of the checkpoint."""
    tally: Tally = field(default_factory=Tally)

    def entries(self, file: Any) -> Iterator[Entry]:
        """The tensors of one new file, from the open old one."""
        for name in file.keys():  # noqa: SIM118
            view = file.get_slice(name)
            dtype, shape = view.get_dtype(), tuple(view.get_shape())
            if dtype not in BYTES:
                raise ValueError(
                    f"{name} has dtype {dtype}, which is not rewritten (known: "
                    f"{', '.join(BYTES)}); bake the unquantised checkpoint"
                )
            whole = Entry(name, dtype, shape, partial(self._read, name, view))
            for entry in self._split(whole, view):
                if (push := self.pushes.get(entry.name)) is not None:
                    yield self._edited(entry, push)
                else:
                    yield entry
                yield from self._missing_bias(entry)

    def _read(
        self, name: str, view: Any, start: int = 0, end: int | None = None
    ) -> Tensor:
        """Rows of a tensor of the base, refused where they are no numbers."""
        read = view[start:end] if view.get_shape() else view[...]
        check_numbers(self.base, [(name, read)])
        return read

    def _split(self, entry: Entry, view: Any) -> Iterator[Entry]:
        """The parts of a fused matrix; any other tensor as it is."""
        block, module, leaf = self._place(entry.name)
        parts = self.host.fused.get(module)
        if parts is None:
            yield entry
            return
        if entry.shape[0] != sum(rows for _, rows in parts):
            raise ValueError(
                f"{entry.name} has {entry.shape[0]} rows, but config.json says "
                f"{sum(rows for _, rows in parts)}; the checkpoint is inconsistent"
            )
        start = 0
        for part, rows in parts:
            yield replace(
                entry,
                name=f"{block}{part}.{leaf}",
                shape=(rows, *entry.shape[1:]),
                read=partial(self._read, entry.name, view, start, start + rows),
            )
            start += rows

    def _missing_bias(self, entry: Entry) -> Iterator[Entry]:
        """The bias beside a weight, where the new config expects one and there is none."""
        block, module, leaf = self._place(entry.name)
        if leaf != "weight" or module not in self.host.biased:
            return
        name = f"{block}{module}.bias"
        if name in self.known:
            return
        self.tally.added += 1
        shape = entry.shape[:1]
        zeros = replace(
            entry,
            name=name,
            shape=shape,
            read=lambda: torch.zeros(shape, dtype=FLOATS[entry.dtype]),
        )
        push = self.pushes.get(name)
        yield zeros if push is None else self._edited(zeros, push)

    def _edited(self, entry: Entry, push: Tensor) -> Entry:
        """A bias with the edit added, in its own dtype."""
        self.tally.edited += 1
        if entry.dtype not in FLOATS or entry.shape != tuple(push.shape):
            raise ValueError(
                f"{entry.name} is {entry.dtype} {entry.shape}, but the edit needs "
                f"floating-point numbers of shape {tuple(push.shape)}; is this the "
                "checkpoint that the vector was made for?"
            )
        self.tally.dtypes.add(entry.dtype)

        def read() -> Tensor:
            wanted = entry.read().double() + push
            stored = wanted.to(FLOATS[entry.dtype])
            if not torch.isfinite(stored).all():
                raise ValueError(
                    f"the edit does not fit {entry.name} in {entry.dtype}: numbers up to "
                    f"{wanted.abs().max():.3g}; lower the strength"
                )
            largest = float(push.abs().max())
            if largest:
                error = float((stored.double() - wanted).abs().max()) / largest
                self.tally.rounding = max(self.tally.rounding, error)
            return stored

        return replace(entry, read=read)

    def _place(self, name: str) -> tuple[str, str, str]:
        """A tensor's block (`model.layers.3.`), module in it, and leaf; else nothings."""
        start = f"{self.blocks}."
        if not name.startswith(start):
            return "", "", ""
        number, _, rest = name.removeprefix(start).partition(".")
        module, _, leaf = rest.rpartition(".")
        return f"{start}{number}.", module, leaf


def rewrite_file(
    source: Path,
    target: Path,
    change: Rewrite,
    written: Callable[[], None] = lambda: None,
) -> None:
    """Write one file anew, holding one of its tensors at a time.

    Args:
        source: the file to read.
        target: the file to write.
        change: from the name and tensor of an entry to what is written.
        written: called after each tensor.

    Raises:
        ValueError: when the file is damaged.
    """
    with open_weights(source) as file:
        metadata = {**(file.metadata() or {}), "format": "pt"}
        entries = list(change.entries(file))
        write_file(target, entries, metadata, written)
    for entry in entries:
        change.tally.where[entry.name] = target.name
        change.tally.bytes += entry.bytes
        change.tally.numbers += math.prod(entry.shape)


def write_file(
    path: Path,
    entries: Iterable[Entry],
    metadata: Mapping[str, str],
    written: Callable[[], None] = lambda: None,
) -> None:
    """Write a safetensors file; each tensor is read when its turn comes.

    Wide numbers come first, so that every tensor begins at a multiple of its width.

    Args:
        path: the file.
        entries: name, shape, dtype and how to read each.
        metadata: of the header.
        written: called after each tensor.
    """
    ordered = sorted(entries, key=lambda e: (-BYTES[e.dtype], e.name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    place = 0
    for entry in ordered:
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [place, place + entry.bytes],
        }
        place += entry.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for entry in ordered:
            flat = entry.read().contiguous().reshape(-1)
            if flat.numel():
                file.write(flat.view(torch.uint8).numpy().data)
            written()
