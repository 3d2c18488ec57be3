"""Texts that run together, and tokens that do not run: the same states as the plain way."""

import pytest
import torch
from hypothesis import given, strategies as st
from torch.utils.flop_counter import FlopCounterMode

from contrans.control.steer import Steer
from contrans.models import partial_forward
from contrans.models.anatomy import ANATOMY
from contrans.models.batching import passes
from contrans.models.collect import collect

ROUNDING = 1e-5
WORDS = ("a", "b", "ab", "abc", "ba", "cab", "bac", "bad", "dab", "add")
TEMPLATED = [f"so it was {word}" for word in WORDS]
"""Texts that begin alike, shorter than the window of families that have one."""


def plainly(lm, texts, position, monkeypatch):
    """Every text by itself, every token through every block."""
    with monkeypatch.context() as patch:
        patch.setattr(partial_forward, "FEW", 0.0)
        found = [
            collect(lm, [text], position=position, share=False).values for text in texts
        ]
    return torch.cat(found)


def relative(found, expected):
    """Largest distance of two states, by the length of the expected one."""
    gap = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    return float(gap.max())


def products(lm, texts, **options) -> int:
    """Multiplications and additions of matrix products while collecting."""
    with FlopCounterMode(display=False) as counter:
        collect(lm, texts, **options)
    return counter.get_total_flops()


@pytest.mark.parametrize("position", ["last", "mean", "all"])
def test_shared_beginnings_change_nothing_in_any_family(lm, position, monkeypatch):
    texts = [*TEMPLATED, TEMPLATED[0], "so", "it"]  # repeated, nested, apart
    known = ANATOMY[lm.model.config.model_type].packs
    assert any(p.shared for p in passes(lm, lm.encode(texts), 1024)) == known
    found = collect(lm, texts, position=position)
    expected = plainly(lm, texts, position, monkeypatch)
    assert relative(found.values, expected) < ROUNDING


def test_every_layer_may_be_the_last(lm, monkeypatch):
    expected = plainly(lm, TEMPLATED, "last", monkeypatch)
    for layer in range(lm.layers):
        for share in (True, False):
            found = collect(lm, TEMPLATED, layers=[layer], share=share)
            assert relative(found.at(layer), expected[:, layer]) < ROUNDING


def test_a_leading_bos_is_left_out_of_packed_rows(llama_bos, monkeypatch):
    for position in ("mean", "all"):
        found = collect(llama_bos, TEMPLATED, position=position)
        expected = plainly(llama_bos, TEMPLATED, position, monkeypatch)
        assert relative(found.values, expected) < ROUNDING


def test_less_is_multiplied(llama):
    every = products(llama, TEMPLATED, position="all")
    plain = products(llama, TEMPLATED, share=False)
    block = every / llama.layers
    assert every - block * 0.75 < plain < every - block * 0.5
    assert (
        products(llama, TEMPLATED) < 0.5 * plain
    )  # 10 of 11 to 13 tokens are the same


def test_edits_of_single_tokens_keep_sharing(llama, make_vector, monkeypatch):
    steer = Steer(make_vector(llama), layers=(0, 2), strength=1.5)
    bare = collect(llama, TEMPLATED).values
    with steer.on(llama):
        expected = plainly(llama, TEMPLATED, "last", monkeypatch)
        found = collect(llama, TEMPLATED).values
        assert products(llama, TEMPLATED) < products(llama, TEMPLATED, share=False)
    assert relative(found, expected) < ROUNDING
    assert relative(bare, expected) > 0.1


def test_hooks_that_we_do_not_know_see_every_text_whole(make_lm):
    lm = make_lm("llama")
    seen = []
    lm.blocks[2].mlp.register_forward_hook(lambda *a: seen.append(a[2].shape[:2]))
    collect(lm, TEMPLATED)
    widest = max(map(len, lm.encode(TEMPLATED)))
    assert seen == [(len(TEMPLATED), widest)]


def test_the_model_is_left_as_it_was(make_lm):
    lm = make_lm("llama")
    before = {name: dict(vars(module)) for name, module in lm.model.named_modules()}
    collect(lm, TEMPLATED)
    assert {n: dict(vars(m)) for n, m in lm.model.named_modules()} == before
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[:] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        collect(lm, TEMPLATED)
    assert {n: dict(vars(m)) for n, m in lm.model.named_modules()} == before


def test_long_texts_stand_apart_and_the_others_still_share(make_lm, monkeypatch):
    lm = make_lm("mistral")  # its window has 16 tokens
    texts = [*TEMPLATED, "so it was a text of more tokens than the window holds"]
    shared = {i: p.shared for p in passes(lm, lm.encode(texts), 1024) for i in p.texts}
    assert shared == {
        **dict.fromkeys(range(len(TEMPLATED)), True),
        len(TEMPLATED): False,
    }
    found = collect(lm, texts)
    assert relative(found.values, plainly(lm, texts, "last", monkeypatch)) < ROUNDING


def test_rows_are_no_longer_than_the_context(make_lm):
    lm = make_lm("gpt2", n_positions=64)
    texts = [f"{word} {other}" for word in WORDS for other in WORDS]
    widths = [p.inputs["input_ids"].shape[1] for p in passes(lm, lm.encode(texts), 512)]
    assert max(widths) <= 64


class Wrapped(torch.nn.Module):
    """What a tool that we do not know may put in a block's place."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, hidden, *args, **options):
        """Adds what depends on the number of tokens of the row."""
        return self.block(hidden, *args, **options) + 0.1 * hidden.shape[1]


def test_blocks_that_we_do_not_know_see_every_text_whole(make_lm):
    lm = make_lm("llama")
    texts = [f"so it was {word}" for word in WORDS if len(word) == 3]  # of equal length
    bare = collect(lm, texts).values
    lm.blocks[2] = Wrapped(lm.blocks[2])
    expected = bare[:, 2] + 0.1 * len(lm.encode(texts)[0])
    assert relative(collect(lm, texts).at(2), expected) < ROUNDING


@pytest.mark.parametrize("flag", ["use_bidirectional_attention", "is_causal"])
def test_texts_that_are_read_both_ways_do_not_share(make_lm, flag):
    lm = make_lm("llama")
    setattr(lm.model.config, flag, flag != "is_causal")
    assert not any(p.shared for p in passes(lm, lm.encode(TEMPLATED), 1024))


def test_a_spoilt_text_is_told_from_its_neighbours(make_lm):
    lm = make_lm("llama")
    bad = lm.encode(["z"])[0][0]
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[bad] = float("nan")
    texts = [*TEMPLATED[:4], "so it was z", *TEMPLATED[4:]]
    with pytest.raises(ValueError, match=r"for text 4 \('so it was z'\)"):
        collect(lm, texts)


@given(
    st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=12), min_size=1),
    st.sampled_from([1, 16, 64, 1024]),
    st.booleans(),
)
def test_every_token_of_every_text_is_in_one_pass(llama_rows, rows, budget, share):
    met = []
    for each in passes(llama_rows, rows, budget, share=share):
        ids = each.inputs["input_ids"]
        for text, row, columns in zip(each.texts, each.rows, each.columns, strict=True):
            assert ids[row, columns].tolist() == rows[text]
            met.append(text)
    assert sorted(met) == list(range(len(rows)))


@pytest.fixture(scope="module")
def llama_rows(make_lm):
    return make_lm("llama")
