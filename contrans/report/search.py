"""What a search tried, as its table and its figure show it."""

from collections.abc import Mapping
from typing import Any

from contrans.report.format import entries, number, pick


def cost(results: Mapping[str, Any], point: Mapping[str, Any]) -> float | None:
    """What a point spends of the budget: nats per token, or a ratio of perplexities."""
    if pick(results, "strength", "budget_unit") == "nats":
        return number(pick(point, "dose", "kl"))
    return number(pick(point, "perplexity_ratio"))


def best_tried(results: Mapping[str, Any]) -> dict[tuple[int, int], Any]:
    """The best point of each pair of layers tried, within the budget if one is."""
    budget = number(pick(results, "strength", "budget"))
    best: dict[tuple[int, int], tuple[bool, float, Any]] = {}
    for p in entries(results, "layers", "tried"):
        s, t, gain = (number(pick(p, k)) for k in ("source", "target", "effect"))
        if s is None or t is None or gain is None:
            continue
        spent = cost(results, p)
        inside = budget is None or (spent is not None and spent <= budget)
        pair = (int(s), int(t))
        if pair not in best or (inside, gain) > best[pair][:2]:
            best[pair] = (inside, gain, p)
    return {pair: best[pair][2] for pair in sorted(best)}
