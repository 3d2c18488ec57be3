"""ToxiGen: reading, generating to the line's end, classifying, copying."""

import csv
import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from contrans.data.toxigen import read_labelled, read_prompts, toxicity_pairs
from contrans.evaluation import named_task
from contrans.evaluation.tasks.classifiers import HubClassifier, LogisticClassifier
from contrans.evaluation.tasks.toxigen import ToxigenTask, copy_rate, first_lines

sys.path.insert(0, str(Path(__file__).parents[1]))

SHARED = Path(__file__).parents[3] / "shared" / "data" / "toxigen"
GOOD = [f"number {i} is kind and warm and good" for i in range(60)]
BAD = [f"number {i} is rude and cold and bad" for i in range(60)]


@pytest.fixture
def folder(tmp_path):
    """Prompts and labels as they are published."""
    for group in ("cats", "dogs"):
        lines = [f"- {group} say {i}\\n- they are_x000D_\\n-" for i in range(9)]
        (tmp_path / f"hate_{group}_1k.txt").write_text("\n".join(lines))
    rows = [(f"b'{t}'", 1, 1) for t in GOOD] + [(f'b"{t}"', 4, 5) for t in BAD]
    with gzip.open(tmp_path / "annotated_train.csv.gz", "wt", newline="") as sink:
        table = csv.writer(sink)
        table.writerow(["text", "toxicity_ai", "toxicity_human", "label"])
        table.writerows([(*row, "hate") for row in rows])
    return tmp_path


class Judge:
    """Calls toxic whatever holds a word."""

    name = "judge"

    def __init__(self, word):
        self.word = word

    def probabilities(self, texts):
        return np.array([0.9 if self.word in text else 0.2 for text in texts])


def test_prompts_come_evenly_from_the_groups(folder):
    prompts = read_prompts(folder, limit=6)
    assert sum("cats" in p for p in prompts) == 3
    assert all(
        p.endswith("\n-") and "\\n" not in p and "_x000D_" not in p for p in prompts
    )
    assert read_prompts(folder, limit=6) == prompts
    assert read_prompts(folder, limit=6, seed=1) != prompts
    assert len(read_prompts(folder, per_group=2)) == 4
    assert len(read_prompts(folder / "hate_cats_1k.txt")) == 9
    with pytest.raises(ValueError, match="no 'neutral' prompts"):
        read_prompts(folder, kind="neutral")


def test_labels_are_the_authors_own_target(folder):
    texts, toxic = read_labelled(folder / "annotated_train.csv.gz")
    assert texts == [*GOOD, *BAD]
    assert toxic == [False] * 60 + [True] * 60
    pairs = toxicity_pairs(folder / "annotated_train.csv.gz", count=10)
    assert "kind" in pairs.positive[0]
    assert "rude" in pairs.negative[0]
    assert pairs.negative[0].startswith("[INST] Consider the bias of the following")


def test_the_classifiers_figures_equal_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
    from sklearn.model_selection import train_test_split

    rng = np.random.default_rng(0)
    texts, labels = [], []
    for i in range(300):
        toxic = bool(i % 3 == 0)
        words = rng.choice(
            ["bad", "cold", "day"] if toxic else ["good", "warm", "day"], 3
        )
        noise = rng.choice(["good", "bad", "it", "was"], 4)
        texts.append(f"{' '.join(words)} {' '.join(noise)} {i}")
        labels.append(toxic)
    found = LogisticClassifier.train(texts, labels, seed=3)
    seen, held, y_seen, y_held = train_test_split(
        texts,
        np.array(labels, dtype=int),
        test_size=0.2,
        random_state=3,
        stratify=labels,
    )
    again = LogisticClassifier.train(seen, y_seen.astype(bool).tolist())
    p = again.probabilities(held)
    assert found.report["accuracy"] == pytest.approx(accuracy_score(y_held, p > 0.5))
    assert found.report["f1"] == pytest.approx(f1_score(y_held, p > 0.5))
    assert found.report["auroc"] == pytest.approx(roc_auc_score(y_held, p))
    # AUROC is the share of pairs that are in the right order.
    gaps = p[y_held == 1][:, None] - p[y_held == 0][None]
    pairs = ((gaps > 0) + 0.5 * (gaps == 0)).mean()
    assert found.report["auroc"] == pytest.approx(pairs)
    assert found.probabilities([]).shape == (0,)


def test_too_few_labels_are_refused():
    with pytest.raises(ValueError, match="at least 20 of each"):
        LogisticClassifier.train(["a", "b"] * 10, [True] * 19 + [False])


def test_a_hub_classifier_is_the_softmax_of_its_model(tmp_path, make_lm):
    from transformers import RobertaConfig, RobertaForSequenceClassification

    lm = make_lm("llama")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RobertaForSequenceClassification(
            RobertaConfig(
                vocab_size=300,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                pad_token_id=2,
                max_position_embeddings=64,
                num_labels=2,
            )
        ).eval()
    model.save_pretrained(tmp_path / "judge")
    lm.tokenizer.save_pretrained(tmp_path / "judge")
    judge = HubClassifier.load(tmp_path / "judge")
    texts = ["a bad day", "good"]
    found = judge.probabilities(texts)
    for text, p in zip(texts, found, strict=True):
        ids = torch.tensor([lm.tokenizer(text).input_ids])
        with torch.no_grad():
            logits = model(ids, attention_mask=torch.ones_like(ids)).logits
        wanted = logits.softmax(-1)
        assert p == pytest.approx(float(wanted[0, 1]), abs=1e-5)
    with pytest.raises(ValueError, match="class 5 of"):
        HubClassifier.load(tmp_path / "judge", positive=5)
    with pytest.raises(FileNotFoundError, match="classifier=logistic"):
        HubClassifier.load(tmp_path / "nothing")


def test_generation_stops_at_the_line_and_equals_plain_generation(llama):
    prompts = ["- the dog\n-", "- a red house in the rain\n-", "- it"]
    lines = first_lines(llama, prompts, max_new_tokens=12)
    plain = [llama.generate(p, max_new_tokens=12).partition("\n")[0] for p in prompts]
    assert lines == plain


def test_the_share_copies_and_empty_answers(llama, monkeypatch):
    written = ["", "they are bad", " nice"]
    monkeypatch.setattr(
        "contrans.evaluation.tasks.toxigen.first_lines", lambda *_a, **_k: written
    )
    prompts = ("bad things", "see how they are bad", "x")
    measured = ToxigenTask(prompts, Judge("bad")).measure(llama)
    assert measured.values.tolist() == [0, 1, 0]
    assert measured.extra["copy rate"].tolist() == [0, 1, 0]
    assert measured.extra["empty"].tolist() == [1, 0, 0]
    both = ToxigenTask(prompts, Judge("bad"), scored="both").measure(llama)
    assert both.values.tolist() == [1, 1, 0]


def test_copy_rate_is_the_longest_common_substring():
    def slow(a, b):
        spans = [b[i:j] for i in range(len(b)) for j in range(i + 1, len(b) + 1)]
        return max((len(s) for s in spans if s in a), default=0) / len(b)

    for a, b in (("the dog saw", "a dog sat"), ("abc", "xyz"), ("aabaa", "baab")):
        assert copy_rate(a, b) == slow(a, b)
    assert copy_rate("abc", "  ") == 0.0


def test_prompt_forms(llama):
    task = ToxigenTask(("- cats\n-",), Judge("x"), form="inst")
    wanted = "[INST] Complete the following[/INST]: - cats\n-"
    assert task.prompt(llama, "- cats\n-") == wanted
    assert ToxigenTask(("a",), Judge("x")).prompt(llama, "a") == "a"


def test_the_task_from_a_folder(folder, llama):
    task = named_task("toxigen", folder, limit=2, settings={"max_new_tokens": 3})
    assert not task.higher_is_better
    measured = task.measure(llama)
    assert len(measured.values) == 2
    assert any("held-out AUROC 1.00" in note for note in measured.notes)
    alone = folder / "elsewhere"
    alone.mkdir()
    (alone / "hate_cats_1k.txt").write_text("- a")
    (folder / "annotated_train.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match="labelled=FILE"):
        named_task("toxigen", alone)


def test_real_prompts_on_a_zoo_model():
    if not (SHARED / "prompts").is_dir():
        pytest.skip("the ToxiGen files are not beside the project")
    from contrans.models.loading import load_model

    task = named_task(
        "toxigen", SHARED / "prompts", limit=4, settings={"max_new_tokens": 8}
    )
    measured = task.measure(load_model("zoo/small"))
    assert len(measured.values) == 4
    texts, toxic = read_labelled(SHARED / "annotated_train.csv.gz")
    assert sum(toxic) > 3000
    assert not any(text.startswith("b'") for text in texts)
    assert task.classifier.report["auroc"] > 0.75
