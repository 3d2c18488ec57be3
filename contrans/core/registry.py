"""Look things up by name: literal tables, imported on first use."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any


def unknown(kind: str, name: str, known: Iterable[str]) -> KeyError:
    """The error for a name that is not in a table, with near names.

    Args:
        kind: what is named, such as "task".
        name: what was given.
        known: what could be.

    Example:
        >>> unknown("task", "emotion", ["emotions", "mc1"]).args[0]
        "unknown task 'emotion'; did you mean 'emotions'? Known: emotions, mc1"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return KeyError(f"unknown {kind} {name!r}; {hint}Known: {', '.join(names)}")


def lookup(kind: str, table: Mapping[str, str], name: str) -> Any:
    """The object that `table[name]` ("module:attribute") points to.

    Args:
        kind: what the table holds, for the error message.
        table: name to "module:attribute".
        name: the name asked for.

    Raises:
        KeyError: when the name is unknown; the message suggests near names.
    """
    if name not in table:
        raise unknown(kind, name, table)
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
