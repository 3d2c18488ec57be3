"""Is one better than the other? Paired bootstrap, Holm's correction, how many would do.

An interval and a p-value come from the same resampled means, so they never contradict
each other. Scores that are only 0 or 1 get one gain and one loss more before
resampling (Bonett and Price 2012, for the Wald interval): a plain bootstrap of a few
changed items is too narrow, and of none at all it has no width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 4999
_CHUNK = 1 << 22
"""Numbers drawn at once."""
_FEW = 8
"""Different items up to which their numbers are drawn instead of the items."""
Values = Float[np.ndarray, " items"]


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """A mean difference (or a ratio), its bootstrap interval, and what to ask of it."""

    value: float
    low: float
    high: float
    n: int
    """Items; of the smaller side where the sides are not paired."""
    paired: bool
    spread: float
    """Standard deviation of one item's difference."""
    draws: Float[np.ndarray, " resamples"]
    """The resampled differences, sorted."""

    logs: bool = False
    """Whether distances are those of logarithms: a ratio."""

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "the truth is `bound` or more": small where it is less.

        It is the share of resampled means that are not below the bound. Where none is,
        that share says only "below one in so many draws", which corrected for many
        comparisons is never significant. There the tail goes on as that of Student's t
        with n - 1 degrees of freedom, from the mean and the spread of the draws. It is
        never above the share, and never below 2^-n, the least that n items can show
        when each is as likely to go up as down (the sign test). It errs on the safe
        side for scores of 0 and 1; like a t-test it is too sure of few items whose
        changes are very lopsided.
        """
        beyond = len(self.draws) - np.searchsorted(self.draws, bound, side="left")
        return self._p(int(beyond), bound)

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the truth is `bound` or less": small where it is more."""
        return self._p(int(np.searchsorted(self.draws, bound, side="right")), bound)

    def _p(self, beyond: int, bound: float) -> float:
        share = (beyond + 1) / (len(self.draws) + 1)
        if beyond:
            return share
        draws, edge = self.draws, bound
        if self.logs:
            draws, edge = np.log(draws), np.log(bound)
        spread = draws.std() * np.sqrt(self.n / (self.n - 1))
        gap = abs(draws.mean() - edge)
        tail = float(stats.t.sf(gap / spread, self.n - 1)) if spread > 0 else 0.0
        return min(share, max(tail, 0.5**self.n))

    def p(self, bound: float = 0.0) -> float:
        """Two-sided p-value of "the truth is `bound`"."""
        if self.low == self.high == bound:
            return 1.0
        return min(2 * min(self.p_below(bound), self.p_above(bound)), 1.0)


def paired(
    a: Float[np.ndarray, " items"],
    b: Float[np.ndarray, " others"],
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """The mean of `a - b` over the same items, with its paired bootstrap interval.

    Args:
        a: one number per item.
        b: the same items under the other condition.
        seed: for resampling.
        confidence: of the interval.

    Raises:
        ValueError: when the items are not the same in number, too few, or not finite.

    Example:
        >>> found = paired(np.zeros(60), np.zeros(60))
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (0.0, -0.05, 0.05)
    """
    a, b = _checked(a), _checked(b)
    if a.shape != b.shape:
        raise ValueError(
            f"{len(a)} and {len(b)} values cannot be paired; measure both on the same "
            "items"
        )
    gaps = a - b
    widened = np.append(gaps, [1.0, -1.0]) if _binary(a, b) else gaps
    draws = _resampled([widened], seed)
    return _difference(
        gaps.mean(), draws, n=len(gaps), pairs=True, spread=gaps, level=confidence
    )


def single(
    values: Float[np.ndarray, " items"],
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """A mean with its bootstrap interval, to be compared with fixed numbers.

    For scores that are only 0 or 1 it is the exact binomial interval (Clopper and
    Pearson 1934): a bootstrap of a rate near 0 or 1 is too sure.

    Args:
        values: one score an item.
        seed: for whatever is drawn.
        confidence: of the interval.

    Raises:
        ValueError: for too few values, or values that are not finite.
    """
    values = _checked(values)
    found = _difference(
        values.mean(),
        _resampled([values], seed),
        n=len(values),
        pairs=True,
        spread=values,
        level=confidence,
    )
    if not _binary(values, values):
        return found
    exact = stats.binomtest(round(values.sum()), len(values)).proportion_ci(confidence)
    return replace(found, low=float(exact.low), high=float(exact.high))


def unpaired(
    a: Float[np.ndarray, " items"],
    b: Float[np.ndarray, " others"],
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Mean of `a` minus mean of `b` over different items, each side resampled alone.

    Of scores that are only 0 or 1 each side gets one success and one failure more
    (Agresti and Caffo 2000), for the same reason as in `paired`.

    Args:
        a: one score an item.
        b: the same of other items.
        seed: for whatever is drawn.
        confidence: of the interval.

    Raises:
        ValueError: when a side has too few items or values that are not finite.
    """
    a, b = _checked(a), _checked(b)
    sides = [np.append(x, [1.0, 0.0]) if _binary(a, b) else x for x in (a, b)]
    one = _resampled([sides[0]], seed)
    draws = one - _resampled([sides[1]], seed + 1)
    pooled = math.sqrt(a.var(ddof=1) + b.var(ddof=1))
    return _difference(
        a.mean() - b.mean(),
        draws,
        n=min(len(a), len(b)),
        pairs=False,
        spread=pooled,
        level=confidence,
    )


def ratio_of_perplexities(
    a: Sequence[tuple[float, float]],
    b: Sequence[tuple[float, float]],
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Perplexity under `a` divided by that under `b`, the same texts resampled in both.

    Args:
        a: per text, (negative log-likelihood in nats, units that it is spread over).
        b: the same texts under the other condition.
        seed: for resampling.
        confidence: of the interval.

    Raises:
        ValueError: when the texts are not the same in number, or fewer than two.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"perplexities of {len(a)} and {len(b)} texts cannot be paired; measure "
            "both on the same two texts or more"
        )
    x, y = np.array(a, dtype=np.float64), np.array(b, dtype=np.float64)
    columns = [x[:, 0], x[:, 1], y[:, 0], y[:, 1]]
    nll_a, units_a, nll_b, units_b = _resampled(columns, seed).reshape(4, -1)
    value = x[:, 0].sum() / x[:, 1].sum() - y[:, 0].sum() / y[:, 1].sum()
    gaps = x[:, 0] / x[:, 1].mean() - y[:, 0] / y[:, 1].mean()
    logs = nll_a / units_a - nll_b / units_b
    found = _difference(
        value, logs, n=len(x), pairs=True, spread=gaps, level=confidence
    )
    return Difference(
        _exp(found.value),
        _exp(found.low),
        _exp(found.high),
        found.n,
        paired=True,
        spread=found.spread,
        draws=np.exp(np.clip(found.draws, -700, 700)),
        logs=True,
    )


def prompts_to_decide(
    difference: float,
    spread: float,
    *,
    power: float = POWER,
    alpha: float = 1 - CONFIDENCE,
) -> int | None:
    """How many prompts would show a difference of this size.

    The two-sided test of a mean of paired differences with standard deviation s finds
    a true difference d with probability `power` at

        n = ((z[1 - alpha/2] + z[power]) * s / d)^2

    items (the usual normal formula: Lachin 1981, "Introduction to sample size
    determination and power analysis for clinical trials"; Miller 2024, arXiv
    2411.00640, uses it for language models). It takes the observed d and s for the true
    ones, and d is uncertain wherever more prompts are needed: read it as an order of
    magnitude.

    Args:
        difference: d.
        spread: s, of one item's paired difference.
        power: wanted probability of finding it.
        alpha: two-sided level of the test.

    Returns:
        The number of prompts, rounded up, two at least; None where nothing differs.

    Example:
        >>> prompts_to_decide(0.1, 0.5)
        197
    """
    if difference == 0 or not math.isfinite(difference):
        return None
    z = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    return max(math.ceil((z * spread / difference) ** 2), 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several (Holm 1979): compare each with the level.

    The probability of any false alarm among them is then at most the level, whatever
    their dependence.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min((len(p_values) - rank) * p_values[i], 1.0))
        found[i] = worst
    return found


def _checked(values: Float[np.ndarray, " items"]) -> Values:
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        raise ValueError(
            f"{len(values)} items say nothing about a difference; give two at least "
            "(30 or more are sensible)"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values are NaN or "
            "infinite; look at the model's logits under this control"
        )
    return values


def _binary(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())


def _resampled(columns: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Means of columns under common resampling of their rows, one column after another."""
    generator = np.random.default_rng(seed)
    table = np.stack(columns, axis=1)
    n = len(table)
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    if len(kinds) <= _FEW:  # scores of 0 and 1: draw how often each kind comes
        often = generator.multinomial(n, counts / n, size=RESAMPLES)
        return (often @ kinds / n).T.reshape(-1)
    step = max(_CHUNK // table.size, 1)
    parts = [
        table[generator.integers(0, n, (min(step, RESAMPLES - start), n))].mean(1)
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(parts).T.reshape(-1)


def _difference(
    value: float,
    draws: np.ndarray,
    *,
    n: int,
    pairs: bool,
    spread: float | np.ndarray,
    level: float,
) -> Difference:
    if isinstance(spread, np.ndarray):
        spread = float(spread.std(ddof=1))
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Difference(
        float(value), float(low), float(high), n, pairs, spread, np.sort(draws)
    )


def _exp(value: float) -> float:
    return math.exp(min(max(value, -700.0), 700.0))
