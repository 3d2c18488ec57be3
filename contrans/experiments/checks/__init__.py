"""Checks: a regression suite for concepts, in which noise does not fail a build."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Suite": "contrans.experiments.checks.suite",
    "SuiteError": "contrans.experiments.checks.suite_file",
    "parse_suite": "contrans.experiments.checks.suite_file",
    "read_suite": "contrans.experiments.checks.suite_file",
    "Case": "contrans.core.verdicts",
    "Report": "contrans.core.verdicts",
    "run_suite": "contrans.experiments.checks.running",
    "to_json": "contrans.report.checks",
    "to_junit": "contrans.report.checks",
    "to_markdown": "contrans.report.checks",
}
__all__ = [*_WHERE]

if TYPE_CHECKING:
    from contrans.core.verdicts import Case as Case, Report as Report
    from contrans.experiments.checks.running import run_suite as run_suite
    from contrans.experiments.checks.suite import Suite as Suite
    from contrans.experiments.checks.suite_file import (
        SuiteError as SuiteError,
        parse_suite as parse_suite,
        read_suite as read_suite,
    )
    from contrans.report.checks import (
        to_json as to_json,
        to_junit as to_junit,
        to_markdown as to_markdown,
    )


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
