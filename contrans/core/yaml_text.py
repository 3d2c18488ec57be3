"""YAML of people and strangers: read within bounds, so that no text takes for ever."""

from typing import Any

import yaml

LENGTH = 1_000_000
"""Characters of a file; a suite has a few thousand."""
DEPTH = 50
"""Blocks within blocks."""
NODES = 50_000
"""Values of a file, with what its aliases stand for written out."""


def compose(text: str, where: str) -> Any:
    """The nodes of a YAML document, with their lines; None for an empty one.

    Raises:
        ValueError: for a text beyond the bounds; the message says which.
        yaml.YAMLError: when it is not YAML.
    """
    if len(text) > LENGTH:
        raise ValueError(
            f"{where}: {len(text):,} characters, and YAML here has at most {LENGTH:,}; "
            "give long texts as files of their own"
        )
    depth = nodes = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > DEPTH or nodes > NODES:
            said = f"{DEPTH} blocks within each other" if depth > DEPTH else _many()
            raise ValueError(
                f"{where}, line {event.start_mark.line + 1}: more than {said}; this is "
                "nested too deeply or too long"
            )
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and _size(root, {}, where) > NODES:
        raise ValueError(
            f"{where}: more than {_many()} once its aliases (*) are written out; write "
            "out what is needed"
        )
    return root


def read(text: str, where: str) -> Any:
    """The value of a YAML document; see `compose` for what is refused."""
    compose(text, where)
    return yaml.safe_load(text)


def _many() -> str:
    return f"{NODES:,} values"


def _size(node: yaml.Node, known: dict[int, int | None], where: str) -> int:
    """Nodes under a node, shared ones counted as often as they are named."""
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise ValueError(
                f"{where}, line {node.start_mark.line + 1}: something in it holds itself (an "
                "anchor & and its alias *); write it out"
            )
        return size
    known[id(node)] = None
    inner = []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    size = 1 + sum(_size(part, known, where) for part in inner)
    known[id(node)] = size
    return size
