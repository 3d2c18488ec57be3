"""Perplexity."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from contrans.control.steer import Steer
from contrans.evaluation import perplexity
from contrans.evaluation.fluency import windows

sys.path.insert(0, str(Path(__file__).parents[1]))
from eval_models import one_by_one, word_lm

RATIO = 1e-4
"""Relative tolerance for perplexities from float32 logits."""


def by_hand(lm, texts):
    head = lm.special_affixes[0]
    logs = []
    for text in texts:
        ids = lm.encode([text])[0]
        start = len(head) or 2  # what the first token predicts is not scored
        logs += one_by_one(lm, ids[:start], ids[start:])
    return math.exp(-float(np.mean(logs))), len(logs)


# Perplexity


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt"])
def test_perplexity_equals_one_token_at_a_time(make_lm, texts, family, bos):
    lm = make_lm(family, bos=bos)
    value, tokens = by_hand(lm, texts[:6])
    found = perplexity(lm, texts[:6])
    assert found.value == pytest.approx(value, rel=RATIO)
    assert found.tokens == tokens


def test_perplexity_is_measured_under_the_control(llama, make_vector, texts):
    plain = perplexity(llama, texts)
    with Steer(make_vector(llama), strength=2.0).on(llama):
        steered = perplexity(llama, texts[:5])
        assert steered.value == pytest.approx(by_hand(llama, texts[:5])[0], rel=RATIO)
    assert perplexity(llama, texts) == plain
    assert steered.value != perplexity(llama, texts[:5]).value


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(make_lm, texts):
    lm = make_lm("llama")
    with torch.no_grad():
        lm.model.lm_head.weight.zero_()
    found = perplexity(lm, texts)
    assert found.value == pytest.approx(300, rel=RATIO)
    assert found.stderr == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("bos", [False, True])
def test_windows_do_not_matter_where_the_text_fits(make_lm, texts, bos):
    lm = make_lm("llama", bos=bos)
    longest = max(len(row) for row in lm.encode(texts))
    whole = perplexity(lm, texts, window=128)
    same = perplexity(lm, texts, window=longest, stride=longest // 2)
    assert same.value == pytest.approx(whole.value, rel=RATIO)
    assert same.tokens == whole.tokens


@pytest.mark.parametrize("bos", [False, True])
def test_strided_windows_score_every_token_once_with_context(make_lm, bos):
    lm = make_lm("llama", bos=bos)
    text = "the dog went home in the rain " * 9
    ids = list(lm.tokenizer(text, add_special_tokens=False).input_ids)
    slots = [0, *ids] if bos else ids
    found = perplexity(lm, [text], window=32, stride=8)
    first = 1 if bos else 2
    assert found.tokens == len(slots) - first
    logs, scored = [], first
    while scored < len(slots):
        end = min(len(slots), 32 if scored == first else scored + 8)
        begin = max(end - 32, 0)
        context = slots[begin:scored]
        if bos:
            context[0] = 0
        logs += one_by_one(lm, context, slots[scored:end])
        scored = end
    assert found.value == pytest.approx(math.exp(-np.mean(logs)), rel=RATIO)
    assert perplexity(lm, [text]).tokens == found.tokens


@given(st.integers(0, 300), st.integers(3, 40), st.integers(1, 2), st.data())
def test_windows_cover_everything_but_the_first_once(length, window, begun, data):
    stride = data.draw(st.integers(1, window - 1))
    found = windows(length, window, stride, begun)
    scored = [i for _, first, end in found for i in range(first, end)]
    assert scored == list(range(begun, length))
    for start, first, end in found:
        assert 0 <= start < first < end
        assert end - start <= window


def test_the_standard_error_follows_the_spread_of_texts():
    lm = word_lm()
    texts = [f"{a} {b} the day" for a in ("it is", "You lost") for b in ("a", "good")]
    one, many = perplexity(lm, texts), perplexity(lm, texts * 25)
    assert many.value == pytest.approx(one.value, rel=RATIO)
    shrink = math.sqrt(3 / 99)
    assert many.stderr == pytest.approx(one.stderr * shrink, rel=1e-3)
    assert math.isnan(perplexity(lm, texts[:1]).stderr)


def test_perplexity_refuses_what_it_cannot_score(llama, texts):
    with pytest.raises(ValueError, match="nothing to score: 1 texts"):
        perplexity(llama, ["a"])
    with pytest.raises(ValueError, match="window 500 with stride 250 does not fit"):
        perplexity(llama, texts, window=500)
    with pytest.raises(ValueError, match="stride 8"):
        perplexity(llama, texts, window=8, stride=8)
    with pytest.raises(ValueError, match="choose 3 <= window <= 128"):
        perplexity(llama, texts, window=2, stride=1)


def test_what_a_sink_predicts_is_not_scored(make_lm):
    """Without BOS the second token of a text has no part in perplexity."""
    lm = make_lm("llama")
    ids = [lm.encode([text])[0] for text in ("xbcdef", "xbcdefg")]
    logs = [x for row in ids for x in one_by_one(lm, row[:2], row[2:])]
    found = perplexity(lm, ["xbcdef", "xbcdefg"])
    assert found.tokens == 9
    assert found.value == pytest.approx(math.exp(-np.mean(logs)), rel=RATIO)
    assert perplexity(lm, ["xy", "xbcdef", "xbcdefg"]).value == found.value


def test_characters_and_a_small_context(unpadded):
    found = perplexity(unpadded, ["the dog went home " * 30])
    assert found.tokens == 18 * 30 - 2
    assert found.stderr > 0
