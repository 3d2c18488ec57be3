"""Scores of continuations, where users look for them: `contrans.models.scoring`."""

from contrans.models.scoring import (
    continuation_ids as continuation_ids,
    score_continuations as score_continuations,
    score_continuations_under as score_continuations_under,
)
