"""What a search tried, as its table and its figure show it."""

from collections.abc import Mapping
from typing import Any

from contrans.report.format import entries, number, pick


def best_tried(results: Mapping[str, Any]) -> dict[tuple[int, int], Any]:
    """The best point of each pair of layers tried, within the budget if one is."""
    budget = number(pick(results, "strength", "budget"))
    best: dict[tuple[int, int], tuple[bool, float, Any]] = {}
    for p in entries(results, "layers", "tried"):
        s, t, gain = (number(pick(p, k)) for k in ("source", "target", "effect"))
        if s is None or t is None or gain is None:
            continue
        ratio = number(pick(p, "perplexity_ratio"))
        inside = budget is None or (ratio is not None and ratio <= budget)
        pair = (int(s), int(t))
        if pair not in best or (inside, gain) > best[pair][:2]:
            best[pair] = (inside, gain, p)
    return {pair: best[pair][2] for pair in sorted(best)}
