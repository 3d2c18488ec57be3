"""An A/B comparison as a person reads it: Markdown, HTML, a table for the terminal."""

from collections.abc import Mapping
from html import escape

from contrans.ab import Comparison, Outcome

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
       padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { border-bottom: 1px solid #8886; padding: .4rem .6rem; text-align: left;
         vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.text { width: 33%; white-space: pre-wrap; overflow-wrap: anywhere; }
.better { color: #1a7f37; } .worse { color: #c0392b; }
@media (max-width: 40rem) { table, tr, td, th { display: block; } thead { display: none; } }
"""
HEAD = ("task", "metric", "A", "B", "B against A", "p (Holm)", "n", "verdict", "needed")


def number(value: Mapping[str, float], sign: str = "") -> str:
    """A value with its interval."""
    low, high = value["low"], value["high"]
    return f"{value['value']:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def cells(outcome: Outcome) -> list[str]:
    """One row of the table."""
    text = outcome.metric.startswith("perplexity")
    change = (
        f"x {number(outcome.difference)}" if text else number(outcome.difference, "+")
    )
    return [
        outcome.task,
        outcome.metric,
        number(outcome.a),
        number(outcome.b),
        change,
        f"{outcome.p:.4f}",
        str(outcome.n),
        outcome.verdict,
        "-" if outcome.needed is None else str(outcome.needed),
    ]


def _about(found: Comparison) -> str:
    m = len(found.outcomes)
    holm = f", corrected over {m} tasks by Holm's method" if m > 1 else ""
    return (
        f"The same prompts under both. {found.confidence:.0%} paired bootstrap "
        f'intervals; verdicts at the same level{holm}. "needed": prompts that would '
        "show a difference of the size seen with probability 0.8."
    )


def to_markdown(found: Comparison) -> str:
    """The comparison as Markdown."""
    lines = [f"# A/B: {found.a} against {found.b}", ""]
    lines += [f"- {outcome.said}" for outcome in found.outcomes]
    lines += ["", f"A = {found.a}, B = {found.b}. {_about(found)}", ""]
    rows = [list(HEAD), ["---"] * len(HEAD), *map(cells, found.outcomes)]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if found.generations:
        lines += [
            "",
            "## Side by side",
            "",
            "| prompt | A | B |",
            "| --- | --- | --- |",
        ]
        for row in found.generations:
            parts = [_cell(row[key]) for key in ("prompt", "a", "b")]
            lines.append(f"| {' | '.join(parts)} |")
    lines += [f"\n- {_cell(note)}" for note in found.notes]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return plain.strip().replace("\n", "<br>")


def to_html(found: Comparison) -> str:
    """The comparison as one self-contained page."""
    title = escape(f"A/B: {found.a} against {found.b}")
    said = "".join(
        f'<li class="{outcome.verdict.split()[0]}">{escape(outcome.said)}</li>'
        for outcome in found.outcomes
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in HEAD)
    rows = "".join(
        "<tr>"
        + "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells(outcome))
        + "</tr>"
        for outcome in found.outcomes
    )
    parts = [
        f"<h1>{title}</h1>",
        f"<ul>{said}</ul>",
        f"<p>{escape(f'A = {found.a}, B = {found.b}. {_about(found)}')}</p>",
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>",
    ]
    if found.generations:
        texts = "".join(
            "<tr>"
            + "".join(
                f'<td class="text">{escape(row[key].strip())}</td>'
                for key in ("prompt", "a", "b")
            )
            + "</tr>"
            for row in found.generations
        )
        parts.append(
            "<h2>Side by side</h2><table><thead><tr><th>prompt</th>"
            f"<th>{escape(found.a)}</th><th>{escape(found.b)}</th></tr></thead>"
            f"<tbody>{texts}</tbody></table>"
        )
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    parts.append(f"<ul>{notes}</ul>" if notes else "")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n"
    )
