"""A library of concepts: versions that never change, lineage, sharing; `name@version`.

The names below are imported on first use; listing a library does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Added": "adding",
    "Entry": "entries",
    "Library": "core",
    "Moved": "sync",
    "Problem": "keeping",
    "Removed": "keeping",
    "default_root": "core",
    "draw": "lineage",
    "file_named": "resolving",
    "is_reference": "entries",
    "main_file": "resolving",
    "named": "resolving",
    "pin": "resolving",
    "prune": "keeping",
    "resolve": "resolving",
    "resolve_pairs": "resolving",
}
__all__ = [*_WHERE]

if TYPE_CHECKING:
    from contrans.library.adding import Added as Added
    from contrans.library.core import (
        Library as Library,
        default_root as default_root,
    )
    from contrans.library.entries import Entry as Entry, is_reference as is_reference
    from contrans.library.keeping import (
        Problem as Problem,
        Removed as Removed,
        prune as prune,
    )
    from contrans.library.lineage import draw as draw
    from contrans.library.resolving import (
        file_named as file_named,
        main_file as main_file,
        named as named,
        pin as pin,
        resolve as resolve,
        resolve_pairs as resolve_pairs,
    )
    from contrans.library.sync import Moved as Moved


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"contrans.library.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'contrans.library' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
