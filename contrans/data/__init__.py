"""Prompt pairs, corpora and splits: built-in packs and the user's own files.

The names below are imported on first use; listing the packs does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "EMOTIONS": "catalogue",
    "PackInfo": "catalogue",
    "catalogue_of_packs": "catalogue",
    "concepts": "catalogue",
    "pack_info": "catalogue",
    "Concept": "concept",
    "Item": "concept",
    "TaskSpec": "concept",
    "pack": "pairs",
    "read_pairs": "pairs",
    "Corpus": "corpora",
    "load_corpus": "corpora",
    "LeakWarning": "leaks",
    "check_disjoint": "leaks",
    "concept_leaks": "leaks",
    "find_leaks": "leaks",
    "overlapping": "leaks",
}
__all__ = [*_WHERE, "load_concept"]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from contrans.data.catalogue import (
        EMOTIONS as EMOTIONS,
        PackInfo as PackInfo,
        catalogue_of_packs as catalogue_of_packs,
        concepts as concepts,
        pack_info as pack_info,
    )
    from contrans.data.concept import (
        Concept as Concept,
        Item as Item,
        TaskSpec as TaskSpec,
    )
    from contrans.data.corpora import Corpus as Corpus, load_corpus as load_corpus
    from contrans.data.leaks import (
        LeakWarning as LeakWarning,
        check_disjoint as check_disjoint,
        concept_leaks as concept_leaks,
        find_leaks as find_leaks,
        overlapping as overlapping,
    )
    from contrans.data.pairs import pack as pack, read_pairs as read_pairs
    from contrans.library.concepts import load_concept as load_concept


def __getattr__(name: str) -> Any:
    if name == "load_concept":  # it reads the library too, so it lies above
        return import_module("contrans.library.concepts").load_concept
    if name in _WHERE:
        return getattr(import_module(f"contrans.data.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'contrans.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
