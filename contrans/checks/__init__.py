"""Checks: a regression suite for concepts, in which noise does not fail a build."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Suite": "suite",
    "SuiteError": "reading",
    "parse_suite": "reading",
    "read_suite": "reading",
    "Case": "judging",
    "Report": "running",
    "run_suite": "running",
    "to_json": "report",
    "to_junit": "report",
    "to_markdown": "report",
}
__all__ = [*_WHERE]

if TYPE_CHECKING:
    from contrans.checks.judging import Case as Case
    from contrans.checks.reading import (
        SuiteError as SuiteError,
        parse_suite as parse_suite,
        read_suite as read_suite,
    )
    from contrans.checks.running import Report as Report, run_suite as run_suite
    from contrans.checks.suite import Suite as Suite
    from contrans.report.checks import (
        to_json as to_json,
        to_junit as to_junit,
        to_markdown as to_markdown,
    )


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        where = _WHERE[name]
        home = (
            "contrans.report.checks"
            if where == "report"
            else f"contrans.checks.{where}"
        )
        return getattr(import_module(home), name)
    raise AttributeError(f"module 'contrans.checks' has no attribute {name!r}")
