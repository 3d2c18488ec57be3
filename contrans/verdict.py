"""One honest sentence about a finished comparison."""

from collections.abc import Sequence
from typing import Any

STRONGEST = "strongest draw"
"""Under this name a control's row keeps its most effective draw, beside the mean."""


def verdict(
    rows: Sequence[dict[str, Any]],
    metric: str,
    *,
    higher_is_better: bool,
    budget: float,
) -> str:
    """One honest sentence: is the effect there, and is it more than the controls'?"""
    main = next(r for r in rows if r["kind"] == "method")
    sign = 1.0 if higher_is_better else -1.0
    gain = sign * main["difference"]["value"]
    bounds = sorted(sign * main["difference"][end] for end in ("low", "high"))
    controls = [r for r in rows if r["kind"] == "control"]
    strongest = max(controls, key=lambda r: sign * _reach(r))
    base = main["value"] - main["difference"]["value"]
    ratio = main["perplexity"]["ratio"]
    facts = (
        f"{main['name']} moved {metric} by {sign * gain:+.3f} "
        f"[{main['difference']['low']:+.3f}, {main['difference']['high']:+.3f}] "
        f"(strongest draw of a control: {_reach(strongest) - base:+.3f}, "
        f"{strongest['name']}) at {ratio:.2f} times the perplexity."
    )
    end, other = ("high", "low") if sign > 0 else ("low", "high")
    top = max(sign * _reach(strongest), sign * strongest[end])
    clear = bounds[0] > 0 and sign * main[other] > top
    if ratio > budget:
        facts += f" No strength stayed within the perplexity budget of {budget:.2f}."
    if clear:
        return f"Transplanted: {facts}"
    if bounds[1] <= 0:
        return f"No effect in the wanted direction: {facts}"
    if bounds[0] <= 0:
        return f"Undecided: {facts} The interval includes no effect."
    return f"Not beyond the controls: {facts}"


def _reach(row: dict[str, Any]) -> float:
    """The value of the strongest draw of a control; draws of one kind differ widely."""
    return row["extra"].get(STRONGEST, row["value"])
