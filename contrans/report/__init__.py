"""Typed results to pages, tables and figures: one design, one place that escapes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "TABLE_HEADER": "blocks",
    "table_lines": "blocks",
    "to_html": "html",
    "to_markdown": "markdown",
}
__all__ = [*_WHERE]

if TYPE_CHECKING:
    from contrans.report.blocks import (
        TABLE_HEADER as TABLE_HEADER,
        table_lines as table_lines,
    )
    from contrans.report.html import to_html as to_html
    from contrans.report.markdown import to_markdown as to_markdown


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"contrans.report.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'contrans.report' has no attribute {name!r}")
