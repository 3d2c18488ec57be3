"""A library of concepts: versions that never change, lineage, sharing; `name@version`.

The names below are imported on first use; listing a library does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Added": "changes",
    "Entry": "entries",
    "Library": "library",
    "Moved": "sync",
    "Problem": "changes",
    "Removed": "changes",
    "default_root": "store",
    "draw": "lineage",
    "file_named": "references",
    "is_reference": "entries",
    "main_file": "entries",
    "named": "references",
    "pin": "references",
    "prune": "changes",
    "resolve": "references",
    "resolve_pairs": "references",
}
__all__ = [*_WHERE]

if TYPE_CHECKING:
    from contrans.library.changes import (
        Added as Added,
        Problem as Problem,
        Removed as Removed,
        prune as prune,
    )
    from contrans.library.entries import (
        Entry as Entry,
        is_reference as is_reference,
        main_file as main_file,
    )
    from contrans.library.library import Library as Library
    from contrans.library.lineage import draw as draw
    from contrans.library.references import (
        file_named as file_named,
        named as named,
        pin as pin,
        resolve as resolve,
        resolve_pairs as resolve_pairs,
    )
    from contrans.library.store import default_root as default_root
    from contrans.library.sync import Moved as Moved


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"contrans.library.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'contrans.library' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
