"""Typed results to pages, tables and figures: one design, one place that escapes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {"to_html": "transplant", "to_markdown": "transplant"}
__all__ = [*_WHERE]

if TYPE_CHECKING:
    from contrans.report.transplant import (
        to_html as to_html,
        to_markdown as to_markdown,
    )


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"contrans.report.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'contrans.report' has no attribute {name!r}")
