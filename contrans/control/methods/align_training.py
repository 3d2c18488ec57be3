"""Align-Training: the tuned model of the target's own size, the skyline (A.7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from contrans.models.lm import LM


@dataclass(frozen=True, slots=True, eq=False)
class AlignTraining:
    """Measure the aligned model in the target's place.

    Use the model that the context gives, as `evaluate` does. Its perplexity is
    comparable where both models share a tokenizer.
    """

    aligned: LM

    @property
    def cache_key(self) -> dict[str, Any]:
        """Everything that this control does, as JSON."""
        aligned = self.aligned
        models = [aligned.fingerprint, aligned.tokenizer_hash, str(aligned.dtype)]
        return {"method": "align-training", "model": models}

    @contextmanager
    def on(self, lm: LM) -> Iterator[LM]:
        """The aligned model; `lm` is left alone."""
        del lm
        yield self.aligned
