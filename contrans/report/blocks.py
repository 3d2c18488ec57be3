"""What a report says, as plain blocks; `report.py` and `report_html.py` only dress it.

All texts here are unescaped. Every statement is made from the results dict of
`run_transplant`, and anything missing in it is shown as a dash.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from contrans.report.format import (
    MISSING,
    clean,
    entries,
    excerpt,
    fixed,
    interval,
    is_in_sample,
    number,
    one_line,
    pick,
    plus_minus,
    times,
    whole,
)
from contrans.report.plots import best_tried

Results = Mapping[str, Any]
GENERATIONS = 12
"""Generations shown; `results.json` has them all."""
IN_SAMPLE = (
    "These numbers are in-sample. The published protocol tests on the very scenarios "
    "that the vector was refined on, so they flatter the method and say nothing about "
    "new prompts. Use them only to compare with the publication; for evidence, run "
    "again with --protocol heldout."
)
DEFAULTS = {
    "layers": "auto",
    "strength": "auto",
    "method": "ridge",
    "protocol": "heldout",
    "budget": 1.15,
    "seed": 0,
    "dtype": "auto",
}
SILENT = ("source", "target", "progress", "notify", "cache", "force")


@dataclass(frozen=True, slots=True)
class Note:
    """A box that must not be missed: warnings, the in-sample label, the verdict."""

    kind: Literal["warning", "alarm", "verdict"]
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names, values, and what each value means."""

    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the columns in `words` are text, the others numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)
    strong: tuple[int, ...] = ()
    """Rows to make stand out, such as the chosen one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of `plots.FIGURES`, for media that can show it."""

    name: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Words:
    """Paragraphs."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """Something to paste into a shell."""

    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and what the model wrote without and with the edit."""

    prompt: str
    before: str
    after: str


Block = Note | Facts | Table | Picture | Words | Command | Sample


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


class TableLine(NamedTuple):
    """One row of the effect table, written out."""

    name: str
    kind: str
    value: str
    difference: str
    raw: str
    relative: str
    perplexity: str
    ratio: str


TABLE_HEADER = TableLine(
    "row",
    "kind",
    "value [95% interval]",
    "change to no edit [95% interval]",
    "strength, raw",
    "strength, relative",
    "perplexity ± s.e.",
    "ratio",
)
"""Headings for `table_lines`."""


def table_lines(results: Results) -> list[TableLine]:
    """The effect table as plain text cells, in the order of the results."""
    return [
        TableLine(
            name=one_line(row.get("name")),
            kind=one_line(row.get("kind")),
            value=interval(row),
            difference=interval(row.get("difference"), sign=True),
            raw=fixed(row.get("raw"), 2),
            relative=fixed(row.get("relative"), 2),
            perplexity=plus_minus(
                pick(row, "perplexity", "value"), pick(row, "perplexity", "stderr")
            ),
            ratio=times(pick(row, "perplexity", "ratio")),
        )
        for row in entries(results, "rows")
    ]


def measured(results: Results) -> str:
    """What a number of the effect table is: metric, n, chance, split, protocol."""
    task = pick(results, "task") or {}
    better = {"True": "higher is better", "False": "lower is better"}
    parts = [
        f"{one_line(task.get('name'))}: {one_line(task.get('metric'))}",
        better.get(str(task.get("higher_is_better")), ""),
        f"n = {whole(task.get('n'))} prompts",
        _fluent(results),
        f"chance {fixed(task.get('chance'))}",
        f"split {one_line(task.get('split'))}",
        f"protocol {one_line(task.get('protocol'))}",
    ]
    if is_in_sample(results):
        parts.append("IN-SAMPLE")
    return ", ".join(part for part in parts if part) + "."


def _fluent(results: Results) -> str:
    """How many texts perplexity is measured on."""
    known = pick(results, "perplexity_texts")
    if not isinstance(known, Mapping):
        return ""
    test, validate = (whole(known.get(part)) for part in ("test", "validate"))
    if known.get("shared"):
        return f"perplexity on {test} texts, which also chose the strength"
    return f"perplexity on {test} texts; {validate} others chose the strength"


def choosing_prompts(results: Results) -> str:
    """The prompts on which layers and strength were chosen."""
    if is_in_sample(results):
        return "the test prompts themselves (in-sample)"
    return "validation prompts"


def repeat_command(results: Results) -> str:
    """The shell command that runs the same again."""
    command = pick(results, "command")
    if not isinstance(command, Mapping):
        return one_line(command) if command else ""
    words = ["contrans", "transplant"]
    words += [shlex.quote(one_line(command.get(k))) for k in ("source", "target")]
    for key, value in command.items():
        if key in SILENT or value is None or value is False:
            continue
        if key in DEFAULTS and value == DEFAULTS[key]:
            continue
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words.append(shlex.quote(_argument(value)))
    return " ".join(words)


def _argument(value: object) -> str:
    if isinstance(value, list | tuple):
        return ":".join(map(str, value))
    return one_line(value)


def samples(results: Results) -> tuple[Block, ...]:
    """Generations without and with the edit."""
    known = [g for g in entries(results, "generations") if isinstance(g, Mapping)]
    shown: list[Block] = [
        Sample(*(excerpt(g.get(key)) for key in ("prompt", "before", "after")))
        for g in known[:GENERATIONS]
    ]
    if len(known) > GENERATIONS:
        left = len(known) - GENERATIONS
        shown.append(Words((f"{left} more generations are in results.json.",)))
    return tuple(shown)


def extras(results: Results) -> tuple[Block, ...]:
    """Further metrics of each row, when there are any."""
    rows = entries(results, "rows")
    names = list(dict.fromkeys(k for r in rows for k in (r.get("extra") or {})))
    if not names:
        return ()
    body = tuple(
        (one_line(r.get("name")), *(_cell(pick(r, "extra", k)) for k in names))
        for r in rows
    )
    header = ("row", *map(one_line, names))
    return (Table("Further figures of the same prompts.", header, body),)


def _cell(value: object) -> str:
    return fixed(value) if number(value) is not None else one_line(value, 80)


def curve(results: Results) -> Table | None:
    """Effect and perplexity over strength."""
    points = entries(results, "strength", "curve")
    if not points:
        return None
    has_value = any(number(p.get("value")) is not None for p in points)
    chosen = number(pick(results, "strength", "raw"))
    rows, strong = [], []
    for i, p in enumerate(points):
        if chosen is not None and number(p.get("raw")) == chosen:
            strong.append(i)
        level = p if has_value else {**p, "value": p.get("effect")}
        cells = [fixed(p.get("relative"), 2), fixed(p.get("raw"), 2), interval(level)]
        if has_value:
            cells.append(fixed(p.get("effect"), sign=True))
        perplexity = p.get("perplexity"), p.get("perplexity_ratio")
        cells += [fixed(perplexity[0], 2), times(perplexity[1])]
        rows.append((*cells, "chosen" if i in strong else ""))
    effect = ("value [95% interval]", "gain") if has_value else ("gain [95% interval]",)
    header = ("relative", "raw", *effect, "perplexity", "ratio", "note")
    caption = (
        f"Strengths tried at the chosen layers, on {choosing_prompts(results)}. A gain "
        "is signed so that more is better."
    )
    return Table(caption, header, tuple(rows), (len(header) - 1,), tuple(strong))


def tried(results: Results) -> Table | None:
    """The best point of each pair of layers tried."""
    best = best_tried(results)
    if not best:
        return None
    chosen = pick(results, "layers", "source"), pick(results, "layers", "target")
    rows = tuple(
        (
            str(s),
            str(t),
            fixed(p.get("relative"), 2),
            fixed(p.get("raw"), 2),
            fixed(p.get("effect"), sign=True),
            times(p.get("perplexity_ratio")),
            "chosen" if (s, t) == chosen else "",
        )
        for (s, t), p in best.items()
    )
    header = ("source", "target", "relative", "raw", "gain", "ratio", "note")
    caption = (
        f"The best strength of each pair of layers, on {choosing_prompts(results)}, "
        "within the perplexity budget where one was."
    )
    strong = tuple(i for i, pair in enumerate(best) if pair == chosen)
    return Table(caption, header, rows, (6,), strong)


def describe_model(model: object) -> str:
    """One line about a model."""
    if not isinstance(model, Mapping):
        return MISSING
    return (
        f"{one_line(model.get('name'))} ({whole(model.get('layers'))} blocks, width "
        f"{whole(model.get('hidden'))}, context {whole(model.get('context'))}, "
        f"{one_line(model.get('dtype'))}; weights {_short(model.get('fingerprint'))}, "
        f"tokenizer {_short(model.get('tokenizer'))})"
    )


def _short(digest: object) -> str:
    return clean(digest)[:12]
