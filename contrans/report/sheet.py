"""What a recipe returns: tables, claims, notes and a figure; its page and its files."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from matplotlib.figure import Figure

from contrans.core.files import finite
from contrans.core.verdicts import Claim, Estimate
from contrans.report import html, markdown, terminal
from contrans.report.blocks import (
    Block,
    Bullets,
    Cell,
    Figure as Drawing,
    Heading,
    Mark,
    Page,
    Paragraph,
    Table,
    Tone,
    written,
)
from contrans.report.format import clean

TONES: dict[str, Tone] = {"supported": "good", "not supported": "bad"}


@dataclass(frozen=True, slots=True)
class Sheet:
    """The result of one recipe."""

    title: str
    about: str
    """What was done, in a few sentences."""
    tables: tuple[Table, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()
    """Departures from the paper, and what a reader should know."""
    draw: Callable[[], Figure] | None = field(default=None, compare=False)


def page(sheet: Sheet, name: str = "", *, figure: str = "") -> Page:
    """The page of a recipe: claims first.

    Args:
        sheet: what the recipe returned.
        name: its name, where its files lie beside the page.
        figure: file of the drawing, for media that cannot draw.
    """
    blocks: list[Block] = [Paragraph(sheet.about)]
    blocks += [Heading("Claims of the paper on these models")]
    blocks.append(claims_table(sheet.claims))
    if sheet.draw is not None:
        caption = "The same numbers as in the tables below."
        blocks.append(Drawing("figure", sheet.draw, sheet.title, caption, figure))
    for table in sheet.tables:
        blocks += [Heading(table.title), table]
    if sheet.notes:
        blocks += [Heading("Notes"), Bullets(sheet.notes)]
    if name:
        files = f"{name}.csv, {name}.tex and {name}.json hold the same numbers."
        blocks.append(Paragraph(files))
    return Page(sheet.title, "", tuple(blocks))


def claims_table(claims: Sequence[Claim], *, names: Sequence[Cell] = ()) -> Table:
    """Every claim with its verdict; `names` adds a first column of recipes."""
    head = ("claim", "in the paper", "estimate [95%]", "supported if", "verdict")
    rows = [
        (
            claim.text,
            claim.where,
            written(claim.estimate, sign=_is_difference(claim)),
            claim.region,
            Mark(claim.verdict, TONES.get(claim.verdict, "")),
            claim.how,
        )
        for claim in claims
    ]
    head += ("the estimate",)
    if names:
        head = ("recipe", *head)
        rows = [(n, *row) for n, row in zip(names, rows, strict=True)]
    return Table("", "Every claim, and what its interval says.", head, tuple(rows))


def _is_difference(claim: Claim) -> bool:
    return claim.region == "above 0" or claim.region.startswith("between -")


def to_csv(table: Table) -> str:
    """All numbers in full; an estimate takes four columns."""
    wide = [
        any(isinstance(row[i], Estimate) for row in table.rows)
        for i in range(len(table.columns))
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head: list[str] = []
    for column, four in zip(table.columns, wide, strict=True):
        ends = ("", " low", " high", " n") if four else ("",)
        head += [column + end for end in ends]
    writer.writerow(head)
    for row in table.rows:
        line: list[Any] = []
        for cell, four in zip(row, wide, strict=True):
            if isinstance(cell, Estimate):
                line += [cell.value, cell.low, cell.high, cell.n]
            else:
                line += [cell, *([None] * 3 if four else [])]
        writer.writerow(["" if cell is None else cell for cell in line])
    return stream.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u00d7": r"$\times$",
    "\u2192": r"$\rightarrow$",
    "\u03b1": r"$\alpha$",
    "\u2013": "--",
    "\u2264": r"$\leq$",
}


def to_latex(sheet: Sheet, name: str) -> str:
    """Every table as a LaTeX table; needs only the package booktabs."""
    lines = [f"% {sheet.title}. \\usepackage{{booktabs}}"]
    for table in sheet.tables:
        label = f"{name}-{table.name}" if table.name else name
        head = " & ".join(map(latex, table.columns))
        lines += [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{latex(table.title)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
        ]
        for row in table.texts():
            lines.append(" & ".join(map(latex, row)) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    r"""A text with LaTeX's own characters escaped.

    Example:
        >>> print(latex("5% of it_"))
        5\% of it\_
    """
    return "".join(_LATEX.get(c, c) for c in " / ".join(clean(text).splitlines()))


def as_json(sheet: Sheet) -> dict[str, Any]:
    """Everything but the figure, for programs."""
    return finite(
        {
            "title": sheet.title,
            "about": sheet.about,
            "claims": [asdict(claim) for claim in sheet.claims],
            "tables": [
                {
                    "title": table.title,
                    "columns": list(table.columns),
                    "signed": list(table.signed),
                    "rows": [
                        [asdict(c) if isinstance(c, Estimate) else c for c in row]
                        for row in table.rows
                    ],
                }
                for table in sheet.tables
            ],
            "notes": list(sheet.notes),
        }
    )


def claims_of(results: dict[str, Any]) -> list[Claim]:
    """The claims of a finished recipe, as values again."""
    return [
        Claim(**(entry | {"estimate": _cell(entry["estimate"])}))
        for entry in results["claims"]
    ]


def shown(results: dict[str, Any]) -> str:
    """The page of a finished recipe for a terminal, from its JSON."""
    tables = tuple(
        Table(
            "",
            table["title"],
            tuple(table["columns"]),
            tuple(tuple(map(_cell, row)) for row in table["rows"]),
            tuple(table.get("signed", ())),
        )
        for table in results["tables"]
    )
    claims = tuple(claims_of(results))
    notes = tuple(results["notes"])
    sheet = Sheet(results["title"], results["about"], tables, claims, notes)
    return terminal.render(page(sheet))


def _cell(value: Any) -> Any:
    return Estimate(**value) if isinstance(value, dict) else value


def to_markdown(sheet: Sheet, name: str, *, figure: str = "") -> str:
    """The page of a recipe as Markdown.

    Args:
        sheet: table, claims and notes.
        name: of its files.
        figure: file of its figure.
    """
    return markdown.render(page(sheet, name, figure=figure))


def files_of(sheet: Sheet, name: str) -> dict[str, str]:
    """Name and text of every file of a recipe, but for the figure."""
    picture = f"{name}.png" if sheet.draw is not None else ""
    found = {
        f"{name}.md": to_markdown(sheet, name, figure=picture),
        f"{name}.html": html.render(page(sheet, name)),
    }
    for table in sheet.tables:
        ending = f"-{table.name}" if table.name else ""
        found[f"{name}{ending}.csv"] = to_csv(table)
    found[f"{name}.tex"] = to_latex(sheet, name)
    found[f"{name}.json"] = json.dumps(as_json(sheet), indent=1) + "\n"
    return found
