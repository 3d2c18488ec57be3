r"""Perplexity as a task: how surprised a model is by text that nobody wrote for it.

    per token   exp( sum NLL / sum tokens )        depends on the tokenizer
    per word    exp( sum NLL / sum words )         compares models of different tokenizers

Words are what white space separates in the text that the model reads (`text.split()`).
lm-evaluation-harness counts the pieces of `re.split(r"\s+", page)` in the page before its
detokenizer, empty ones at its ends included: other words, so another figure. Every token
but the first of a document is scored once, in windows that overlap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from contrans.data.documents import Cut, read_documents
from contrans.evaluation.fluency import text_losses
from contrans.evaluation.task import Measurement, cut, joined
from contrans.models.lm import LM

Per = Literal["token", "word"]
WORDS = (
    "per word: words are what white space separates in the text as the model reads it; "
    "lm-evaluation-harness counts those of the page before its detokenizer, so its figure "
    "is another"
)
"""Which definition of a word a figure per word has."""
DOCUMENTS = 1000
"""Documents read from the hub, or from a file, where nothing else is said (A.6)."""


PIECE = 100
"""Documents read at a time."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What some documents cost: the pieces that `PerplexityTask` is made of."""

    documents: tuple[str, ...]
    window: int | None
    stride: int | None
    name: str = "costs"
    metric: str = "nats"
    chance: float | None = None
    higher_is_better: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """The documents."""
        return self.documents

    def measure(self, lm: LM) -> Measurement:
        """Summed negative log-likelihood of each; extra: tokens scored."""
        losses = text_losses(
            lm, self.documents, window=self.window, stride=self.stride, empty=True
        )
        nll, tokens = np.array(losses, dtype=np.float64).T
        return Measurement(nll, {"tokens": tokens})


@dataclass(frozen=True, slots=True)
class PerplexityTask:
    """Mean negative log-likelihood of plain text, and the perplexities it makes."""

    documents: tuple[str, ...]
    per: Per = "token"
    window: int | None = None
    """Tokens per forward pass; None takes the context, up to 1,024."""
    stride: int | None = None
    """New tokens per window; None is half a window."""
    name: str = "perplexity"
    chance: float | None = None
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        if not self.documents:
            raise ValueError("no documents to read; give at least one")
        if self.per not in ("token", "word"):
            raise ValueError(f"unknown unit {self.per!r}; choose 'token' or 'word'")

    @property
    def metric(self) -> str:
        """What the values are; the exponential of their mean is the perplexity."""
        return f"nats per {self.per}"

    @property
    def texts(self) -> tuple[str, ...]:
        """The documents."""
        return self.documents

    def measure(self, lm: LM) -> Measurement:
        """One value per document, made so that their mean is exact.

        The figure is a ratio of two sums. Its linearisation,
        `mean + n (nll_i - mean count_i) / sum(count)`, has the ratio as its mean and
        the variance of the delta method, so that intervals and paired differences of
        documents of unequal length are right.
        """
        return self.joined([piece.measure(lm) for piece in self.pieces()])

    def pieces(self) -> list["Costs"]:
        """So many documents at a time."""
        return [
            Costs(part, self.window, self.stride) for part in cut(self.documents, PIECE)
        ]

    def joined(self, parts: Sequence[Measurement]) -> Measurement:
        """What the costs of all documents make together; see `measure`."""
        whole = joined(parts)
        nll, tokens = whole.values, whole.extra["tokens"]
        words = np.array([len(text.split()) for text in self.documents], dtype=float)
        kept = tokens > 0
        if not kept.any():
            raise ValueError(
                f"nothing to score: all {len(kept)} documents are of two tokens at most; "
                "give longer ones"
            )
        counts = (tokens if self.per == "token" else words)[kept]
        mean = nll.sum() / counts.sum()
        values = mean + len(counts) * (nll[kept] - mean * counts) / counts.sum()
        sums = {"token": tokens.sum(), "word": words[kept].sum()}
        extra = {
            f"perplexity per {unit}": np.array([_exp(nll.sum() / n)])
            for unit, n in sums.items()
        }
        extra |= {f"{unit}s": np.array([n]) for unit, n in sums.items()}
        left = int((~kept).sum())
        notes = [f"{left} documents with nothing to score were left out"] * bool(left)
        notes += [WORDS] * (self.per == "word")
        return Measurement(values, extra, notes=tuple(notes))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def perplexity_task(
    data: str | Path,
    *,
    per: Per = "token",
    cut: Cut = "auto",
    window: int | None = None,
    stride: int | None = None,
    limit: int | None = None,
) -> PerplexityTask:
    """The task from any text file, WikiText, or a hub data set with a field `text`.

    Args:
        data: see `data.documents.read_documents`.
        per: "token", or "word" to compare models of different tokenizers.
        cut: how the text is cut into documents.
        window: see `PerplexityTask`.
        stride: see `PerplexityTask`.
        limit: so many documents; None takes 1,000.
    """
    documents = read_documents(data, cut=cut, limit=limit or DOCUMENTS)
    return PerplexityTask(documents, per, window, stride)
