"""What a task and the perplexity said under one control, and the key it is kept under."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contrans.edits import Control, cache_key
from contrans.evaluation.fluency import Perplexity
from contrans.evaluation.task import Measurement, Task
from contrans.files import digest
from contrans.models import LM


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task and the perplexity said under one control."""

    values: tuple[float, ...]
    """One score per item of the task."""
    extra: Mapping[str, float]
    """Means of the secondary metrics."""
    perplexity: float
    perplexity_stderr: float
    metric: str = ""
    """What the values are: the task's metric, or what it fell back to."""
    notes: tuple[str, ...] = ()
    """What a reader of the number should know."""

    @property
    def mean(self) -> float:
        """The score."""
        return float(np.mean(self.values))

    @staticmethod
    def average(parts: Sequence["Outcome"]) -> "Outcome":
        """Item by item mean over several draws of a control."""
        return Outcome(
            values=tuple(np.mean([p.values for p in parts], axis=0).tolist()),
            extra={
                key: float(np.mean([p.extra[key] for p in parts]))
                for key in parts[0].extra
            },
            perplexity=float(np.mean([p.perplexity for p in parts])),
            perplexity_stderr=float(np.mean([p.perplexity_stderr for p in parts])),
            metric=parts[0].metric,
            notes=parts[0].notes,
        )


def measure_key(
    lm: LM, task: Task, control: Control, texts: Sequence[str]
) -> dict[str, Any]:
    """Everything that an outcome depends on."""
    return {
        "stage": "measure",
        "model": lm.fingerprint,
        "tokenizer": lm.tokenizer_hash,
        "dtype": str(lm.dtype),
        "task": hashlib.sha256(repr(task).encode()).hexdigest(),
        "texts": digest(list(texts)),
        "control": cache_key(control),
    }


def record(task: Task, measured: Measurement, fluency: Perplexity) -> dict[str, Any]:
    """An outcome as JSON."""
    return {
        "values": [float(v) for v in measured.values],
        "extra": {k: float(np.mean(v)) for k, v in measured.extra.items()},
        "perplexity": fluency.value,
        "perplexity_stderr": fluency.stderr,
        "metric": measured.metric or task.metric,
        "notes": list(measured.notes),
    }
