"""The page of an A/B comparison."""

from contrans.core.verdicts import Comparison, Outcome
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
    Sides,
    Table,
    Tone,
)
from contrans.report.format import fixed, interval, p_value

HEAD = (
    "task",
    "metric",
    "A",
    "B",
    "B against A",
    "p (Holm)",
    "n",
    "verdict",
    "80% power",
)
TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "no difference": "unsure"}


def table(found: Comparison) -> Table:
    """One row per task."""
    rows = tuple(
        (
            outcome.task,
            outcome.metric,
            interval(outcome.a),
            interval(outcome.b),
            _change(outcome),
            p_value(outcome.p),
            outcome.n,
            Mark(outcome.verdict, TONES.get(outcome.verdict, "")),
            _size(outcome),
        )
        for outcome in found.outcomes
    )
    return Table("", f"A = {found.a}, B = {found.b}.", HEAD, rows)


def _change(outcome: Outcome) -> str:
    if outcome.metric.startswith("perplexity"):
        return f"x {interval(outcome.difference)}"
    return interval(outcome.difference, sign=True)


def _size(outcome: Outcome) -> str:
    """The difference that so many prompts can show; of perplexity a ratio."""
    sign = "x " if outcome.metric.startswith("perplexity") else ""
    return sign + fixed(outcome.detectable)


def page(found: Comparison) -> Page:
    """The whole comparison: what was found, the numbers, and texts side by side."""
    m = len(found.outcomes)
    holm = f", corrected over {m} tasks by Holm's method" if m > 1 else ""
    about = (
        f"The same prompts under both. {found.confidence:.0%} paired "
        f'intervals; verdicts at the same level{holm}. "80% power": the true difference '
        "that so many prompts show in about four of five runs. Of perplexity, lower "
        'is better, and "B against A" is a ratio; its texts are not those '
        "that a transplant keeps from its map, so its report has other perplexities."
    )
    blocks: list[Block] = [
        Callout(TONES.get(o.verdict, ""), o.verdict, (o.said,)) for o in found.outcomes
    ]
    blocks += [
        Figure(
            "scores",
            lambda: _draw(found),
            "; ".join(
                f"{o.task}: A {interval(o.a)}, B {interval(o.b)}"
                for o in found.outcomes
            ),
            "Both sides on each task, with their intervals.",
        ),
        table(found),
        Paragraph(about),
    ]
    if found.generations:
        blocks.append(Heading("Side by side"))
        blocks += [
            Sides(row["prompt"], ((found.a, row["a"]), (found.b, row["b"])))
            for row in found.generations
        ]
    if found.notes:
        blocks += [Heading("Notes"), Bullets(found.notes)]
    return Page(f"A/B: {found.a} against {found.b}", "", tuple(blocks))


def _draw(found: Comparison) -> object:
    from contrans.report.figures import Whisker, dots  # needs matplotlib

    panels = {
        f"{o.task}: {o.metric}": [
            Whisker("A", "base", o.a),
            Whisker("B", "method", o.b),
        ]
        for o in found.outcomes
    }
    return dots(panels, "", dashed="A", shared=False)


def to_markdown(found: Comparison) -> str:
    """The comparison as Markdown."""
    return markdown.render(page(found))


def to_html(found: Comparison) -> str:
    """The comparison as one self-contained page."""
    return html.render(page(found))


def shown(found: Comparison) -> str:
    """The comparison for a terminal: numbers first."""
    lines = [terminal.block(table(found)), ""]
    lines += [terminal.folded(outcome.said) for outcome in found.outcomes]
    for row in found.generations:
        lines += [
            "",
            terminal.block(Sides(row["prompt"], (("A", row["a"]), ("B", row["b"])))),
        ]
    lines += [terminal.folded(f"note: {note}") for note in found.notes]
    return "\n".join(lines)
