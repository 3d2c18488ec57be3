"""Measurements that are made once: cached per model, vector and task.

An interrupted suite or comparison therefore goes on where it was, and two of them that
share a measurement share its result.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contrans.control import Control
from contrans.core.version import __version__
from contrans.edits import cache_key
from contrans.evaluation import Task
from contrans.evaluation.fluency import text_losses
from contrans.files import digest
from contrans.models import LM
from contrans.store import Cache

FLUENCY = "perplexity"
"""The metric of a text."""


@dataclass(frozen=True, slots=True)
class Fluency:
    """Perplexity on some texts, as a thing to be measured beside tasks."""

    texts: tuple[str, ...]
    name: str = FLUENCY
    metric: str = FLUENCY
    chance: float | None = None
    higher_is_better: bool = False


Measurable = Task | Fluency


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement: a number per item, or a loss and a length per text."""

    values: tuple[float, ...]
    """One score per item; empty for texts."""
    losses: tuple[tuple[float, float], ...] = ()
    """Per text: negative log-likelihood in nats, tokens scored."""
    metric: str = ""
    notes: tuple[str, ...] = ()
    tokenizer: str = ""
    items: str = ""
    """Hash of what was asked; equal hashes can be paired item by item."""

    @property
    def n(self) -> int:
        """Items or texts."""
        return len(self.values) or len(self.losses)


@dataclass
class Measurements:
    """Measures what is not in the cache yet, and counts what was."""

    cache: Cache
    progress: Callable[[int, int], None] | None = None
    """Called with (measurements done, measurements in all)."""
    total: int = 0
    done: int = 0
    notes: list[str] = field(default_factory=list)

    def get(self, lm: LM, what: Measurable, control: Control) -> Measured:
        """One measurement of a model under a control."""
        asked = items_digest(what)
        key = {
            "stage": "check",
            "contrans": __version__,
            "model": lm.fingerprint,
            "tokenizer": lm.tokenizer_hash,
            "dtype": str(lm.dtype),
            "what": asked,
            "control": cache_key(control),
        }
        found = self.cache.json(key, lambda: _measure(lm, what, control))
        self._step()
        for note in found["notes"]:
            line = f"{what.name}: {note}"
            if line not in self.notes:
                self.notes.append(line)
        return Measured(
            values=tuple(map(_number, found["values"])),
            losses=tuple((_number(loss), count) for loss, count in found["losses"]),
            metric=found["metric"],
            notes=tuple(found["notes"]),
            tokenizer=lm.tokenizer_hash,
            items=asked,
        )

    def _step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, max(self.total, self.done))

    def texts(
        self, lm: LM, prompts: Sequence[str], control: Control, n: int
    ) -> list[str]:
        """Greedy continuations of prompts, at most `n` tokens each."""
        key = {
            "stage": "continue",
            "contrans": __version__,
            "model": lm.fingerprint,
            "tokenizer": lm.tokenizer_hash,
            "dtype": str(lm.dtype),
            "prompts": digest(list(prompts)),
            "tokens": n,
            "control": cache_key(control),
        }

        def make() -> list[str]:
            with control.on(lm):
                return lm.generate(list(prompts), max_new_tokens=n)

        found = self.cache.json(key, make)
        self._step()
        return found


def _number(value: float | None) -> float:
    """A number of the cache, where null stands for one that JSON does not have."""
    return float("nan") if value is None else value


def check_finite(found: Measured, what: str) -> None:
    """Refuse a measurement of which nothing can be said.

    Raises:
        ValueError: when a number is NaN or infinite, naming `what` was measured.
    """
    numbers = [*found.values, *(loss for loss, _ in found.losses)]
    wrong = sum(not math.isfinite(number) for number in numbers)
    if wrong:
        raise ValueError(
            f"{what}: {wrong} of {len(numbers)} numbers are NaN or infinite; look at "
            "the model's logits there, a smaller strength or float32 may do"
        )


def items_digest(what: Measurable) -> str:
    """A hash of everything that is asked; the name does not count."""
    plain: Any = what
    bare = replace(plain, name="")
    return hashlib.sha256(repr(bare).encode()).hexdigest()[:20]


def _measure(lm: LM, what: Measurable, control: Control) -> dict[str, Any]:
    with control.on(lm):
        if isinstance(what, Fluency):
            losses = text_losses(lm, what.texts)
            return {"values": [], "losses": losses, "metric": what.metric, "notes": []}
        found = what.measure(lm)
    return {
        "values": [float(value) for value in found.values],
        "losses": [],
        "metric": found.metric or what.metric,
        "notes": list(found.notes),
    }
