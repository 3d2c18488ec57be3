"""A control that no module of contrans knows is shared and kept like the built-in ones."""

from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch

from contrans.control.steer import Steer, additions, compose
from contrans.core.cache import Cache, described
from contrans.data.concept import Item
from contrans.evaluation import ChoicesTask
from contrans.evaluation.measure import measure
from contrans.models import kv_cache, logits
from contrans.models.edits import (
    Control,
    NoControl,
    residual_edits,
    shares_lower_blocks,
)
from contrans.models.hooks import edit_residual
from contrans.models.scoring import score_continuations, score_continuations_under

SAME = 1e-5
"""Sums of float32 log-probabilities."""


@dataclass(frozen=True)
class Damped:
    """A toy: shrink the stream from one block on; nobody else has heard of it."""

    factor: float
    first: int = 1

    def residual_edits(self, lm):
        return {
            layer: lambda hidden: self.factor * hidden
            for layer in range(self.first, lm.layers)
        }

    @property
    def cache_key(self):
        return {"method": "damped", "factor": self.factor, "first": self.first}

    @contextmanager
    def on(self, lm):
        with edit_residual(lm, self.residual_edits(lm), by_token=True):
            yield lm


class Silent:
    """A control with `on` alone."""

    @contextmanager
    def on(self, lm):
        yield lm


ITEMS = [([5, 6, 7, 8, 9, k], [10, 11 + k]) for k in range(6)]


def test_a_new_control_shares_the_blocks_below_its_edits(llama, monkeypatch):
    controls = [NoControl(), Damped(0.8), Damped(0.5), Damped(0.9, first=2)]
    ran = {layer: 0 for layer in range(llama.layers)}

    def counting(layer):
        def hook(*_):
            ran[layer] += 1

        return hook

    handles = [
        block.self_attn.q_proj.register_forward_hook(counting(layer))
        for layer, block in enumerate(llama.blocks)
    ]
    # the counters are hooks of a stranger, under which nothing would be shared
    monkeypatch.setattr(logits, "reads_in_pieces", lambda _lm: True)
    monkeypatch.setattr(logits, "splits", lambda _lm: False)  # one batch, no tree
    try:
        together = score_continuations_under(llama, ITEMS, controls)
    finally:
        for handle in handles:
            handle.remove()
    # block 0: once for all; 1: again never, as its output is edited; 2: once more for
    # each of the two that edit block 1
    assert ran == {0: 1, 1: 1, 2: 3}
    for control, found in zip(controls, together, strict=True):
        with control.on(llama):
            alone = score_continuations(llama, ITEMS)
        torch.testing.assert_close(found.total, alone.total, atol=SAME, rtol=0)
    assert (together[1].total - together[0].total).abs().min() > 1e-3
    assert kv_cache.run is logits.run


def test_a_new_control_is_kept_under_its_key(llama, tmp_path):
    task = ChoicesTask((Item("a", "The dog saw", (" a house", " rain"), 0),))
    texts, cache = ["the dog saw a red house"], Cache(tmp_path)
    [first] = measure(task, llama, [Damped(0.8)], texts, cache=cache)
    assert (cache.hits, cache.misses) == (0, 2)
    [again] = measure(task, llama, [Damped(0.8)], texts, cache=cache)
    assert again.as_json() == first.as_json()
    assert (cache.hits, cache.misses) == (2, 2)
    measure(task, llama, [Damped(0.7)], texts, cache=cache)
    assert cache.misses == 4


def test_composed_controls_share_if_all_their_parts_do(llama, make_vector):
    steer = Steer(make_vector(llama), layers=[1], strength=1.5)
    both = compose(steer, Damped(0.8))
    assert shares_lower_blocks(both, llama)
    together = score_continuations_under(
        llama, ITEMS, [both, compose(Damped(0.8), steer)]
    )
    for control, found in zip(
        (both, compose(Damped(0.8), steer)), together, strict=True
    ):
        with control.on(llama):
            alone = score_continuations(llama, ITEMS)
        torch.testing.assert_close(found.total, alone.total, atol=SAME, rtol=0)
    assert not torch.allclose(together[0].total, together[1].total, atol=1e-3)
    assert not shares_lower_blocks(compose(steer, Silent()), llama)
    assert not shares_lower_blocks(Steer(steer.vector, positions="prompt"), llama)
    assert residual_edits(Steer(steer.vector, strength=0.0), llama) == {}


def test_keys_tell_controls_apart(llama, make_vector):
    vector = make_vector(llama)
    controls = [
        NoControl(),
        Steer(vector),
        Steer(vector, strength=2.0),
        Steer(vector, layers=[1]),
        Steer(vector, layers=[-1]),
        Steer(vector, layers=[-2]),
        Steer(vector, layers=[-1], strength=2.0),
        Steer(vector, skip_bos=True),
        Steer(vector, positions="prompt"),
        Damped(0.8),
        compose(Steer(vector), Damped(0.8)),
        compose(Damped(0.8), Steer(vector)),
    ]
    keys = [repr(described(control)) for control in controls]
    assert len(set(keys)) == len(keys)
    assert described(Steer(2 * vector)) == described(Steer(vector, strength=2.0))
    with pytest.raises(TypeError, match="Silent cannot say what it is"):
        described(Silent())
    with pytest.raises(TypeError, match="Silent cannot say what it is"):
        described(compose(Damped(0.8), Silent()))
    assert isinstance(Silent(), Control)


def test_an_error_inside_a_key_is_not_taken_for_a_missing_one():
    class Broken(Silent):
        @property
        def cache_key(self):
            return self.nothing

    with pytest.raises(AttributeError, match="nothing"):
        described(Broken())


def test_additions_are_those_of_all_parts(llama, make_vector):
    one, two = Steer(make_vector(llama)), Steer(make_vector(llama, seed=1))
    assert additions(compose(one, compose(two, NoControl()))) == (one, two)
    assert additions(compose(one, Damped(0.8))) is None
    assert additions(Silent()) is None
