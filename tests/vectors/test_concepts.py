"""Concept vectors: the paper's mean, and estimators that agree with oracles."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from contrans.core.types import HiddenStates, PairedStates
from contrans.vectors.concepts import (
    METHODS,
    concept_vector,
    mean_difference,
    reliability,
)

_where = Path(__file__).parents[1] / "reference" / "paper.py"
_spec = importlib.util.spec_from_file_location("paper", _where)
assert _spec is not None
assert _spec.loader is not None
paper = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(paper)


def pairs(n: int = 40, shift: float = 2.0, seed: int = 0) -> PairedStates:
    """States whose sides differ along the first axis, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    positive, negative = torch.randn(2, n, 2, 8, generator=generator)
    positive[..., 0] += shift
    sides = (HiddenStates(side, (1, 3), "abc") for side in (positive, negative))
    return PairedStates(*sides, concept="joy")


def test_mean_difference_is_the_paper():
    states = pairs()
    vector = mean_difference(states)
    for layer in (1, 3):
        expected = paper.refine(
            states.positive.at(layer).numpy(), states.negative.at(layer).numpy()
        )
        torch.testing.assert_close(vector[layer].double(), torch.from_numpy(expected))
    assert (vector.model, vector.concept) == ("abc", "joy")


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(12)))
def test_shuffling_one_side_leaves_the_mean_difference(order):
    states = pairs(12)
    mixed = PairedStates(states.positive.rows(order), states.negative)
    torch.testing.assert_close(
        mean_difference(mixed).directions, mean_difference(states).directions
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_points_from_negative_to_positive(method):
    states = pairs(200)
    vector = concept_vector(states, method=method)
    swapped = concept_vector(
        PairedStates(states.negative, states.positive), method=method
    )
    for layer in vector.layers:
        direction = vector[layer]
        assert direction[0] / direction.norm() > 0.9
        assert vector.norm(layer) == pytest.approx(2, abs=0.5)
        torch.testing.assert_close(swapped[layer], -direction, atol=1e-3, rtol=1e-3)


def test_whitened_is_linear_discriminant_analysis():
    states = pairs(300)
    found = concept_vector(states, method="whitened")[1].double()
    x = torch.cat([states.positive.at(1), states.negative.at(1)]).numpy()
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    normal = torch.from_numpy(oracle.fit(x, [1] * 300 + [0] * 300).coef_[0])
    assert torch.cosine_similarity(found, normal.double(), dim=0) > 0.999


@pytest.mark.parametrize("method", sorted(METHODS))
def test_sides_that_do_not_differ_are_refused(method):
    states = pairs(6)
    same = PairedStates(states.positive, states.positive)
    with pytest.raises(ValueError, match="do not differ at any layer"):
        concept_vector(same, method=method)


def test_a_layer_without_difference_gets_a_zero_direction():
    states = pairs(6)
    flat = states.negative.values.clone()
    flat[:, 0] = states.positive.values[:, 0]
    half = PairedStates(states.positive, HiddenStates(flat, (1, 3), "abc"))
    for method in METHODS:
        vector = concept_vector(half, method=method)
        assert vector.norm(1) < 1e-6
        assert vector.norm(3) > 0.1


@pytest.mark.parametrize("method", sorted(METHODS))
def test_one_pair_is_enough_to_get_a_direction(method):
    vector = concept_vector(pairs(1), method=method)
    assert vector.norm(1) > 0


def test_unknown_method_suggests_a_near_one():
    with pytest.raises(KeyError, match="did you mean 'mean'"):
        concept_vector(pairs(), method="maen")


def test_reliability_tells_signal_from_noise():
    clear = reliability(mean_difference(pairs(100, 4.0)), pairs(100, 4.0, seed=1))
    noise = reliability(mean_difference(pairs(100, 0.0)), pairs(100, 0.0, seed=1))
    for good, bad in zip(clear, noise, strict=True):
        assert good.auroc > 0.98
        assert abs(bad.auroc - 0.5) < 0.15
        assert good.cosine > 0.3 > bad.cosine
        assert good.separation > 2 > abs(bad.separation)
