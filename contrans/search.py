"""Choose layers and strength on validation prompts, under a perplexity budget.

Cheap diagnostics rank the layer pairs first; only the best few are tried in behaviour.
Among the points within the budget the largest effect wins, and of those that are as
good as equal the one that disturbs the model least.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from contrans.transfer import pair_layers

Strength = TypeVar("Strength")
RELATIVE_GRID = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.65, 0.8, 1.0)
"""Strengths tried, as shares of the mean residual norm (H9)."""
PAPER_GRID = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)
"""Raw strengths over the published range (0.3 to 1.5); its steps are not published."""

EQUAL = 0.02
"""Effects that differ by no more count as equal: past the strength at which an effect
is complete, more strength adds damage and makes controls move too."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one strength at one pair of layers did on validation prompts."""

    source: int
    target: int
    raw: float
    relative: float
    effect: float
    """Signed so that more is better."""
    value: float
    low: float
    high: float
    perplexity: float
    perplexity_ratio: float


def candidates(source: int, target: int, *, low: float = 0.4) -> list[tuple[int, int]]:
    """Pairs of layers worth trying in models of so many blocks.

    Equal relative depth and one source block later, from depth 0.4 up. The last target
    block is left out: an edit there writes straight to the logits.

    Example:
        >>> candidates(4, 6)
        [(1, 2), (2, 2), (2, 3), (3, 3), (2, 4), (3, 4)]
    """
    found = []
    for s, t in pair_layers(source, target, low=low):
        if t == target - 1 and target > 1:
            continue
        for option in (s, min(s + 1, source - 1)):
            if (option, t) not in found:
                found.append((option, t))
    return found or [(source - 1, target - 1)]


def sweep(
    strengths: Sequence[Strength],
    measure: Callable[[Strength], Point],
    *,
    budget: float,
) -> list[Point]:
    """Measure strengths, weakest first, until the perplexity budget is spent."""
    found = []
    for strength in strengths:
        found.append(measure(strength))
        if found[-1].perplexity_ratio > budget:
            break
    return found


def choose(points: Sequence[Point], *, budget: float) -> Point:
    """The largest effect within the budget; of effects as good as equal, the gentlest.

    When no point is within the budget, the gentlest of all.

    Raises:
        ValueError: when there are no points.
    """
    if not points:
        raise ValueError("nothing was measured; give at least one strength")
    within = [p for p in points if p.perplexity_ratio <= budget]
    if not within:
        return min(points, key=lambda p: p.perplexity_ratio)
    best = max(p.effect for p in within)
    equal = [p for p in within if p.effect >= best - EQUAL]
    return min(equal, key=lambda p: (p.perplexity_ratio, -p.effect))
