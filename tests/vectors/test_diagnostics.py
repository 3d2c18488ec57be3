"""Diagnoses: nothing to say about a good transplant, a remedy for a bad one."""

import pytest
import torch

from contrans.core.types import ConceptVector, HiddenStates, PairedStates
from contrans.vectors.diagnostics import diagnose, span, spread
from contrans.vectors.maps import fit_linear_map

TRUTH = torch.linalg.qr(
    torch.randn(12, 12, generator=torch.Generator().manual_seed(7))
).Q[:8]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def states(values: torch.Tensor, model: str) -> HiddenStates:
    return HiddenStates(values[:, None], (0,), model, name=model)


def setting(corpus: torch.Tensor):
    """A map fitted on `corpus`, and pairs that differ along the first axis."""
    x = states(corpus, "a")
    y = states(corpus @ TRUTH, "b")
    negative = draw(30, 8, seed=3)
    push = torch.zeros(8)
    push[0] = 1.0
    source = PairedStates(states(negative + push, "a"), states(negative, "a"))
    target = PairedStates(
        states((negative + push) @ TRUTH, "b"), states(negative @ TRUTH, "b")
    )
    link = fit_linear_map(x, y, source_layer=0, target_layer=0)
    return diagnose(
        ConceptVector(push[None], (0,), "a"),
        link,
        corpus=x,
        source_pairs=source,
        target_pairs=target,
    )


def test_a_good_map_raises_no_warning():
    found = setting(draw(200, 8))
    assert found.ok
    assert found.span == pytest.approx(1, abs=1e-3)
    assert found.spread == pytest.approx(1, abs=0.2)
    assert found.cosine_own == pytest.approx(1, abs=1e-3)
    assert found.r2_pairs == pytest.approx(1, abs=1e-3)
    assert found.length_ratio == pytest.approx(1, abs=1e-2)


def test_a_corpus_that_does_not_vary_along_the_concept_is_named():
    corpus = draw(200, 8)
    corpus[:, 0] = 0.0
    found = setting(corpus)
    assert not found.ok
    assert found.spread < 0.01
    assert found.span < 0.01
    text = " ".join(found.warnings)
    assert "hardly varies along the concept" in text
    assert "--corpus" in text


def test_span_and_spread_of_nothing_are_zero():
    link = fit_linear_map(
        states(draw(20, 8), "a"),
        states(draw(20, 8), "b"),
        source_layer=0,
        target_layer=0,
    )
    assert span(link, torch.zeros(8)) == 0
    assert spread(draw(20, 8), torch.zeros(8)) == 0
