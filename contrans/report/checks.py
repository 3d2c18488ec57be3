"""A report of checks: for programs (JSON, JUnit XML) and for people (pages)."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from xml.etree import ElementTree

from contrans.core.files import finite
from contrans.core.verdicts import Case, Report
from contrans.core.version import __version__
from contrans.report import html, markdown, terminal
from contrans.report.blocks import (
    Block,
    Bullets,
    Callout,
    Figure,
    Heading,
    Mark,
    Page,
    Paragraph,
    Table,
    Tone,
)
from contrans.report.format import interval

SUMMARY_BYTES = 1_000_000
"""GitHub refuses a step summary above 1 MiB; this leaves room for the rest of the job."""
FIGURE_ROWS = 30
"""Cases drawn at most; the table has all."""
TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "undecided": "unsure"}
_CONTROL = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def to_json(report: Report) -> str:
    """Everything, as JSON; no number is NaN or infinite."""
    found = {"contrans": __version__, "ok": report.ok, **asdict(report)}
    return json.dumps(finite(found), indent=2, allow_nan=False)


def case_name(case: Case) -> str:
    """What a case is about, in one line."""
    return f"{case.task}: {case.bound}"


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
        f"{case.metric} {interval(case)} ({report.confidence:.0%} interval, "
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


def table(cases: Sequence[Case]) -> Table:
    """One row per bound."""
    rows = tuple(
        (
            Mark("FAIL" if case.status == "fail" else case.status, TONES[case.status]),
            case.model,
            case.vector or "no edit",
            case_name(case),
            case.metric,
            interval(case),
            case.n,
            case.said,
        )
        for case in cases
    )
    head = ("result", "model", "vector", "bound", "metric", "estimate", "n", "note")
    return Table("", "Every bound, failures first.", head, rows)


def page(report: Report, *, most: int | None = None) -> Page:
    """A report: the verdict, what did not pass and why, every bound.

    Args:
        report: what `run_suite` returns.
        most: cases shown at most, failures first; None shows all.
    """
    order = {"fail": 0, "undecided": 1, "pass": 2}
    cases = sorted(report.cases, key=lambda case: order[case.status])
    shown = cases[:most]
    why = tuple(
        f"{case.status}: {case.task}: {message(report, case)}"
        for case in shown
        if case.status != "pass"
    )
    about = (
        f"{report.confidence:.0%} intervals over items. A bound fails only "
        "where the whole interval is on its wrong side; undecided counts as "
        f"{report.undecided}. {ran(report)}."
    )
    figure = Figure(
        "bounds",
        lambda: _draw(shown[:FIGURE_ROWS]),
        "; ".join(f"{case_name(c)}: {interval(c)}" for c in shown[:FIGURE_ROWS]),
        "Estimates with their intervals, by metric.",
    )
    blocks: list[Block] = [
        Callout("good" if report.ok else "bad", verdict(report), (about,)),
        *([Bullets(why)] if why else []),
        figure,
        table(shown),
    ]
    if len(shown) < len(cases):
        left = len(cases) - len(shown)
        blocks.append(Paragraph(f"{left} more cases are left out here."))
    if report.notes:
        blocks += [Heading("Notes"), Bullets(tuple(report.notes))]
    mark = "\u2705" if report.ok else "\u274c"
    return Page(f"{mark} {report.suite}", "", tuple(blocks))


def _draw(cases: Sequence[Case]) -> object:
    from contrans.report.figures import Whisker, dots  # needs matplotlib

    kinds = {"pass": "reference", "fail": "method", "undecided": "control"}
    panels: dict[str, list[Whisker]] = {}
    for case in cases:
        if case.value is not None and case.low is not None and case.high is not None:
            name = f"{case.vector or case.model}, {case_name(case)} ({case.status})"
            panels.setdefault(case.metric, []).append(
                Whisker(name, kinds[case.status], case)
            )
    return dots(panels, "", dashed="", shared=False) if panels else None


def ran(report: Report) -> str:
    """How much was measured now, and how long that took."""
    return (
        f"{report.measured} measured, {report.cached} from the cache, "
        f"{report.seconds:.0f} s"
    )


def to_markdown(report: Report) -> str:
    """A summary for a pull request or `$GITHUB_STEP_SUMMARY`: failures first."""
    most = len(report.cases)
    while True:
        text = markdown.render(page(report, most=most), level=2)
        size = len(text.encode())
        if size <= SUMMARY_BYTES:
            return text
        most = int(most * min(SUMMARY_BYTES / size, 0.98))


def to_html(report: Report) -> str:
    """The report as one self-contained page."""
    return html.render(page(report))


def shown(report: Report) -> str:
    """The report for a terminal: the table, then what did not pass and why."""
    lines = [terminal.table(table([]).columns, table(report.cases).texts())]
    lines += [
        terminal.folded(f"{case.status}: {case.task}: {message(report, case)}")
        for case in report.cases
        if case.status != "pass"
    ]
    lines += [terminal.folded(f"note: {note}") for note in report.notes]
    lines += ["", terminal.folded(f"{verdict(report)}; {ran(report)}")]
    return "\n".join(lines)
