"""What a recipe returns: tables, claims, notes and a figure; and how they are written."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from matplotlib.figure import Figure

from contrans.files import finite
from contrans.recipes.claims import Claim, Estimate
from contrans.report.format import MISSING, clean, fixed

Cell = str | int | float | Estimate | None
MARKS = {"supported": "**supported**", "not supported": "**not supported**"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and columns; a cell is a text, a number, or a number with its interval."""

    name: str
    """Ending of its file name; empty for the first table of a recipe."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    signed: tuple[str, ...] = ()
    """Columns of differences, written with their sign."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r} has {len(self.columns)} columns "
                    f"{self.columns} but a row of {len(row)} cells: {row}"
                )


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


def to_markdown(sheet: Sheet, name: str, *, figure: str | None = None) -> str:
    """The page of a recipe."""
    parts = [f"# {sheet.title}", sheet.about]
    parts += ["## Claims of the paper on these models", claims_table(sheet.claims)]
    if figure is not None:
        parts.append(f"![{sheet.title}]({figure})")
    for table in sheet.tables:
        parts += [f"## {table.title}", markdown(table)]
    if sheet.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in sheet.notes)]
    files = f"`{name}.csv`, `{name}.tex` and `{name}.json` hold the same numbers."
    return "\n\n".join([*parts, files]) + "\n"


def claims_table(claims: Sequence[Claim], *, names: Sequence[str] = ()) -> str:
    """Every claim with its verdict; `names` adds a first column of recipes."""
    head = ["claim", "in the paper", "estimate [95%]", "supported if", "verdict"]
    head.append("the estimate")
    lines = []
    for claim in claims:
        mark = MARKS.get(claim.verdict, claim.verdict)
        cell = _text(claim.estimate, 3, signed=_is_difference(claim))
        lines.append([claim.text, claim.where, cell, claim.region, mark, claim.how])
    if names:
        head = ["recipe", *head]
        lines = [[n, *line] for n, line in zip(names, lines, strict=True)]
    return _pipes(head, lines) if lines else "None."


def _is_difference(claim: Claim) -> bool:
    return claim.region == "above 0" or claim.region.startswith("between -")


def markdown(table: Table) -> str:
    """A table as Markdown."""
    body = [
        [
            _text(cell, 3, signed=column in table.signed)
            for column, cell in zip(table.columns, row, strict=True)
        ]
        for row in table.rows
    ]
    return _pipes(list(table.columns), body)


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(text: str) -> str:
    plain = " / ".join(clean(text).splitlines())
    return plain.replace("|", "\\|").replace("<", "&lt;")


def _text(cell: Cell, digits: int, *, signed: bool = False) -> str:
    if isinstance(cell, Estimate):
        value, low, high = (
            fixed(x, digits, sign=signed) for x in (cell.value, cell.low, cell.high)
        )
        return f"{value} [{low}, {high}]"
    if isinstance(cell, float):
        return fixed(cell, digits, sign=signed)
    return MISSING if cell is None or cell == "" else str(cell)


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
        for row in table.rows:
            cells = (
                latex(_text(cell, 3, signed=column in table.signed))
                for column, cell in zip(table.columns, row, strict=True)
            )
            lines.append(" & ".join(cells) + r" \\")
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


def markdown_of(results: dict[str, Any]) -> str:
    """The claims and tables of a finished recipe, for a screen."""

    def cell(value: Any) -> Cell:
        return Estimate(**value) if isinstance(value, dict) else value

    claims = [
        Claim(**(entry | {"estimate": cell(entry["estimate"])}))
        for entry in results["claims"]
    ]
    parts = [f"# {results['title']}", results["about"], claims_table(claims)]
    for table in results["tables"]:
        rows = tuple(tuple(cell(value) for value in row) for row in table["rows"])
        shown = Table("", table["title"], tuple(table["columns"]), rows)
        parts += [f"## {table['title']}", markdown(shown)]
    return "\n\n".join([*parts, *(f"- {note}" for note in results["notes"])])


def files_of(sheet: Sheet, name: str) -> dict[str, str]:
    """Name and text of every file of a recipe, but for the figure."""
    picture = f"{name}.png" if sheet.draw is not None else None
    found = {f"{name}.md": to_markdown(sheet, name, figure=picture)}
    for table in sheet.tables:
        ending = f"-{table.name}" if table.name else ""
        found[f"{name}{ending}.csv"] = to_csv(table)
    found[f"{name}.tex"] = to_latex(sheet, name)
    found[f"{name}.json"] = json.dumps(as_json(sheet), indent=1) + "\n"
    return found
