"""A concept by name: a built-in pack, a file of pairs, or an entry of the library."""

from dataclasses import replace
from pathlib import Path

from contrans.core.registry import unknown
from contrans.data.catalogue import (
    ZOO_PREFIX,
    catalogue_of_packs,
    pack_info,
    read_entry,
)
from contrans.data.concept import Concept
from contrans.data.pairs import FILE_SUFFIXES, load_file, load_pack
from contrans.data.readers import parse_json, read_text
from contrans.library.entries import main_file
from contrans.library.library import Library
from contrans.library.references import named, pin, resolve_pairs


def load_concept(
    name_or_path: str | Path, *, answer: str | None = None, seed: int = 0
) -> Concept:
    """A built-in pack, a user's own pairs, or pairs of the library (`honesty@2`).

    Files are JSON `{"pos": [...], "neg": [...]}`, a JSON list of `[positive,
    negative]`, JSONL with `positive` and `negative`, or CSV/TSV with that header. A
    field `split` (refine, validate, test) is kept; without it, pairs are split
    60/20/20 by `seed`.

    Args:
        name_or_path: see `concepts()` for the packs. A name without a version means
            the pack where there is one, else the newest version in the library.
        answer: for prompts that end in "The emotion of the above scenario is", the
            word the model should say; found in the file name if it is one of the six.
            Without an answer the effect is measured as likelihood of held-out pairs.
        seed: for splitting.

    Raises:
        KeyError: for an unknown pack; the message suggests near names.
        FileNotFoundError: when there is no such file.
        ValueError: when the file cannot be used; the message names the place.
    """
    name = str(name_or_path)
    known = catalogue_of_packs()
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and (name in known or ZOO_PREFIX + name in known):
        return load_pack(pack_info(name), answer)
    if path.suffix in FILE_SUFFIXES or path.exists() or isinstance(name_or_path, Path):
        return load_file(path, answer, seed)
    if named(name):
        return _load_kept(name, answer, seed)
    error = unknown("concept", name, {*known, *Library().names()})
    raise KeyError(
        f"{error.args[0]}. For your own pairs, give a file that ends in "
        ".json, .jsonl, .csv or .tsv"
    )


def _load_kept(reference: str, answer: str | None, seed: int) -> Concept:
    """Pairs of the library; the origin names the entry and its hash."""
    entry, files = resolve_pairs(reference)
    path, meta = files[main_file(entry)], files.get("pack.json")
    if meta is None:
        answer = answer or entry.about.get("answer")
        found = load_file(path, answer, seed, stem=entry.name)
    else:
        index = parse_json(meta, read_text(meta))
        info = read_entry(entry.name, index, path.parent)
        info = replace(info, path=path, items=files.get("items.jsonl"))
        found = load_pack(info, answer)
    return replace(found, origin=f"library {entry.label} {entry.id}")


def pin_concept(name: str) -> str:
    """A concept of the library with its version written out; others as they are.

    A built-in pack comes before an entry of the library of the same name.
    """
    if not {name, ZOO_PREFIX + name}.isdisjoint(catalogue_of_packs()):
        return name
    return pin(name)
