"""Transplants: A4, provenance, and refusal of the wrong model."""

import pytest
import torch

from contrans.core.types import ConceptVector, HiddenStates
from contrans.vectors.maps import fit_linear_map
from contrans.vectors.transplant import (
    assume_model,
    pair_layers,
    paper_layer,
    transplant,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def link():
    x = HiddenStates(draw(50, 2, 6), (1, 2), "a", name="small")
    y = HiddenStates(draw(50, 2, 9, seed=1), (3, 4), "b", name="large")
    return fit_linear_map(x, y, source_layer=1, target_layer=4)


def test_a_transplant_is_v_times_f(link):
    vector = ConceptVector(draw(2, 6), (1, 2), "a", concept="joy")
    moved = transplant(vector, link)
    torch.testing.assert_close(moved[4].double(), vector[1].double() @ link.matrix())
    assert (moved.model, moved.layers, moved.name) == ("b", (4,), "large")
    assert moved.concept == "joy"
    assert moved.provenance["method"] == "transplant/ridge"


def test_a_transplant_is_linear(link):
    one = ConceptVector(draw(2, 6), (1, 2), "a")
    two = ConceptVector(draw(2, 6, seed=1), (1, 2), "a")
    apart = transplant(one, link) + transplant(two, link)
    torch.testing.assert_close(transplant(one + two, link).directions, apart.directions)


def test_a_vector_of_another_model_is_refused(link):
    vector = ConceptVector(draw(2, 6), (1, 2), "c", name="other")
    with pytest.raises(ValueError, match=r"'other'.*but the map starts at 'small'"):
        transplant(vector, link)
    assert transplant(assume_model(vector, link), link).model == "b"
    with pytest.raises(ValueError, match="width 5, the map takes 6"):
        assume_model(ConceptVector(draw(1, 5), (1,), "c"), link)


def test_a_vector_without_the_layer_of_the_map(link):
    with pytest.raises(KeyError, match="no direction for layer 1"):
        transplant(ConceptVector(draw(1, 6), (2,), "a"), link)


def test_the_layers_of_the_paper():
    assert [paper_layer(n) for n in (1, 2, 32, 40, 80)] == [0, 1, 24, 30, 60]
    assert (24, 30) in pair_layers(32, 40)
    for source, target in ((1, 6), (6, 1), (4, 4), (12, 30)):
        pairs = pair_layers(source, target)
        assert [t for _, t in pairs] == list(range(target))
        assert all(0 <= s < source for s, _ in pairs)
        assert pairs[-1] == (source - 1, target - 1)
    assert pair_layers(4, 4) == [(i, i) for i in range(4)]
