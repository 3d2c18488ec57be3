"""Attention sinks and massive activations: found, left out everywhere, and named."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from contrans.core.types import HiddenStates, PairedStates
from contrans.models.collect import collect, measure_norms, residual_norms
from contrans.vectors.concepts import METHODS as ESTIMATORS, concept_vector, reliability
from contrans.vectors.diagnostics import diagnose
from contrans.vectors.maps import METHODS, fit_linear_map
from contrans.vectors.ridge import move_directions
from contrans.vectors.sinks import left_out, outlying, sink_pairs

SAME = 1e-3
"""Relative: what one row among hundreds may change in a map."""


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def states(values, name):
    return HiddenStates(values[:, None].float(), (0,), name, name=name)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def planted(values, place, row):
    return torch.cat([values[:place], row[None], values[place:]])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(20, 200),
    width=st.integers(6, 60),
    tail=st.floats(0.0, 0.3),
    mean=st.floats(0.0, 3.0),
    times=st.floats(12.0, 1e4),
    place=st.floats(0.0, 1.0),
    side=st.sampled_from(["source", "target", "both"]),
    method=st.sampled_from(sorted(METHODS)),
)
def test_a_planted_sink_changes_no_map(
    seed, n, width, tail, mean, times, place, side, method
):
    """Any corpus: many texts or few, wide or not, off centre, lengths that differ."""
    lengths = (tail * draw(n, 1, seed=seed + 1).clamp(-3, 3)).exp()
    x = (draw(n, width, seed=seed) + mean) * lengths
    y = x @ draw(width, 30, seed=seed + 2) + draw(n, 30, seed=seed + 3)
    v, k = draw(width, seed=seed + 4), int(place * n)
    odd_x, odd_y = draw(width, seed=seed + 5), draw(30, seed=seed + 6)
    longest = [values.norm(dim=1).max() for values in (x, y)]
    grown = [times * longest[0] if side != "target" else x.norm(dim=1).median()]
    grown.append(times * longest[1] if side != "source" else y.norm(dim=1).median())
    more_x = planted(x, k, odd_x / odd_x.norm() * grown[0])
    more_y = planted(y, k, odd_y / odd_y.norm() * grown[1])

    def fit(x, y):
        return fit_linear_map(
            *(states(x, "a"), states(y, "b")),
            source_layer=0,
            target_layer=0,
            method=method,
        )

    plain, with_sink = fit(x, y), fit(more_x, more_y)
    assert plain.report.left_out == ()
    assert with_sink.report.left_out == (k,)
    assert relative(with_sink.matrix(), plain.matrix()) < SAME
    assert relative(with_sink.directions(v), plain.directions(v)) < SAME
    assert with_sink.report.r2 == pytest.approx(plain.report.r2, abs=SAME)
    assert with_sink.report.n == plain.report.n


def test_a_sink_that_is_kept_ruins_the_map():
    """What the rule is for; `keep_sinks` gives the fit on everything."""
    x = draw(300, 40, seed=0)
    y = x @ draw(40, 30, seed=1) + draw(300, 30, seed=2)
    plain = fit_linear_map(
        states(x, "a"), states(y, "b"), source_layer=0, target_layer=0
    )
    odd = 90 * draw(40, seed=3), 90 * draw(30, seed=4)
    both = [states(planted(z, 7, row), "z") for z, row in zip((x, y), odd, strict=True)]
    kept = fit_linear_map(*both, source_layer=0, target_layer=0, keep_sinks=True)
    assert kept.report.left_out == ()
    assert kept.provenance["keep_sinks"]
    assert relative(kept.matrix(), plain.matrix()) > 0.2
    assert kept.report.ridge > 10 * plain.report.ridge
    found = fit_linear_map(*both, source_layer=0, target_layer=0)
    assert found.report.left_out == (7,)
    assert torch.equal(found.matrix(), plain.matrix())
    v = {"joy": draw(40, seed=5)}
    moved = [
        move_directions(v, *pair, source_layer=0, target_layers=[0])[0][1]["joy"]
        for pair in ((states(x, "a"), states(y, "b")), both)
    ]
    assert torch.equal(*moved)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 300), st.floats(0.0, 0.5))
def test_ordinary_rows_are_no_sinks(seed, n, spread):
    """Lengths up to 3.7 times the least."""
    lengths = (spread * draw(n, seed=seed).clamp(-1.3, 1.3)).exp()
    assert not outlying(lengths).any()
    assert outlying(torch.cat([lengths, 1e3 * lengths[:1]])).tolist()[-1]


def test_equal_zero_and_missing_lengths():
    assert not outlying(torch.ones(9)).any()
    assert not outlying(torch.zeros(9)).any()
    assert not outlying(torch.tensor([0.0, 0.0, 0.0, 5.0])).any()
    assert outlying(torch.tensor([1.0, 1.0, torch.nan, 90.0])).tolist() == [
        *(False, False, False, True)
    ]
    assert not outlying(torch.full((3,), torch.nan)).any()


def emotion(n=30, seed=0):
    values = draw(2, n, 8, seed=seed)
    values[0, :, 0] += 2
    return values


def paired(values):
    return PairedStates(states(values[0], "a"), states(values[1], "a"), "joy")


def with_sink(values, pair, side):
    values = values.clone()
    values[side, pair] = 200 * draw(8, seed=9)
    return values


@pytest.mark.parametrize("method", sorted(ESTIMATORS))
@pytest.mark.parametrize("side", [0, 1])
def test_a_sink_changes_no_concept(method, side):
    values = emotion()
    rest = [i for i in range(30) if i != 11]
    plain = concept_vector(paired(values[:, rest]), method=method)
    spoiled = paired(with_sink(values, 11, side))
    vector = concept_vector(spoiled, method=method)
    torch.testing.assert_close(vector.directions, plain.directions)
    assert vector.provenance["left_out"] == {"0": [11]}
    assert plain.provenance["left_out"] == {}
    assert reliability(vector, spoiled) == reliability(vector, paired(values[:, rest]))


def test_what_half_of_the_pairs_share_is_no_sink():
    values = emotion(n=6)
    values[0] *= 100
    assert not sink_pairs(paired(values), 0).any()


def test_sinks_change_no_diagnosis():
    values, corpus = emotion(), draw(200, 8, seed=1)
    rest = [i for i in range(30) if i != 11]
    link = fit_linear_map(
        states(corpus, "a"),
        states(corpus @ draw(8, 8, seed=2), "b"),
        source_layer=0,
        target_layer=0,
    )
    vector = concept_vector(paired(values))
    theirs = values @ draw(8, 8, seed=2)

    def look(corpus, source, target):
        return diagnose(
            vector,
            link,
            corpus=states(corpus, "a"),
            source_pairs=paired(source),
            target_pairs=paired(target),
        )

    plain = look(corpus, values[:, rest], theirs[:, rest])
    odd = planted(corpus, 5, 300 * draw(8, seed=3))
    assert look(odd, with_sink(values, 11, 0), theirs) == plain
    assert look(odd, values, with_sink(theirs, 11, 1)) == plain


@pytest.fixture
def sinking(make_lm):
    """A model without BOS whose states of the letter z are a hundred times as long."""
    lm = make_lm("llama")
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[lm.encode(["z"])[0][0]] *= 2000
    return lm


def test_norms_are_of_tokens_that_are_neither_first_nor_sinks(sinking):
    texts = ["a dog and a cat", "sun in rainz", "the red sun", "x"]
    every = collect(sinking, texts, position="all", layers=[0, 1])
    lengths = [part.norm(dim=-1) for part in every.values.split(every.counts)]
    counted = torch.cat([*(part[1:] for part in lengths[:3]), lengths[3]])
    z = int(counted[:, 0].argmax())
    assert counted[z, 0] > 50 * counted[:, 0].median()
    rest = torch.cat([counted[:z], counted[z + 1 :]]).double()
    found = measure_norms(sinking, texts, layers=[0, 1])
    assert found.means == pytest.approx(dict(enumerate(rest.mean(0).tolist())))
    assert found.left_out == {0: 1, 1: 1}
    assert found.tokens == len(counted) == sum(map(len, texts)) - 3
    assert residual_norms(sinking, texts, layers=[0, 1]) == found.means


def test_the_mean_leaves_out_the_first_token_and_sinks(sinking):
    texts = ["a dog and a cat", "sun in rainz", "zebra", "x", "z"]
    every = collect(sinking, texts, position="all")
    mean = collect(sinking, texts, position="mean")
    parts = every.values.split(every.counts)
    expected = [parts[0][1:], parts[1][1:-1], parts[2][1:], parts[3], parts[4]]
    expected = torch.stack([part.mean(0) for part in expected])
    torch.testing.assert_close(mean.values, expected)


def test_messages_count_and_name():
    texts = ["It rains.", "The", "x" * 60, "y", "z"]
    assert left_out("texts were left out", [], texts) is None
    found = left_out("texts were left out", [1, 2, 3, 4], texts)
    assert found is not None
    assert found.startswith(
        f"4 of 5 texts were left out: 'The', '...{'x' * 37}', 'y' and 1 more. "
    )
