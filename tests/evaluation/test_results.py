"""evaluate(): rows, pairing, tables; and what models write."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from contrans.control.steer import Steer
from contrans.core.types import PromptPairs
from contrans.evaluation import (
    ContinuationsTask,
    LikelihoodTask,
    Task,
    evaluate,
    paired_difference,
    perplexity,
)
from contrans.evaluation.tasks.continuations import marker
from contrans.models.edits import NoControl

sys.path.insert(0, str(Path(__file__).parents[1]))
from eval_models import Oracle, word_lm

PAIRS = PromptPairs(
    ("it was warm", "the day was good", "a dog in rain", "no it is"),
    ("it was cold", "the day was bad", "a dog in sun", "yes it is"),
)


# What models write


def test_stems_match_at_the_start_of_words_only():
    pattern = marker(("rude", "dim-wit", "cannot be", r"[lt]azy$"))
    for text in ("Rudeness", "a DIM-WITTED one", "it cannot be", "very tazy"):
        assert pattern.search(text), text
    for text in ("a crude oil", "dimwit", "lazy people"):
        assert not pattern.search(text), text
    with pytest.raises(ValueError, match="no marked words"):
        marker(())
    with pytest.raises(ValueError, match=r"'\(x' is neither a word stem nor"):
        marker(("(x",))


def test_the_share_of_marked_continuations():
    task = ContinuationsTask(("it is", "the day"), ("rude",), "unkind")
    assert task.metric == "share unkind"
    with Oracle(word_lm(), {"rude": 90.0}) as lm:
        assert task.measure(lm).values.tolist() == [1, 1]
    with Oracle(word_lm(), {"kind": 90.0}) as lm:
        assert task.measure(lm).values.tolist() == [0, 0]


@pytest.mark.parametrize("better", [True, False])
def test_pairs_give_continuations_a_finer_score(llama, better):
    task = ContinuationsTask(
        ("it is", "the day"), ("rude",), pairs=PAIRS, higher_is_better=better
    )
    measured = task.measure(llama)
    margin = LikelihoodTask(PAIRS).measure(llama).extra["margin"]
    assert measured.fine == "margin"
    assert measured.extra["margin"] == pytest.approx(margin if better else -margin)
    assert len(measured.values) == 2
    assert set(PAIRS.positive + PAIRS.negative) <= set(task.texts)


def test_only_the_first_line_counts(monkeypatch):
    task = ContinuationsTask(("it is",), ("rude",), "unkind")
    for text, value in (("\n kind\nrude", 0), (" rude\nkind", 1), ("", 0)):
        lm = word_lm()
        monkeypatch.setattr(type(lm), "generate", lambda *_a, text=text, **_k: [text])
        assert task.measure(lm).values.tolist() == [value]


def test_batches_write_what_single_prompts_write(gpt2, texts):
    many = ContinuationsTask(tuple(texts), ("x",), max_new_tokens=8).generate(gpt2)
    for i in (0, 7, 13):
        one = ContinuationsTask((texts[i],), ("x",), max_new_tokens=8).generate(gpt2)
        assert one == [many[i]]


def test_prompts_that_leave_no_room_are_refused(gpt2):
    near = ContinuationsTask(("a" * 120,), ("x",))
    assert len(near.measure(gpt2).values) == 1
    with pytest.raises(ValueError, match="fills the context of 'tiny-gpt2'"):
        ContinuationsTask(("a" * 128,), ("x",)).measure(gpt2)


# evaluate()


def test_tasks_follow_the_protocol():
    assert isinstance(LikelihoodTask(PAIRS), Task)
    assert isinstance(ContinuationsTask(("a",), ("b",)), Task)


def test_rows_hold_the_numbers_of_their_own_control(llama, make_vector, texts):
    task = LikelihoodTask(PAIRS)
    steer = Steer(make_vector(llama), strength=3.0)
    steps = []
    results = evaluate(
        llama,
        task,
        {"base": NoControl(), "steered": steer},
        perplexity_texts=texts,
        progress=lambda *step: steps.append(step),
    )
    plain = task.measure(llama)
    with steer.on(llama):
        edited, fluency = task.measure(llama), perplexity(llama, texts)
    base, row = results.rows
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (base.difference, base.perplexity_ratio) == (None, 1.0)
    assert row.score.value == edited.values.mean()
    assert row.extra["margin"] == pytest.approx(edited.extra["margin"].mean())
    assert row.perplexity == fluency
    assert row.perplexity_ratio == fluency.value / base.perplexity.value
    difference = row.difference
    assert (difference.value, difference.low, difference.high) == paired_difference(
        edited.values, plain.values
    )
    assert (row.n, row.chance) == (4, 0.5)


def test_no_control_changes_nothing(llama):
    controls = {"one": NoControl(), "two": NoControl()}
    rows = evaluate(llama, [LikelihoodTask(PAIRS)], controls, baseline="two").rows
    assert rows[0].score == rows[1].score
    assert rows[0].difference.value == 0.0
    assert rows[1].difference is None


def test_the_table_shows_n_chance_intervals_and_perplexity(llama, texts):
    task = LikelihoodTask(PAIRS, name="a|b")
    controls = {"base": NoControl(), "other": NoControl()}
    table = evaluate(llama, task, controls, perplexity_texts=texts).to_markdown()
    table, said = table.split("\n\n")
    assert said == (
        "- a|b: only 4 items: fewer than 20 are too few for a firm interval"
    )
    lines = table.splitlines()
    assert len(lines) == 4
    for word in ("95%", "n", "chance", "perplexity", "change from base"):
        assert word in lines[0]
    assert "a\\|b: positive preferred" in lines[2]
    assert "| 4 | 0.500 |" in lines[2]
    assert "+0.000 [-0.490, +0.490]" in lines[3]  # of 4 items, none changed
    assert "(1.000)" in lines[3]


def test_json_has_every_number_and_no_nan(llama):
    results = evaluate(
        llama, LikelihoodTask(PAIRS), {"base": NoControl()}, perplexity_texts=["a word"]
    )
    assert math.isnan(results.rows[0].perplexity.stderr)
    found = json.loads(results.to_json())
    assert found["rows"][0]["perplexity"]["stderr"] is None
    assert found["rows"][0]["score"]["value"] == results.rows[0].score.value
    assert found["fingerprint"] == llama.fingerprint


def test_perplexity_alone_is_a_table_too(llama, texts):
    results = evaluate(llama, [], {"base": NoControl()}, perplexity_texts=texts)
    assert results.rows[0].score is None
    assert f"{results.rows[0].perplexity.value:.2f}" in results.to_markdown()


def test_notes_come_with_the_results(unpadded):
    from contrans.evaluation import make_task
    from contrans.library.concepts import load_concept

    task = make_task(load_concept("anger"), "test", limit=2)
    results = evaluate(unpadded, task, {"base": NoControl()})
    assert results.rows[0].metric == "word accuracy"
    assert "share their first token" in results.to_markdown()


def test_evaluate_refuses_nothing_and_unknown_baselines(llama):
    task = LikelihoodTask(PAIRS)
    with pytest.raises(ValueError, match="nothing to measure"):
        evaluate(llama, [], {"base": NoControl()})
    with pytest.raises(ValueError, match="nothing to measure"):
        evaluate(llama, task, {})
    with pytest.raises(
        ValueError, match="'x' is none of the controls; choose one of b"
    ):
        evaluate(llama, task, {"base": NoControl()}, baseline="x")
    with pytest.raises(ValueError, match="different names"):
        evaluate(llama, [task, task], {"base": NoControl()})


def test_hooks_are_gone_when_a_task_fails(llama, make_vector):
    class Broken:
        name, metric, chance, higher_is_better, texts = "broken", "m", None, True, ()

        def measure(self, lm):
            raise RuntimeError(lm.name)

    before = LikelihoodTask(PAIRS).measure(llama).extra["margin"]
    with pytest.raises(RuntimeError):
        evaluate(llama, Broken(), {"x": Steer(make_vector(llama), strength=9.0)})
    after = LikelihoodTask(PAIRS).measure(llama).extra["margin"]
    assert np.array_equal(before, after)
