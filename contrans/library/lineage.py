"""What an entry was made from, and what was made from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from contrans.library.entries import Entry


@dataclass(frozen=True, slots=True)
class Node:
    """An entry in a tree of ancestors."""

    id: str
    entry: Entry | None
    """None when it is not in this library."""
    parents: tuple["Node", ...] = ()


def ancestors(entry: Entry, entries: Iterable[Entry]) -> Node:
    """The tree of what an entry was made from, however far it is known."""
    known: dict[str, Entry] = {}
    for one in entries:
        known.setdefault(one.id, one)

    def node(identity: str, found: Entry | None, above: frozenset[str]) -> Node:
        if found is None or identity in above:
            return Node(identity, found)
        deeper = above | {identity}
        return Node(
            identity,
            found,
            tuple(node(parent, known.get(parent), deeper) for parent in found.parents),
        )

    return node(entry.id, entry, frozenset())


def children(entry: Entry, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries made from this one, directly."""
    return tuple(one for one in entries if entry.id in one.parents)


def with_ancestors(
    chosen: Sequence[Entry], entries: Iterable[Entry]
) -> tuple[Entry, ...]:
    """Entries and everything they were made from, as far as it is there."""
    known: dict[str, list[Entry]] = {}
    for one in entries:
        known.setdefault(one.id, []).append(one)
    found = {entry.label: entry for entry in chosen}
    waiting = list(chosen)
    while waiting:
        for parent in waiting.pop().parents:
            held = known.get(parent, [])
            if held and not any(entry.label in found for entry in held):
                found[held[0].label] = held[0]
                waiting.append(held[0])
    return tuple(found.values())


def draw(node: Node) -> list[str]:
    """The tree as lines: an entry, and below it what it was made from."""
    lines = [_line(node)]
    for i, parent in enumerate(node.parents):
        last = i + 1 == len(node.parents)
        first, *rest = draw(parent)
        lines.append(("└─ " if last else "├─ ") + first)
        lines += [("   " if last else "│  ") + line for line in rest]
    return lines


def _line(node: Node) -> str:
    if node.entry is None:
        return f"{node.id[:12]} (not in this library)"
    return f"{node.entry.label}  {node.entry.kind}  {summary(node.entry)}".rstrip()


def summary(entry: Entry) -> str:
    """What an entry is, in a few words.

    Example:
        >>> summary(Entry("a", 1, "pairs", {}, "", about={"pairs": {"refine": 9}}))
        '9 pairs (refine 9)'
    """
    about = entry.about
    model = about.get("model", {})
    if entry.kind == "pairs":
        splits = about.get("pairs", {})
        parts = ", ".join(f"{name} {n}" for name, n in splits.items())
        return f"{sum(splits.values())} pairs ({parts})"
    if entry.kind == "map":
        ends = [about.get("source", {}), model]
        return " -> ".join(
            f"{end.get('name')} layer {end.get('layer')}" for end in ends
        )
    layers = ", ".join(map(str, about.get("at", ())))
    source = about.get("source", {}).get("name")
    return f"{model.get('name')} layer {layers}" + (
        f", from {source}" if source else ""
    )
