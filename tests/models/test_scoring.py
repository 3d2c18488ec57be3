"""Log-probabilities, multiple choice and likelihood against one token at a time."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from contrans.control.steer import Steer
from contrans.core.seeds import generator
from contrans.core.types import PromptPairs
from contrans.data import Item
from contrans.evaluation import ChoicesTask, LikelihoodTask, make_task
from contrans.library.concepts import load_concept
from contrans.models import scoring
from contrans.models.kv_cache import refuse_overflow
from contrans.models.scoring import (
    continuation_ids,
    fit,
    last_token_logits,
    score_continuations,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from eval_models import EXACT, Oracle, one_by_one, word_lm

ITEMS = (
    Item("a", "The day was", (" warm", " cold and long", " good"), 0),
    Item("b", "It is", (" the dog", " a house in the rain"), 1),
    Item("c", "Yes", (" no", " yes", " perhaps so", " never"), 2),
)


def drawn_items(lm, seed=0, n=9):
    rng = random.Random(seed)
    top = lm.model.config.get_text_config().vocab_size

    def ids(length):
        return [rng.randrange(3, top) for _ in range(length)]

    return [(ids(rng.randint(1, 9)), ids(rng.randint(1, 6))) for _ in range(n)]


# Scores of continuations


def test_scores_equal_one_token_at_a_time_in_every_family(lm):
    items = drawn_items(lm)
    found = score_continuations(lm, items)
    for i, (context, continuation) in enumerate(items):
        expected = one_by_one(lm, context, continuation)
        assert float(found.total[i]) == pytest.approx(sum(expected), abs=EXACT)
        assert found.tokens[i] == len(continuation)


def test_scores_under_a_control_equal_one_token_at_a_time(lm, make_vector):
    items = drawn_items(lm, n=4)
    plain = score_continuations(lm, items).total
    with Steer(make_vector(lm), layers=(1,), strength=2.0).on(lm):
        found = score_continuations(lm, items).total
        expected = [sum(one_by_one(lm, *item)) for item in items]
    assert found.tolist() == pytest.approx(expected, abs=EXACT)
    assert not torch.allclose(found, plain, atol=EXACT)
    assert torch.equal(score_continuations(lm, items).total, plain)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 200), st.integers(0, 5))
def test_the_size_of_batches_does_not_matter(budget, seed):
    lm = word_lm()
    items = drawn_items(lm, seed)
    small = score_continuations(lm, items, tokens_per_batch=budget)
    large = score_continuations(lm, items, tokens_per_batch=10_000)
    assert torch.allclose(small.total, large.total, atol=EXACT)
    assert torch.equal(small.greedy, large.greedy)


def test_greedy_marks_what_generation_writes(gpt2):
    context = gpt2.encode(["the dog"])[0]
    ids = gpt2.model.generate(
        torch.tensor([context]), max_new_tokens=4, do_sample=False, pad_token_id=2
    )
    written = ids[0, len(context) :].tolist()
    other = [*written[:-1], (written[-1] + 1) % 300]
    found = score_continuations(gpt2, [(context, written), (context, other)])
    assert found.greedy.tolist() == [True, False]


def test_last_token_logits_do_not_depend_on_neighbours(lm, texts):
    rows = lm.encode(texts)
    seen = dict(last_token_logits(lm, rows))
    assert sorted(seen) == list(range(len(rows)))
    for i in (0, 4, 8):
        with torch.no_grad():
            alone = lm.model(input_ids=torch.tensor([rows[i]])).logits[0, -1]
        assert torch.allclose(seen[i], alone, atol=EXACT)


def test_a_capped_model_is_scored_with_its_cap(make_lm):
    lm = make_lm("gemma2", final_logit_softcapping=0.5)
    items = drawn_items(lm, n=3)
    expected = [sum(one_by_one(lm, *item)) for item in items]
    found = score_continuations(lm, items).total.tolist()
    assert found == pytest.approx(expected, abs=EXACT)
    logits = next(last_token_logits(lm, [[5, 6]]))[1]
    assert logits.abs().max() <= 0.5


def test_a_model_without_logits_to_keep_is_scored_the_same(make_lm, monkeypatch):
    lm = make_lm("gpt2")
    items = drawn_items(lm)
    expected = score_continuations(lm, items).total
    forward = lm.model.forward

    def older(input_ids=None, attention_mask=None, use_cache=None):
        return forward(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache
        )

    monkeypatch.setattr(lm.model, "forward", older)
    assert torch.allclose(score_continuations(lm, items).total, expected, atol=EXACT)


def test_long_contexts_lose_their_beginning_but_not_bos(llama_bos):
    ids = list(range(3, 203))
    kept = fit(llama_bos, [0, *ids], [7, 8])
    assert kept == [0, *ids[-125:]]
    assert len(kept) + 2 == llama_bos.context
    with pytest.raises(ValueError, match="continuation of 128 tokens does not fit"):
        fit(llama_bos, [0], [5] * 128)


def test_empty_items_and_nan_are_refused(llama, make_lm):
    with pytest.raises(ValueError, match="item 0 has an empty continuation"):
        score_continuations(llama, [([3], [])])
    with pytest.raises(ValueError, match="item 0 has an empty context"):
        score_continuations(llama, [([], [3])])
    broken = make_lm("gpt2")
    with torch.no_grad():
        broken.blocks[0].mlp.c_proj.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite logits in 'tiny-gpt2'"):
        score_continuations(broken, [([3], [4])])


@pytest.mark.parametrize("at_once", [1, 21, 1 << 19])
@pytest.mark.parametrize("slots", [[0, 1, 2, 3, 3, 1], [2, 0, 2]])
def test_log_probabilities_of_any_rows_in_any_pieces(monkeypatch, at_once, slots):
    monkeypatch.setitem(scoring.AT_ONCE, "cpu", at_once)
    logits = 5 * torch.randn(4, 7, generator=generator(0))
    logits[1, 2] = -torch.inf  # a token that is masked out
    slot = torch.tensor(slots)
    target = torch.arange(len(slots))
    target[0] = logits[slot[0]].argmax()
    found, greedy = scoring._log_probabilities(logits, slot, target)
    expected = logits.double().log_softmax(-1)[slot, target]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(greedy, logits.argmax(-1)[slot] == target)
    assert greedy.any()
    assert not greedy.all()


def test_infinite_logits_are_refused_and_masked_ones_are_not(llama):
    logits = torch.zeros(2, 3)
    logits[0, 1] = -torch.inf
    refuse_overflow(llama, logits)
    for broken in (torch.inf, torch.nan):
        logits[1, 2] = broken
        with pytest.raises(ValueError, match="NaN or infinite logits"):
            refuse_overflow(llama, logits)


def test_continuation_ids_are_how_the_tokenizer_goes_on(llama, unpadded):
    assert continuation_ids(llama, "It is", " hot") == llama.encode([" hot"])[0]
    ids = continuation_ids(unpadded, "it is", " hot")
    assert unpadded.tokenizer.decode(ids) == " hot"
    words = word_lm()
    assert continuation_ids(words, "it is", " good") == words.encode(["good"])[0]
    with pytest.raises(ValueError, match="has no tokens"):
        continuation_ids(words, "it is", " ")


def test_progress_counts_items(llama):
    seen = []
    items = drawn_items(llama)
    score_continuations(
        llama, items, tokens_per_batch=8, progress=lambda *step: seen.append(step)
    )
    assert seen[-1] == (len(items), len(items))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# Multiple choice


def test_choices_equal_summed_log_probabilities(lm):
    measured = ChoicesTask(ITEMS).measure(lm)
    for row, item in enumerate(ITEMS):
        context = lm.encode([item.prompt])[0]
        sums = [
            sum(one_by_one(lm, context, continuation_ids(lm, item.prompt, choice)))
            for choice in item.choices
        ]
        others = [s for i, s in enumerate(sums) if i != item.answer]
        margin = sums[item.answer] - max(others)
        assert measured.extra["margin"][row] == pytest.approx(margin, abs=EXACT)
        assert measured.values[row] == (margin > 0)


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_options_does_not_matter(rng):
    lm = word_lm()
    words = [" good", " bad", " warm and cold", " the day"]
    shuffled = rng.sample(words, len(words))
    task = ChoicesTask((Item("a", "it is", tuple(words), 1),))
    other = ChoicesTask((Item("a", "it is", tuple(shuffled), shuffled.index(" bad")),))
    one, two = task.measure(lm), other.measure(lm)
    assert np.array_equal(one.values, two.values)
    assert np.allclose(one.extra["margin"], two.extra["margin"], atol=EXACT)


@pytest.mark.parametrize("order", [(" it", " is", " was"), (" was", " it", " is")])
def test_ties_go_to_the_alphabetically_first(order):
    lm = word_lm()
    with torch.no_grad():
        lm.model.lm_head.weight.zero_()
    for word in order:
        task = ChoicesTask((Item("a", "the", order, order.index(word)),))
        assert task.measure(lm).values[0] == (word == " is")


def test_choices_know_their_chance_and_refuse_bad_answers():
    assert ChoicesTask(ITEMS).chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4) / 3)
    with pytest.raises(ValueError, match="3 choices and the answer 3"):
        ChoicesTask((Item("a", "It", (" a", " b", " c"), 3),))


# Likelihood of held-out pairs


def test_likelihood_is_per_token_behind_the_shared_beginning(lm):
    pairs = PromptPairs(("It was a warm day",), ("It was cold",))
    measured = LikelihoodTask(pairs).measure(lm)
    plus, minus = lm.encode([pairs.positive[0], pairs.negative[0]])
    cut = len(lm.encode(["It was "])[0])
    means = [np.mean(one_by_one(lm, ids[:cut], ids[cut:])) for ids in (plus, minus)]
    margin = means[0] - means[1]
    assert measured.extra["margin"][0] == pytest.approx(margin, abs=EXACT)
    assert measured.values[0] == (margin > 0)


def test_likelihood_sees_what_a_model_prefers():
    pairs = PromptPairs(("it is good",), ("it is bad",))
    with Oracle(word_lm(), {"good": 20.0}) as lm:
        assert LikelihoodTask(pairs).measure(lm).values[0] == 1
    with Oracle(word_lm(), {"bad": 20.0}) as lm:
        assert LikelihoodTask(pairs).measure(lm).values[0] == 0


def test_likelihood_swaps_sign_with_the_sides(unpadded):
    sides = ("it is a day", "we are so good"), ("no it was", "they are not")
    there = LikelihoodTask(PromptPairs(*sides)).measure(unpadded)
    back = LikelihoodTask(PromptPairs(*reversed(sides))).measure(unpadded)
    assert np.allclose(there.extra["margin"], -back.extra["margin"], atol=EXACT)
    assert np.array_equal(there.values, 1 - back.values)


def test_likelihood_works_where_one_text_begins_the_other(gpt2):
    pairs = PromptPairs(("It was",), ("It was cold",))
    assert np.isfinite(LikelihoodTask(pairs).measure(gpt2).extra["margin"]).all()
    with pytest.raises(ValueError, match="pair 0 of 'concept' has a text of one token"):
        LikelihoodTask(PromptPairs(("a",), ("bb",))).measure(gpt2)


# Tasks of concepts


@pytest.mark.parametrize("name", ["anger", "honesty", "fairness", "politeness"])
def test_every_kind_of_pack_has_a_task_that_measures(name, unpadded, llama_bos):
    concept = load_concept(name)
    task = make_task(concept, "validate", limit=3)
    for lm in (unpadded, llama_bos):
        measured = task.measure(lm)
        assert len(measured.values) == 3
        assert set(measured.values) <= {0.0, 1.0}
    test = make_task(concept, "test")
    assert not set(task.texts) & set(test.texts)


def test_make_task_refuses_other_splits_and_limits():
    concept = load_concept("anger")
    with pytest.raises(KeyError, match="unknown held-out split 'refine'"):
        getattr(make_task, "__wrapped__", make_task)(concept, "refine")
    with pytest.raises(ValueError, match="limit 0 leaves nothing"):
        make_task(concept, "test", limit=0)
