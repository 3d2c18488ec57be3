"""Choose layers and strength on validation prompts, within a budget of damage.

Few yes/no scores choose badly, so what is known is used in this order:

1. **Diagnosis.** How much of the concept a map brings to a pair of layers is known before
   anything is generated (`diagnostics.promise`). The best source block of each target
   block is kept, and the best few target blocks are tried in behaviour.
2. **Validation.** Strengths of given doses (nats per token) are swept within the budget.
   A pair of layers is worth the largest mean change of the *finest* score of the task (a
   margin in nats where there is one) there. What a pair seems worth is shrunk towards
   what its diagnosis predicts (`shrink`), and a pair that the diagnosis ranks lower needs
   a lead beyond the standard error of that lead.
3. **Strength.** At the chosen layers the gentlest strength that no stronger one beats both
   by the metric and, beyond its standard error, by the finest score.

Where validation cannot tell, the diagnosis decides, and the decision says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float

from contrans.evaluation.dose import Dose

Strength = TypeVar("Strength")
Pair = tuple[int, int]
How = Literal["validation", "diagnosis", "no-go", "over budget"]

KL_BUDGET = 0.5
"""Largest dose, in nats per token."""
KL_SHARES = (0.04, 0.1, 0.2, 0.4, 0.6, 0.9)
"""Doses tried, as shares of the budget: .02 to .45 nats per token. In real models effects
begin at a tenth of a nat and are large at a third."""
RELATIVE_GRID = (
    *(0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3),
    *(0.35, 0.4, 0.45, 0.5, 0.65, 0.8, 1.0),
)
"""Strengths tried, as shares of the mean residual norm (H9). In real models a concept's
own displacement is 0.01 to 0.05 of it."""
PAPER_GRID = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)
"""Raw strengths over the published range (0.3 to 1.5); its steps are not published."""
PAPER_STRENGTHS = (1.0, 2.0)
"""Raw strengths of the published emotion scripts."""
TRIED_PAIRS = 4
"""Layer pairs tried in behaviour, after the diagnosis ranked all candidates."""
LOW_DEPTH = 0.4
"""Relative depth from which layers are considered."""
COARSE = (6, 5)
"""So many source and target blocks are ranked first; then the neighbours of the best."""
EQUAL = 0.02
"""Values of the metric that differ by no more count as equal, and so do"""
NEARLY = 0.1
"""values that differ by no more than this share of the largest effect within the budget:
past the dose that has nine tenths of an effect (the ED90 of pharmacology), more adds
damage and makes controls move too."""
CLEAR = 2.0
"""Standard errors beyond which validation shows an effect at all."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What one strength at one pair of layers did on validation items."""

    layers: Pair
    raw: float
    relative: float
    dose: Dose | None
    """None where the budget is one of perplexity and the grid is not of doses."""
    perplexity: float | None
    ratio: float | None
    """Perplexity over that without the edit; None where the budget needs neither."""
    value: float
    """Mean of the metric, and below its 95% interval."""
    low: float
    high: float
    before: float
    """Mean of the metric without the edit."""
    change: Float[np.ndarray, " items"]
    """Change of the metric, signed so that more is better."""
    fine: Float[np.ndarray, " others"]
    """The same of the finest score; of the metric itself where there is no finer one."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What an edit may do besides its effect."""

    most: float = KL_BUDGET
    unit: Literal["nats", "perplexity"] = "nats"
    """Nats per token, or the ratio of perplexities with and without the edit."""

    def cost(self, trial: Trial) -> float:
        """What a trial spends of it.

        Raises:
            ValueError: when that was not measured.
        """
        dose = None if trial.dose is None else trial.dose.kl
        cost = dose if self.unit == "nats" else trial.ratio
        if cost is None:
            raise ValueError(f"a budget of {self} needs it measured at every strength")
        return cost

    def allows(self, trial: Trial) -> bool:
        """Whether a trial stays within it."""
        return self.cost(trial) <= self.most

    def __str__(self) -> str:
        """With its unit."""
        unit = "nats per token" if self.unit == "nats" else "times the perplexity"
        return f"{self.most:g} {unit}"


@dataclass(frozen=True, slots=True)
class Point:
    """A trial as reports show it."""

    source: int
    target: int
    raw: float
    relative: float
    effect: float
    """Signed so that more is better."""
    value: float
    low: float
    high: float
    fine: float
    """Change of the score that decides, signed in the same way, and its standard error."""
    fine_stderr: float
    dose: Dose | None
    perplexity: float | None
    perplexity_ratio: float | None

    @staticmethod
    def of(trial: Trial) -> "Point":
        """Means instead of items."""
        return Point(
            *trial.layers,
            raw=trial.raw,
            relative=trial.relative,
            effect=float(trial.change.mean()),
            value=trial.value,
            low=trial.low,
            high=trial.high,
            fine=float(trial.fine.mean()),
            fine_stderr=standard_error(trial.fine),
            dose=trial.dose,
            perplexity=trial.perplexity,
            perplexity_ratio=trial.ratio,
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair of layers: what the diagnosis says of it, and what validation says."""

    source: int
    target: int
    promise: float
    effect: float
    """Largest mean change of the finest score within the budget."""
    stderr: float
    shrunk: float
    """The effect, shrunk towards what the promise predicts."""


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What was chosen, by what, and why."""

    trial: Trial
    how: How
    score: str
    """The score that verdicts read: the metric, or the finer one where it is stuck."""
    stuck: bool
    """Whether the metric stays at one end of its range whatever the strength."""
    why: str
    candidates: tuple[Candidate, ...]


def candidates(
    source: int, target: int, *, low: float = LOW_DEPTH
) -> list[tuple[int, int]]:
    """All pairs of layers worth ranking in models of so many blocks, by source block.

    What carries a concept is often not at equal depth: in one real pair the source
    blocks 22 to 28 of 30 and the target blocks 12 to 16 of 18. The last target block is
    left out: an edit there writes straight to the logits.

    Args:
        source: blocks of the source.
        target: blocks of the target.
        low: skip target blocks below this relative depth.

    Example:
        >>> candidates(4, 6)
        [(2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (3, 4)]
    """
    sources = [s for s in range(source) if (s + 0.5) / source >= low]
    targets = [t for t in range(target - 1) if (t + 0.5) / target >= low]
    return [(s, t) for s in sources for t in targets] or [(source - 1, target - 1)]


def rank_coarsely(
    pairs: Sequence[Pair], promise: Callable[[Sequence[Pair]], Mapping[Pair, float]]
) -> dict[Pair, float]:
    """The promise of a coarse grid of pairs, then of the neighbours of the best.

    Promises vary smoothly over layers, and each costs a fit.

    Args:
        pairs: all there are, a full grid.
        promise: gives that of several pairs.
    """
    axes = [sorted({pair[side] for pair in pairs}) for side in (0, 1)]
    steps = [-(-len(axis) // most) for axis, most in zip(axes, COARSE, strict=True)]
    coarse = [set(axis[::-1][::step]) for axis, step in zip(axes, steps, strict=True)]
    found = dict(promise([p for p in pairs if p[0] in coarse[0] and p[1] in coarse[1]]))
    near = {
        (s, t)
        for best in shortlist(found, TRIED_PAIRS)
        for s, t in pairs
        if abs(s - best[0]) < steps[0] and abs(t - best[1]) < steps[1]
    }
    new = [pair for pair in pairs if pair in near and pair not in found]
    return found | dict(promise(new)) if new else found


def shortlist(promises: Mapping[Pair, float], count: int) -> list[Pair]:
    """The pairs to try in behaviour, most promising first.

    Of each target block its best source block; those without any promise only where no
    pair has any.

    Example:
        >>> shortlist({(1, 5): 0.6, (2, 5): 0.7, (2, 4): 0.3, (1, 3): 0.0}, 4)
        [(2, 5), (2, 4)]
    """
    ranked = sorted(promises, key=lambda pair: -promises[pair])
    best: dict[int, Pair] = {}
    for pair in ranked:
        best.setdefault(pair[1], pair)
    kept = [pair for pair in best.values() if promises[pair] > 0]
    return kept[:count] or ranked[:1]


def sweep(
    strengths: Sequence[Strength],
    measure: Callable[[Strength], Trial],
    *,
    budget: Budget,
) -> list[Trial]:
    """Measure strengths, weakest first, until the budget is spent.

    Args:
        strengths: weakest first.
        measure: measures one of them.
        budget: what may be spent.
    """
    found = []
    for strength in strengths:
        found.append(measure(strength))
        if not budget.allows(found[-1]):
            break
    return found


def standard_error(values: Float[np.ndarray, " items"]) -> float:
    """Of the mean of independent items; infinite for fewer than two."""
    if len(values) < 2:
        return float("inf")
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def shrink(
    effects: Sequence[float], errors: Sequence[float], promises: Sequence[float]
) -> Float[np.ndarray, " pairs"]:
    """What pairs of layers are worth, from their measured effects and their promise.

    Pair p is taken to be worth `w_p ~ N(b g_p, t^2)` with its promise `g_p`, and its
    measured effect is `d_p ~ N(w_p, s_p^2)`. With `B_p = t^2 / (t^2 + s_p^2)`,

        E[w_p | d] = b g_p + B_p (d_p - b g_p)

    (empirical Bayes: Morris 1983, "Parametric empirical Bayes inference"). b is the
    weighted least-squares slope through the origin, not below zero, and t^2 its excess
    scatter by the method of moments (DerSimonian and Laird 1986, "Meta-analysis in
    clinical trials"). Noisy measurements that scatter no more than their errors allow
    leave the ranking to the diagnosis; exact ones keep their own values.

    Args:
        effects: d.
        errors: s, standard errors.
        promises: g, not negative.

    Example:
        >>> shrink([0.1, 0.3], [0.4, 0.4], [0.8, 0.1]).round(3).tolist()
        [0.135, 0.017]
        >>> shrink([0.1, 0.3], [0.01, 0.01], [0.8, 0.1]).round(2).tolist()
        [0.1, 0.3]
    """
    d, s, g = (np.asarray(x, dtype=np.float64) for x in (effects, errors, promises))
    if len(d) < 2:
        return d
    variance = np.maximum(s, 1e-9 * max(np.abs(d).max(), 1e-9)) ** 2

    def slope(weights: np.ndarray) -> float:
        total = (weights * g * g).sum()
        return max(float((weights * g * d).sum() / total), 0.0) if total > 0 else 0.0

    weights = 1 / variance
    excess = float((weights * (d - slope(weights) * g) ** 2).sum()) - (len(d) - 1)
    lost = (weights**2 * g * g).sum() / max((weights * g * g).sum(), 1e-300)
    scatter = max(excess, 0.0) / (weights.sum() - lost)
    prior = slope(1 / (variance + scatter)) * g
    return prior + scatter / (scatter + variance) * (d - prior)


def decide(
    trials: Sequence[Trial],
    promises: Mapping[Pair, float],
    *,
    budget: Budget,
    metric: str = "the metric",
    fine: str | None = None,
) -> Decision:
    """Layers and strength, by validation where it can tell, else by the diagnosis.

    A metric that stays within one item of 0, or of 1, without the edit and at every
    strength within the budget is stuck: where there is a finer score that one alone
    decides, here and in the verdict.

    Where no strength moves the finest score beyond `CLEAR` standard errors, or the
    diagnosis says no, the layers are those that the diagnosis ranks first, and the
    strength is the largest within the budget that moves a text no further than the
    concept itself does (raw strength 1), or the gentlest.

    Args:
        trials: of one or several pairs of layers.
        promises: of those pairs, 0 for "no".
        budget: what may be spent.
        metric: its name, for the words.
        fine: the name of the finest score; None where that is the metric.

    Raises:
        ValueError: when there are no trials.
    """
    if not trials:
        raise ValueError("nothing was measured; give at least one strength")
    within: dict[Pair, list[Trial]] = {}
    for trial in trials:
        if budget.allows(trial):
            within.setdefault(trial.layers, []).append(trial)
    if not within:
        gentlest = min(trials, key=budget.cost)
        why = f"no strength stays within the budget of {budget}; "
        why += "taken is the gentlest of all"
        return Decision(gentlest, "over budget", metric, False, why, ())
    order = sorted(within, key=lambda pair: -promises[pair])
    tops = {p: max(within[p], key=lambda trial: trial.fine.mean()) for p in order}
    known = _candidates(order, tops, promises)
    shrunk = {(c.source, c.target): c.shrunk for c in known}
    first, leader = order[0], max(order, key=lambda pair: shrunk[pair])
    stuck = fine is not None and all(_is_stuck(t) for p in order for t in within[p])
    score = fine if stuck and fine is not None else metric
    finest = fine or metric

    def decided(trial: Trial, how: How, why: str) -> Decision:
        if stuck:
            why = f"{metric} is stuck at {trial.value:.3f}, so {fine} decides; {why}"
        return Decision(trial, how, score, stuck, why, known)

    if promises[first] <= 0:
        return decided(
            _gentle(within[first]),
            "no-go",
            "the diagnosis says no: at no pair of layers does the mapped vector point "
            "the way of the target's own and tell its held-out pairs apart; expect "
            f"nothing. Shown are layers {_named(first)}, gently",
        )
    lead = tops[leader].fine - tops[first].fine
    tied = leader != first and not lead.mean() > standard_error(lead)
    if tied:
        leader = first
    top = tops[leader]
    gain, error = float(top.fine.mean()), standard_error(top.fine)
    told = f"{finest} by {gain:+.3f} (s.e. {error:.3f}, {len(top.fine)} items)"
    if not gain > CLEAR * error:
        return decided(
            _gentle(within[first]),
            "diagnosis",
            f"validation cannot tell: the best point moves {told}. Layers "
            f"{_named(first)} are those that the diagnosis ranks first, at a strength "
            "that moves a text no further than the concept itself does where one is "
            "within the budget",
        )
    chosen = _strength(within[leader], stuck=stuck)
    if tied:
        why = (
            "validation cannot tell the pairs of layers apart; "
            f"{_named(leader)} are those that the diagnosis ranks first. There the best "
            f"strength moves {told}"
        )
        return decided(chosen, "diagnosis", why)
    why = f"at layers {_named(leader)} the best strength moves {told}"
    if leader != first:
        why += (
            f", {lead.mean():.3f} (s.e. {standard_error(lead):.3f}) more than at "
            f"{_named(first)}, which the diagnosis ranks first"
        )
    return decided(chosen, "validation", why)


def _candidates(
    order: Sequence[Pair], tops: Mapping[Pair, Trial], promises: Mapping[Pair, float]
) -> tuple[Candidate, ...]:
    effects = [float(tops[pair].fine.mean()) for pair in order]
    errors = [standard_error(tops[pair].fine) for pair in order]
    promise = [promises[pair] for pair in order]
    worth = shrink(effects, errors, promise)
    rows = zip(order, promise, effects, errors, worth.tolist(), strict=True)
    return tuple(Candidate(*pair, *numbers) for pair, *numbers in rows)


def _is_stuck(trial: Trial) -> bool:
    """Whether the metric is within one item of an end, with the edit and without."""
    levels, one = (trial.before, trial.value), 1.0 / len(trial.change) + 1e-9
    return any(all(abs(v - end) <= one for v in levels) for end in (0, 1))


def _gentle(trials: Sequence[Trial]) -> Trial:
    """The strongest that is no longer than the concept itself, else the gentlest."""
    natural = [trial for trial in trials if abs(trial.raw) <= 1]
    if natural:
        return max(natural, key=lambda trial: abs(trial.raw))
    return min(trials, key=lambda trial: abs(trial.raw))


def _strength(trials: Sequence[Trial], *, stuck: bool) -> Trial:
    """The gentlest trial that no stronger one beats beyond doubt."""
    largest = max(trial.change.mean() for trial in trials)
    equal = max(EQUAL, NEARLY * largest)

    def beats(other: Trial, one: Trial) -> bool:
        lead = other.fine - one.fine
        finer = lead.mean() > standard_error(lead)
        if stuck:
            return bool(finer)
        return bool(finer and other.change.mean() > one.change.mean() + equal)

    ordered = sorted(trials, key=lambda trial: abs(trial.raw))
    return next(
        one
        for i, one in enumerate(ordered)
        if not any(beats(other, one) for other in ordered[i + 1 :])
    )


def _named(pair: Pair) -> str:
    return f"{pair[0]}:{pair[1]}"
