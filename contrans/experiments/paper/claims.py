"""Did a claim of the paper hold on these models? One rule for all of them.

A claim says that a quantity lies in a region: above a bound, below one, or between two.
Its 95% interval decides. Inside the region: supported. Outside it: not supported.
Across a bound: undecided. Quantities are differences between conditions over the same
items, ratios of perplexities over the same texts, or means; all from
`evaluation.statistics`. Scores of the same prompt under several targets are one item.
"""

from collections.abc import Hashable, Sequence
from math import inf, isinf
from typing import Any

import numpy as np

from contrans.core.verdicts import Claim, Estimate, Verdict, region
from contrans.evaluation import statistics
from contrans.report.format import MISSING

Numbers = Sequence[float] | np.ndarray


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
    if estimate.caution:
        how = f"{how} ({estimate.caution})"
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


Labels = Sequence[Hashable]
"""One per item: its prompt. Items of one prompt are one unit."""


def average(values: Numbers, labels: Labels | None = None) -> Estimate:
    """The mean of some items."""
    return _estimate(statistics.mean(_array(values), groups=labels))


def difference(a: Numbers, b: Numbers, labels: Labels | None = None) -> Estimate:
    """Mean of `a - b` over the same items.

    Args:
        a: one number per item.
        b: the same items under the other condition.
        labels: one per item, where items share prompts.
    """
    return _estimate(statistics.paired(_array(a), _array(b), groups=labels))


def pooled(
    pairs: Sequence[tuple[Numbers, Numbers]],
    labels: Sequence[Labels] | None = None,
    *,
    sign: float = 1.0,
) -> Estimate:
    """Mean of `a - b` over the items of several groups together, times a sign.

    Args:
        pairs: per group, the items under two conditions.
        labels: per group, one label per item; a prompt that several groups share stays
            together. None says that every group has the same items in the same order.
        sign: 1, or -1 to turn the difference round.

    Example:
        >>> pooled([([1, 1], [0, 0]), ([0, 1], [0, 0])]).value
        0.75
        >>> pooled([([1, 1], [0, 0]), ([0, 1], [0, 0])]).n
        2
    """
    one = np.concatenate([_array(a) for a, _ in pairs])
    other = np.concatenate([_array(b) for _, b in pairs])
    if labels is None:
        labels = [range(len(a)) for a, _ in pairs]
    if sign < 0:
        one, other = other, one
    return difference(one, other, [label for group in labels for label in group])


def apart(a: Numbers, b: Numbers) -> Estimate:
    """Mean of `a` minus mean of `b`, over different items."""
    return _estimate(statistics.unpaired(_array(a), _array(b)))


def ratio(a: Any, b: Any, labels: Labels | None = None) -> Estimate:
    """Perplexity under `a` over that under `b`, on the same texts.

    Args:
        a: per text, (negative log-likelihood, tokens).
        b: the same texts under the other condition.
        labels: one per text, where several targets read the same ones.
    """
    return _estimate(statistics.perplexity_ratio(a, b, groups=labels))


def _array(values: Numbers) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _estimate(found: statistics.Estimate) -> Estimate:
    return Estimate(found.value, found.low, found.high, found.n, found.caution)
