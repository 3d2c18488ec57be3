"""Entries of the library as a person reads them in a terminal."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from contrans.library import Entry, Library, draw
from contrans.library.entries import object_name
from contrans.library.lineage import children, summary
from contrans.report.terminal import table

_WIDE = 60
"""Characters of a text that a table shows."""


def listing(entries: Sequence[Entry], *, every: bool) -> str:
    """A table: the newest version of each name, or all of them."""
    newest = {entry.name: entry for entry in entries}
    shown = entries if every else newest.values()
    rows = [
        [
            entry.label,
            entry.kind,
            summary(entry),
            _effect(entry.about.get("metrics")),
            entry.created[:10],
            _short(entry.note),
        ]
        for entry in shown
    ]
    return table(["entry", "kind", "what it is", "effect", "added", "note"], rows)


def _effect(metrics: Mapping[str, Any] | None) -> str:
    if not metrics or not metrics.get("effect"):
        return "-"
    return f"{_interval(metrics['effect'], '+')} {metrics['metric']}"


def _interval(value: Mapping[str, Any] | None, sign: str = "") -> str:
    if value is None:
        return "-"
    ends = (value.get(key) for key in ("value", "low", "high"))
    middle, low, high = ("-" if n is None else f"{n:{sign}.3f}" for n in ends)
    return f"{middle} [{low}, {high}]"


def _short(text: Any, limit: int = _WIDE) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def facts(place: Library, entry: Entry) -> dict[str, Any]:
    """Everything about an entry, for programs."""
    entries = place.list()
    labels: dict[str, list[str]] = {}
    for one in entries:
        labels.setdefault(one.id, []).append(one.label)
    return {
        **json.loads(entry.to_bytes()),
        "where": {name: where(place, entry, name) for name in entry.files},
        "lineage": draw(place.tree(entry.label)),
        "parent_entries": {p: labels.get(p, []) for p in entry.parents},
        "children": [one.label for one in children(entry, entries)],
    }


def where(place: Library, entry: Entry, name: str) -> str:
    """Where a file of an entry lies.

    Args:
        place: the library.
        entry: whose file it is.
        name: of the file.
    """
    return place.place.at(object_name(entry.files[name].sha256, name))


def described(place: Library, entry: Entry) -> str:
    """An entry: facts, models, metrics, lineage, files."""
    about = entry.about
    lines = {
        "kind": entry.kind,
        "what it is": summary(entry),
        "note": entry.note,
        "added": f"{entry.created}, contrans {entry.contrans}",
        "formerly": entry.was,
        "content": entry.id,
        "model": _model(about.get("model")),
        "source": _model(about.get("source")),
        "layers": ", ".join(map(str, about.get("at", ()))),
        "method": about.get("method"),
        "strength": _strength(about.get("strength")),
        "task": about.get("task"),
        "file": about.get("file"),
    }
    kept = {key: str(value) for key, value in lines.items() if value}
    width = max(map(len, kept))
    parts = [f"{entry.label}"]
    parts += [f"  {key.ljust(width)}  {value}" for key, value in kept.items()]
    if "metrics" in about:
        parts += ["", _metrics(about["metrics"]), about["metrics"]["verdict"]]
    parts += [
        "",
        "made from:",
        *(f"  {line}" for line in draw(place.tree(entry.label))),
    ]
    came = children(entry, place.list())
    if came:
        parts.append(f"  used for: {', '.join(one.label for one in came)}")
    parts += ["", "files:"]
    parts += [f"  {name}  {where(place, entry, name)}" for name in entry.files]
    return "\n".join(parts)


def _model(model: Mapping[str, Any] | None) -> str | None:
    if not model:
        return None
    said = {
        "weights": model.get("fingerprint"),
        "width": model.get("hidden"),
        "layers": model.get("layers"),
        "layer": model.get("layer"),
    }
    more = ", ".join(
        f"{key} {value}" for key, value in said.items() if value is not None
    )
    return f"{model.get('name')} ({more})"


def _strength(strength: Mapping[str, Any] | None) -> str | None:
    if not strength:
        return None
    return f"{strength['raw']:.3g}, {strength['relative']:.0%} of the residual stream"


def _metrics(metrics: Mapping[str, Any]) -> str:
    rows = [
        [
            row["name"],
            _interval(row),
            _interval(row["difference"], "+"),
            _ratio(row["perplexity_ratio"]),
        ]
        for row in metrics["rows"]
    ]
    title = f"{metrics['metric']} on {metrics['n']} {metrics['split']} prompts"
    head = ["", metrics["metric"], "against no edit", "perplexity ratio"]
    return f"{title}; 95% intervals\n{table(head, rows)}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def compared(found: Mapping[str, Any]) -> str:
    """Two entries side by side."""
    one, other = found["one"], found["other"]
    if found["same"]:
        return f"{one} and {other} hold exactly the same"
    parts = []
    if found["differences"]:
        rows = [
            [d["field"], _value(d["one"]), _value(d["other"])]
            for d in found["differences"]
        ]
        parts.append(table(["made differently", one, other], rows))
    if found.get("spaces"):
        parts.append(found["spaces"])
    if "layers" in found:
        parts.append(_layers(found["layers"], one, other))
    if "map" in found:
        said = found["map"]
        parts.append(
            f"widths {said['shapes'][0]} and {said['shapes'][1]}, cosine "
            f"{_ratio(said['cosine'])}, relative distance {_ratio(said['distance'])}"
        )
    if "pairs" in found:
        parts.append(_pairs(found["pairs"], other))
    if "metrics" in found:
        rows = [
            [line["row"], *(_side(line[side]) for side in ("one", "other"))]
            for line in found["metrics"]
        ]
        head = ["against no edit; perplexity ratio", one, other]
        note = "each has its own interval; contrans compare tests the difference"
        parts.append(f"{table(head, rows)}\n{note}")
    return "\n\n".join(parts)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else _short(value)


def _side(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    shown = _interval(row["difference"], "+") if row["difference"] else _interval(row)
    return f"{shown}; {_ratio(row['perplexity_ratio'])}"


def _layers(layers: Sequence[Mapping[str, Any]], one: str, other: str) -> str:
    rows = []
    for line in layers:
        lengths = [
            "-" if line[side] is None else f"{line[side]['length']:.3f}"
            for side in ("one", "other")
        ]
        rows.append([str(line["layer"]), _ratio(line["cosine"]), *lengths])
    return table(["layer", "cosine", f"length {one}", f"length {other}"], rows)


def _pairs(found: Mapping[str, Any], other: str) -> str:
    lines = [
        f"{found['kept']} pairs in both, {len(found['added'])} added in {other}, "
        f"{len(found['removed'])} removed, {len(found['moved'])} moved to another split"
    ]
    for sign, rows in (("+", found["added"]), ("-", found["removed"])):
        lines += [
            f"{sign} {_short(row['positive'])} | {_short(row['negative'])}"
            for row in rows[:_SHOWN]
        ]
        if len(rows) > _SHOWN:
            lines.append(f"{sign} and {len(rows) - _SHOWN} more (--json has them)")
    return "\n".join(lines)


_SHOWN = 10
"""Pairs that are printed on each side."""
