"""One honest sentence about a finished comparison."""

from collections.abc import Sequence
from typing import Any

from contrans.evaluation import Task


def verdict(
    rows: Sequence[dict[str, Any]], task: Task, metric: str, *, budget: float
) -> str:
    """One honest sentence: is the effect there, and is it more than the controls'?"""
    main = next(r for r in rows if r["kind"] == "method")
    sign = 1.0 if task.higher_is_better else -1.0
    gain = sign * main["difference"]["value"]
    bounds = sorted(sign * main["difference"][end] for end in ("low", "high"))
    controls = [r for r in rows if r["kind"] == "control"]
    strongest = max(controls, key=lambda r: sign * r["value"])
    ratio = main["perplexity"]["ratio"]
    facts = (
        f"{main['name']} moved {metric} by {sign * gain:+.3f} "
        f"[{main['difference']['low']:+.3f}, {main['difference']['high']:+.3f}] "
        f"(strongest control: {strongest['difference']['value']:+.3f}, "
        f"{strongest['name']}) at {ratio:.2f} times the perplexity."
    )
    clear = bounds[0] > 0 and (
        sign * (main["low"] if sign > 0 else main["high"])
        > sign * (strongest["high"] if sign > 0 else strongest["low"])
    )
    if ratio > budget:
        facts += f" No strength stayed within the perplexity budget of {budget:.2f}."
    if clear:
        return f"Transplanted: {facts}"
    if bounds[1] <= 0:
        return f"No effect in the wanted direction: {facts}"
    if bounds[0] <= 0:
        return f"Undecided: {facts} The interval includes no effect."
    return f"Not beyond the controls: {facts}"
