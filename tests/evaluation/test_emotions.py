"""Emotion accuracy: the published metric, its fallbacks, and the published file."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from contrans.data import EMOTIONS
from contrans.evaluation import EmotionTask, evaluate, make_task, paper_emotion_task
from contrans.evaluation.tasks.emotions import fewshot_prefix, published_ids
from contrans.library.concepts import load_concept
from contrans.models.edits import NoControl

sys.path.insert(0, str(Path(__file__).parents[1]))
from eval_models import WORDS, Oracle, word_lm

SHARED = Path(__file__).parents[3] / "shared" / "data" / "emotions" / "contrans"
LINE = "\nThe emotion of the above scenario is"
OTHERS = tuple(f"Scenario: You {what}.{LINE}" for what in ("lost", "won", "found keys"))
FEARS = (f"Scenario: You lost your money.{LINE}",)


def fear(**options):
    return EmotionTask(OTHERS, "fear", positives=FEARS, **options)


# The metric


def test_a_model_that_says_the_emotion_has_full_accuracy():
    with Oracle(word_lm(), {"fear": 50.0}) as lm:
        measured = fear().measure(lm)
    assert measured.metric == "token accuracy"
    assert measured.values.tolist() == [1, 1, 1]
    assert measured.extra["logit accuracy"].tolist() == [1, 1, 1]
    assert measured.extra["logit accuracy on positives"].tolist() == [1]


def test_logit_accuracy_compares_the_six_where_another_token_wins():
    with Oracle(word_lm(), {"the": 90.0, "fear": 50.0}) as lm:
        measured = fear().measure(lm)
    assert measured.extra["logit accuracy"].tolist() == [1, 1, 1]
    assert measured.values.tolist() == [0, 0, 0]


def test_a_model_that_says_another_emotion_has_none():
    with Oracle(word_lm(), {"anger": 90.0, "fear": 50.0}) as lm:
        measured = fear().measure(lm)
    assert measured.values.tolist() == [0, 0, 0]


def test_logit_accuracies_of_the_six_sum_to_one():
    lm = word_lm()
    measured = [EmotionTask(OTHERS, e).measure(lm) for e in EMOTIONS]
    rows = [one.extra["logit accuracy"] for one in measured]
    assert np.array_equal(np.sum(rows, axis=0), np.ones(3))


def test_the_margin_tells_what_a_floored_accuracy_hides():
    margins = []
    for boost, loose in ((40.0, 0), (60.0, 1)):
        with Oracle(word_lm(), {"the": 90.0, "anger": 50.0, "fear": boost}) as lm:
            measured = fear().measure(lm)
        assert measured.fine == "margin"
        assert measured.values.tolist() == [0, 0, 0]
        assert measured.extra["logit accuracy"].tolist() == [loose] * 3
        margins.append(measured.extra["margin"])
    assert margins[1] - margins[0] == pytest.approx([20.0] * 3, abs=1e-4)
    assert (margins[0] < 0).all()
    assert (margins[1] > 0).all()


def test_negative_prompts_are_measured_and_positives_are_an_extra():
    concept = load_concept("anger")
    task = make_task(concept, "test", limit=7)
    assert task.texts == (*concept.test.negative[:7], *concept.test.positive[:7])
    assert task.chance is None
    measured = task.measure(word_lm())
    assert len(measured.values) == 7


def test_another_answer_joins_the_six(tmp_path):
    texts = [[f"Scenario: {i} a.{LINE}", f"Scenario: {i} b.{LINE}"] for i in range(10)]
    path = tmp_path / "pride.json"
    path.write_text(json.dumps(texts))
    task = make_task(load_concept(path, answer="pride"), "test")
    assert task.options == (*EMOTIONS, "pride")
    with pytest.raises(ValueError, match="'pride' is not one of the options"):
        EmotionTask(OTHERS, "pride")


# Fallbacks


def test_characters_are_compared_by_whole_words(unpadded):
    measured = fear().measure(unpadded)
    assert measured.metric == "word accuracy"
    assert "greedy word accuracy" in measured.extra
    assert any("share their first token" in note for note in measured.notes)
    rows = [EmotionTask(OTHERS, e).measure(unpadded).values for e in EMOTIONS]
    assert np.array_equal(np.sum(rows, axis=0), np.ones(3))


def test_vague_first_tokens_are_told():
    lm = word_lm()
    words = (*EMOTIONS, "good day")
    task = EmotionTask(OTHERS, "fear", options=words)
    notes = task.measure(lm).notes
    assert any("'good' of 'good day'" in note for note in notes)
    assert not any("first sub-token" in note for note in fear().measure(lm).notes)


def test_demonstrations_are_put_in_front_where_they_fit():
    prefix = fewshot_prefix()
    assert all(f"scenario is {emotion}." in prefix for emotion in EMOTIONS)
    long, short = word_lm(context=512), word_lm(context=64)
    with_them = fear(fewshot=True)
    assert not with_them.measure(long).notes
    spelled = EmotionTask(
        tuple(prefix + t for t in OTHERS), "fear", positives=FEARS
    ).measure(long)
    assert np.array_equal(with_them.measure(long).values, spelled.values)
    assert any("zero-shot" in note for note in with_them.measure(short).notes)


def test_prompts_longer_than_the_context_are_told():
    notes = fear().measure(word_lm(context=12)).notes
    assert any("lost their beginning" in note for note in notes)


# The published protocol


def test_published_ids_follow_the_family():
    expected = [WORDS.index(emotion) for emotion in EMOTIONS]
    assert published_ids(word_lm("llama", bos=True)) == expected
    assert published_ids(word_lm("gpt_neox")) == expected
    assert published_ids(word_lm("llama")) is None


def test_the_published_rule_is_refused_where_it_would_miss_the_space(llama_bos):
    assert published_ids(llama_bos) is None


def test_other_families_use_their_own_rule_and_say_so():
    task = fear(ids="published")
    assert any("published rule" in note for note in task.measure(word_lm()).notes)
    with_bos = task.measure(word_lm(bos=True))
    assert not with_bos.notes
    assert np.array_equal(with_bos.values, fear().measure(word_lm(bos=True)).values)


def test_the_paper_task_says_in_sample(tmp_path):
    path = tmp_path / "eval_fear.json"
    path.write_text(json.dumps({"pos": list(FEARS) * 1, "neg": [OTHERS[0]]}))
    task = paper_emotion_task(path, path)
    measured = task.measure(word_lm(bos=True))
    assert task.answer == "fear"
    assert task.metric == measured.metric == "token accuracy (in-sample, as published)"
    assert all("in-sample, as published" in name for name in measured.extra)
    assert "2 of 2 tested scenarios also made the vector" in measured.notes
    apart = tmp_path / "refine.json"
    apart.write_text(json.dumps({"pos": ["Quite another"], "neg": ["And one more"]}))
    held_out = paper_emotion_task(path, apart)
    assert held_out.metric == "token accuracy"
    assert "0 of 2 tested scenarios also made the vector" in held_out.notes
    unknown = paper_emotion_task(path)
    assert unknown.metric == "token accuracy (published prompts)"
    assert any("is not known" in note for note in unknown.notes)
    other = tmp_path / "mine.json"
    other.write_text(path.read_text())
    with pytest.raises(ValueError, match="say which emotion it tests"):
        paper_emotion_task(other)
    assert paper_emotion_task(other, answer="anger").answer == "anger"


def test_the_published_files_run():
    path = SHARED / "eval_anger.json"
    if not path.is_file():
        pytest.skip("the published emotion files are not beside the project")
    task = paper_emotion_task(path, SHARED / "refine_anger.json", limit=3)
    assert "6 of 6 tested scenarios also made the vector" in task.notes
    lm = word_lm(bos=True, context=512)
    results = evaluate(lm, task, {"base": NoControl()})
    assert "in-sample, as published" in results.to_markdown()
    assert results.rows[0].n == 3
    assert len(paper_emotion_task(path).prompts) == 200
