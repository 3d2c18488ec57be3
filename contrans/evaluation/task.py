"""What a task is: something that gives one number per item under any control.

A task that is a dataclass of plain values is cached by its source file and its fields;
another one by what its property `cache_key` says, or not at all.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

from contrans.evaluation.fluency import Losses, summary
from contrans.models.edits import Control
from contrans.models.lm import LM

MARGIN = "margin"
"""What tasks call how much likelier the right answer is than the best wrong one, in
nats."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What was measured of one model under one control: everything, item by item.

    A task fills `values` and what goes with them; `measure` adds what texts cost under
    the same control.
    """

    values: Float[np.ndarray, " items"]
    """One score per item; empty where only texts were read."""
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further numbers per item, by name."""
    metric: str = ""
    """What was measured, where it is not the task's `metric` (a fallback)."""
    notes: tuple[str, ...] = ()
    """What a reader of the number should know."""
    fine: str | None = None
    """The name in `extra` of the finest score of the task, such as a margin in nats; it
    is larger where `values` tend to be. None where `values` are the finest there is."""
    losses: Losses = ()
    """What the texts cost; of a single text, one entry for each of its windows."""
    tokenizer: str = ""
    """Hash of the tokenizer that split the texts."""
    items: str = ""
    """Hash of what was asked; equal hashes can be paired item by item."""

    @property
    def n(self) -> int:
        """Items, or texts."""
        return len(self.values) or len(self.losses)

    @property
    def mean(self) -> float:
        """The score."""
        return float(np.mean(self.values))

    @property
    def perplexity(self) -> float:
        """Token-weighted perplexity of the texts."""
        return summary(self.losses).value

    @property
    def perplexity_stderr(self) -> float:
        """Its standard error."""
        return summary(self.losses).stderr

    def as_json(self) -> dict[str, Any]:
        """As plain values, for a cache; NaN and infinity stay."""
        extra = {name: part.tolist() for name, part in self.extra.items()}
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        return kept | {"values": self.values.tolist(), "extra": extra}

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Measurement":
        """What `as_json` gave."""
        extra = {name: np.array(part, float) for name, part in found["extra"].items()}
        return replace(
            Measurement(np.array(found["values"], float), extra),
            metric=found["metric"],
            notes=tuple(found["notes"]),
            fine=found["fine"],
            losses=tuple((loss, tokens) for loss, tokens in found["losses"]),
            tokenizer=found["tokenizer"],
            items=found["items"],
        )


@runtime_checkable
class Task(Protocol):
    """Anything that can be measured on a model under a control."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    @property
    def metric(self) -> str:
        """What the values are."""
        ...

    @property
    def chance(self) -> float | None:
        """Value of a uniform guess; None where there is no such thing."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value means more of the concept."""
        ...

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of the task, for the leak guard."""
        ...

    def measure(self, lm: LM) -> Measurement:
        """Measure the model as it is now, with whatever control is active."""
        ...


@runtime_checkable
class Sweepable(Task, Protocol):
    """A task that can be measured under several controls in one pass."""

    def measure_under(self, lm: LM, controls: Sequence[Control]) -> list[Measurement]:
        """Measure the model under each control; the numbers of `measure`, exactly."""
        ...


@runtime_checkable
class Divisible(Task, Protocol):
    """A task that can be measured a few items at a time, so that a long one resumes."""

    def pieces(self) -> Sequence[Task]:
        """Tasks of some items each, in order; their values follow one another."""
        ...


@runtime_checkable
class Joining(Divisible, Protocol):
    """A divisible task whose values are more than those of its pieces in a row."""

    def joined(self, parts: Sequence[Measurement]) -> Measurement:
        """What the pieces measured as what the whole measures."""
        ...


Item = TypeVar("Item")


def cut(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    """Items in order, in pieces of `size`.

    Example:
        >>> cut("abcde", 2)
        [('a', 'b'), ('c', 'd'), ('e',)]
    """
    return [tuple(items[i : i + size]) for i in range(0, len(items), size)]


def joined(parts: Sequence[Measurement]) -> Measurement:
    """Items of several measurements one after another.

    Notes that begin with "N of M" count something: of two that say the same of it, the
    counts add up.
    """
    names = dict.fromkeys(name for part in parts for name in part.extra)
    extra = {
        name: np.concatenate([p.extra[name] for p in parts if name in p.extra])
        for name in names
    }
    notes: dict[str, tuple[int, int] | None] = {}
    for note in (note for part in parts for note in part.notes):
        found = re.match(r"(\d+) of (\d+) ", note)
        said = note[found.end() :] if found else note
        before = notes.get(said) or (0, 0)
        counts = (
            (int(found[1]) + before[0], int(found[2]) + before[1]) if found else None
        )
        notes[said] = counts
    told = (f"{c[0]} of {c[1]} {said}" if c else said for said, c in notes.items())
    values = np.concatenate([part.values for part in parts])
    return replace(parts[0], values=values, extra=extra, notes=tuple(told))
