"""Values: checked when made, immutable, with arithmetic."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, strategies as st

from contrans.core.types import ConceptVector, HiddenStates, PairedStates, PromptPairs


def vector(fill: float = 1.0, **changes) -> ConceptVector:
    known = {"layers": (2, 5), "model": "abc", "concept": "anger"}
    return ConceptVector(torch.full((2, 3), fill), **{**known, **changes})


def states(values: torch.Tensor, layers=(4,)) -> HiddenStates:
    return HiddenStates(values, layers, "abc")


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((("a",), ()), "1 positive but 0 negative"),
        ((("a",), ("b", "c")), "1 positive but 2 negative"),
        (((), ()), "no pairs for 'joy'"),
    ],
)
def test_empty_or_unequal_pairs_are_refused(sides, message):
    with pytest.raises(ValueError, match=message):
        PromptPairs(*sides, concept="joy")


def test_values_are_immutable():
    with pytest.raises(FrozenInstanceError):
        vector().concept = "joy"


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_vectors_form_a_vector_space(a, b):
    one, two = vector(a), vector(b)
    torch.testing.assert_close((one + two).directions, (two + one).directions)
    assert not (one - one).directions.any()
    torch.testing.assert_close((2 * one - one)[2], one[2])
    torch.testing.assert_close((one / 2 + one / 2)[5], one[5])
    assert torch.equal((-one).directions, (one * -1).directions)


def test_vectors_of_different_spaces_do_not_combine():
    with pytest.raises(ValueError, match="transplant one of them first"):
        vector() + vector(model="def")
    with pytest.raises(ValueError, match=r"layers \(2, 5\) and \(2, 6\)"):
        vector() - vector(layers=(2, 6))


def test_vector_looks_up_and_selects_layers():
    chosen = vector(norms=torch.tensor([6.0, 12.0])).select([5])
    assert chosen.layers == (5,)
    assert chosen.relative_strength(5, 2.0) == pytest.approx(2 * 3**0.5 / 12)
    assert vector().relative_strength(5) is None
    with pytest.raises(KeyError, match=r"no direction for layer 3.*\(2, 5\)"):
        vector()[3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_vectors_are_finite(bad):
    with pytest.raises(ValueError, match="float16 overflow"):
        vector(bad)


def test_a_vector_has_one_direction_a_layer():
    with pytest.raises(ValueError, match="give one direction per layer"):
        vector(layers=(1, 2, 3))


def test_sides_of_paired_states_match():
    with pytest.raises(ValueError, match="same options"):
        PairedStates(states(torch.ones(2, 1, 3)), states(torch.ones(3, 1, 3)))
    with pytest.raises(ValueError, match="same options"):
        PairedStates(states(torch.ones(2, 1, 3)), states(torch.ones(2, 1, 3), (5,)))


def test_rows_keep_order():
    values = torch.arange(12.0).reshape(4, 1, 3)
    both = PairedStates(states(values), states(values + 1)).rows(iter([3, 0]))
    assert both.positive.values[:, 0, 0].tolist() == [9.0, 0.0]
    assert both.differences(4).dtype == torch.float64
    assert (both.differences(4) == -1).all()
