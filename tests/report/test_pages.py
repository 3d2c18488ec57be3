"""Every kind of page, in every medium, with hostile texts in every place."""

import os
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from contrans.core.verdicts import Case, Comparison, Estimate, Outcome, Report
from contrans.experiments.paper.claims import judge
from contrans.report import ab, checks, html, markdown, scores, sheet, terminal
from contrans.report.blocks import Mark, Page, Table, numeric
from contrans.report.format import equals_p, fixed, interval, p_value

HOSTILE = [
    "</td></table><script>alert(1)</script><img src=x onerror=\"a('b')\">",
    "a | b `c` **d** [x](javascript:y) _e_ <b>",
    "\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\u202egnp.exe\u2066 \ud800",
    "1. one\n# two\n- three\n\n```\n| four |",
    "",
]
CALM = Estimate(0.5, 0.25, 0.75, 8)


def comparison() -> Comparison:
    score = {"value": 0.5, "low": 0.25, "high": 0.75}
    change = {"value": -7.9e-18, "low": -0.0, "high": 0.25}
    outcome = Outcome(
        task="t",
        metric="m",
        n=8,
        chance=None,
        a=score,
        b=score,
        difference=change,
        p=0.0,
        verdict="better",
        detectable=0.2,
        said="said",
    )
    written = {"prompt": "p", "a": "one", "b": "two"}
    return Comparison("A", "B", (outcome,), (written,), 0.95, 0, ("n",), 1, 1)


def report() -> Report:
    where = {"model": "m", "vector": "v", "task": "t", "bound": "b", "metric": "x"}
    found: dict[str, Any] = {"value": -7.9e-18, "low": -0.1, "high": 0.2, "n": 9}
    cases = [
        Case(**_known(Case, where | found | {"status": status, "said": "s"}))
        for status in ("pass", "fail", "undecided")
    ]
    return Report("suite", tuple(cases), "warn", 0.95, ("note",), 3, 2, 1.5)


def _known(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    return {f.name: values.get(f.name) for f in fields(kind)}


def recipe() -> sheet.Sheet:
    claim = judge("it rises", "here", CALM, above=0, how="b - a")
    rows = (
        ("row", CALM, Estimate(-7.9e-18, -0.1, 0.1, 8), 8),
        ("other", None, None, 8),
    )
    columns = ("what", "score", "change", "n")
    table = sheet.Table("", "Title", columns, rows, ("change",))
    return sheet.Sheet("Recipe", "About.", (table,), (claim,), ("note",))


def evaluation() -> dict[str, Any]:
    score = {"value": 0.5, "low": 0.25, "high": 0.75}
    row = {
        "task": "t",
        "control": "c",
        "metric": "m",
        "score": score,
        "difference": {"value": -7.9e-18, "low": -0.0, "high": 0.25},
        "n": 8,
        "chance": 0.5,
        "higher_is_better": False,
        "perplexity": {"value": 3.0, "stderr": 0.5},
        "perplexity_ratio": 1.0,
    }
    return {"model": "m", "baseline": "no edit", "rows": [row], "notes": ["n"]}


def with_text(value: Any, text: str) -> Any:
    """The same value with every text replaced; words that choose a branch stay."""
    if isinstance(value, str):
        return (
            value if value in {"pass", "fail", "undecided", "warn", "better"} else text
        )
    if isinstance(value, tuple | list):
        return type(value)(with_text(v, text) for v in value)
    if isinstance(value, dict):
        return {k: with_text(v, text) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        kept = ("columns", "signed", "verdict", "status")
        return replace(
            value,
            **{
                f.name: with_text(getattr(value, f.name), text)
                for f in fields(value)
                if f.name not in kept
            },
        )
    return value


KINDS = {
    "ab": (comparison, ab.page),
    "check": (report, checks.page),
    "recipe": (recipe, sheet.page),
    "eval": (
        evaluation,
        lambda found: Page(found["model"], found["notes"][0], (scores.table(found),)),
    ),
}


class Sound(HTMLParser):
    """Fails on unbalanced tags; keeps tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_leaves_its_place(kind, text, monkeypatch):
    made, page = KINDS[kind]
    shown = page(with_text(made(), text))
    before = html.render(page(made()))
    parser, plain = Sound(), Sound()
    parser.feed(html.render(shown))
    plain.feed(before)
    assert not parser.open

    def skeleton(found: Sound) -> list[str]:
        drawn = {"svg", "g", "path", "defs", "clippath", "rect", "use", "text", "tspan"}
        return [tag for tag, _ in found.seen if tag not in drawn]

    assert set(skeleton(parser)) <= set(skeleton(plain)) | {"bdi"}
    assert not any(key.startswith("on") for _, attrs in parser.seen for key in attrs)
    links = [attrs["href"] or "" for tag, attrs in parser.seen if tag == "a"]
    assert all(link.startswith("#") for link in links)

    written = markdown.render(shown)
    outside = re.sub(r"(?ms)^(`{3,})\w+\n.*?^\1$", "", written)
    assert not re.search(r"(?<!\\)[<`]|(?<!\\)\]\((?!#)|^\d+\. one$", outside)
    for table in re.findall(r"(?m)(?:^\|.*\n?)+", outside):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1

    for columns in ("", "80", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        for medium in (terminal.render(shown), written, html.render(shown)):
            medium.encode()
            assert not re.search(
                "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", medium
            )


@pytest.mark.parametrize("kind", KINDS)
def test_no_dust_and_no_negative_zero(kind):
    made, page = KINDS[kind]
    shown = page(made())
    for text in (html.render(shown), markdown.render(shown), terminal.render(shown)):
        assert "e-18" not in text
        assert not re.search(
            r"-0\.0+(?![\d])", re.sub(r"<svg.*?</svg>", "", text, flags=re.S)
        )
        assert "0.0000" not in text


@pytest.mark.parametrize("width", [80, 50, 30])
def test_a_terminal_is_filled_and_never_overrun(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    header = ["", "token accuracy", "against no edit", "raw", "relative", "ratio"]
    names = ["no edit", "map on shuffled pairs, equal norm"]
    value, change = "0.044 [0.017, 0.072]", "+0.011 [-0.033, +0.050]"
    rows = [[name, value, change, "2.31", "0.45", "1.14"] for name in names]
    shown = terminal.table(header, rows)
    assert all(len(line) <= width for line in shown.splitlines())
    words = shown.split()
    for word in " ".join([*names, value, change]).split():
        assert word in words
    assert shown.count("[-0.033, +0.050]") == 2  # intervals stay whole


def test_without_a_terminal_each_row_is_one_line(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = terminal.table(["a", "b"], [["x" * 300, "1"], ["y", "20"]])
    assert [line.split() for line in shown.splitlines()] == [
        ["a", "b"],
        ["x" * 300, "1"],
        ["y", "20"],
    ]


def test_wide_letters_keep_columns_in_line(monkeypatch):
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", "40")
    shown = terminal.table(["word", "n"], [["漢字", "1"], ["plain", "20"]])
    assert len({cell_len(line) for line in shown.splitlines()}) == 1


def test_links_marks_and_strong_rows_in_every_medium():
    table = Table(
        "",
        "Title",
        ("what", "n"),
        (
            (Mark("bad one", "bad"), 1),
            (Mark("there", link="there.md"), 2),
            ("strong", 3),
        ),
        strong=(2,),
    )
    page = Page("T", "", (table,))
    text = markdown.render(page)
    assert "| **bad one** | 1 |" in text
    assert "| [there](there.md) | 2 |" in text
    assert "| **strong** | **3** |" in text
    assert '<a href="there.md">there</a>' in html.render(page)
    assert '<span class="mark bad">bad one</span>' in html.render(page)
    assert '<tr class="strong">' in html.render(page)
    assert "there" in terminal.render(page)


def test_columns_of_numbers_are_known():
    texts = [["a", "1", "\u2013", "-"], ["2 b", "< 0.001", "+0.5 [0, 1]", "x"]]
    assert numeric(texts) == [False, True, True, False]


def test_numbers_have_one_form():
    assert fixed(-7.9e-18, sign=True) == "+0.000"
    assert fixed(-0.0004) == "-4.0e-04"
    assert (
        interval({"value": -1e-17, "low": -0.0, "high": 1e-12})
        == "0.000 [0.000, 0.000]"
    )
    assert [p_value(p) for p in (0.0, 0.00099, 0.001, 0.5)] == [
        "< 0.001",
        "< 0.001",
        "0.001",
        "0.500",
    ]
    assert equals_p(1e-9) == "p < 0.001"


def test_the_environment_is_left_alone():
    before = dict(os.environ)
    terminal.render(ab.page(comparison()))
    assert dict(os.environ) == before
