"""Choosing layers and strength: what decides, when, and what it says."""

import math

import numpy as np
import pytest

from contrans.evaluation.dose import Dose
from contrans.experiments.search import (
    Budget,
    Trial,
    candidates,
    decide,
    rank_coarsely,
    shortlist,
    shrink,
    sweep,
)

GOOD, BAD = (27, 15), (13, 7)
BUDGET = Budget(1.15, "perplexity")


def trial(
    change=0.0,
    fine=None,
    *,
    layers=GOOD,
    raw=1.0,
    ratio=1.05,
    kl=None,
    before=0.0,
    n=60,
) -> Trial:
    """A trial whose items all changed alike, or by the arrays given."""
    change = np.broadcast_to(np.asarray(change, float), (n,))
    fine = change if fine is None else np.broadcast_to(np.asarray(fine, float), (n,))
    value = before + float(change.mean())
    dose = None if kl is None else Dose(kl, 4 * kl, kl / 20, 500)
    return Trial(
        layers,
        raw,
        raw / 5,
        dose,
        perplexity=3 * ratio,
        ratio=ratio,
        value=value,
        low=0.0,
        high=0.0,
        before=before,
        change=change,
        fine=fine,
    )


def noisy(mean: float, spread: float, n: int, seed: int) -> np.ndarray:
    """Noise of exactly this mean and standard deviation."""
    drawn = np.random.default_rng(seed).normal(size=n)
    return mean + spread * (drawn - drawn.mean()) / drawn.std(ddof=1)


# Layers


def test_every_layer_of_the_upper_part_is_a_candidate_but_the_last_of_the_target():
    pairs = candidates(30, 18)
    assert (28, 16) in pairs
    assert (24, 12) in pairs
    assert (29, 7) in pairs
    assert not [t for _, t in pairs if t == 17 or t < 7]
    assert min(s for s, _ in pairs) == 12
    assert pairs == sorted(pairs)
    assert candidates(1, 1) == [(0, 0)]


def test_of_each_target_block_the_best_source_is_tried():
    promises = {(28, 16): 0.74, (27, 16): 0.73, (26, 15): 0.6, (28, 15): 0.5}
    assert shortlist(promises, 4) == [(28, 16), (26, 15)]
    assert shortlist(promises, 1) == [(28, 16)]
    assert shortlist({(1, 1): 0.0, (2, 1): 0.0}, 4) == [(1, 1)]
    assert shortlist(promises | {(20, 9): 0.0}, 9) == [(28, 16), (26, 15)]


@pytest.mark.parametrize("peak", [(28, 16), (24, 12), (20, 9), (29, 7)])
def test_a_coarse_grid_leads_to_the_best_pair(peak):
    asked = []

    def promise(pairs):
        asked.extend(pairs)
        gaps = {
            p: (p[0] - peak[0]) ** 2 / 40 + (p[1] - peak[1]) ** 2 / 15 for p in pairs
        }
        return {p: math.exp(-gap) for p, gap in gaps.items()}

    pairs = candidates(30, 18)
    found = rank_coarsely(pairs, promise)
    assert max(found, key=found.__getitem__) == peak
    assert len(asked) == len(set(asked)) < 0.6 * len(pairs)


def test_few_layers_are_all_ranked():
    pairs = candidates(6, 6)
    assert set(rank_coarsely(pairs, lambda some: dict.fromkeys(some, 1.0))) == set(
        pairs
    )


# Shrinkage


def test_exact_measurements_keep_their_own_values():
    effects, promises = [0.1, 0.9, 0.3], [0.9, 0.1, 0.5]
    assert shrink(effects, [1e-6] * 3, promises) == pytest.approx(effects, abs=1e-4)


def test_noise_leaves_the_ranking_to_the_diagnosis():
    worth = shrink([0.02, 0.07, -0.03], [0.1] * 3, [0.8, 0.1, 0.4])
    assert np.argsort(-worth).tolist() == [0, 2, 1]
    assert worth == pytest.approx(worth[0] * np.array([1, 1 / 8, 1 / 2]))


def test_shrinking_is_what_the_formula_says():
    d, s, g = np.array([1.0, 3.0]), np.array([0.5, 1.0]), np.array([0.5, 0.4])
    w = 1 / s**2
    b = (w * g * d).sum() / (w * g * g).sum()
    q = (w * (d - b * g) ** 2).sum()
    t2 = max(q - 1, 0) / (w.sum() - (w**2 * g * g).sum() / (w * g * g).sum())
    assert t2 > 0
    w = 1 / (s**2 + t2)
    prior = (w * g * d).sum() / (w * g * g).sum() * g
    expected = prior + t2 / (t2 + s**2) * (d - prior)
    assert shrink(*(x.tolist() for x in (d, s, g))) == pytest.approx(expected)


# Deciding


def test_a_pair_that_yes_no_scores_favour_by_luck_is_not_chosen():
    """28 scores, no effect at the one pair; a margin that moves by 1.3 at the other."""
    lucky = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        before = rng.normal(-1.0, 3.0, 28)
        after = {
            BAD: before + rng.normal(0.0, 2.0, 28),
            GOOD: before + rng.normal(1.3, 2.0, 28),
        }
        trials = [
            trial(
                (margin > 0).astype(float) - (before > 0),
                margin - before,
                layers=pair,
                n=28,
                before=float((before > 0).mean()),
            )
            for pair, margin in after.items()
        ]
        lucky += trials[0].change.mean() >= trials[1].change.mean()
        decision = decide(
            trials, {GOOD: 0.6, BAD: 0.02}, budget=BUDGET, metric="MC1", fine="margin"
        )
        assert decision.trial.layers == GOOD, seed
    assert lucky > 10  # the yes/no scores alone would have been wrong so often


def test_without_a_finer_score_the_diagnosis_guards_against_luck():
    wrong = by_score = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        up = {GOOD: 0.2, BAD: 0.1}
        trials = [
            trial(
                (rng.random(28) < p).astype(float) - (rng.random(28) < 0.1),
                layers=pair,
                n=28,
                before=0.3,
            )
            for pair, p in up.items()
        ]
        by_score += trials[1].change.mean() > trials[0].change.mean()
        decision = decide(trials, {GOOD: 0.6, BAD: 0.05}, budget=BUDGET)
        wrong += decision.trial.layers == BAD
    assert by_score > 40
    assert wrong < by_score / 3


def test_clear_behaviour_overrules_the_diagnosis_and_says_by_how_much():
    trials = [
        trial(0.0, noisy(0.2, 1.0, 60, 0), layers=BAD, before=0.5),
        trial(0.3, noisy(3.0, 1.0, 60, 1), layers=GOOD, before=0.5),
    ]
    decision = decide(trials, {BAD: 0.9, GOOD: 0.3}, budget=BUDGET, fine="margin")
    assert (decision.trial.layers, decision.how) == (GOOD, "validation")
    assert "27:15" in decision.why
    assert "more than at 13:7, which the diagnosis ranks first" in decision.why


def test_pairs_that_validation_cannot_tell_apart_are_left_to_the_diagnosis():
    shared = noisy(1.0, 1.0, 60, 0)
    trials = [
        trial(0.1, shared, layers=GOOD, before=0.5),
        trial(0.1, shared + noisy(0.05, 1.0, 60, 8), layers=BAD, before=0.5),
    ]
    decision = decide(trials, {GOOD: 0.62, BAD: 0.6}, budget=BUDGET, fine="margin")
    assert decision.trial.layers == GOOD


def test_where_nothing_moves_it_says_so_and_takes_the_concepts_own_length():
    trials = [
        trial(0.0, noisy(0.0, 1.0, 60, raw), raw=raw / 2, layers=pair, before=0.5)
        for pair in (GOOD, BAD)
        for raw in range(1, 6)
    ]
    decision = decide(trials, {GOOD: 0.5, BAD: 0.4}, budget=BUDGET, fine="margin")
    assert decision.how == "diagnosis"
    assert decision.trial.layers == GOOD
    assert decision.trial.raw == 1.0
    assert decision.why.startswith("validation cannot tell")
    strong = [trial(0.0, noisy(0.0, 1.0, 60, 1), raw=raw) for raw in (3.0, 2.0)]
    gentle = decide(strong, {GOOD: 0.5}, budget=BUDGET, fine="margin")
    assert gentle.trial.raw == 2.0


def test_the_diagnosis_may_say_no():
    trials = [trial(0.4, 2.0, raw=raw, layers=BAD, before=0.1) for raw in (0.5, 2.0)]
    decision = decide(trials, {BAD: 0.0}, budget=BUDGET, fine="margin")
    assert decision.how == "no-go"
    assert decision.trial.raw == 0.5
    assert "the diagnosis says no" in decision.why


def test_a_floored_metric_is_said_and_the_finer_score_decides():
    trials = [
        trial(0.0, noisy(raw, 0.5, 60, 3), raw=raw, before=0.0) for raw in (0.5, 1, 2)
    ]
    decision = decide(
        trials, {GOOD: 0.7}, budget=BUDGET, metric="token accuracy", fine="margin"
    )
    assert decision.stuck
    assert decision.score == "margin"
    assert decision.trial.raw == 2
    assert decision.why.startswith(
        "token accuracy is stuck at 0.000, so margin decides"
    )


def test_a_metric_that_moves_at_some_strength_is_not_stuck():
    trials = [
        trial(0.0, 1.0, raw=0.5, before=0.0),
        trial(0.1, 2.0, raw=1.0, before=0.0),
    ]
    decision = decide(trials, {GOOD: 0.7}, budget=BUDGET, metric="acc", fine="margin")
    assert (decision.stuck, decision.score) == (False, "acc")
    full = [trial(0.0, 1.0, before=1.0), trial(0.0, 2.0, raw=2.0, before=1.0)]
    assert decide(full, {GOOD: 0.7}, budget=BUDGET, metric="acc", fine="margin").stuck


# Strength


def test_the_largest_effect_within_the_budget_wins():
    levels = {0.5: (0.1, 1.01), 1.0: (0.5, 1.1), 2.0: (0.9, 1.2)}
    trials = [
        trial(effect, raw=raw, ratio=ratio) for raw, (effect, ratio) in levels.items()
    ]
    assert decide(trials, {GOOD: 1.0}, budget=BUDGET).trial.raw == 1.0
    over = decide(trials, {GOOD: 1.0}, budget=Budget(1.0, "perplexity"))
    assert (over.how, over.trial.raw) == ("over budget", 0.5)


def test_a_budget_of_nats_needs_doses_and_no_perplexity():
    levels = {0.5: (0.1, 0.05), 1.0: (0.5, 0.45), 2.0: (0.9, 1.3)}
    trials = [trial(effect, raw=raw, kl=kl) for raw, (effect, kl) in levels.items()]
    assert decide(trials, {GOOD: 1.0}, budget=Budget()).trial.raw == 1.0
    over = decide(trials, {GOOD: 1.0}, budget=Budget(0.01))
    assert (over.how, over.trial.raw) == ("over budget", 0.5)
    assert "no strength stays within the budget of 0.01 nats per token" in over.why
    with pytest.raises(ValueError, match="nats per token needs it measured"):
        decide([trial(0.1)], {GOOD: 1.0}, budget=Budget())


def test_an_effect_that_is_complete_needs_no_more_strength():
    """The margin goes on growing where the metric has nothing left to gain."""
    levels = {0.5: (0.6, 2.0), 1.0: (0.99, 5.0), 2.0: (1.0, 9.0)}
    trials = [
        trial(e, m, raw=raw, ratio=1.0 + raw / 20) for raw, (e, m) in levels.items()
    ]
    assert decide(trials, {GOOD: 1.0}, budget=BUDGET, fine="margin").trial.raw == 1.0


def test_nine_tenths_of_the_largest_effect_are_enough():
    levels = {0.5: (0.3, 1.0), 1.0: (0.46, 2.0), 2.0: (0.5, 3.0)}
    trials = [trial(e, m, raw=raw, kl=raw / 5) for raw, (e, m) in levels.items()]
    chosen = decide(trials, {GOOD: 1.0}, budget=Budget(), fine="margin").trial
    assert chosen.raw == 1.0
    trials[1] = trial(0.44, 2.0, raw=1.0, kl=0.2)
    chosen = decide(trials, {GOOD: 1.0}, budget=Budget(), fine="margin").trial
    assert chosen.raw == 2.0


def test_more_strength_must_gain_beyond_its_standard_error():
    weak, strong = noisy(0.3, 0.5, 28, 0), noisy(0.36, 0.5, 28, 5)
    trials = [trial(weak, raw=0.5, n=28), trial(strong, raw=1.0, n=28)]
    assert decide(trials, {GOOD: 1.0}, budget=BUDGET).trial.raw == 0.5


def test_a_sweep_stops_when_the_budget_is_spent():
    ratios = iter([1.0, 1.1, 1.3, 9.9])
    found = sweep([1, 2, 3, 4], lambda _: trial(ratio=next(ratios)), budget=BUDGET)
    assert [t.ratio for t in found] == [1.0, 1.1, 1.3]


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="nothing was measured"):
        decide([], {}, budget=BUDGET)
