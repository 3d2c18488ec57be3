"""Intervals: every mean comes with one."""

from inspect import signature
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from contrans.evaluation.paired import paired

LEVEL = 0.95
RESAMPLES = 4999


def bootstrap(
    values: Float[np.ndarray, " items"], *, seed: int = 0
) -> tuple[float, float, float]:
    """The mean and its 95% interval, by percentile bootstrap over items.

    Where all values are 0, or all 1, every resample has the same mean and a bootstrap
    interval has no width, which is too sure. The exact binomial interval (Clopper and
    Pearson) stands in: 0 of 60 may well be a rate of 6%.

    Args:
        values: one number per item.
        seed: for resampling.

    Returns:
        (mean, low, high).

    Raises:
        ValueError: for no values, or values that are not finite.

    Example:
        >>> [round(x, 3) for x in bootstrap(np.zeros(60))]
        [0.0, 0.0, 0.06]
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise ValueError("no values to average; give the task at least one item")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values are NaN or "
            "infinite; look at the model's logits under this control"
        )
    mean = float(values.mean())
    if np.all(values == values[0]):
        if mean not in (0.0, 1.0):
            return mean, mean, mean
        exact = stats.binomtest(round(values.sum()), len(values)).proportion_ci(LEVEL)
        return mean, float(exact.low), float(exact.high)
    low, high = _percentiles(values, seed)
    return mean, low, high


def paired_difference(
    a: Float[np.ndarray, " items"], b: Float[np.ndarray, " others"], *, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of `a - b` over the same items, with its 95% bootstrap interval.

    Where every item changes alike, scores that are only 0 or 1 have the interval of
    `paired`: a bootstrap of equal numbers has no width.

    Args:
        a: one score an item.
        b: the same items again.
        seed: of the bootstrap.

    Raises:
        ValueError: when the items are not the same in number, or there are none.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(
            f"{len(a)} and {len(b)} values cannot be paired; measure both controls on "
            "the same task"
        )
    gaps = a - b
    if len(gaps) and np.all(gaps == gaps[0]):
        found = float(gaps[0])
        if len(gaps) < 2 or not set(a) | set(b) <= {0.0, 1.0}:
            return found, found, found
        wide = paired(a, b, seed=seed)
        return found, max(min(wide.low, found), -1.0), min(max(wide.high, found), 1.0)
    return bootstrap(gaps, seed=seed)


def _percentiles(values: np.ndarray, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    # scipy renamed the argument in 1.15.
    named = "rng" if "rng" in signature(stats.bootstrap).parameters else "random_state"
    options: dict[str, Any] = {named: generator}
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        batch=max((1 << 22) // len(values), 1),
        **options,
    ).confidence_interval
    return float(found.low), float(found.high)
