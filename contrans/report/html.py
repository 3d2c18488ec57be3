"""Pages as one HTML file: no script, no outside resource, light and dark, any width."""

import re
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from contrans.report.blocks import Figure, Mark, Page, Table, numeric
from contrans.report.format import plain

INTERVAL = re.compile(r"^(.+?) (\[[^\[\]]+\])$")
"""A value and the interval after it, between which a narrow column may break."""


def render(page: Page) -> str:
    """The whole page with its figures, as the text of one self-contained file."""
    template = _environment().get_template("page.html")
    return template.render(page=page) + "\n"


@cache
def _environment() -> Environment:
    """Every text goes through `_shown` and autoescape, whatever the template forgets."""
    environment = Environment(
        loader=PackageLoader("contrans.report", "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = resources.files("contrans.report").joinpath("templates/page.css")
    environment.globals |= {"css": Markup(css.read_text("utf-8").strip())}
    environment.filters |= {
        "anchor": lambda text: re.sub(r"\W+", "-", text.lower()).strip("-"),
        "cells": cells,
        "kind": lambda block: type(block).__name__.lower(),
        "numeric": lambda table: numeric(table.texts()) or [False] * 99,
        "svg": svg,
    }
    return environment


def _shown(value: Any) -> Any:
    return (
        plain(value)
        if isinstance(value, str) and not hasattr(value, "__html__")
        else value
    )


def cells(table: Table) -> list[list[tuple[str, str, Mark]]]:
    """Per cell: the text, the interval that follows it, and how it is marked."""
    found = []
    for row, texts in zip(table.rows, table.texts(), strict=True):
        line = []
        for cell, text in zip(row, texts, strict=True):
            parts = INTERVAL.match(text)
            value, ends = parts.groups() if parts else (text, "")
            line.append((value, ends, cell if isinstance(cell, Mark) else Mark("")))
        found.append(line)
    return found


def svg(figure: Figure) -> Markup | None:
    """The drawing as an element of the page, or None where there is nothing to draw."""
    from contrans.report.plots import inline_svg  # needs matplotlib

    drawn = figure.draw()
    if drawn is None:
        return None
    return Markup(inline_svg(drawn, name=figure.name, alt=plain(figure.alt)))
