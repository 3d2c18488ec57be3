"""From `honesty@2` to the file that a command needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from contrans.library.entries import Entry, is_name, is_reference, main_file
from contrans.library.library import Library
from contrans.library.lineage import Node, ancestors, children

Want = Literal["pairs", "vector", "map"]
_KINDS: Mapping[Want, tuple[str, ...]] = {
    "pairs": ("pairs",),
    "vector": ("vector", "transplant"),
    "map": ("map",),
}


def resolve(
    reference: str, want: Want | None = None, *, library: Library | None = None
) -> Path:
    """The file of an entry, its content checked.

    Args:
        reference: `name@version`, or `name` for the newest.
        want: what it has to be; None takes whatever it is.
        library: None takes the user's (`$CONTRANS_LIBRARY`).

    Raises:
        KeyError: when there is no such entry; the message names near ones.
        ValueError: when it is of another kind, or its file is corrupted.
    """
    library = library or Library()
    entry = find(reference, want, library)
    return library.path(entry, main_file(entry))


def resolve_pairs(
    reference: str, *, library: Library | None = None
) -> tuple[Entry, dict[str, Path]]:
    """An entry of pairs, and all its files by name."""
    library = library or Library()
    entry = find(reference, "pairs", library)
    return entry, {name: library.path(entry, name) for name in entry.files}


def find(reference: str, want: Want | None, library: Library) -> Entry:
    """The entry, if it is of the kind wanted.

    Args:
        reference: `name`, `name@version` or the start of an id.
        want: "pairs", "vector" or "map"; None takes any.
        library: the library.

    Raises:
        KeyError: when there is no such entry.
        ValueError: when it is of another kind; the message names relatives that fit.
    """
    entry = library.find(reference)
    if want is None or entry.kind in _KINDS[want]:
        return entry
    everything = library.list()
    near = [
        one
        for one in (*_above(ancestors(entry, everything)), *children(entry, everything))
        if one.kind in _KINDS[want]
    ]
    kind = entry.kind if entry.kind == "pairs" else f"a {entry.kind}"
    hint = f"; related to it: {', '.join(one.label for one in near)}" if near else ""
    raise ValueError(f"{entry.label} holds {kind}; this needs {_NEED[want]}{hint}")


_NEED: Mapping[Want, str] = {
    "pairs": "pairs of texts (a vector cannot be taken apart into them)",
    "vector": "a vector or a transplant",
    "map": "a linear map",
}


def _above(node: Node) -> list[Entry]:
    found = [one.entry for one in node.parents if one.entry is not None]
    return found + [entry for one in node.parents for entry in _above(one)]


def named(text: str, *, library: Library | None = None) -> bool:
    """Whether a text means an entry of the library, and no file that is there.

    `name@version` always does; a bare name does when the library knows it.
    """
    if Path(text).exists():
        return False
    if is_reference(text):
        return True
    return is_name(text) and bool((library or Library()).records(text))


def pin(text: str, *, library: Library | None = None) -> str:
    """A reference with its version written out; any other text as it is.

    Commands that remember what they ran remember `honesty@3`, not `honesty`.
    """
    library = library or Library()
    name, at, version = text.partition("@")
    if (at and version.isdecimal()) or not named(text, library=library):
        return text
    return library.find(name).label


def file_named(text: str | Path, want: Want) -> Path:
    """A file of the user, or that of an entry of the library.

    Args:
        text: a file, a folder of `contrans transplant`, or a reference.
        want: what it has to be.

    Raises:
        KeyError, ValueError: see `resolve`. A file that is not there is left to the
            one who reads it.
    """
    path = Path(text)
    if path.is_dir() and want == "vector":
        return path / "vector.safetensors"
    return resolve(str(text), want) if named(str(text)) else path
