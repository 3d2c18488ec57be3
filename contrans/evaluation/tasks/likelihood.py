"""Does the model find the positive text of a held-out pair likelier than the negative?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contrans.core.types import PromptPairs
from contrans.evaluation.task import MARGIN, Measurement
from contrans.models.edits import Control, NoControl
from contrans.models.lm import LM
from contrans.models.scoring import score_continuations_under


@dataclass(frozen=True, slots=True)
class LikelihoodTask:
    """Share of held-out pairs whose positive text is likelier, per token.

    What both texts of a pair begin with is context and is not scored, so that a long
    shared question does not drown the difference.
    """

    pairs: PromptPairs
    name: str = "likelihood"
    metric: str = "positive preferred"
    chance: float | None = 0.5
    higher_is_better: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        """Both sides of every pair."""
        return (*self.pairs.positive, *self.pairs.negative)

    def measure(self, lm: LM) -> Measurement:
        """1 where the positive text is preferred; extra: the margin in nats a token.

        Raises:
            ValueError: when a text is too short to be scored.
        """
        return self.measure_under(lm, (NoControl(),))[0]

    def measure_under(self, lm: LM, controls: Sequence[Control]) -> list[Measurement]:
        """The same under each of several controls, in one pass where they allow it."""
        items = []
        for row, sides in enumerate(
            zip(self.pairs.positive, self.pairs.negative, strict=True)
        ):
            plus, minus = lm.encode(sides)
            shortest = min(len(plus), len(minus))
            if shortest < 2:
                raise ValueError(
                    f"pair {row} of {self.pairs.concept!r} has a text of one token, "
                    "which has no likelihood of its own; write longer texts"
                )
            cut = min(max(_shared(plus, minus), 1), shortest - 1)
            items += [(plus[:cut], plus[cut:]), (minus[:cut], minus[cut:])]
        found = []
        for scores in score_continuations_under(lm, items, controls):
            means = (scores.total / scores.tokens).numpy().reshape(-1, 2)
            margin = means[:, 0] - means[:, 1]
            values = (margin > 0).astype(np.float64)
            found.append(Measurement(values, {MARGIN: margin}, fine=MARGIN))
        return found


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(left, right, strict=False)
    return next(
        (i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right))
    )
