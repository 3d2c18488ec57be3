"""What a page is made of: a few blocks, which `html`, `markdown` and `terminal` render.

All texts here are unescaped; each renderer escapes in one place. The page of a
transplant is built in `transplant`, of an A/B test in `ab`, of checks in `checks`, of a
recipe in `sheet`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from contrans.report.format import MISSING, clean, fixed, interval

NUMBER = re.compile(r"[-+<>x]? ?\d")
"""How a cell with a number starts."""
Tone = Literal["", "good", "bad", "unsure", "warning", "alarm"]
"""How something is meant; colours say it in HTML, and words always do too."""


@runtime_checkable
class Ranged(Protocol):
    """A number with its interval."""

    @property
    def value(self) -> float: ...  # noqa: D102

    @property
    def low(self) -> float: ...  # noqa: D102

    @property
    def high(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Mark:
    """A text in a cell that links, warns or explains itself."""

    text: str
    tone: Tone = ""
    hint: str = ""
    """What it means, for a reader who points at it."""
    link: str = ""
    """A file beside the page."""


Cell = str | int | float | Ranged | Mark | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and columns, for every medium; cells keep their numbers until rendered."""

    name: str
    """Ending of its file name where it is also written as CSV; may be empty."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    signed: tuple[str, ...] = ()
    """Columns of differences, written with their sign."""
    strong: tuple[int, ...] = ()
    """Rows to make stand out, such as the chosen one."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r} has {len(self.columns)} columns "
                    f"{self.columns} but a row of {len(row)} cells: {row}"
                )

    def texts(self) -> list[list[str]]:
        """Every cell written out."""
        return [
            [
                written(cell, sign=column in self.signed)
                for cell, column in zip(row, self.columns, strict=True)
            ]
            for row in self.rows
        ]


def written(cell: Cell, *, sign: bool = False) -> str:
    """A cell as text; what was not measured is a dash."""
    match cell:
        case Mark():
            return clean(cell.text)
        case None | str():
            return clean(cell)
        case int():
            return str(cell)
        case float():
            return fixed(cell, sign=sign)
        case _:
            return interval(cell, sign=sign)


def numeric(texts: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns hold numbers, and so stand flush right."""
    return [
        any(map(NUMBER.match, column))
        and all(NUMBER.match(cell) or cell in ("", "-", MISSING) for cell in column)
        for column in zip(*texts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Heading:
    """Starts a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """Notes, each for itself."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Callout:
    """A box that must not be missed: warnings, the in-sample label, the verdict."""

    tone: Tone
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Something to paste into a shell, or a text as it is."""

    text: str
    language: str = "text"


@dataclass(frozen=True, slots=True)
class Sides:
    """A prompt, and how it was continued under each condition."""

    prompt: str
    texts: tuple[tuple[str, str], ...]
    """Condition and continuation."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing, for media that can show it."""

    name: str
    draw: Callable[[], Any] = field(compare=False)
    """Makes the matplotlib figure; None where there is nothing to draw."""
    alt: str
    caption: str
    file: str = ""
    """Where it lies as a picture, for media that can only link to it."""


Block = Heading | Paragraph | Bullets | Callout | Table | Code | Sides | Figure


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    blocks: tuple[Block, ...]

    def sections(self) -> list[tuple[str, list[Block]]]:
        """Headings with what stands below each; the first may have no heading."""
        found: list[tuple[str, list[Block]]] = [("", [])]
        for block in self.blocks:
            if isinstance(block, Heading):
                found.append((block.text, []))
            else:
                found[-1][1].append(block)
        return [part for part in found if part[0] or part[1]]
