"""The scores of a model under several controls, as `contrans eval` and `evaluate` give."""

from typing import Any

from contrans.report import markdown, terminal
from contrans.report.blocks import Table
from contrans.report.format import (
    count,
    entries,
    fixed,
    interval,
    one_line,
    pick,
    plus_minus,
)


def table(results: Any) -> Table:
    """One row per task and control.

    Args:
        results: `evaluation.Results`, or the JSON of it.
    """
    rows = entries(results, "rows")
    fluent = any(pick(row, "perplexity") for row in rows)
    header = ("task", "control", "metric", "score", "against no edit", "n", "chance")
    header += ("perplexity ± s.e.", "ratio") if fluent else ()
    baseline = one_line(pick(results, "baseline") or "no edit")
    header = tuple(
        f"against {baseline}" if h == "against no edit" else h for h in header
    )
    body = []
    for row in rows:
        metric = pick(row, "metric")
        lower = " (lower is better)" if pick(row, "higher_is_better") is False else ""
        cells = (
            one_line(pick(row, "task")),
            one_line(pick(row, "control")),
            f"{one_line(metric)}{lower if metric else ''}",
            interval(pick(row, "score")),
            interval(pick(row, "difference"), sign=True),
            count(pick(row, "n") if pick(row, "score") else None),
            fixed(pick(row, "chance")),
        )
        if fluent:
            cost = pick(row, "perplexity")
            cells += (
                plus_minus(pick(cost, "value"), pick(cost, "stderr")),
                fixed(pick(row, "perplexity_ratio")),
            )
        body.append(cells)
    title = f"{one_line(pick(results, 'model'))}. Brackets: 95% intervals"
    return Table("", title, header, tuple(body))


def to_markdown(results: Any) -> str:
    """The table and the notes as Markdown."""
    notes = [f"- {markdown.text(note)}" for note in entries(results, "notes")]
    shown = markdown.table(table(results))
    return "\n".join([shown, *([""] if notes else []), *notes])


def shown(results: Any) -> str:
    """The same for a terminal."""
    notes = [terminal.folded(f"note: {note}") for note in entries(results, "notes")]
    return "\n".join([terminal.block(table(results)), *notes])
