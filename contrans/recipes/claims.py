"""Did a claim of the paper hold on these models? One rule for all of them.

A claim says that a quantity lies in a region: above a bound, below one, or between two.
Its 95% interval decides. Inside the region: supported. Outside it: not supported.
Across a bound: undecided. Quantities are differences between conditions over the same
items (paired bootstrap), ratios of perplexities over the same texts, or means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Any, Literal

import numpy as np

from contrans.evaluation import bootstrap
from contrans.evaluation.paired import paired, ratio_of_perplexities, unpaired
from contrans.report.format import MISSING

Verdict = Literal["supported", "not supported", "undecided"]
Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% interval, and how many items it is of."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, and what the interval said."""

    text: str
    where: str
    """Place in the paper; "ours" for a check that the paper does not make."""
    verdict: Verdict
    estimate: Estimate | None
    region: str
    """Where the estimate should lie."""
    how: str
    """What the estimate is, or why there is none."""


def judge(
    text: str,
    where: str,
    estimate: Estimate,
    *,
    above: float = -inf,
    below: float = inf,
    how: str,
) -> Claim:
    """Apply the rule: the whole interval inside the region, or outside it.

    Args:
        text: the claim in words.
        where: in the paper.
        estimate: what was measured.
        above: the region begins here.
        below: and ends here.
        how: what was measured, in words.

    Example:
        >>> judge("", "", Estimate(0.2, 0.1, 0.3, 9), above=0, how="").verdict
        'supported'
        >>> judge("", "", Estimate(0.2, -0.1, 0.3, 9), above=0, how="").verdict
        'undecided'
        >>> judge("", "", Estimate(0.2, 0.1, 0.3, 9), below=0.1, how="").verdict
        'undecided'
        >>> judge("", "", Estimate(-0.2, -0.3, -0.1, 9), above=0, how="").verdict
        'not supported'

    Raises:
        ValueError: when no region was given.
    """
    if isinf(above) and isinf(below):
        raise ValueError(f"the claim {text!r} needs a bound; give above, below or both")
    verdict: Verdict = "undecided"
    if above < estimate.low and estimate.high < below:
        verdict = "supported"
    elif estimate.high < above or estimate.low > below:
        verdict = "not supported"
    return Claim(text, where, verdict, estimate, region(above, below), how)


def untestable(text: str, where: str, why: str) -> Claim:
    """A claim that these models cannot decide, with the reason.

    Args:
        text: the claim in words.
        where: in the paper.
        why: what is lacking.
    """
    return Claim(
        text, where, "undecided", None, MISSING, f"cannot be tested here: {why}"
    )


def region(above: float, below: float) -> str:
    """The region in words.

    Example:
        >>> region(0, inf), region(-0.05, 0.05), region(-inf, 1.1)
        ('above 0', 'between -0.05 and 0.05', 'below 1.1')
    """
    if isinf(below):
        return f"above {above:g}"
    return f"below {below:g}" if isinf(above) else f"between {above:g} and {below:g}"


def average(values: Numbers, *, seed: int = 0) -> Estimate:
    """The mean of some items."""
    found = np.asarray(values, dtype=np.float64)
    return Estimate(*bootstrap(found, seed=seed), len(found))


def difference(a: Numbers, b: Numbers, *, seed: int = 0) -> Estimate:
    """Mean of `a - b` over the same items.

    Args:
        a: one score an item.
        b: the same items again.
        seed: of the bootstrap.
    """
    one, other = (np.asarray(x, dtype=np.float64) for x in (a, b))
    found = paired(one, other, seed=seed)
    return Estimate(found.value, found.low, found.high, found.n)


def pooled(
    pairs: Sequence[tuple[Numbers, Numbers]], *, sign: float = 1.0, seed: int = 0
) -> Estimate:
    """Mean of `a - b` over the items of several groups together, times a sign.

    Args:
        pairs: (a, b) of each group.
        sign: by which the difference is multiplied.
        seed: of the bootstrap.

    Example:
        >>> pooled([([1, 1], [0, 0]), ([0, 1], [0, 0])]).value
        0.75
    """
    one = np.concatenate([np.asarray(a, dtype=np.float64) for a, _ in pairs])
    other = np.concatenate([np.asarray(b, dtype=np.float64) for _, b in pairs])
    if sign < 0:
        one, other = other, one
    return difference(one, other, seed=seed)


def apart(a: Numbers, b: Numbers, *, seed: int = 0) -> Estimate:
    """Mean of `a` minus mean of `b`, over different items.

    Args:
        a: one score an item.
        b: the same of other items.
        seed: of the bootstrap.
    """
    one, other = (np.asarray(x, dtype=np.float64) for x in (a, b))
    found = unpaired(one, other, seed=seed)
    return Estimate(found.value, found.low, found.high, found.n)


def ratio(a: Any, b: Any, *, seed: int = 0) -> Estimate:
    """Perplexity under `a` over that under `b`, on the same texts.

    Args:
        a: per text, (negative log-likelihood, tokens).
        b: the same texts under the other condition.
        seed: for resampling.
    """
    found = ratio_of_perplexities(a, b, seed=seed)
    return Estimate(found.value, found.low, found.high, found.n)
