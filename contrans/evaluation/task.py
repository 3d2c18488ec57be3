"""What a task is: something that gives one number per item under any control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from contrans.edits import Control, shares_lower_blocks
from contrans.models import LM

MARGIN = "margin"
"""What tasks call how much likelier the right answer is than the best wrong one, in
nats."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """The result of one task on one model: one number per item."""

    values: Float[np.ndarray, " items"]
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further numbers per item, by name."""
    metric: str | None = None
    """What was measured, where it is not the task's `metric` (a fallback)."""
    notes: tuple[str, ...] = ()
    """What a reader of the number should know."""
    fine: str | None = None
    """The name in `extra` of the finest score of the task, such as a margin in nats; it
    is larger where `values` tend to be. None where `values` are the finest there is."""


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


def measure_under(task: Task, lm: LM, controls: Sequence[Control]) -> list[Measurement]:
    """A task under each of several controls, in one pass where both allow it."""
    if isinstance(task, Sweepable) and all(
        shares_lower_blocks(control, lm) for control in controls
    ):
        return task.measure_under(lm, controls)
    found = []
    for control in controls:
        with control.on(lm) as steered:
            found.append(task.measure(steered))
    return found
