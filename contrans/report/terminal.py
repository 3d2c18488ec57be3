"""Pages and tables for a terminal: they fit its width, and no text can drive it."""

import io
import os
import re
import shutil
import sys
from collections.abc import Sequence

from contrans.report.blocks import (
    Block,
    Bullets,
    Callout,
    Code,
    Figure,
    Heading,
    Page,
    Paragraph,
    Sides,
    Table,
    numeric,
)
from contrans.report.format import one_line, plain

GAP = 2
TAIL = 160
"""Characters of a long prompt that are shown: its end, which the model goes on from."""
JOINED = "\ue000"
"""Stands for a space at which a line must not break."""


def width() -> int | None:
    """Columns to fit; None where nobody looks, so that each row stays one line."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return max(shutil.get_terminal_size().columns, 20)
    return None


def render(page: Page) -> str:
    """A page without its figures."""
    parts = [one_line(page.title), plain(page.subtitle)]
    for heading, blocks in page.sections():
        parts.append(one_line(heading) if heading else "")
        parts += map(block, blocks)
    return "\n\n".join(part for part in parts if part)


def block(block: Block) -> str:
    """One block; empty where a terminal cannot show it."""
    match block:
        case Heading() | Paragraph():
            return folded(block.text)
        case Bullets(lines):
            return "\n".join(folded(f"- {one_line(line, 10_000)}", 2) for line in lines)
        case Callout(_, title, lines):
            return "\n".join(folded(f"{title}: {line}") for line in lines)
        case Table():
            title = [folded(block.title)] if block.title else []
            return "\n".join([*title, table(block.columns, block.texts())])
        case Code():
            return "\n".join(f"  {line}" for line in plain(block.text).split("\n"))
        case Sides(prompt, texts):
            asked = one_line(prompt, 10_000)
            asked = asked if len(asked) <= TAIL else f"... {asked[-TAIL:]}"
            lines = [f"prompt: {asked}"]
            lines += [f"{title}: {one_line(text, 10_000)}" for title, text in texts]
            return "\n".join(map(folded, lines))
        case Figure():
            return ""


def folded(text: str, indent: int = 0) -> str:
    """A text broken between words to fit; cleaned."""
    from textwrap import wrap

    fits = width()
    lines = plain(text).split("\n")
    if fits is None:
        return "\n".join(lines)
    return "\n".join(
        part
        for line in lines
        for part in wrap(
            line,
            fits,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        or [""]
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table; columns of numbers are aligned to the right.

    It folds cells between words where the terminal is narrow, and where even that is
    not enough, each row becomes a few lines, one a column.

    Example:
        >>> print(table(["name", "n"], [["a", "10"], ["b", "9"]]))
        name   n
        a     10
        b      9
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    head = [one_line(name) if name else "" for name in header]
    body = [[_joined(one_line(cell, 10_000)) for cell in row] for row in rows]
    flush = numeric(body) or [False] * len(head)
    columns = list(zip(head, *body, strict=True))
    wide = [max(map(cell_len, column)) for column in columns]
    least = [
        max(cell_len(w) for c in col for w in c.split() or [""]) for col in columns
    ]
    room = width()
    room = sum(wide) if room is None else room - GAP * (len(head) - 1)
    if sum(least) > room:
        return _records(head, body)
    while sum(wide) > room:
        widest = max(
            (i for i in range(len(wide)) if wide[i] > least[i]), key=wide.__getitem__
        )
        wide[widest] -= 1
    grid = Grid(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=False)
    for i, fits in enumerate(wide):
        grid.add_column(width=fits, justify="right" if flush[i] else "left")
    for line in [head, *body]:
        grid.add_row(*map(Text, line))
    stream = io.StringIO()
    total = sum(wide) + GAP * len(wide)
    Console(file=stream, width=total, color_system=None).print(grid)
    lines = stream.getvalue().replace(JOINED, " ").splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _joined(cell: str) -> str:
    """Intervals and errors stay whole: a cell breaks before the bracket, not in it."""
    return re.sub(
        r"\[[^\[\]]*\]| ± [\d.]+", lambda found: found[0].replace(" ", JOINED), cell
    )


def _records(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Each row as lines of "column: cell" under its first cell."""
    parts = []
    for first, *rest in rows:
        lines = [f"{head[0]}: {first}" if head[0] else first]
        lines += [
            f"  {name}: {cell}" for name, cell in zip(head[1:], rest, strict=True)
        ]
        parts.append("\n".join(folded(line, 4).replace(JOINED, " ") for line in lines))
    return "\n".join(parts)
