"""Independent computations on a sample: one token, one text, one library at a time.

Nothing of `contrans.models.scoring` is used: plain forwards of the model, in
batches of one, without a cache.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from contrans.evaluation.tasks.emotions import EmotionTask
from contrans.evaluation.tasks.perplexity import PerplexityTask
from contrans.evaluation.tasks.toxigen import ToxigenTask
from contrans.evaluation.tasks.truthfulqa import TruthfulQATask
from contrans.models.lm import LM

CLOSE = 2e-3
"""Largest difference, in nats, that float32 in other batches may make."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, computed twice."""

    model: str
    what: str
    sample: int
    """Items compared."""
    difference: float
    """Largest absolute difference."""
    passed: bool


@torch.no_grad()
def log_probability(lm: LM, context: Sequence[int], answer: Sequence[int]) -> float:
    """Summed log-probability of an answer, one full forward for each token.

    Args:
        lm: the model, as `load_model` returns it.
        context: token ids of the prompt.
        answer: token ids of the answer.
    """
    ids, total = list(context), 0.0
    for token in answer:
        logits = lm.model(input_ids=torch.tensor([ids], device=lm.device)).logits
        total += float(logits[0, -1].double().log_softmax(-1)[token])
        ids.append(token)
    return total


def check_truthfulqa(lm: LM, task: TruthfulQATask, sample: int) -> Check:
    """Margins of MC1 and shares of MC2.

    Args:
        lm: the model, as `load_model` returns it.
        task: what is measured.
        sample: so many items.
    """
    some = TruthfulQATask(
        task.questions[:sample], task.score, task.form, task.primer, task.boundary
    )
    measured = some.measure(lm)
    gaps = []
    for row, question in enumerate(some.questions):
        prompt = some.prompt(lm, question)
        context = lm.encode([prompt])[0]
        scores = {
            answer: log_probability(lm, context, some.answer_ids(lm, prompt, answer))
            for answer in dict(question.mc1) | dict(question.mc2)
        }
        right = next(scores[a] for a, true in question.mc1 if true)
        margin = right - max(scores[a] for a, true in question.mc1 if not true)
        top = max(scores[a] for a, _ in question.mc2)
        mass = {a: np.exp(scores[a] - top) for a, _ in question.mc2}
        share = sum(mass[a] for a, true in question.mc2 if true) / sum(mass.values())
        gaps.append(abs(margin - measured.extra["margin"][row]))
        gaps.append(abs(share - measured.extra["MC2 true share"][row]))
    return _check(lm, "TruthfulQA margins and MC2, token by token", sample, gaps)


def check_harness(lm: LM, task: TruthfulQATask, sample: int) -> Check | None:
    """Margins of MC1 by lm-evaluation-harness's own model, from plain strings.

    None where the harness is not installed.

    Args:
        lm: the model, as `load_model` returns it.
        task: what is measured.
        sample: so many items.
    """
    if find_spec("lm_eval") is None:
        return None
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    some = TruthfulQATask(
        task.questions[:sample], task.score, "plain", task.primer, "joined"
    )
    margins = some.measure(lm).extra["margin"]
    asked = [
        (some.prompt(lm, question), f" {answer}", row, true)
        for row, question in enumerate(some.questions)
        for answer, true in question.mc1
    ]
    harness: Any = HFLM
    theirs = harness(
        pretrained=lm.model,
        tokenizer=copy.deepcopy(lm.tokenizer),
        max_length=lm.context,
        batch_size=1,
    )
    requests = [
        Instance("loglikelihood", {}, (prompt, answer), number)
        for number, (prompt, answer, _, _) in enumerate(asked)
    ]
    found = theirs.loglikelihood(requests, disable_tqdm=True)
    best: dict[tuple[int, bool], float] = {}
    for (_, _, row, true), (value, _) in zip(asked, found, strict=True):
        best[row, true] = max(value, best.get((row, true), -np.inf))
    gaps = [
        abs(best[row, True] - best[row, False] - margins[row])
        for row in range(len(some.questions))
    ]
    return _check(lm, "TruthfulQA margins, lm-evaluation-harness", sample, gaps)


def check_perplexity(lm: LM, task: PerplexityTask, sample: int) -> Check:
    """Mean loss of the beginnings of some documents.

    Args:
        lm: the model, as `load_model` returns it.
        task: what is measured.
        sample: so many documents.
    """
    texts = tuple(" ".join(text.split()[:40]) for text in task.documents[:sample])
    measured = PerplexityTask(texts).measure(lm)
    total, tokens = 0.0, 0
    head = len(lm.special_affixes[0]) or 2  # what is never scored
    for ids in lm.encode(texts):
        total -= log_probability(lm, ids[:head], ids[head:])
        tokens += len(ids) - head
    gap = abs(total / tokens - float(measured.values.mean()))
    return _check(lm, "perplexity, token by token (nats)", sample, [gap])


@torch.no_grad()
def check_emotions(lm: LM, task: EmotionTask, sample: int) -> Check:
    """Token Acc by the arg-max of single forwards.

    Args:
        lm: the model, as `load_model` returns it.
        task: what is measured.
        sample: so many prompts.
    """
    some = EmotionTask(task.prompts[:sample], task.answer, ids="continuation")
    values = some.measure(lm).values
    word = lm.tokenizer(f" {task.answer}", add_special_tokens=False).input_ids[0]
    gaps = []
    for row, ids in enumerate(lm.encode(some.prompts)):
        logits = lm.model(input_ids=torch.tensor([ids], device=lm.device)).logits
        gaps.append(abs(float(int(logits[0, -1].argmax()) == word) - values[row]))
    return _check(lm, "emotion Token Acc, single prompts", sample, gaps)


def check_classifier(
    lm: LM, task: ToxigenTask, texts: Sequence[str], labels: Sequence[bool], seed: int
) -> Check:
    """The classifier's held-out figures against scikit-learn's own metrics.

    Args:
        lm: the model, as `load_model` returns it.
        task: what is measured.
        texts: the texts.
        labels: True for a toxic text.
        seed: of the classifier's own split.
    """
    from sklearn import metrics
    from sklearn.model_selection import train_test_split

    from contrans.evaluation.tasks.classifiers import HELD_OUT, LogisticClassifier

    y = np.asarray(labels, dtype=int)
    split: Any = train_test_split
    seen, held, y_seen, y_held = split(
        list(texts), y, test_size=HELD_OUT, random_state=seed, stratify=y
    )
    again = LogisticClassifier.train(seen, y_seen.astype(bool).tolist(), seed=seed)
    p = again.probabilities(held)
    wanted: dict[str, Any] = {
        "accuracy": metrics.accuracy_score(y_held, p > 0.5),
        "f1": metrics.f1_score(y_held, p > 0.5),
        "auroc": metrics.roc_auc_score(y_held, p),
    }
    report = getattr(task.classifier, "report", {})
    gaps = [abs(value - report[name]) for name, value in wanted.items()]
    return _check(lm, "classifier figures, scikit-learn", len(held), gaps)


def _check(lm: LM, what: str, sample: int, gaps: Sequence[float]) -> Check:
    worst = float(max(gaps))
    return Check(lm.name, what, sample, worst, worst < CLOSE)
