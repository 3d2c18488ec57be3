"""One rule for every interval and p-value: how sure are we of a mean or a difference?

Units are independent prompts or texts; scores of one prompt under several targets are
one unit (`groups`). Everything is closed form, so the same data always give the same
interval, and an interval and a p-value come from the same statistic: they never
contradict each other.

- **Numbers** (log-probability margins, shares, losses): Student's t. Where the items are
  lopsided it is too sure on one side; there Hall's transformation (1992, "On the removal
  of skewness by transformation", J. R. Statist. Soc. B 54) takes over. Each end is the
  wider of the two.
- **Ratios** (perplexity per token, groups of unequal size): the same, with the standard
  error of the jackknife and the effective number of units of Kish.
- **Yes/no**: score intervals. Wilson (1927) for one rate, Tango (1998, Statist. Med. 17)
  for the same items under two conditions, Agresti and Caffo (2000) for different items.
  Unlike a bootstrap they have a width where nothing changed: 0 of 60 may be a rate of 6%.

`benchmarks/intervals.py` simulates how often each is wrong; docs/results/intervals.md has
the figures, beside those of the bootstraps that stood here before.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

CONFIDENCE = 0.95
POWER = 0.8
FEW = 20
"""Below so many items an interval may be wrong more often than it says."""
CHANGED = 4
"""Fewer changed items than this show no difference even if all change alike."""
Values = Float[np.ndarray, " items"]
Labels = Sequence[Hashable] | np.ndarray
Others = Float[np.ndarray, " others"]
Losses = Sequence[tuple[float, float]] | np.ndarray
"""Per text, (negative log-likelihood in nats, units that it is spread over)."""


# What is known about an estimate is a law. Its `tails(bound)` are the p-values of "the
# truth is `bound` or less" and of "... or more"; its `interval(alpha)` are all bounds of
# which neither p-value is below alpha / 2.


@dataclass(frozen=True, slots=True)
class _Mean:
    """Student's t, widened by Hall's transformation on the side of the long tail."""

    centre: float
    error: float
    freedom: float
    skew: float
    """Of the mean: that of the items over sqrt(n)."""
    n: int

    def tails(self, bound: float) -> tuple[float, float]:
        """Where all items are equal, p is that of the sign test: 2^-n."""
        gap = self.centre - bound
        if self.error == 0:
            least = 0.5**self.n
            return (1.0 if gap <= 0 else least), (1.0 if gap >= 0 else least)
        t = max(min(gap / self.error, 1e9), -1e9)
        k = self.skew
        hall = t + k * t**2 / 3 + k**2 * t**3 / 27 + k / 6
        return _tail(min(t, hall), self.freedom), _tail(-max(t, hall), self.freedom)

    def interval(self, alpha: float) -> tuple[float, float]:
        if self.error == 0:
            return self.centre, self.centre
        edge = _t(1 - alpha / 2, self.freedom)
        up = max(edge, self._inverse(edge))
        down = min(-edge, self._inverse(-edge))
        return self.centre - up * self.error, self.centre - down * self.error

    def _inverse(self, hall: float) -> float:
        k = self.skew
        if abs(k) < 1e-6:
            return hall
        return 3 / k * (math.cbrt(1 + k * (hall - k / 6)) - 1)


@dataclass(frozen=True, slots=True)
class _Rate:
    """A share of n items: the score test, whose interval is Wilson's."""

    value: float
    n: int

    def tails(self, bound: float) -> tuple[float, float]:
        variance = bound * (1 - bound) / self.n
        return _score(self.value - bound, variance)

    def interval(self, alpha: float) -> tuple[float, float]:
        z2, n = _t(1 - alpha / 2, math.inf) ** 2, self.n
        middle = (self.value + z2 / (2 * n)) / (1 + z2 / n)
        inside = self.value * (1 - self.value) / n + z2 / (4 * n * n)
        half = math.sqrt(z2 * inside) / (1 + z2 / n)
        low = 0.0 if self.value == 0 else middle - half
        return low, 1.0 if self.value == 1 else middle + half


@dataclass(frozen=True, slots=True)
class _Flips:
    """Gains and losses among n items, each at most one: Tango's score test."""

    more: float
    less: float
    n: int

    def tails(self, bound: float) -> tuple[float, float]:
        """The likeliest rate of losses, if the difference were `bound`, gives the scale."""
        d = max(min(bound, 1.0), -1.0)
        n, more, less = self.n, self.more, self.less
        b = (2 * n - more + less) * d - more - less
        root = math.sqrt(max(b * b + 8 * n * less * d * (1 - d), 0.0))
        losses = (root - b) / (4 * n)
        variance = n * (2 * losses + d * (1 - d))
        return _score(more - less - n * d, variance if variance > 1e-12 * n else 0.0)

    def interval(self, alpha: float) -> tuple[float, float]:
        value = (self.more - self.less) / self.n

        def beyond(side: int) -> Callable[[float], float]:
            return lambda bound: self.tails(bound)[side] - alpha / 2

        low = value if value <= -1 else _root(beyond(0), -1.0, value)
        return low, value if value >= 1 else _root(beyond(1), 1.0, value)


_Law = _Mean | _Rate | _Flips


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A mean, a difference or a ratio, with its interval and what to ask of it."""

    value: float
    low: float
    high: float
    n: int
    """Independent items; of the smaller side where the sides are not paired."""
    standard_error: float
    """Of the mean or difference; of the logarithm for a ratio of perplexities."""
    spread: float
    """Standard deviation of one item (of its difference, where paired)."""
    paired: bool
    caution: str
    """Why the interval should not be leant on, in words; empty where it may be."""
    law: _Law
    ratio: bool = False
    """Whether it is a ratio: one means no difference, and distances are logarithms."""

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the truth is `bound` or less": small where it is more."""
        return self._tails(bound)[0]

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "the truth is `bound` or more": small where it is less."""
        return self._tails(bound)[1]

    def p(self, bound: float | None = None) -> float:
        """Two-sided p-value of "the truth is `bound`"; None asks for no difference."""
        bound = float(self.ratio) if bound is None else bound
        return min(2 * min(self._tails(bound)), 1.0)

    def _tails(self, bound: float) -> tuple[float, float]:
        if self.ratio:
            bound = math.log(bound) if bound > 0 else -math.inf
        return self.law.tails(bound)


def mean(
    values: Values,
    *,
    groups: Labels | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The mean of some items, with its interval.

    Args:
        values: one number per item; yes/no where all are 0 or 1.
        groups: one label per item; items of the same label are one unit, such as the
            answers of several models to one prompt. None takes every item for itself.
        confidence: of the interval.

    Raises:
        ValueError: for no values, or values that are not finite.

    Example:
        >>> found = mean(np.zeros(60))
        >>> found.value, found.low, round(found.high, 3)
        (0.0, 0.0, 0.06)
    """
    values = _checked(values, least=1)
    sums, sizes = _units(values, groups)
    units = sums / sizes
    if _shares(values) and _whole(units):
        value = float(values.mean())
        return _estimate(value, _Rate(value, len(units)), units, confidence)
    return _student(sums, sizes, confidence, within=_range(values))


def paired(
    a: Values,
    b: Others,
    *,
    groups: Labels | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The mean of `a - b` over the same items, with its interval.

    Args:
        a: one number per item; yes/no where all of both sides are 0 or 1.
        b: the same items under the other condition.
        groups: one label per item; items of the same label are one unit (see `mean`).
        confidence: of the interval.

    Raises:
        ValueError: when the items are not the same in number, fewer than two, or not
            finite.

    Example:
        >>> found = paired(np.zeros(60), np.zeros(60))
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (0.0, -0.06, 0.06)
    """
    a, b = _checked(a), _checked(b)
    if a.shape != b.shape:
        raise ValueError(
            f"{len(a)} and {len(b)} values cannot be paired; measure both on the same "
            "items"
        )
    gaps = a - b
    sums, sizes = _units(gaps, groups)
    units = sums / sizes
    changed = int((units != 0).sum())
    shares = _shares(a) and _shares(b)
    if shares and _whole(units):
        more, less = (float(np.maximum(sign * units, 0).sum()) for sign in (1, -1))
        law = _Flips(more, less, len(units))
        found = _estimate(float(gaps.mean()), law, units, confidence)
    else:
        within = (-1.0, 1.0) if shares and _range(a) and _range(b) else None
        found = _student(sums, sizes, confidence, within=within)
    if found.caution or changed >= CHANGED:
        return found
    few = f"only {changed} of {len(units)} items changed: too few to show a difference"
    return replace(found, caution=few)


def unpaired(a: Values, b: Others, *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of `a` minus mean of `b` over different items, with its interval.

    Yes/no scores get one success and one failure more on each side (Agresti and Caffo
    2000); others have Welch's t, corrected for lopsidedness as everywhere.

    Args:
        a: one number per item.
        b: the other items; they need not be as many.
        confidence: of the interval.

    Raises:
        ValueError: when a side has fewer than two items or values that are not finite.
    """
    a, b = _checked(a), _checked(b)
    value, n = float(a.mean() - b.mean()), min(len(a), len(b))
    sides = [a, b]
    yes_no = _yes_no(a) and _yes_no(b)
    if yes_no:
        sides = [np.append(side, [1.0, 0.0]) for side in sides]
    # Variances of the two means; those of yes/no scores divide by n, not n - 1.
    parts = [side.var(ddof=0 if yes_no else 1) / len(side) for side in sides]
    error = math.sqrt(sum(parts))
    freedom, skew = math.inf, 0.0
    if not yes_no and error > 0:
        freedom = sum(parts) ** 2 / sum(
            part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True)
        )
        cubes = [
            (part / error**2) ** 1.5 * _skewness(side) / math.sqrt(len(side))
            for part, side in zip(parts, sides, strict=True)
        ]
        skew = cubes[0] - cubes[1]
    centre = float(sides[0].mean() - sides[1].mean())
    law = _Mean(centre, error, freedom, skew, n)
    low, high = law.interval(1 - confidence)
    if _shares(a) and _shares(b) and _range(a) and _range(b):
        low, high = max(low, -1.0), min(high, 1.0)
    spread = math.sqrt(float(a.var(ddof=1) + b.var(ddof=1)))
    return Estimate(
        value,
        min(low, value),
        max(high, value),
        n,
        error,
        spread,
        paired=False,
        caution=_too_few(n),
        law=law,
    )


def perplexity_ratio(
    a: Losses,
    b: Losses,
    *,
    groups: Labels | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Perplexity under `a` divided by that under `b`, on the same texts.

    A text is a unit: the logarithm of the ratio is sum(nll a) / sum(units a) minus
    sum(nll b) / sum(units b), and its standard error leaves out one text after the
    other (jackknife). Long texts weigh more, so that fewer count: the degrees of freedom
    are those of Kish's effective number, (sum w)^2 / sum w^2 with w the units.

    Args:
        a: per text, (negative log-likelihood in nats, units that it is spread over).
        b: the same texts under the other condition.
        groups: one label per text; texts of the same label are one unit (see `mean`).
        confidence: of the interval.

    Raises:
        ValueError: when the texts are not the same in number, fewer than two, have
            nothing scored, or a loss is not finite.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(
            f"perplexities of {len(a)} and {len(b)} texts cannot be paired; measure "
            "both on the same two texts or more"
        )
    x, y = (
        np.stack([_units(column, groups)[0] for column in np.transpose(side)], axis=1)
        for side in (np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    )
    kept = (x[:, 1] > 0) & (y[:, 1] > 0)
    x, y = x[kept], y[kept]
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            f"{len(x)} texts with a loss to compare, or losses that are NaN or infinite; "
            "give two texts of two tokens at least and look at the logits"
        )
    rates, residuals, shares = [], np.zeros(len(x)), np.zeros(len(x))
    for side, sign in ((x, 1.0), (y, -1.0)):
        nll, units = side.T
        rate = float(nll.sum() / units.sum())
        rates.append(rate)
        residuals += sign * (nll - rate * units) / units.sum()
        shares += units / units.sum() / 2
    found = _jackknifed(rates[0] - rates[1], residuals, shares, confidence)
    return Estimate(
        _exp(found.value),
        _exp(found.low),
        _exp(found.high),
        found.n,
        found.standard_error,
        found.spread,
        paired=True,
        caution=_too_few(found.n, "texts"),
        law=found.law,
        ratio=True,
    )


def detectable(
    found: Estimate, *, power: float = POWER, alpha: float = 1 - CONFIDENCE
) -> float:
    """The smallest true difference that so many items show with some probability.

    It looks at how much items scatter, not at the difference that was seen: that is
    what a run which decided nothing can say about the next one. For numbers it is
    (t[1 - alpha/2] + t[power]) standard errors. For yes/no scores, items that changed
    for the worse stay and more change for the better until the test of their difference
    (Miettinen 1968, Biometrics 24) finds it:

        d = (z[1 - alpha/2] sqrt(p) + z[power] sqrt(p - d^2)) / sqrt(n)

    with p the share of changed items. For a ratio it is the logarithm.

    Args:
        found: a paired difference or a ratio.
        power: wanted probability of finding it.
        alpha: two-sided level of the test.

    Example:
        >>> drawn = np.random.default_rng(0).normal(size=200)
        >>> round(detectable(paired(drawn, np.zeros(200))), 2)
        0.19
    """
    if not isinstance(found.law, _Flips):
        freedom = found.law.freedom if isinstance(found.law, _Mean) else math.inf
        return (_t(1 - alpha / 2, freedom) + _t(power, freedom)) * found.standard_error
    n, law = found.n, found.law
    stays = 2 * (min(law.more, law.less) + 0.5) / (n + 1)
    z, z_power = _t(1 - alpha / 2, math.inf), _t(power, math.inf)

    def missing(d: float) -> float:
        p = min(stays + d, 1.0)
        spread = math.sqrt(max(p - d * d, 0.0))
        return (z * math.sqrt(p) + z_power * spread) / math.sqrt(n) - d

    return _root(missing, 0.0, 1.0) if missing(1.0) < 0 else 1.0


def prompts_needed(
    difference: float,
    spread: float,
    *,
    power: float = POWER,
    alpha: float = 1 - CONFIDENCE,
) -> int | None:
    """How many prompts show a stated true difference.

    The two-sided test of a mean of paired differences with standard deviation s finds
    a true difference d with probability `power` at

        n = ((z[1 - alpha/2] + z[power]) * s / d)^2

    items (Lachin 1981; Miller 2024, arXiv 2411.00640, uses it for language models).
    State a difference that would matter to you. The difference *seen* in a run that
    decided nothing is no such thing: with it the number is too small as often as not.

    Args:
        difference: d, stated beforehand.
        spread: s, of one item's paired difference (`Estimate.spread`).
        power: wanted probability of finding it.
        alpha: two-sided level of the test.

    Returns:
        The number of prompts, rounded up, two at least; None for no difference.

    Example:
        >>> prompts_needed(0.1, 0.5)
        197
    """
    if difference == 0 or not math.isfinite(difference):
        return None
    z = _t(1 - alpha / 2, math.inf) + _t(power, math.inf)
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


def _score(gap: float, variance: float) -> tuple[float, float]:
    if variance <= 0:
        tiny = 1e-12
        return float(gap <= tiny), float(gap >= -tiny)
    z = gap / math.sqrt(variance)
    return _tail(z, math.inf), _tail(-z, math.inf)


def _root(f: Callable[[float], float], one: float, other: float) -> float:
    """Where a function changes its sign; the first end, if it does not."""
    if f(one) * f(other) > 0:
        return one
    found: Any = optimize.brentq(f, one, other, xtol=1e-12)
    return float(found)


@lru_cache(maxsize=4096)
def _t(quantile: float, freedom: float) -> float:
    if math.isinf(freedom):
        return float(special.ndtri(quantile))
    return float(special.stdtrit(freedom, quantile))


def _tail(t: float, freedom: float) -> float:
    """Probability above t."""
    if math.isinf(freedom):
        return float(special.ndtr(-t))
    return float(special.stdtr(freedom, -t))


def _student(
    sums: np.ndarray,
    sizes: np.ndarray,
    confidence: float,
    *,
    within: tuple[float, float] | None,
) -> Estimate:
    total = sizes.sum()
    value = float(sums.sum() / total)
    residuals = (sums - value * sizes) / total
    return _jackknifed(value, residuals, sizes / total, confidence, within=within)


def _jackknifed(
    value: float,
    residuals: np.ndarray,
    shares: np.ndarray,
    confidence: float,
    *,
    within: tuple[float, float] | None = None,
) -> Estimate:
    """A ratio of sums: each unit's part of the error is its residual over 1 - share.

    With equal shares this is the usual standard error of a mean and n - 1 degrees of
    freedom.
    """
    n = len(residuals)
    if n < 2:
        law = _Mean(value, 0.0, 1.0, 0.0, n)
        return _estimate(value, law, np.array([value]), confidence)
    pulls = residuals / (1 - shares)
    error = math.sqrt((n - 1) / n * float(pulls @ pulls))
    scale = abs(value) + float(np.abs(residuals).max())
    if error < 1e-12 * max(scale, 1e-300):
        error = 0.0
    effective = 1 / float(shares @ shares)
    skew = _skewness(pulls) / math.sqrt(n) if error else 0.0
    law = _Mean(value, error, max(effective - 1, 1.0), skew, n)
    return _estimate(value, law, pulls * (n - 1), confidence, within=within)


def _estimate(
    value: float,
    law: _Law,
    items: np.ndarray,
    confidence: float,
    *,
    within: tuple[float, float] | None = None,
) -> Estimate:
    low, high = law.interval(1 - confidence)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    n = len(items)
    spread = float(items.std(ddof=1)) if n > 1 else 0.0
    error = law.error if isinstance(law, _Mean) else spread / math.sqrt(n)
    return Estimate(
        value,
        min(low, value),
        max(high, value),
        n,
        error,
        spread,
        paired=True,
        caution=_too_few(n),
        law=law,
    )


def _too_few(n: int, what: str = "items") -> str:
    if n >= FEW:
        return ""
    return f"only {n} {what}: fewer than {FEW} are too few for a firm interval"


def _skewness(values: np.ndarray) -> float:
    """Of the population, as far as a sample tells (G1 of Joanes and Gill 1998)."""
    n = len(values)
    gaps = values - values.mean()
    scale = float(gaps @ gaps) / n
    if n < 3 or scale <= 0:
        return 0.0
    plain = float((gaps**3).mean()) / scale**1.5
    return plain * math.sqrt(n * (n - 1)) / (n - 2)


def _units(values: np.ndarray, groups: Labels | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum and size of every group; in order of first appearance."""
    if groups is None:
        return values, np.ones(len(values))
    if len(groups) != len(values):
        raise ValueError(
            f"{len(groups)} labels for {len(values)} items; give one label per item"
        )
    numbers = {label: i for i, label in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[label] for label in groups])
    return np.bincount(index, values), np.bincount(index).astype(np.float64)


def _checked(values: Values, least: int = 2) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if len(values) < least:
        what = "a difference" if least > 1 else "a mean"
        raise ValueError(
            f"{len(values)} items say nothing about {what}; give {least} at least (30 "
            "or more are sensible)"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values are NaN or "
            "infinite; look at the model's logits under this control"
        )
    return values


def _yes_no(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _shares(values: np.ndarray) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _range(values: np.ndarray) -> tuple[float, float] | None:
    """Ends that a mean cannot pass; known of shares, some of which are 0 or 1."""
    ends = ((values == 0) | (values == 1)).any()
    return (0.0, 1.0) if ends and _shares(values) else None


def _whole(values: np.ndarray) -> bool:
    """Whether units changed wholly or not at all; or all alike, which tells no more."""
    return bool(np.isin(values, (-1, 0, 1)).all() or (values == values[0]).all())


def _exp(value: float) -> float:
    return math.exp(min(max(value, -700.0), 700.0))


def bootstrap(values: Values, *, seed: int = 0) -> tuple[float, float, float]:
    """`mean` as (value, low, high), under its name of the first release.

    Args:
        values: one number per item.
        seed: has no effect; nothing is drawn any more.
    """
    del seed
    found = mean(values)
    return found.value, found.low, found.high


def paired_difference(
    a: Values, b: Others, *, seed: int = 0
) -> tuple[float, float, float]:
    """`paired` as (value, low, high), under its name of the first release.

    Args:
        a: one number per item.
        b: the same items under the other condition.
        seed: has no effect; nothing is drawn any more.
    """
    del seed
    found = paired(a, b)
    return found.value, found.low, found.high
