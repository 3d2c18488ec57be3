"""Is one better: intervals, p-values, Holm's correction, and how many prompts decide."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from contrans.evaluation.paired import (
    RESAMPLES,
    holm,
    paired,
    prompts_to_decide,
    ratio_of_perplexities,
    single,
    unpaired,
)

RUNS = 400
"""Simulated experiments per claim about a rate."""
MONTE_CARLO = 3.0
"""Standard errors of a simulated rate that a claim is given."""


def slack(rate: float) -> float:
    return MONTE_CARLO * np.sqrt(rate * (1 - rate) / RUNS)


def flips(generator, n: int, better: float, worse: float):
    """Scores of 0 and 1 of two sides: b to a improves and worsens at these rates."""
    u = generator.random(n)
    before = (generator.random(n) < 0.5).astype(float)
    before[u < better] = 0.0
    before[u > 1 - worse] = 1.0
    after = before.copy()
    after[u < better] = 1.0
    after[u > 1 - worse] = 0.0
    return after, before


def test_a_difference_is_the_mean_of_the_gaps_and_flips_its_sign():
    drawn = np.random.default_rng(0)
    a, b = drawn.normal(1, 1, 50), drawn.normal(0, 1, 50)
    there, back = paired(a, b, seed=3), paired(b, a, seed=3)
    assert there.value == pytest.approx((a - b).mean())
    assert there.spread == pytest.approx((a - b).std(ddof=1))
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.paired
    assert paired(a, b, seed=3).low == there.low  # determinism


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.5, 0.5), st.floats(0.8, 0.99))
def test_interval_and_p_value_never_contradict(seed, bound, confidence):
    drawn = np.random.default_rng(seed)
    found = paired(
        drawn.normal(0.1, 1, 40), drawn.normal(0, 1, 40), confidence=confidence
    )
    outside = bound < found.low or bound > found.high
    edge = 1 / len(found.draws)
    if found.p(bound) < 1 - confidence - 4 * edge:
        assert outside
    if outside:
        assert found.p(bound) < 1 - confidence + 4 * edge


def test_tails_of_p_values_go_on_where_the_draws_end():
    drawn, floor = np.random.default_rng(0).normal(size=80), 1 / (RESAMPLES + 1)
    at = np.linspace(0.0, 3.0, 61)
    found = [paired(drawn - drawn.mean() + x, np.zeros(80)) for x in at]
    p = [one.p_above(0.0) for one in found]
    assert p == sorted(p, reverse=True)
    for one, value, x in zip(found, p, at, strict=True):
        share = (int((one.draws <= 0.0).sum()) + 1) * floor
        assert value == pytest.approx(share) if share > 1.5 * floor else value <= floor
        assert value >= 0.5**80
        if share == pytest.approx(floor):
            exact = stats.ttest_1samp(drawn - drawn.mean() + x, 0.0).pvalue / 2
            expected = max(exact, 0.5**80)
            assert np.log(value) == pytest.approx(np.log(expected), rel=0.1)
    mirrored = paired(np.zeros(80), drawn - drawn.mean() + 3.0)
    assert mirrored.p_below(0.0) == pytest.approx(p[-1], rel=0.5)
    assert holm([found[-1].p()] + [1.0] * 149)[0] < 0.001  # of 150 comparisons


@pytest.mark.parametrize(("n", "rate"), [(30, 0.1), (60, 0.07), (60, 0.3), (200, 0.05)])
def test_noise_is_called_a_change_no_more_often_than_promised(n, rate):
    """Few changed items are where a plain bootstrap cries wolf."""
    drawn = np.random.default_rng(1)
    alarms = sum(
        paired(*flips(drawn, n, rate / 2, rate / 2), seed=i).high < 0
        for i in range(RUNS)
    )
    assert alarms / RUNS <= 0.025 + slack(0.025)


def test_the_same_scores_twice_are_no_difference_but_not_a_proof_of_none():
    ones = np.ones(60)
    found = paired(ones, ones)
    assert found.value == 0
    assert found.low == pytest.approx(-found.high, abs=0.02)
    assert found.high > 0.02
    assert found.p() == 1.0
    real = paired(np.linspace(0, 9, 60), np.linspace(0, 9, 60))
    assert (real.low, real.high, real.p()) == (0.0, 0.0, 1.0)


def test_intervals_of_a_rate_cover_it_as_often_as_they_say():
    drawn = np.random.default_rng(2)
    for rate in (0.03, 0.5, 0.9):
        hits = 0
        for i in range(RUNS):
            found = single((drawn.random(60) < rate).astype(float), seed=i)
            hits += found.low <= rate <= found.high
        assert hits / RUNS >= 0.95 - slack(0.05)


def test_unpaired_sides_need_not_be_equally_long():
    drawn = np.random.default_rng(3)
    alarms = 0
    for i in range(RUNS):
        a, b = drawn.random(50) < 0.3, drawn.random(80) < 0.3
        found = unpaired(a.astype(float), b.astype(float), seed=i)
        alarms += found.high < 0
    assert not found.paired
    assert found.n == 50
    assert alarms / RUNS <= 0.025 + slack(0.025)


def test_holm_is_that_of_statsmodels_and_never_smaller():
    # statsmodels.stats.multitest.multipletests(p, method="holm")
    given_, adjusted = [0.01, 0.02, 0.03, 0.005], [0.03, 0.04, 0.04, 0.02]
    assert holm(given_) == pytest.approx(adjusted)
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    drawn = np.random.default_rng(4).random(20).tolist()
    assert all(a >= p for a, p in zip(holm(drawn), drawn, strict=True))


@pytest.mark.parametrize(("true", "spread"), [(0.2, 0.6), (0.1, 0.5)])
def test_the_number_of_prompts_has_the_promised_power(true, spread):
    """With n prompts, 80% of the experiments find the difference (simulation)."""
    n = prompts_to_decide(true, spread)
    assert n is not None
    drawn = np.random.default_rng(5)
    found = 0
    for i in range(RUNS):
        gaps = drawn.normal(true, spread, n)
        found += paired(gaps, np.zeros(n), seed=i).p() < 0.05
    assert found / RUNS == pytest.approx(0.8, abs=slack(0.8) + 0.01)


def test_the_number_of_prompts_has_the_promised_power_for_accuracies():
    better, worse = 0.22, 0.1
    true = better - worse
    n = prompts_to_decide(true, np.sqrt(better + worse - true**2))
    assert n is not None
    drawn = np.random.default_rng(6)
    found = sum(
        paired(*flips(drawn, n, better, worse), seed=i).p() < 0.05 for i in range(RUNS)
    )
    assert found / RUNS == pytest.approx(0.8, abs=slack(0.8) + 0.03)


def test_the_number_of_prompts_follows_its_formula():
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert prompts_to_decide(0.1, 0.5) == np.ceil((z * 5) ** 2)
    assert prompts_to_decide(-0.1, 0.5) == prompts_to_decide(0.1, 0.5)
    assert prompts_to_decide(0.0, 0.5) is None
    assert prompts_to_decide(1.0, 0.0) == 2


def test_perplexities_are_paired_text_by_text():
    drawn = np.random.default_rng(7)
    units = drawn.integers(5, 50, 80).astype(float)
    base = [
        (2.0 * u + e, u) for u, e in zip(units, drawn.normal(0, 9, 80), strict=True)
    ]
    worse = [(loss + 0.1 * u, u) for loss, u in base]
    found = ratio_of_perplexities(worse, base)
    assert found.value == pytest.approx(np.exp(0.1))
    # every text costs the same more, so pairing leaves no doubt
    assert found.high - found.low < 1e-9
    same = ratio_of_perplexities(base, base)
    assert (same.value, same.low, same.high, same.p(1.0)) == (1.0, 1.0, 1.0, 1.0)


def test_what_cannot_be_compared_is_told():
    with pytest.raises(ValueError, match="3 and 2 values cannot be paired"):
        paired(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="say nothing about a difference"):
        paired(np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="NaN or infinite"):
        single(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="1 and 2 texts"):
        ratio_of_perplexities([(1.0, 2.0)], [(1.0, 2.0), (1.0, 2.0)])
