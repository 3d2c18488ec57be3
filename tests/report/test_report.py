"""Laws of the report: nothing is lost, nothing escapes, nothing changes by itself."""

import copy
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from contrans.report import plots, to_html, to_markdown
from contrans.report.format import clean, excerpt, fixed, interval, one_line
from contrans.report.search import best_tried
from contrans.report.transplant import effect_table, repeat_command, summary
from contrans.vectors import diagnostics

VOID = {"meta", "br", "hr", "img", "link", "input"}
ATTACK = "</pre><script>alert(1)</script><img src=x onerror=\"a('b')\">"
NASTY = [
    ATTACK,
    "a | b\n# c $x_1$ \\frac [x](y) 漢字 🦀 \x00\ud800\u202eabc",
    "```\n``",
]


def model(name: str, layers: int, hidden: int) -> dict[str, Any]:
    return {
        "name": name,
        "fingerprint": "1f2e3d4c5b6a79881f2e",
        "layers": layers,
        "hidden": hidden,
        "context": 512,
        "dtype": "float32",
        "tokenizer": "aa11bb22cc33dd44",
    }


def row(name, kind, value, change, raw=None, relative=None, ratio=1.0):
    dose = {"kl": ratio - 0.9, "p95": 1.5, "stderr": 0.012, "tokens": 512}
    difference = {"value": change, "low": change - 0.0411, "high": change + 0.0437}
    return {
        "name": name,
        "kind": kind,
        "raw": raw,
        "relative": relative,
        "dose": None if raw is None else dose,
        "value": value,
        "low": value - 0.0521,
        "high": value + 0.0518,
        "difference": None if kind == "base" else difference,
        "extra": {"probability": value / 2, "accuracy": value * 0.9},
        "perplexity": {"value": 9.27 * ratio, "stderr": 0.211, "ratio": ratio},
    }


def point(source, target, relative, effect, ratio):
    return {
        "source": source,
        "target": target,
        "raw": relative * 4.1,
        "relative": relative,
        "effect": effect,
        "stderr": 0.02,
        "value": 0.213 + effect,
        "low": 0.213 + effect - 0.05,
        "high": 0.213 + effect + 0.05,
        "perplexity": 9.27 * ratio,
        "perplexity_ratio": ratio,
    }


def example() -> dict[str, Any]:
    """Results as a run on the zoo gives them."""
    gains = (0.05, 0.14, 0.26, 0.33, 0.36)
    ratios = (1.01, 1.02, 1.06, 1.11, 1.24)
    grid = (0.1, 0.2, 0.3, 0.4, 0.5)
    curve = [point(3, 5, *x) for x in zip(grid, gains, ratios, strict=True)]
    others = [point(2, 4, 0.3, 0.12, 1.05), point(3, 4, 0.4, 0.21, 1.09)]
    others.append(point(4, 6, 0.2, -0.03, 1.12))
    return {
        "contrans": "0.1.0",
        "command": {
            "source": "zoo/small-aligned",
            "target": "zoo/large",
            "concept": "anger",
            "corpus": None,
            "layers": "auto",
            "strength": "auto",
            "method": "ridge",
            "protocol": "heldout",
            "map_source": "zoo/small",
            "budget": 1.15,
            "seed": 7,
            "trust_remote_code": False,
        },
        "source": model("zoo/small-aligned", 6, 128),
        "target": model("zoo/large", 8, 256),
        "map_source": model("zoo/small", 6, 128),
        "aligned_target": None,
        "concept": {
            "name": "anger",
            "title": "Anger",
            "answer": "anger",
            "task": "emotion",
            "origin": "built in",
            "digest": "0123456789abcdef",
            "pairs": {"refine": 120, "validate": 40, "test": 40},
        },
        "corpus": {
            "name": "built-in",
            "n": 3200,
            "digest": "fedcba9876543210",
            "truncated": {"source": 0, "target": 12},
        },
        "reliability": [
            {
                "layer": i,
                "cosine": 0.1 + 0.09 * i,
                "auroc": 0.7 + 0.05 * i,
                "separation": 0.8 + 0.4 * i,
            }
            for i in range(6)
        ],
        "map": {
            "method": "ridge",
            "n": 2880,
            "n_test": 288,
            "r2": 0.8123,
            "r2_differences": 0.7456,
            "effective_rank": 21.44,
            "rank": 128,
            "ridge": 0.0312,
            "loo_error": 0.1876,
            "warnings": [],
        },
        "diagnosis": {
            "span": 0.967,
            "spread": 0.512,
            "cosine_own": 0.644,
            "r2_pairs": 0.389,
            "length_ratio": 0.871,
            "warnings": [],
        },
        "layers": {"source": 3, "target": 5, "how": "auto", "tried": [*curve, *others]},
        "strength": {
            "raw": curve[3]["raw"],
            "relative": 0.4,
            "dose": {"kl": 0.2123, "p95": 0.91, "stderr": 0.0071, "tokens": 512},
            "how": "auto",
            "budget": 1.15,
            "budget_unit": "perplexity",
            "curve": curve,
        },
        "task": {
            "name": "emotion of scenarios",
            "metric": "share of answers 'anger'",
            "chance": 1 / 6,
            "higher_is_better": True,
            "n": 240,
            "split": "test",
            "protocol": "heldout",
        },
        "rows": [
            row("no edit", "base", 0.2134, 0.0),
            row("ridge", "method", 0.5471, 0.3337, 1.64, 0.4, 1.112),
            row("ConTrans", "method", 0.4812, 0.2678, 1.31, 0.38, 1.134),
            row("Self-Align", "reference", 0.6228, 0.4094, 0.97, 0.35, 1.087),
            row(
                "random vector, equal norm", "control", 0.2211, 0.0077, 1.64, 0.4, 1.09
            ),
            row(
                "map on shuffled pairs, equal norm",
                "control",
                0.1987,
                -0.0147,
                1.64,
                0.4,
                1.077,
            ),
        ],
        "generations": [
            {
                "prompt": "Scenario: Someone stole your bike from the yard.\n"
                "The emotion of the above scenario is",
                "before": " sadness. You look for it all day.",
                "after": " anger. You shout at the neighbour and slam the door.",
            },
            {"prompt": "Scenario: It rains.", "before": " calm", "after": ATTACK},
        ],
        "warnings": ["12 corpus texts are longer than the context of the target"],
        "verdict": "Transplanted: ridge moved the share by +0.334 at 1.11 times the "
        "perplexity.",
        "seed": 7,
        "seconds": {"load models": 1.2, "reformulate": 20.51, "search": 44.0},
    }


def everywhere(tree: Any, leaf: Any) -> Any:
    """The same tree with every leaf replaced."""
    if isinstance(tree, dict):
        return {key: everywhere(value, leaf) for key, value in tree.items()}
    if isinstance(tree, list):
        return [everywhere(value, leaf) for value in tree]
    return leaf


def texts(tree: Any, text: str) -> Any:
    """The same tree with every text replaced."""
    if isinstance(tree, dict):
        return {key: texts(value, text) for key, value in tree.items()}
    if isinstance(tree, list):
        return [texts(value, text) for value in tree]
    return text if isinstance(tree, str) else tree


def odd() -> dict[str, dict[str, Any]]:
    full = example()
    cases = {
        "empty": {},
        "none": everywhere(full, None),
        "nan": everywhere(full, math.nan),
        "inf": everywhere(full, -math.inf),
        "top none": dict.fromkeys(full),
        "no rows": {**full, "rows": [], "generations": []},
        "one row": {**full, "rows": full["rows"][:1]},
        "long": texts(full, "very long " * 300),
        "constant": everywhere(full, 1),
    }
    cases |= {f"nasty {i}": texts(full, text) for i, text in enumerate(NASTY)}
    paper = copy.deepcopy(full)
    paper["task"]["protocol"] = "paper"
    paper["task"]["split"] = "refine"
    return cases | {"paper": paper, "full": full}


ODD = odd()


class Balanced(HTMLParser):
    """Fails on unbalanced tags; keeps tags, attributes, ids and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def parse(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("name", ODD)
def test_any_results_make_a_sound_report(name):
    results = ODD[name]
    before = repr(results)
    page, text = to_html(results), to_markdown(results)
    assert repr(results) == before
    parser = parse(page)
    assert not parser.tags & {"script", "img", "iframe", "link", "object", "base"}
    ids = [value for _, key, value in parser.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    for _, key, value in parser.attributes:
        assert not key.startswith("on")
        if key in ("href", "src", "xlink:href"):
            assert value.startswith("#")
            assert value[1:] in ids
    assert not re.search(r"https?://|url\((?!#)|@import", page)
    for whole in (page, text):
        whole.encode("utf-8")
        assert not re.search("[\x00-\x08\u202a-\u202e]", whole)
        assert not re.search(r"\b(None|nan|inf)\b", whole)


@pytest.mark.parametrize("name", ["none", "nasty 1"])
def test_the_same_results_make_the_same_bytes(name):
    assert to_html(ODD[name]) == to_html(copy.deepcopy(ODD[name]))
    assert to_markdown(ODD[name]) == to_markdown(copy.deepcopy(ODD[name]))


def words(page: str) -> str:
    """The visible text of a page, on one line."""
    return " ".join(" ".join(parse(page).words).split())


def test_every_number_of_every_row_is_in_both():
    results = example()
    text = to_markdown(results).replace("\\", "")
    page = words(to_html(results))
    table = effect_table(results)
    lines = table.texts()
    assert [line[0] for line in lines] == [r["name"] for r in results["rows"]]
    for line in [table.columns, *lines]:
        for cell in line:
            assert cell in text
            assert cell in page
    assert lines[1][1:3] == ["0.547 [0.495, 0.599]", "+0.334 [+0.293, +0.377]"]
    assert lines[1][6] == "10.31 ± 0.21"
    assert lines[0][2] == "\u2013"


def test_both_say_what_was_chosen_and_measured():
    results = example()
    pages = to_markdown(results), " ".join(parse(to_html(results)).words)
    command = "contrans transplant zoo/small-aligned zoo/large --concept anger"
    for page in pages:
        page = page.replace("\\", "")
        for words in (
            f"{command} --layers auto",
            "--map-source zoo/small --budget 1.15 --seed 7 -o repeated",
            "n = 240",
            "chance 0.167",
            "split test",
            "3 \u2192 5",
            "raw 1.64, relative 0.40",
            "zoo/small-aligned",
            "0.644",
            "+0.210",
            "made-up world",
        ):
            assert words in page


def test_warnings_come_first_and_in_sample_is_loud():
    paper = ODD["paper"]
    for page in (to_markdown(paper), to_html(paper)):
        assert page.index("longer than the context") < page.index("Transplanted:")
        assert page.index("IN-SAMPLE") < page.index("Transplanted:")
        assert page.count("IN-SAMPLE") >= 3
        assert "(in-sample)" in page
        assert "in-sample" not in to_markdown(example()).lower()


def test_markup_in_results_stays_text():
    page = to_html(ODD["nasty 0"])
    assert ATTACK not in page
    assert "&lt;script&gt;alert(1)" in page
    assert ATTACK in "".join(parse(page).words)


def test_markdown_keeps_tables_and_fences_whole():
    for name in ("full", "nasty 0", "nasty 1", "nasty 2"):
        text = to_markdown(ODD[name])
        outside = re.sub(r"(?ms)^(`{3,})\w+\n.*?^\1$", "", text)
        tables = re.findall(r"(?m)(?:^\|.*\n?)+", outside)
        assert len(tables) >= 4
        for table in tables:
            widths = {len(re.findall(r"(?<!\\)\|", r)) for r in table.splitlines()}
            assert len(widths) == 1
        assert not re.search(r"(?<!\\)<", outside)
        headings = re.findall(r"(?m)^#+ (.*)", outside)
        assert headings[1] == "In short"


def test_thresholds_named_are_those_of_the_diagnostics():
    text = to_markdown(example())
    assert f"below {diagnostics.LOW_SPAN} most of it" in text
    assert f"below {diagnostics.LOW_SPREAD} maps learn nothing" in text
    assert f"below {diagnostics.LOW_COSINE} expect little effect" in text


@pytest.mark.parametrize("name", plots.FIGURES)
def test_figures_are_drawn_from_data_alone(name, tmp_path):
    draw = plots.FIGURES[name]
    assert draw({}) is None
    assert draw(ODD["none"]) is None
    assert draw(ODD["nan"]) is None
    figure, again = draw(example()), draw(example())
    assert figure is not None
    assert again is not None
    assert plots.svg(figure, name=name) == plots.svg(again, name=name)
    assert "<image" not in plots.svg(figure)
    assert plots.save_png(figure, tmp_path / "x.png").read_bytes()[1:4] == b"PNG"


def test_figures_leave_no_state_behind():
    import matplotlib

    before = dict(matplotlib.rcParams)
    to_html(example())
    assert dict(matplotlib.rcParams) == before


def test_the_heat_map_prefers_points_within_the_budget():
    best = best_tried(example())
    assert best[3, 5]["relative"] == 0.4
    assert set(best) == {(2, 4), (3, 4), (3, 5), (4, 6)}
    assert plots.layers({"layers": {"tried": [point(1, 2, 0.1, 0.2, 1.0)]}}) is None


def test_a_dose_is_told_with_its_error_and_its_tail(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    said = summary(example())
    assert "= 0.212 \u00b1 0.007 nats per token (95th percentile 0.910)" in " ".join(
        said.split()
    )
    assert re.search(r"ridge .* 1.64 +0.40 +0.21 ", said)
    page = to_markdown(example())
    assert "budget 1.15 times the perplexity" in page
    assert "| relative | raw | value [95%] | gain | perplexity | ratio |" in page


def test_a_budget_of_nats_is_shown_in_nats():
    results = copy.deepcopy(example())
    results["strength"] |= {"budget": 0.5, "budget_unit": "nats"}
    for p in {id(p): p for p in results["layers"]["tried"]}.values():
        p["dose"] = {"kl": p["relative"], "p95": 1.0, "stderr": 0.01, "tokens": 512}
        p["perplexity"] = p["perplexity_ratio"] = None
    results["strength"]["curve"] = results["layers"]["tried"][:5]
    page = to_markdown(results)
    assert "budget 0.50 nats per token" in page
    assert "| relative | raw | value [95%] | gain | nats | note |" in page
    assert "| 0.40 | 1.64 |" in page
    assert best_tried(results)[3, 5]["relative"] == 0.5


def test_the_command_is_safe_to_paste():
    command = {"source": "a b", "target": "x; rm", "concept": "it's", "layers": "3:5"}
    assert repeat_command({"command": command}) == (
        "contrans transplant 'a b' 'x; rm' --concept 'it'\"'\"'s' --layers 3:5 "
        "-o repeated"
    )
    assert repeat_command({}) == ""


def test_numbers_are_written_plainly():
    assert fixed(0.0) == "0.000"
    assert fixed(None) == fixed(math.nan) == fixed("0.5") == fixed(True) == "\u2013"
    assert fixed(-0.25, sign=True) == "-0.250"
    assert interval({"value": 1, "low": None, "high": math.nan}) == "1.000"
    assert interval(None) == "\u2013"


def test_texts_are_cut_and_cleaned_openly():
    assert one_line("a\n b\u2028c") == "a b c"
    assert clean("a\x1b[31m\ud83d") == "a\ufffd[31m\ufffd"
    assert clean("  ") == clean(None) == "\u2013"
    assert excerpt("x" * 2010).endswith("(10 more characters in results.json)")
