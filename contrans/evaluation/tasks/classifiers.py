"""Classifiers of text: one trained here in seconds, or any of the hub."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from contrans.core.files import digest
from contrans.models.fingerprint import weights_fingerprint

HELD_OUT = 0.2
"""Share of the labelled texts that judges a classifier trained here."""
FEWEST = 20
"""Labelled texts of each class below which training makes no sense."""
_BATCH = 32


@runtime_checkable
class Classifier(Protocol):
    """Anything that gives texts a probability of being toxic (or whatever is asked)."""

    @property
    def name(self) -> str:
        """What it is, for tables and cache keys."""
        ...

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """One probability per text."""
        ...


@dataclass(frozen=True, eq=False)
class LogisticClassifier:
    """tf-idf of words and word pairs, and a logistic regression: the offline default.

    It knows the words of its training texts and no context; read its held-out figures
    (`report`) beside every number that it makes.
    """

    pipeline: Any = field(repr=False)
    report: dict[str, float]
    """Accuracy, F1 and AUROC on held-out labelled texts, and how many these were."""
    key: str
    """Digest of the training texts, labels and seed."""

    @property
    def cache_key(self) -> str:
        """What made it."""
        return self.key

    @property
    def name(self) -> str:
        """What it is, and how good it was on held-out labels."""
        return f"logistic (held-out AUROC {self.report['auroc']:.2f})"

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Probability of the positive class."""
        if not len(texts):
            return np.zeros(0)
        return self.pipeline.predict_proba(list(texts))[:, 1]

    @staticmethod
    def train(
        texts: Sequence[str], labels: Sequence[bool], *, seed: int = 0
    ) -> "LogisticClassifier":
        """Train on four fifths of labelled texts, judge on the rest, then use all.

        Args:
            texts: the texts.
            labels: True for a toxic text.
            seed: by which a fifth is held out.

        Raises:
            ValueError: when there are too few texts of either class.
        """
        from sklearn.base import clone
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
        from sklearn.model_selection import train_test_split
        from sklearn.pipeline import make_pipeline

        y = np.asarray(labels, dtype=int)
        counts = np.bincount(y, minlength=2)
        if counts.min() < FEWEST:
            raise ValueError(
                f"{counts[1]} positive and {counts[0]} negative labelled texts; a "
                f"classifier needs at least {FEWEST} of each"
            )
        untrained: Any = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
            LogisticRegression(C=4.0, max_iter=1000, class_weight="balanced"),
        )
        seen, held, y_seen, y_held = train_test_split(
            list(texts), y, test_size=HELD_OUT, random_state=seed, stratify=y
        )
        judged: Any = clone(untrained)
        judged.fit(seen, y_seen)
        found = judged.predict_proba(held)[:, 1]
        report = {
            "accuracy": float(accuracy_score(y_held, found > 0.5)),
            "f1": float(f1_score(y_held, found > 0.5)),
            "auroc": float(roc_auc_score(y_held, found)),
            "n": float(len(held)),
            "positive share": float(np.mean(y_held)),
        }
        key = digest([list(texts), y.tolist(), seed])
        return LogisticClassifier(untrained.fit(list(texts), y), report, key)


@dataclass(frozen=True, eq=False)
class HubClassifier:
    """A sequence classifier through transformers, such as `tomh/toxigen_roberta`."""

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    label: str
    positive: int = 1
    """Index of the class whose probability is wanted."""

    @property
    def cache_key(self) -> Any:
        """Its weights, how its tokenizer splits text, and which class counts."""
        weights = dict(self.model.named_parameters())
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda kv: kv[1])
        made = weights_fingerprint(weights.items(), lambda name: weights[name].detach())
        return [made, digest(vocabulary), self.positive]

    @property
    def name(self) -> str:
        """Where it came from, and which class counts."""
        return f"{self.label} (class {self.positive})"

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Softmax over the classes, or the sigmoid of a single logit."""
        import torch

        found = []
        longest = min(int(getattr(self.tokenizer, "model_max_length", 512)), 512)
        with torch.no_grad():
            for start in range(0, len(texts), _BATCH):
                batch = self.tokenizer(
                    list(texts[start : start + _BATCH]),
                    padding=True,
                    truncation=True,
                    max_length=longest,
                    return_tensors="pt",
                ).to(self.model.device)
                logits = self.model(**batch).logits.double()
                share = (
                    logits.sigmoid()[:, 0]
                    if logits.shape[1] == 1
                    else logits.softmax(-1)[:, self.positive]
                )
                found.append(share.cpu().numpy())
        return np.concatenate(found) if found else np.zeros(0)

    @staticmethod
    def load(
        name: str | Path, *, tokenizer: str | None = None, positive: int = 1
    ) -> "HubClassifier":
        """Load by hub id or folder.

        Args:
            name: the classifier.
            tokenizer: where its tokenizer is, if not beside it.
            positive: index of the class that counts as toxic.

        Raises:
            FileNotFoundError: when there is no such model, with what to try.
            ValueError: when it has no such class.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            model = AutoModelForSequenceClassification.from_pretrained(str(name)).eval()
            tokens = AutoTokenizer.from_pretrained(str(tokenizer or name))
        except (OSError, ValueError) as error:  # ValueError: no name that the hub has
            raise FileNotFoundError(
                f"no classifier {str(name)!r}: neither a folder with config.json nor "
                "reachable on the hub. Check the spelling and your connection, or use "
                "the offline one: classifier=logistic with labelled=FILE "
                f"({str(error).splitlines()[0]})"
            ) from error
        classes = int(model.config.num_labels)
        if not 0 <= positive < max(classes, 2):
            raise ValueError(
                f"class {positive} of {str(name)!r}, which has {classes} classes "
                f"({model.config.id2label}); choose the index of the toxic one"
            )
        return HubClassifier(model, tokens, str(name), positive)
