"""One honest sentence about a finished comparison."""

from collections.abc import Sequence

from contrans.core.results import Change, EffectRow, FineScore
from contrans.experiments.cached import STRONGEST
from contrans.experiments.search import Budget
from contrans.report.format import fixed, interval


def verdict(
    rows: Sequence[EffectRow],
    score: str,
    *,
    higher_is_better: bool,
    budget: Budget,
    over_budget: bool = False,
    stuck: bool = False,
    refused: bool = False,
) -> str:
    """One honest sentence: is the effect there, and is it more than the controls'?

    Args:
        rows: of the effect table.
        score: the name of what is read.
        higher_is_better: whether more of it is more of the concept.
        budget: what the edit may spend.
        over_budget: whether no strength tried was within it.
        stuck: whether validation found the metric at one end of its range throughout;
            the finest score of each row is read instead.
        refused: whether the diagnosis said no before anything was tried.
    """
    main = next(r for r in rows if r.kind == "method")
    read = {r.name: (r.fine or r) if stuck else r for r in rows}
    seen, change = read[main.name], _change(read[main.name])
    sign = 1.0 if higher_is_better else -1.0
    bounds = sorted((sign * change.low, sign * change.high))
    controls = [r.name for r in rows if r.kind == "control"]
    strongest = max(controls, key=lambda name: sign * _reach(read[name]))
    reach = _reach(read[strongest])
    base = seen.value - change.value
    ratio, dose = main.perplexity.ratio, None if main.dose is None else main.dose.kl
    cost = ratio if budget.unit == "perplexity" else dose
    facts = (
        f"{main.name} moved {score} by {interval(change, sign=True)} (strongest draw of "
        f"a control: {fixed(reach - base, sign=True)}, {strongest}) at "
        f"{'' if dose is None else f'{fixed(dose, 2)} nats per token and '}"
        f"{fixed(ratio, 2)} times the perplexity."
    )
    if stuck:
        facts += f" The metric itself is stuck at {fixed(main.value)}."
    rival = read[strongest]
    top = max(sign * reach, sign * rival.low, sign * rival.high)
    worst = min(sign * seen.low, sign * seen.high)
    clear = bounds[0] > 0 and worst > top
    if over_budget:
        facts += f" No strength stayed within the budget of {budget}."
    elif cost is not None and cost > budget.most:
        facts += f" The texts that chose it were within the budget of {budget}."
    if not stuck and not clear and main.fine is not None:
        facts += _finer(rows, main.fine, sign)
    if refused:
        return f"No-go: the diagnosis said no; tried gently all the same, {facts}"
    if clear:
        return f"Transplanted: {facts}"
    if bounds[1] <= 0:
        return f"No effect in the wanted direction: {facts}"
    if bounds[0] <= 0:
        return f"Undecided: {facts} The interval includes no effect."
    return f"Not beyond the controls: {facts}"


def _finer(rows: Sequence[EffectRow], seen: FineScore, sign: float) -> str:
    """What the finest score says where the metric is not clear: few items, or a floor."""
    change = _change(seen)
    rivals = [r.fine for r in rows if r.kind == "control" and r.fine is not None]
    reach = max((_reach(rival) for rival in rivals), key=lambda value: sign * value)
    top = max(sign * v for r in rivals for v in (_reach(r), r.low, r.high))
    beyond = min(sign * seen.low, sign * seen.high) > top
    beyond = beyond and min(sign * change.low, sign * change.high) > 0
    return (
        f" The finer score says {'more' if beyond else 'no more'}: {seen.name} moved by "
        f"{interval(change, sign=True)} (strongest draw of a control: "
        f"{fixed(reach - seen.value + change.value, sign=True)})"
        f"{', beyond every control.' if beyond else '.'}"
    )


def _reach(score: EffectRow | FineScore) -> float:
    """The value of the strongest draw of a control; draws of one kind differ widely."""
    return score.extra.get(STRONGEST, score.value)


def _change(score: EffectRow | FineScore) -> Change:
    if score.difference is None:
        raise ValueError(
            f"{score.name} is what others are compared with; it has no gain"
        )
    return score.difference
