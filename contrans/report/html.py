"""The report as one HTML file: no script, no outside resource, light and dark."""

from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

from contrans.report.blocks import (
    Block,
    Command,
    Facts,
    Note,
    Picture,
    Sample,
    Section,
    Table,
    Words,
)
from contrans.report.plots import FIGURES, inline_svg
from contrans.report.transplant import document

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Should escaping ever fail, browsers still load and run nothing."""


def to_html(results: Mapping[str, Any]) -> str:
    """The whole report with figures, as the text of one self-contained file.

    Args:
        results: what `run_transplant` returns, or `results.json`. Anything may be
            missing, None or NaN; it is shown as a dash.
    """
    page = document(results)
    style = resources.files("contrans.report").joinpath("page.css").read_text("utf-8")
    jumps = "".join(
        f'<li><a href="#{_anchor(s)}">{escape(s.title)}</a></li>' for s in page.sections
    )
    body = "\n".join(_section(section, results) for section in page.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(page.title)}</title>
<style>
{style.strip()}
</style>
</head>
<body>
<header>
<p class="sub">{escape(page.subtitle)}</p>
<h1><bdi>{escape(page.title)}</bdi></h1>
<nav aria-label="Sections"><ul>{jumps}</ul></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _anchor(section: Section) -> str:
    return section.title.lower().replace(" ", "-")


def _section(section: Section, results: Mapping[str, Any]) -> str:
    blocks = "\n".join(_block(block, results) for block in section.blocks)
    name = _anchor(section)
    head = f'<h2 id="{name}">{escape(section.title)}</h2>'
    return f'<section aria-labelledby="{name}">\n{head}\n{blocks}\n</section>'


def _block(block: Block, results: Mapping[str, Any]) -> str:
    match block:
        case Note():
            return _note(block)
        case Facts(rows):
            items = "".join(map(_fact, rows))
            return f'<dl class="facts">{items}</dl>'
        case Table():
            return _table(block)
        case Picture():
            return _picture(block, results)
        case Words(lines):
            return "".join(f"<p>{escape(line)}</p>" for line in lines)
        case Command(text):
            return f'<pre class="command"><code>{escape(text)}</code></pre>'
        case Sample():
            return _sample(block)


def _note(note: Note) -> str:
    if len(note.lines) == 1:
        lines = f"<p>{escape(note.lines[0])}</p>"
    else:
        lines = "".join(f"<li>{escape(line)}</li>" for line in note.lines)
        lines = f"<ul>{lines}</ul>"
    return (
        f'<div class="note {note.kind}" role="note">'
        f"<strong>{escape(note.title)}</strong>{lines}</div>"
    )


def _fact(row: tuple[str, str, str]) -> str:
    name, value, meaning = map(escape, row)
    return (
        f"<div><dt>{name}</dt>"
        f'<dd><span class="value">{value}</span> <small>{meaning}</small></dd></div>'
    )


def _table(table: Table) -> str:
    def kind(i: int) -> str:
        return ' class="text"' if i in table.words else ""

    head = "".join(
        f'<th scope="col"{kind(i)}>{escape(name)}</th>'
        for i, name in enumerate(table.header)
    )
    body = []
    for i, row in enumerate(table.rows):
        first = f'<th scope="row"{kind(0)}>{escape(row[0])}</th>'
        rest = "".join(
            f"<td{kind(j)}>{escape(cell)}</td>" for j, cell in enumerate(row[1:], 1)
        )
        mark = ' class="strong"' if i in table.strong else ""
        body.append(f"<tr{mark}>{first}{rest}</tr>")
    label = escape(table.caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table><caption>{label}</caption><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _picture(picture: Picture, results: Mapping[str, Any]) -> str:
    figure = FIGURES[picture.name](results)
    if figure is None:
        return ""
    drawing = inline_svg(figure, name=picture.name, alt=picture.alt)
    return (
        f"<figure>{drawing}<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _sample(sample: Sample) -> str:
    parts = "".join(
        f'<div class="{side}"><h4>{title}</h4><pre dir="auto">{escape(text)}</pre></div>'
        for side, title, text in (
            ("before", "Without the edit", sample.before),
            ("after", "With the edit", sample.after),
        )
    )
    return (
        f'<article class="sample"><h3>Prompt</h3><pre dir="auto">{escape(sample.prompt)}'
        f'</pre><div class="sides">{parts}</div></article>'
    )
