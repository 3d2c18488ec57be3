"""What recipes share: the rule for claims, writers, plans, running and resuming."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest

from contrans.control.steer import compose
from contrans.core.cache import described
from contrans.core.verdicts import Claim, Estimate
from contrans.experiments.paper import RECIPES, chosen
from contrans.experiments.paper.claims import (
    average,
    difference,
    judge,
    pooled,
    ratio,
    untestable,
)
from contrans.experiments.paper.plan import Plan, load_plan, plan_names
from contrans.experiments.paper.published import TABLE1, TABLE3, TABLE10
from contrans.experiments.paper.run import Done, index
from contrans.experiments.paper.table8 import _agreement
from contrans.models.edits import NoControl
from contrans.report import markdown
from contrans.report.blocks import Table
from contrans.report.sheet import (
    Sheet,
    as_json,
    claims_of,
    files_of,
    to_csv,
    to_markdown,
)

# ---------------------------------------------------------------- the rule


@settings(deadline=None)  # a busy machine is no fault of the rule
@given(
    st.floats(-1, 1), st.floats(0, 0.5), st.floats(-0.5, 0.5), st.sampled_from([0, 1])
)
def test_a_claim_is_supported_only_with_its_whole_interval(value, half, bound, side):
    estimate = Estimate(value, value - half, value + half, 9)
    region = {"above": bound} if side else {"below": bound}
    verdict = judge("", "", estimate, how="", **region).verdict
    inside = estimate.low > bound if side else estimate.high < bound
    outside = estimate.high < bound if side else estimate.low > bound
    assert (verdict == "supported") == inside
    assert (verdict == "not supported") == outside


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.04, 0.04, "supported"),
        (-0.2, 0.04, "undecided"),
        (0.06, 0.2, "not supported"),
        (-0.3, 0.3, "undecided"),
    ],
)
def test_a_claim_of_no_change_needs_the_interval_between_both_bounds(
    low, high, verdict
):
    estimate = Estimate((low + high) / 2, low, high, 50)
    found = judge("", "", estimate, above=-0.05, below=0.05, how="")
    assert found.verdict == verdict


def test_a_claim_without_a_bound_is_refused():
    with pytest.raises(ValueError, match="needs a bound"):
        judge("a text", "", Estimate(0, 0, 0, 2), how="")


def test_what_cannot_be_tested_is_undecided_and_says_why():
    claim = untestable("a text", "§1", "one family only")
    assert claim.verdict == "undecided"
    assert claim.estimate is None
    assert "one family only" in claim.how


def test_estimates_are_those_of_an_independent_computation():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 400), rng.normal(0, 1, 400)
    found = difference(a, b)
    gaps = a - b
    error = gaps.std(ddof=1) / math.sqrt(len(gaps))
    assert found.value == pytest.approx(gaps.mean())
    assert found.low == pytest.approx(gaps.mean() - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(gaps.mean() + 1.96 * error, abs=0.02)
    assert average([0.0] * 60).high == pytest.approx(
        binomtest(0, 60).proportion_ci(method="wilson").high
    )


def test_pooled_groups_weigh_by_their_items_and_turn_with_the_sign():
    pairs = [([1, 1, 1, 0], [0, 0, 0, 0]), ([0, 0], [1, 0])]
    assert pooled(pairs).value == pytest.approx(2 / 6)
    assert pooled(pairs, sign=-1).value == pytest.approx(-2 / 6)


def test_pooled_groups_keep_a_prompt_together():
    one = [1.0, 0.0, 1.0, 0.0] * 10, [0.0, 1.0] * 20
    alone = pooled([one])
    assert pooled([one, one, one]) == alone  # three times the same is no more
    names = ["a", "b"] * 20
    assert pooled([one], [names]).n == 2
    apart_ = pooled([one, one], [range(40), range(40, 80)])
    assert (apart_.n, apart_.value) == (80, alone.value)
    assert apart_.high < alone.high


def test_the_ratio_of_perplexities_weighs_tokens():
    a, b = [(20.0, 10.0), (1.0, 2.0)], [(10.0, 10.0), (1.0, 2.0)]
    assert ratio(a, b).value == pytest.approx(math.exp(21 / 12 - 11 / 12))
    assert ratio(b, b).value == 1.0


# ---------------------------------------------------------------- writers


def sheet() -> Sheet:
    table = Table(
        "",
        "A_table & more",
        ("what", "score [95%]", "change [95%]", "n"),
        (
            ("a|b\nc", Estimate(0.5, 0.25, 0.75, 8), Estimate(0.1, -0.1, 0.3, 8), 8),
            ("100%", None, None, 8),
        ),
        ("change [95%]",),
    )
    claim = judge("it rises", "§1", Estimate(0.1, -0.1, 0.3, 8), above=0, how="b - a")
    return Sheet("A title", "About it.", (table,), (claim,), ("a note",))


def test_markdown_has_one_row_a_line_and_keeps_every_number():
    text = to_markdown(sheet(), "name")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows[:3]} == {7}
    assert "| a\\|b / c | 0.500 [0.250, 0.750] | +0.100 [-0.100, +0.300] | 8 |" in text
    assert "undecided" in text
    assert "- a note" in text


def test_csv_reads_back_with_an_estimate_in_four_columns():
    rows = list(csv.DictReader(io.StringIO(to_csv(sheet().tables[0]))))
    assert rows[0]["what"] == "a|b\nc"
    assert float(rows[0]["score [95%] low"]) == 0.25
    assert rows[0]["change [95%] n"] == "8"
    assert rows[1]["score [95%]"] == ""


def test_latex_escapes_and_closes_what_it_opens():
    text = files_of(sheet(), "name")["name.tex"]
    assert r"A\_table \& more" in text
    assert r"100\%" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip()
    assert [line.count(" & ") for line in body.splitlines()] == [3, 3]


def test_json_keeps_claims_that_read_back_as_values():
    results = json.loads(json.dumps(as_json(sheet())))
    assert claims_of(results) == list(sheet().claims)


def test_a_table_with_a_short_row_is_refused():
    with pytest.raises(ValueError, match="a row of 1 cells"):
        Table("", "T", ("a", "b"), (("x",),))


def test_the_index_lists_every_claim_and_what_did_not_run():
    done = [
        Done("table1", as_json(sheet()), 3.0),
        Done("figure4", {}, why_not="figure4 reads sizes, which ..."),
    ]
    page = markdown.render(index(done, load_plan("zoo"), 5))
    assert "| [table1](table1.md) | it rises |" in page
    assert "## Not run" in page
    assert "figure4 reads sizes" in page
    assert "Limited to 5 items" in page


# ---------------------------------------------------------------- plans


def test_all_names_every_recipe_and_a_wrong_one_gets_a_hint():
    assert chosen("all") == list(RECIPES)
    with pytest.raises(KeyError, match="did you mean 'table1'"):
        chosen("tabel1")


def test_both_plans_have_every_section():
    every = tuple({need for entry in RECIPES.values() for need in entry.needs})
    assert plan_names() == ["paper", "zoo"]
    for name in plan_names():
        assert load_plan(name).missing(every) == []


def test_only_the_paper_plan_prints_published_numbers_for_its_columns():
    paper, zoo = load_plan("paper"), load_plan("zoo")
    assert paper.compare
    assert not zoo.compare
    targets = [t for series in paper.series for t in series.targets]
    assert {t.published for t in targets} == set(TABLE1)
    assert paper.sources is not None
    rows = TABLE3[paper.sources.target.published or ""]
    assert {f"from {s}" for s in paper.sources.sources} | {"no edit"} == set(rows)
    assert {name.removesuffix(", aligned") for name in TABLE10} <= set(TABLE1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: t\nseries: [{weak: a}]", r"series.0.weak_aligned: Field required"),
        ("title: t\nserie: []", r"serie: Extra inputs"),
        ("title: t\nchoice: {budget: 0.5}", r"choice.budget.*greater than or equal"),
        ("title: t\nsizes: {models: [a, b], without: [c]}", r"'c' is none of the"),
        ("- a", "holds list, not fields"),
        ("title: [", "cannot be read"),
    ],
)
def test_a_wrong_plan_names_the_field(tmp_path, text, message):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_plan(path)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.yaml"):
        load_plan(tmp_path / "none.yaml")
    with pytest.raises(KeyError, match="did you mean 'zoo'"):
        load_plan("zo")


def test_a_model_may_be_a_plain_name():
    plan = Plan.model_validate({"title": "t", "checkpoints": ["org/a", "org/b"]})
    assert [str(model) for model in plan.checkpoints] == ["a", "b"]


def test_composed_controls_have_a_key_for_every_part():
    none = described(NoControl())
    assert described(compose(NoControl(), NoControl()))["fields"]["parts"] == [none] * 2


def test_claims_are_values():
    one = Claim("a", "b", "undecided", None, "above 0", "c")
    assert one == Claim("a", "b", "undecided", None, "above 0", "c")


def test_agreement_of_texts_has_the_jackknife_s_pseudo_values():
    rows = [[1, 2], [1, 3], [4, 2], [1, 2], [5, 6]]
    n, share = len(rows), lambda a, b: sum(t in b for t in a) / len(a)

    def whole(kept: list[list[int]]) -> float:
        pairs = [(i, j) for i in range(len(kept)) for j in range(len(kept)) if i != j]
        return float(np.mean([share(kept[i], kept[j]) for i, j in pairs]))

    left_out = [whole(rows[:i] + rows[i + 1 :]) for i in range(n)]
    wanted = [n * whole(rows) - (n - 1) * one for one in left_out]
    assert _agreement(rows) == pytest.approx(wanted)
