"""What built-in packs there are: two index files, read without loading torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from contrans.core.registry import unknown

EMOTIONS = ("happiness", "sadness", "anger", "fear", "disgust", "surprise")
"""The six emotions, in the paper's order."""
SPLITS = ("refine", "validate", "test")
"""What pairs are for: making the vector, choosing settings, reporting."""
Kind = Literal["emotion", "choices", "continuations", "likelihood"]

PACKS = Path(__file__).parent / "packs"
ZOO_PACKS = Path(__file__).parent / "zoo_packs"
ZOO_PREFIX = "zoo/"
"""Put before names of zoo packs that do not begin with "zoo" themselves."""


@dataclass(frozen=True, slots=True)
class PackInfo:
    """What the index says about one pack."""

    name: str
    title: str
    description: str
    version: int
    answer: str | None
    """The word that a model names where the concept is meant, for emotion tasks."""
    kind: Kind
    """How the effect is measured."""
    path: Path
    """The pairs."""
    items: Path | None
    """The items of a task that is not made from the pairs themselves."""
    marked: tuple[str, ...] = ()
    """Word stems or regular expressions counted by a continuations task."""
    label: str = ""
    """What a marked continuation is called."""
    higher_is_better: bool = True
    """Whether more of what the task counts means more of the concept."""


def read_entry(name: str, meta: dict[str, Any], folder: Path) -> PackInfo:
    """A pack, from what its index says.

    Args:
        name: of the pack.
        meta: what the index says of it.
        folder: where its files lie.

    Raises:
        ValueError: for an unknown kind of task.
    """
    stem = name.removeprefix(ZOO_PREFIX)
    task: dict[str, Any] = meta.get("task") or {}
    kind = task.get("kind", "likelihood")
    if kind not in get_args(Kind):
        raise ValueError(
            f"{folder / 'index.json'}: pack {stem!r} has the unknown task kind "
            f"{kind!r}; known: {', '.join(get_args(Kind))}"
        )
    file = task.get("file")
    return PackInfo(
        name=name,
        title=meta.get("title", stem),
        description=meta.get("description", ""),
        version=int(meta.get("version", 1)),
        answer=meta.get("answer"),
        kind=kind,
        path=folder / f"{stem}.jsonl",
        items=None if file is None else folder / file,
        marked=tuple(task.get("marked", ())),
        label=task.get("label", ""),
        # Marked words are what the concept should remove, unless the index says else.
        higher_is_better=task.get("higher_is_better", kind != "continuations"),
    )


def catalogue_of_packs() -> dict[str, PackInfo]:
    """All built-in packs: those for any model first, then those of the zoo's world.

    A zoo pack is called `zoo/NAME` (or `zoo-NAME`, if its index does): its texts are
    in the zoo's small vocabulary.
    """
    found: dict[str, PackInfo] = {}
    for folder, prefix in ((PACKS, ""), (ZOO_PACKS, ZOO_PREFIX)):
        index = folder / "index.json"
        if not index.is_file():
            continue
        for key, meta in json.loads(index.read_text(encoding="utf-8")).items():
            name = key if key.startswith("zoo") else prefix + key
            found[name] = read_entry(name, meta, folder)
    return found


def concepts() -> list[str]:
    """Names of all built-in packs."""
    return list(catalogue_of_packs())


def pack_info(name: str) -> PackInfo:
    """What the index says about a pack; `NAME` also finds `zoo/NAME`, if unambiguous.

    Raises:
        KeyError: for an unknown name; the message suggests near names.
    """
    known = catalogue_of_packs()
    for candidate in (name, ZOO_PREFIX + name):
        if candidate in known:
            return known[candidate]
    raise unknown("concept", name, known)
