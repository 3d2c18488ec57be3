"""The report of a run, for people: Markdown here, HTML in `report_html.py`.

`report_sections.py` decides what is said, once for both.
"""

import re
from collections.abc import Mapping
from typing import Any

from contrans.report.blocks import (
    TABLE_HEADER as TABLE_HEADER,
    Block,
    Command,
    Facts,
    Note,
    Picture,
    Sample,
    Table,
    TableLine as TableLine,
    Words,
    table_lines as table_lines,
)
from contrans.report.html import to_html as to_html
from contrans.report.transplant import document

SPECIAL = re.compile(r"[\\`*<>&|$~]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
"""Characters that Markdown would read as markup; an underscore within a word is none."""
LEADING = re.compile(r"^([#+=-]|\d+(?=[.)]))")
NOTES = {"warning": "\u26a0", "alarm": "\u26a0\u26a0", "verdict": ""}


def to_markdown(results: Mapping[str, Any]) -> str:
    """The whole report as GitHub-flavoured Markdown, without figures.

    Args:
        results: what `run_transplant` returns, or `results.json`. Anything may be
            missing, None or NaN; it is shown as a dash.
    """
    page = document(results)
    parts = [f"# {_text(page.title)}", _text(page.subtitle)]
    for section in page.sections:
        parts.append(f"## {section.title}")
        count = 0
        for block in section.blocks:
            count += isinstance(block, Sample)
            parts.append(_block(block, count))
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, count: int) -> str:
    match block:
        case Note():
            return _note(block)
        case Facts(rows):
            return "\n".join(
                f"- **{_text(name)}**: {_text(value)}; {_text(meaning)}"
                for name, value, meaning in rows
            )
        case Table():
            return _table(block)
        case Picture():
            return ""
        case Words(lines):
            return "\n\n".join(map(_text, lines))
        case Command(text):
            return _fenced(text, "sh")
        case Sample():
            return "\n\n".join(
                (
                    f"### Prompt {count}",
                    _fenced(block.prompt, "text"),
                    "Without the edit:",
                    _fenced(block.before, "text"),
                    "With the edit:",
                    _fenced(block.after, "text"),
                )
            )


def _note(note: Note) -> str:
    head = f"> **{NOTES[note.kind]} {note.title}**".replace("** ", "**")
    if len(note.lines) == 1:
        return f"{head}\n>\n> {_text(note.lines[0])}"
    return "\n".join((head, ">", *(f"> - {_text(line)}" for line in note.lines)))


def _table(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cells) + " |"

    rule = tuple(":--" if i in table.words else "--:" for i in range(len(table.header)))
    rows = [
        tuple(
            f"**{_text(cell)}**" if i in table.strong and cell else _text(cell)
            for cell in row
        )
        for i, row in enumerate(table.rows)
    ]
    head = tuple(map(_text, table.header))
    body = "\n".join(map(line, (head, rule, *rows)))
    return f"{_text(table.caption)}\n\n{body}"


def _text(text: str) -> str:
    """Text on one line, in which nothing is markup."""
    shown = " ".join(text.split())
    shown = SPECIAL.sub(lambda found: f"\\{found[0]}", shown)
    return LEADING.sub(_harmless, shown)


def _harmless(found: re.Match[str]) -> str:
    """A leading list or heading mark, escaped; numbers and signed numbers stay."""
    mark = found[0]
    after = found.string[found.end() : found.end() + 1]
    if mark.isdigit():
        space = found.string[found.end() + 1 : found.end() + 2]
        return mark if space not in ("", " ") else f"{mark}\\"
    return mark if mark in "+-" and after not in ("", " ") else f"\\{mark}"


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
