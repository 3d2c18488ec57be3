"""The checks, where users look for them; they lie in `contrans.experiments.checks`."""

from contrans.experiments.checks import (
    Case as Case,
    Report as Report,
    Suite as Suite,
    SuiteError as SuiteError,
    parse_suite as parse_suite,
    read_suite as read_suite,
    run_suite as run_suite,
    to_json as to_json,
    to_junit as to_junit,
    to_markdown as to_markdown,
)
