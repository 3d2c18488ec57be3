"""Two entries side by side: how they were made, what they hold, what they did."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrans.library.entries import Entry, main_file
from contrans.library.store import Store

_SKIPPED = ("marks", "needs", "metrics", "settings")
"""Parts of what an entry says that are compared in another way, or not at all."""
_VECTORS = ("vector", "transplant")


def diff(library: Store, one: str, other: str) -> dict[str, Any]:
    """What differs between two entries.

    Args:
        library: where both are.
        one: a reference.
        other: a reference.

    Returns:
        `same` (equal content), `differences` (field, one, other) of provenance and
        settings, and, where both sides have them: `layers` with the cosine of the
        directions and their lengths, `map`, `pairs` added and removed, and `metrics`.

    Raises:
        KeyError: when an entry is not there.
        ValueError: when a file is corrupted.
    """
    a, b = library.find(one), library.find(other)
    found: dict[str, Any] = {
        "one": a.label,
        "other": b.label,
        "kinds": [a.kind, b.kind],
        "same": a.id == b.id,
        "differences": _differences(library, a, b),
    }
    if found["same"]:
        return found
    if a.kind in _VECTORS and b.kind in _VECTORS:
        found |= _vectors(*(library.path(e, main_file(e)) for e in (a, b)))
    elif a.kind == b.kind == "map":
        found["map"] = _maps(*(library.path(e, main_file(e)) for e in (a, b)))
    elif a.kind == b.kind == "pairs":
        found["pairs"] = _pairs(*(library.path(e, main_file(e)) for e in (a, b)))
    metrics = [entry.about.get("metrics") for entry in (a, b)]
    if any(metrics):
        found["metrics"] = _metrics(*metrics)
    return found


def _differences(library: Store, a: Entry, b: Entry) -> list[dict[str, Any]]:
    left, right = (_told(library, entry) for entry in (a, b))
    return [
        {"field": key, "one": left.get(key), "other": right.get(key)}
        for key in {**left, **right}
        if left.get(key) != right.get(key)
    ]


def _told(library: Store, entry: Entry) -> dict[str, Any]:
    """Everything that an entry says of itself, flat."""
    about = {k: v for k, v in entry.about.items() if k not in _SKIPPED}
    said: dict[str, Any] = {"kind": entry.kind, **_flat(about)}
    said |= _flat(entry.about.get("settings", {}), "settings")
    if entry.kind != "pairs":
        from contrans.core.artifacts import read_header

        header = read_header(library.path(entry, main_file(entry)))
        said |= _flat(header.get("provenance", {}), "provenance")
    return said


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            if key != "norms":
                found |= _flat(inner, f"{name}.{key}" if name else str(key))
        return found
    return {name: value}


def _vectors(one: Path, other: Path) -> dict[str, Any]:
    """Cosine and lengths per layer; no cosine between different spaces."""
    import torch

    from contrans.core.artifacts import load

    a, b = load(one, "concept-vector"), load(other, "concept-vector")
    space = a.model == b.model
    layers = []
    for layer in sorted({*a.layers, *b.layers}):
        both = layer in a.layers and layer in b.layers
        cosine = None
        if both and space and a.norm(layer) and b.norm(layer):
            cosine = float(
                torch.cosine_similarity(a[layer].double(), b[layer].double(), dim=0)
            )
        sides = {
            name: {
                "length": vector.norm(layer),
                "relative": vector.relative_strength(layer),
            }
            if layer in vector.layers
            else None
            for name, vector in (("one", a), ("other", b))
        }
        layers.append({"layer": layer, "cosine": cosine, **sides})
    said = None
    if not space:
        said = (
            f"the vectors live in different models, {a.name or a.model!r} ({a.model}) "
            f"and {b.name or b.model!r} ({b.model}): no cosine; transplant one first"
        )
    return {"layers": layers, "spaces": said}


def _maps(one: Path, other: Path) -> dict[str, Any]:
    """Cosine and relative distance of two maps, as matrices."""
    import torch

    from contrans.core.artifacts import load

    a, b = load(one, "linear-map"), load(other, "linear-map")
    shapes = [[m.left.shape[0], m.right.shape[1]] for m in (a, b)]
    if shapes[0] != shapes[1]:
        return {"shapes": shapes, "cosine": None, "distance": None}

    def inner(x: Any, y: Any) -> float:  # <X, Y> of products, without the products
        left = x.left.double().mT @ y.left.double()
        right = x.right.double() @ y.right.double().mT
        return float(torch.sum(left * right))

    aa, ab, bb = inner(a, a), inner(a, b), inner(b, b)
    lengths = (aa * bb) ** 0.5
    return {
        "shapes": shapes,
        "cosine": ab / lengths if lengths else None,
        "distance": (max(aa + bb - 2 * ab, 0.0) / aa) ** 0.5 if aa else None,
    }


def _pairs(one: Path, other: Path) -> dict[str, Any]:
    """Pairs of the second that are not in the first, and the other way round."""
    from contrans.data.readers import read_rows

    a, b = (
        {(row.positive, row.negative): row.split for row in read_rows(path)}
        for path in (one, other)
    )

    def listed(rows: Mapping[Any, str | None], without: Any) -> list[dict[str, Any]]:
        return [
            {"positive": p, "negative": n, "split": split}
            for (p, n), split in rows.items()
            if (p, n) not in without
        ]

    moved = [
        {"positive": pair[0], "one": a[pair], "other": b[pair]}
        for pair in a
        if pair in b and a[pair] != b[pair]
    ]
    return {
        "added": listed(b, a),
        "removed": listed(a, b),
        "moved": moved,
        "kept": len([pair for pair in a if pair in b]),
    }


def _metrics(one: Any, other: Any) -> list[dict[str, Any]]:
    """Rows of both comparisons by name, side by side."""
    sides = [
        {row["name"]: row for row in (m or {}).get("rows", ())} for m in (one, other)
    ]
    return [
        {"row": name, "one": sides[0].get(name), "other": sides[1].get(name)}
        for name in {**sides[0], **sides[1]}
    ]
