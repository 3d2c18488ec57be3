"""One rule of statistics: right values, agreement with p-values, honest coverage."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from contrans.evaluation.statistics import (
    CHANGED,
    FEW,
    detectable,
    holm,
    mean,
    paired,
    perplexity_ratio,
    prompts_needed,
    unpaired,
)

RUNS = 2000
"""Simulated experiments per claim about a rate."""
ERROR = 3 * np.sqrt(0.05 * 0.95 / RUNS)
"""Three standard errors of a simulated rate of 5%."""
EXACT = 1e-3
"""Published values have three decimals."""


def yes(k: int, n: int) -> np.ndarray:
    return (np.arange(n) < k).astype(float)


def flipped(gains: int, losses: int, n: int):
    after, before = yes(gains, n), np.zeros(n)
    before[gains : gains + losses] = 1
    return after, before


# Right values


def test_symmetric_numbers_have_the_t_interval_and_its_p_value():
    values = np.array([-3.0, -1.5, -1.0, 0.0, 1.0, 1.5, 3.0]).repeat(5) + 0.7
    found, test = mean(values), stats.ttest_1samp(values, 0.0)
    told = test.confidence_interval()
    assert (found.low, found.high) == pytest.approx((told.low, told.high))
    assert found.p() == pytest.approx(test.pvalue)
    assert found.standard_error == pytest.approx(stats.sem(values))
    assert found.spread == pytest.approx(values.std(ddof=1))
    pair = paired(values, np.zeros(35))
    assert (pair.low, pair.high) == (found.low, found.high)


def test_lopsided_numbers_are_wider_on_the_side_of_the_tail():
    """By Hall's formula, solved here by a root finder."""
    values = np.random.default_rng(5).exponential(size=30)
    found, told = mean(values), stats.ttest_1samp(values, 0).confidence_interval()
    n, error = 30, stats.sem(values)
    skew = stats.skew(values, bias=False)

    def hall(theta):
        t = (values.mean() - theta) / error / np.sqrt(n)
        whole = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / (6 * n)
        return np.sqrt(n) * whole

    high = values.mean()
    while hall(high) > -stats.t.ppf(0.975, n - 1):
        high += 1e-4
    assert found.high == pytest.approx(high, abs=2e-4)
    assert found.high > told.high + 0.02
    assert found.low == pytest.approx(told.low)  # never narrower than Student's t


def test_rates_have_wilsons_interval():
    for k, n in ((0, 60), (1, 20), (37, 60), (60, 60)):
        found = mean(yes(k, n))
        told = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((told.low, told.high))


def test_paired_rates_have_tangos_interval():
    """Airway reactivity, 1 gain and 7 losses of 21 (Fagerland et al. 2014)."""
    found = paired(*flipped(1, 7, 21))
    assert found.value == pytest.approx(-6 / 21)
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=EXACT)
    # At no difference it is McNemar's test.
    assert found.p() == pytest.approx(stats.norm.sf(6 / np.sqrt(8)) * 2)


def test_rates_of_different_items_have_agresti_and_caffos_interval():
    found = unpaired(yes(56, 70), yes(48, 80))
    assert (found.low, found.high) == pytest.approx((0.0525, 0.3358), abs=EXACT)
    assert (found.n, found.paired) == (70, False)


def test_numbers_of_different_items_have_welchs_test():
    a, b = np.tile([-1.0, 1.0, 3.0], 10), np.tile([-2.0, 2.0], 20)
    found, test = unpaired(a, b), stats.ttest_ind(a, b, equal_var=False)
    told = test.confidence_interval()
    assert (found.low, found.high) == pytest.approx((told.low, told.high))
    assert found.p() == pytest.approx(test.pvalue)


def test_a_perplexity_ratio_is_that_of_the_jackknife():
    drawn = np.random.default_rng(1)
    tokens = drawn.integers(20, 200, 25).astype(float)
    base = np.stack([3 * tokens, tokens], axis=1)
    edited = base + np.stack([0.1 * tokens + drawn.normal(0, 3, 25), 0 * tokens], 1)
    found = perplexity_ratio(edited, base)
    gaps = edited[:, 0] - base[:, 0]
    log = gaps.sum() / tokens.sum()
    assert found.value == pytest.approx(np.exp(log))
    left = (gaps.sum() - gaps) / (tokens.sum() - tokens)
    error = np.sqrt(24 / 25 * ((left - log) ** 2).sum())
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    effective = tokens.sum() ** 2 / (tokens**2).sum()
    half = stats.t.ppf(0.975, effective - 1) * error
    assert found.low <= np.exp(log - half) * (1 + 1e-9)
    assert found.high >= np.exp(log + half) * (1 - 1e-9)
    assert np.log(found.high / found.low) == pytest.approx(2 * half, rel=0.1)
    back = perplexity_ratio(base, edited)
    assert (back.low, back.high) == pytest.approx((1 / found.high, 1 / found.low))
    assert found.p() == pytest.approx(back.p())
    same = perplexity_ratio(base, base)
    assert (same.value, same.low, same.high, same.p()) == (1.0, 1.0, 1.0, 1.0)


def test_the_same_prompts_under_several_targets_are_one_unit():
    drawn = np.random.default_rng(2)
    gaps = drawn.normal(0.2, 1, 40)
    zeros = np.zeros(40)
    once, thrice = paired(gaps, zeros), paired(np.tile(gaps, 3), np.zeros(120))
    labels = np.tile(np.arange(40), 3)
    together = paired(np.tile(gaps, 3), np.zeros(120), groups=labels)
    assert together.n == once.n == 40
    assert (together.low, together.high) == pytest.approx((once.low, once.high))
    assert thrice.high - thrice.low < 0.6 * (once.high - once.low)  # the old mistake
    uneven = mean(np.array([1.0, 0, 0, 0.5]), groups=["a", "a", "a", "b"])
    assert uneven.value == pytest.approx(0.375)  # every item weighs the same
    assert uneven.n == 2
    losses = np.array([[30.0, 10], [50, 20], [80, 30]])
    twice = perplexity_ratio(
        np.tile(losses * [1.1, 1], (2, 1)),
        np.tile(losses, (2, 1)),
        groups=[0, 1, 2] * 2,
    )
    single = perplexity_ratio(losses * [1.1, 1], losses)
    assert (twice.low, twice.n) == pytest.approx((single.low, 3))


# What holds always


scores = st.sampled_from(["normal", "lopsided", "yes/no", "thirds"])


def some(kind: str, n: int, seed: int):
    drawn = np.random.default_rng(seed)
    if kind == "normal":
        return drawn.normal(0.1, 1, n), drawn.normal(0, 1, n)
    if kind == "lopsided":
        return drawn.lognormal(size=n), drawn.normal(0, 0.1, n)
    many = 1 if kind == "yes/no" else 3
    return drawn.binomial(many, 0.5, n) / many, drawn.binomial(many, 0.4, n) / many


@settings(max_examples=200, deadline=None)
@given(scores, st.integers(2, 80), st.integers(0, 10**6), st.floats(-0.9, 0.9))
def test_interval_and_p_value_never_contradict(kind, n, seed, bound):
    a, b = some(kind, n, seed)
    for found in (paired(a, b), unpaired(a, b), mean(a)):
        if found.standard_error == 0 and found.low == found.high:
            continue
        if min(abs(bound - found.low), abs(bound - found.high)) < 1e-6:
            continue
        outside = bound < found.low or bound > found.high
        clipped = bound in (0.0, 1.0) or (found.low, found.high) == (0.0, 1.0)
        assert outside == (found.p(bound) < 0.05) or clipped


@settings(max_examples=100, deadline=None)
@given(scores, st.integers(2, 80), st.integers(0, 10**6))
def test_a_difference_flips_its_sign_with_the_sides(kind, n, seed):
    a, b = some(kind, n, seed)
    for rule in (paired, unpaired):
        there, back = rule(a, b), rule(b, a)
        assert there.value == pytest.approx((a - b).mean(), abs=1e-12)
        ends = (-back.high, -back.low)
        assert (there.low, there.high) == pytest.approx(ends, abs=1e-9)
        assert there.low <= there.value <= there.high
        assert there.p() == pytest.approx(back.p(), abs=1e-9)
        assert rule(a, b).low == there.low  # nothing is drawn


@settings(max_examples=50, deadline=None)
@given(scores, st.integers(20, 60), st.integers(0, 10**6))
def test_p_values_fall_towards_the_tails_and_never_reach_zero(kind, n, seed):
    found = paired(*some(kind, n, seed))
    at = found.value + np.linspace(0, 0.99, 30) * abs(1 - found.value)
    p = [found.p_below(bound) for bound in at]
    assert all(x >= y - 1e-12 for x, y in pairwise(p)), p
    assert all(0 <= x <= 1 for x in p)


def test_nothing_changed_is_no_proof_that_nothing_changes():
    for n in (1, 2, 5, 60):
        rate = mean(np.zeros(n))
        assert (rate.value, rate.low) == (0.0, 0.0)
        assert rate.high == pytest.approx(3.8415 / (n + 3.8415), rel=1e-3)
    found = paired(np.ones(60), np.ones(60))
    assert (found.value, found.p()) == (0.0, 1.0)
    assert found.low == pytest.approx(-found.high)
    assert found.high == pytest.approx(3.8415 / 63.8415, rel=1e-3)
    all_change = paired(np.ones(60), np.zeros(60))
    assert (all_change.value, all_change.high) == (1.0, 1.0)
    assert all_change.low < 0.9
    pooled = paired(np.ones(60), np.ones(60), groups=[*range(20)] * 3)
    assert pooled.high == pytest.approx(3.8415 / 23.8415, rel=1e-3)
    real = paired(np.linspace(0, 9, 60), np.linspace(0, 9, 60))
    assert (real.low, real.high, real.p()) == (0.0, 0.0, 1.0)


def test_a_share_stays_between_its_ends():
    few = np.r_[np.zeros(59), 1 / 3]
    assert mean(few).low == 0.0
    assert mean(1 - few).high == 1.0
    assert mean(few - 5).low < -5  # numbers have no ends


def test_too_few_is_said_in_words():
    drawn = np.random.default_rng(3)
    assert "only 12 items" in mean(drawn.normal(size=12)).caution
    assert mean(drawn.normal(size=FEW)).caution == ""
    assert "only 3 of 60 items changed" in paired(*flipped(3, 0, 60)).caution
    assert paired(*flipped(CHANGED, 0, 60)).caution == ""
    losses = [(30.0, 10.0)] * 5
    assert "only 5 texts" in perplexity_ratio(losses, losses).caution


def test_what_cannot_be_compared_is_told():
    with pytest.raises(ValueError, match="3 and 2 values cannot be paired"):
        paired(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="say nothing about a difference"):
        paired(np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="0 items say nothing about a mean"):
        mean(np.array([]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        mean(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="1 and 2 texts"):
        perplexity_ratio([(1.0, 2.0)], [(1.0, 2.0), (1.0, 2.0)])
    with pytest.raises(ValueError, match="one label per item"):
        mean(np.zeros(3), groups=[1, 2])


# How often it is wrong; benchmarks/intervals.py looks at many more worlds


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize("world", ["normal", "exponential", "lognormal"])
def test_numbers_cry_wolf_as_often_as_promised(world, n):
    drawn = getattr(np.random.default_rng(4), world)(size=(RUNS, n))
    truth = {"normal": 0.0, "exponential": 1.0, "lognormal": np.exp(0.5)}[world]
    rate = np.mean([mean(values).p(truth) < 0.05 for values in drawn])
    assert 0.03 - ERROR <= rate <= 0.07 + ERROR


@pytest.mark.parametrize("together", [0.5, 0.9])
def test_pooled_targets_cry_wolf_as_often_as_promised(together):
    drawn, labels = np.random.default_rng(5), np.tile(np.arange(40), 3)
    alarms = alone = 0
    for _ in range(RUNS // 2):
        shared, own = drawn.normal(size=(1, 40)), drawn.normal(size=(3, 40))
        gaps = (np.sqrt(together) * shared + np.sqrt(1 - together) * own).ravel()
        alarms += paired(gaps, np.zeros(120), groups=labels).p() < 0.05
        alone += paired(gaps, np.zeros(120)).p() < 0.05
    assert 0.03 - 1.5 * ERROR <= 2 * alarms / RUNS <= 0.07 + 1.5 * ERROR
    assert 2 * alone / RUNS > 0.12


@pytest.mark.parametrize(("n", "rate"), [(30, 0.1), (60, 0.07), (200, 0.05)])
def test_yes_no_pairs_cry_wolf_no_more_often_than_promised(n, rate):
    """Exactly, over all numbers of gains and losses."""
    outcomes = [(b, c) for b in range(n + 1) for c in range(n + 1 - b) if b + c < 30]
    chance = stats.multinomial.pmf(
        [(b, c, n - b - c) for b, c in outcomes], n, [rate / 2, rate / 2, 1 - rate]
    )
    alarms = [paired(*flipped(b, c, n)).p() < 0.05 for b, c in outcomes]
    assert float(chance @ alarms) <= 0.06


# Several, and how many


def test_holm_is_that_of_statsmodels_and_never_smaller():
    # statsmodels.stats.multitest.multipletests(p, method="holm")
    given_, adjusted = [0.01, 0.02, 0.03, 0.005], [0.03, 0.04, 0.04, 0.02]
    assert holm(given_) == pytest.approx(adjusted)
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    drawn = np.random.default_rng(4).random(20).tolist()
    assert all(a >= p for a, p in zip(holm(drawn), drawn, strict=True))
    clear = paired(np.random.default_rng(0).normal(1, 1, 80), np.zeros(80))
    assert holm([clear.p()] + [1.0] * 149)[0] < 0.001  # of 150 comparisons


def test_a_stated_difference_is_found_in_four_of_five_runs():
    """One run states what it would show; the next ones have that true difference."""
    drawn = np.random.default_rng(6)
    hits = []
    for _ in range(RUNS // 2):
        first, second = drawn.normal(size=(2, 60))
        stated = detectable(paired(first, np.zeros(60)))
        hits.append(paired(second + stated, np.zeros(60)).p() < 0.05)
    assert np.mean(hits) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("loss", [0.02, 0.1])
def test_a_stated_difference_of_accuracies_is_found_in_four_of_five_runs(loss):
    drawn, n, hits = np.random.default_rng(7), 60, []
    for _ in range(RUNS // 5):
        b, c, _ = drawn.multinomial(n, [loss, loss, 1 - 2 * loss])
        stated = detectable(paired(*flipped(b, c, n)))
        b, c, _ = drawn.multinomial(n, [loss + stated, loss, 1 - 2 * loss - stated])
        hits.append(paired(*flipped(b, c, n)).p() < 0.05)
    assert np.mean(hits) == pytest.approx(0.8, abs=0.1)


def test_the_number_of_prompts_has_the_promised_power():
    n = prompts_needed(0.2, 0.6)
    assert n == np.ceil(((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 3) ** 2)
    drawn = np.random.default_rng(8)
    hits = [
        paired(drawn.normal(0.2, 0.6, n), np.zeros(n)).p() < 0.05 for _ in range(500)
    ]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.06)
    assert prompts_needed(-0.2, 0.6) == n
    assert prompts_needed(0.0, 0.5) is None
    assert prompts_needed(1.0, 0.0) == 2
