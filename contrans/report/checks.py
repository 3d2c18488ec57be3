"""A report for programs (JSON, JUnit XML) and for people (Markdown)."""

import json
import re
from dataclasses import asdict
from xml.etree import ElementTree

from contrans.checks.judging import Case
from contrans.checks.running import Report
from contrans.core.version import __version__
from contrans.files import finite

SUMMARY_BYTES = 1_000_000
"""GitHub refuses a step summary above 1 MiB; this leaves room for the rest of the job."""
_MARKS = {"pass": "pass", "fail": "**FAIL**", "undecided": "undecided"}
_CONTROL = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def to_json(report: Report) -> str:
    """Everything, as JSON; no number is NaN or infinite."""
    found = {"contrans": __version__, "ok": report.ok, **asdict(report)}
    return json.dumps(finite(found), indent=2, allow_nan=False)


def case_name(case: Case) -> str:
    """What a case is about, in one line."""
    return f"{case.task}: {case.bound}"


def numbers(case: Case) -> str:
    """The estimate with its interval, as a person reads it."""
    if case.value is None or case.low is None or case.high is None:
        return "-"
    return f"{case.value:.3f} [{case.low:.3f}, {case.high:.3f}]"


def message(report: Report, case: Case) -> str:
    """One sentence on a case that did not pass."""
    side = {
        "fail": "the whole interval is on the wrong side",
        "undecided": "the interval includes the bound; more items would decide",
        "pass": "the whole interval is on the right side",
    }[case.status]
    if "baseline" in case.bound:
        side = "worse than the baseline" if case.status == "fail" else ""
    parts = [
        f"{case.metric} {numbers(case)} ({report.confidence:.0%} interval, "
        f"{case.n} items)"
        if case.value is not None
        else "",
        side,
        case.said,
    ]
    return f"{case.bound}: " + "; ".join(part for part in parts if part)


def to_junit(report: Report) -> str:
    """JUnit XML: a suite per model and vector, a test case per bound.

    An undecided case is skipped (which readers show, and do not count as failed),
    unless the suite says that it fails or passes.
    """
    groups: dict[str, list[Case]] = {}
    for case in report.cases:
        name = ".".join(filter(None, (report.suite, case.model, case.vector)))
        groups.setdefault(name, []).append(case)
    root = ElementTree.Element("testsuites", name=_clean(report.suite))
    totals = _counts(report, report.cases)
    root.attrib |= totals | {"time": f"{report.seconds:.3f}"}
    for name, cases in groups.items():
        part = ElementTree.SubElement(root, "testsuite", name=_clean(name))
        share = report.seconds * len(cases) / max(len(report.cases), 1)
        part.attrib |= _counts(report, cases) | {"time": f"{share:.3f}"}
        properties = ElementTree.SubElement(part, "properties")
        for key, value in (
            ("contrans", __version__),
            ("confidence", f"{report.confidence:g}"),
        ):
            ElementTree.SubElement(properties, "property", name=key, value=value)
        for case in cases:
            _add_case(report, part, name, case, share / len(cases))
    ElementTree.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_case(
    report: Report, part: ElementTree.Element, name: str, case: Case, seconds: float
) -> None:
    found = ElementTree.SubElement(
        part,
        "testcase",
        name=_clean(case_name(case)),
        classname=_clean(name),
        time=f"{seconds:.3f}",
    )
    said = _clean(message(report, case))
    if report.fails(case):
        entry = ElementTree.SubElement(found, "failure", message=said, type=case.status)
        entry.text = said
    elif case.status == "undecided" and report.undecided == "warn":
        ElementTree.SubElement(found, "skipped", message=f"undecided: {said}")
    else:
        ElementTree.SubElement(found, "system-out").text = said


def _counts(report: Report, cases: list[Case] | tuple[Case, ...]) -> dict[str, str]:
    failed = sum(report.fails(case) for case in cases)
    warned = report.undecided == "warn"
    skipped = sum(case.status == "undecided" for case in cases) if warned else 0
    return {
        "tests": str(len(cases)),
        "failures": str(failed),
        "errors": "0",
        "skipped": str(skipped),
    }


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 does not have."""
    return _CONTROL.sub("?", text)


def verdict(report: Report) -> str:
    """The result in one line."""
    counts = ", ".join(
        f"{report.count(status)} {word}"
        for status, word in (
            ("pass", "passed"),
            ("fail", "failed"),
            ("undecided", "undecided"),
        )
        if report.count(status)
    )
    return f"{report.suite}: {'passed' if report.ok else 'FAILED'} ({counts})"


def to_markdown(report: Report) -> str:
    """A summary for a pull request or `$GITHUB_STEP_SUMMARY`: failures first."""
    order = {"fail": 0, "undecided": 1, "pass": 2}
    cases = sorted(report.cases, key=lambda case: order[case.status])
    lines = [
        f"## {'✅' if report.ok else '❌'} {_cell(verdict(report))}",
        "",
        f"{report.confidence:.0%} bootstrap intervals over items. A bound fails only "
        "where the whole interval is on its wrong side; undecided counts as "
        f"`{report.undecided}`. {report.measured} measured, {report.cached} from the "
        f"cache, {report.seconds:.0f} s.",
        "",
        "| result | model | vector | task | bound | estimate [interval] | n | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    size = sum(len(line.encode()) + 1 for line in lines)
    for i, case in enumerate(cases):
        cells = (
            _MARKS[case.status],
            case.model,
            case.vector or "no edit",
            case.task,
            case.bound,
            f"{case.metric} {numbers(case)}",
            str(case.n),
            case.said,
        )
        line = f"| {' | '.join(map(_cell, cells))} |"
        size += len(line.encode()) + 1
        if size > SUMMARY_BYTES:
            lines += ["", f"{len(cases) - i} more cases are left out here."]
            break
        lines.append(line)
    notes = [f"- {_cell(note)}" for note in report.notes[:20]]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
