"""Multiple choice by log-likelihood (MC1): no length normalisation, as published."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from contrans.data.concept import Item
from contrans.evaluation.task import MARGIN, Measurement, cut
from contrans.models.edits import Control, NoControl
from contrans.models.lm import LM
from contrans.models.logit_hooks import encode_prompts
from contrans.models.scoring import continuation_ids, score_continuations_under

PIECE = 256
"""Items measured at a time."""


@dataclass(frozen=True, slots=True)
class ChoicesTask:
    """Accuracy of the option with the largest summed log-probability."""

    items: tuple[Item, ...]
    name: str = "choices"
    metric: str = "MC1 accuracy"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        for item in self.items:
            if item.answer is None or not 0 <= item.answer < len(item.choices):
                raise ValueError(
                    f"item {item.id!r} has {len(item.choices)} choices and the answer "
                    f"{item.answer!r}; give the index of the right one"
                )

    @property
    def chance(self) -> float | None:
        """Mean over items of one divided by the number of options."""
        return float(np.mean([1 / len(item.choices) for item in self.items]))

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts."""
        return tuple(item.prompt for item in self.items)

    def pieces(self) -> list["ChoicesTask"]:
        """So many items at a time."""
        return [replace(self, items=part) for part in cut(self.items, PIECE)]

    def measure(self, lm: LM) -> Measurement:
        """1 where the right option wins; extra: its margin over the best other, in nats.

        Of options with equal scores the alphabetically first wins, so that the order
        of the options never matters.
        """
        return self.measure_under(lm, (NoControl(),))[0]

    def measure_under(self, lm: LM, controls: Sequence[Control]) -> list[Measurement]:
        """The same under each of several controls, in one pass where they allow it."""
        contexts = encode_prompts(lm, self.texts)
        questions = [
            (context, continuation_ids(lm, item.prompt, choice))
            for context, item in zip(contexts, self.items, strict=True)
            for choice in item.choices
        ]
        found = score_continuations_under(lm, questions, controls)
        return [self._measurement(scores.total.tolist()) for scores in found]

    def _measurement(self, scores: Sequence[float]) -> Measurement:
        values, margins = np.zeros(len(self.items)), np.zeros(len(self.items))
        start = 0
        for row, item in enumerate(self.items):
            here = scores[start : start + len(item.choices)]
            start += len(item.choices)
            values[row] = _winner(here, item.choices) == item.answer
            others = [s for i, s in enumerate(here) if i != item.answer]
            margins[row] = here[item.answer or 0] - max(others, default=0.0)
        return Measurement(values, {MARGIN: margins}, fine=MARGIN)


def _winner(scores: Sequence[float], choices: Sequence[str]) -> int:
    """Index of the largest score; the alphabetically first option among equals.

    Example:
        >>> _winner([-1.0, -0.5, -0.5], [" c", " b", " a"])
        2
    """
    return min(range(len(scores)), key=lambda i: (-scores[i], choices[i]))
