"""GGUF files, read as bytes: where every part lies, so that it can be copied as it is.

The layout (version 2 and 3, little-endian): magic, version, number of tensors, number
of metadata entries, the entries, one description per tensor, padding, then the data of
the tensors one after the other, each padded to the alignment. Source: the GGUF
specification of ggml, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

Nothing here needs the `gguf` package; `require_gguf` imports it for what writes.
"""

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
F32, F16, BF16 = 0, 1, 30
"""ggml's numbers for the types of numbers that a bias or a direction can have."""
TYPE_NAMES = {F32: "F32", F16: "F16", BF16: "BF16", 8: "Q8_0"}
BLOCK_SIZES = {
    F32: (1, 4),
    F16: (1, 2),
    2: (32, 18),  # Q4_0, and so on up to Q8_0
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    10: (256, 84),  # Q2_K to Q6_K
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    BF16: (1, 2),
}
"""How many numbers of a type lie in how many bytes, to notice a file cut short."""
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor of a file."""

    name: str
    shape: tuple[int, ...]
    """Lengths of the axes, the one that lies together in memory first."""
    kind: int
    """ggml's number of the type; 0 is F32."""
    start: int
    """Where its bytes begin in the file."""
    stop: int
    """Where they end, padding included."""

    @property
    def type_name(self) -> str:
        """The type for messages."""
        return TYPE_NAMES.get(self.kind, f"ggml type {self.kind}")


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file holds and where."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    """Strings and numbers by key; arrays, such as vocabularies, are left out."""
    keys: frozenset[str]
    """All keys, those of arrays included."""
    entries: tuple[int, int]
    """Where the metadata entries begin and end."""
    tensors: tuple[TensorPlace, ...]
    alignment: int

    @property
    def architecture(self) -> str:
        """The key that says what the other keys mean."""
        return str(self.metadata.get("general.architecture", ""))

    def tensor(self, name: str) -> TensorPlace | None:
        """A tensor by name, or None."""
        return next((found for found in self.tensors if found.name == name), None)

    def read(self, tensor: TensorPlace, length: int) -> bytes:
        """The first `length` bytes of a tensor.

        Raises:
            ValueError: when the file ends before.
        """
        with self.path.open("rb") as file:
            file.seek(tensor.start)
            found = file.read(min(length, tensor.stop - tensor.start))
        if len(found) < length:
            raise _damaged(self.path, f"{tensor.name} is cut short")
        return found


def require_gguf() -> Any:
    """The `gguf` package of llama.cpp, which writes such files.

    Raises:
        ImportError: when it is not installed.
    """
    try:
        return import_module("gguf")
    except ImportError as error:
        raise ImportError(
            'GGUF files need the gguf package: pip install "contrans[gguf]"'
        ) from error


class _Cursor:
    """A position in the bytes of a file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self) -> str:
        start = self.skip(self.number("<Q"))
        return self.data[start : self.at].decode("utf-8")

    def skip(self, length: int) -> int:
        """Move on; returns where it was."""
        start = self.at
        if length > len(self.data) - start:
            raise struct.error(f"{length} bytes expected at {start}")
        self.at += length
        return start

    def value(self, kind: int) -> Any:
        """A metadata value; None for an array, which is passed over."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise struct.error(f"unknown type of metadata {kind}")
        inner, count = self.number("<I"), self.number("<Q")
        if inner in _SCALARS:
            self.skip(count * struct.calcsize(_SCALARS[inner]))
        elif inner == _STRING:
            for _ in range(count):
                self.skip(self.number("<Q"))
        else:
            for _ in range(count):
                self.value(inner)
        return None


def open_gguf(path: str | Path) -> GgufFile:
    """Read where everything lies in a GGUF file; its data is not read.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no GGUF file, or damaged, or of a form not known here.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the name and the folder")
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] != MAGIC or len(head) < 8:
            raise ValueError(
                f"{path} is not a GGUF file (it begins with {head[:4]!r}, not {MAGIC!r})"
            )
        version = struct.unpack("<I", head[4:])[0]
        if version not in VERSIONS:
            raise ValueError(
                f"{path} is GGUF version {version} or big-endian; versions 2 and 3, "
                "little-endian, are read here: convert the model again with a current "
                "llama.cpp"
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(path, version, data)
            except (struct.error, UnicodeDecodeError) as error:
                raise _damaged(path, error) from error


def _parse(path: Path, version: int, data: mmap.mmap) -> GgufFile:
    cursor = _Cursor(data)
    cursor.at = 8
    tensors, entries = cursor.number("<Q"), cursor.number("<Q")
    first = cursor.at
    metadata: dict[str, Any] = {}
    keys = set()
    for _ in range(entries):
        key = cursor.string()
        keys.add(key)
        value = cursor.value(cursor.number("<I"))
        if value is not None:
            metadata[key] = value
    last = cursor.at
    described = []
    for _ in range(tensors):
        name, axes = cursor.string(), cursor.number("<I")
        shape = tuple(cursor.number("<Q") for _ in range(min(axes, 8)))
        described.append((name, shape, cursor.number("<I"), cursor.number("<Q")))
    alignment = int(metadata.get("general.alignment", DEFAULT_ALIGNMENT))
    if alignment <= 0 or alignment & (alignment - 1):
        raise struct.error(f"alignment {alignment} is no power of two")
    base = padded(cursor.at, alignment)
    starts = sorted({base + offset for *_, offset in described})
    end_of = dict(zip(starts, [*starts, len(data)][1:], strict=True))
    places = [
        TensorPlace(name, shape, kind, base + offset, end_of[base + offset])
        for name, shape, kind, offset in described
    ]
    for place in places:
        numbers, size = BLOCK_SIZES.get(place.kind, (1, 0))
        if place.start + prod(place.shape) // numbers * size > place.stop:
            raise struct.error(f"the data of {place.name} is missing")
    return GgufFile(
        path,
        version,
        metadata,
        frozenset(keys),
        (first, last),
        tuple(places),
        alignment,
    )


def padded(length: int, alignment: int) -> int:
    """The next multiple of the alignment.

    >>> padded(33, 32), padded(64, 32)
    (64, 64)
    """
    return -(-length // alignment) * alignment


def _damaged(path: Path, why: Exception | str) -> ValueError:
    return ValueError(
        f"{path} is damaged or cut short ({why}); download or write it again"
    )


def string_entry(key: str, value: str) -> bytes:
    """A metadata entry that holds a string, as bytes."""
    return _text(key) + struct.pack("<I", _STRING) + _text(value)


def tensor_entry(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    """The description of a tensor, as bytes.

    Args:
        name: of the tensor.
        shape: innermost axis first.
        kind: ggml's number of the type.
        offset: in bytes, from the start of the data.
    """
    axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _text(name) + axes + struct.pack("<IQ", kind, offset)


def _text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def provenance_text(value: Mapping[str, Any]) -> str:
    """Provenance as one line of JSON; what JSON cannot hold becomes text."""
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
