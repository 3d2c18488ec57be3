"""Perplexity as a task: against single tokens, and against its own definition."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from contrans.control.steer import Steer
from contrans.data.documents import read_documents
from contrans.evaluation import evaluate, perplexity
from contrans.evaluation.tasks import perplexity as perplexity_task
from contrans.evaluation.tasks.perplexity import PerplexityTask
from contrans.models.edits import NoControl

sys.path.insert(0, str(Path(__file__).parents[1]))
from eval_models import one_by_one, word_lm

SHARED = Path(__file__).parents[3] / "shared" / "data" / "wikitext2"
TEXTS = ("it is a good day", "was it not", "the cold day is bad and the warm day good")


def losses(lm, text):
    ids = lm.encode([text])[0]
    known = len(lm.special_affixes[0]) or 2
    return [-x for x in one_by_one(lm, ids[:known], ids[known:])]


@pytest.mark.parametrize("bos", [True, False])
def test_it_equals_single_tokens(bos):
    lm = word_lm(bos=bos)
    found = [losses(lm, text) for text in TEXTS]
    total, tokens = sum(map(sum, found)), sum(map(len, found))
    words = sum(len(text.split()) for text in TEXTS)
    by_token = PerplexityTask(TEXTS).measure(lm)
    assert by_token.values.mean() == pytest.approx(total / tokens, rel=1e-6)
    extra = {name: float(value.mean()) for name, value in by_token.extra.items()}
    assert extra["perplexity per token"] == pytest.approx(
        math.exp(total / tokens), rel=1e-5
    )
    assert extra["perplexity per word"] == pytest.approx(
        math.exp(total / words), rel=1e-5
    )
    assert (extra["tokens"], extra["words"]) == (tokens, words)
    by_word = PerplexityTask(TEXTS, per="word").measure(lm)
    assert by_word.values.mean() == pytest.approx(total / words, rel=1e-6)
    whole = perplexity(lm, TEXTS)
    assert extra["perplexity per token"] == pytest.approx(whole.value, rel=1e-9)
    error = by_token.values.std(ddof=1) / math.sqrt(len(TEXTS)) * whole.value
    assert error == pytest.approx(whole.stderr, rel=1e-6)


def test_differences_between_controls_are_exact(make_vector, llama):
    task = PerplexityTask(("The dog saw", "a red house in the rain", "home"))
    results = evaluate(
        llama,
        task,
        {"base": NoControl(), "steered": Steer(make_vector(llama, length=1.0))},
    )
    one, two = results.rows
    gap = math.log(
        two.extra["perplexity per token"] / one.extra["perplexity per token"]
    )
    assert two.difference is not None
    assert two.difference.value == pytest.approx(gap, abs=1e-6)
    assert not two.higher_is_better


def test_windows_score_every_token_once():
    lm = word_lm()
    text = " ".join(TEXTS)
    whole = PerplexityTask((text,)).measure(lm)
    cut = PerplexityTask((text,), window=6, stride=2).measure(lm)
    assert cut.extra["tokens"].tolist() == whole.extra["tokens"].tolist()
    assert not np.allclose(cut.values, whole.values)
    with pytest.raises(ValueError, match="stride 9"):
        PerplexityTask((text,), window=6, stride=9).measure(lm)


def test_documents_of_every_kind(tmp_path):
    wiki = tmp_path / "wiki.raw"
    wiki.write_text(" = A = \r\n text a \n = = B = = \n more \n = C = \n text c \n")
    articles = read_documents(wiki)
    assert [a.split("\n")[0].strip() for a in articles] == ["= A =", "= C ="]
    assert "more" in articles[0]
    assert len(read_documents(wiki, cut="file")) == 1
    assert len(read_documents(wiki, cut="lines", limit=3)) == 3
    plain = tmp_path / "a.txt"
    plain.write_text("one\n\ntwo\n")
    assert read_documents(plain) == ("one", "two")
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"text": "one\\ntwo"}\n{"text": "three"}\n')
    assert read_documents(rows) == ("one\ntwo", "three")
    with pytest.raises(ValueError, match="no headings"):
        read_documents(plain, cut="articles")
    with pytest.raises(KeyError, match="unknown cut 'line'"):
        getattr(read_documents, "__wrapped__", read_documents)(plain, cut="line")


def test_wikitext_on_a_zoo_model():
    path = SHARED / "wiki.test.raw"
    if not path.is_file():
        pytest.skip("the WikiText-2 files are not beside the project")
    from contrans.models.loading import load_model

    assert len(read_documents(path)) == 62
    lm = load_model("zoo/small")
    text = read_documents(path, cut="lines", limit=3)[1][:300]
    measured = PerplexityTask((text,)).measure(lm)
    found = losses(lm, text)
    assert measured.values.mean() == pytest.approx(np.mean(found), rel=1e-4)


def test_a_piece_with_nothing_to_score_is_part_of_the_whole(llama, monkeypatch):
    """Documents of a token or two cost nothing; only when all are such is it an error."""
    texts = ("a red house in the rain", "a", "no")
    whole = PerplexityTask(texts).measure(llama)
    assert whole.notes == ("2 documents with nothing to score were left out",)
    monkeypatch.setattr(perplexity_task, "PIECE", 1)
    again = PerplexityTask(texts).measure(llama)
    assert again.values == pytest.approx(whole.values, rel=1e-6)
    assert again.notes == whole.notes
    with pytest.raises(ValueError, match="all 2 documents are of two tokens at most"):
        PerplexityTask(texts[1:]).measure(llama)
