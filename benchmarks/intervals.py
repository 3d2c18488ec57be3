"""How often is an interval wrong? Simulated for every interval that contrans prints.

    python benchmarks/intervals.py                  # all, about eight minutes on one core
    python benchmarks/intervals.py --quick          # a tenth of the samples
    python benchmarks/intervals.py --markdown docs/results/intervals.md

An interval at 95% should miss the truth in 5% of samples; where the truth is "no
difference", that is the rate of false alarms. The functions are those of the product.
Beside them stands the percentile bootstrap that was used before, and what it does when
the same prompts under several targets count as so many prompts. Yes/no scores are not
drawn: every possible outcome is looked at, with its probability.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import stats

from contrans.evaluation.statistics import (
    FEW,
    Estimate,
    detectable,
    mean,
    paired,
    perplexity_ratio,
    prompts_needed,
    unpaired,
)

LOW, HIGH = 3.0, 7.0
"""Percent within which an interval at 95% should be wrong."""
SAMPLES = 20_000
RESAMPLES = 1999
"""Of the percentile bootstrap that is shown for comparison."""
Draw = Callable[[np.random.Generator, int, int], np.ndarray]
"""(generator, samples, n) to values with mean zero."""


@dataclass(frozen=True, slots=True)
class Row:
    """One simulated interval."""

    of: str
    world: str
    n: int
    below: float
    """Percent of samples whose interval lies wholly below the truth."""
    above: float
    cautious: float
    """Percent of samples about which the product says that they are too few."""
    before: float | None = None
    """Percent wrong by the percentile bootstrap."""

    @property
    def wrong(self) -> float:
        return self.below + self.above

    @property
    def verdict(self) -> str:
        if LOW <= self.wrong <= HIGH:
            return "within"
        if self.cautious > 99:
            return "said to be too few"
        return "safe side" if self.wrong < LOW else "TOO OFTEN"


WORLDS: dict[str, Draw] = {
    "normal": lambda g, s, n: g.normal(size=(s, n)),
    "uniform": lambda g, s, n: g.random((s, n)) - 0.5,
    "long tails (Laplace)": lambda g, s, n: g.laplace(size=(s, n)),
    "long tails (t, 3 df)": lambda g, s, n: g.standard_t(3, size=(s, n)),
    "lopsided (exponential)": lambda g, s, n: g.exponential(size=(s, n)) - 1,
    "very lopsided (lognormal)": lambda g, s, n: g.lognormal(size=(s, n)) - np.exp(0.5),
    "half unchanged, rest lopsided": lambda g, s, n: (
        g.exponential(size=(s, n)) * (g.random((s, n)) < 0.5) - 0.5
    ),
    "four fifths unchanged": lambda g, s, n: (
        g.normal(size=(s, n)) * (g.random((s, n)) < 0.2)
    ),
    "thirds (three draws averaged)": lambda g, s, n: (
        g.binomial(3, 0.3, (s, n)) / 3 - 0.3
    ),
}
SIZES = (5, 10, 20, 30, 60, 200)


@lru_cache(maxsize=16)
def weights(n: int) -> np.ndarray:
    """How often each of n items comes in each resample."""
    drawn = np.random.default_rng(7).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return drawn.astype(np.float32) / n


def percentile(values: np.ndarray) -> float:
    """Percent of samples whose percentile bootstrap of the mean misses zero."""
    wrong = 0
    for part in np.array_split(values, max(len(values) // 1000, 1)):
        ends = np.quantile(
            part.astype(np.float32) @ weights(part.shape[1]).T, [0.025, 0.975], axis=1
        )
        wrong += int(((ends[0] > 0) | (ends[1] < 0)).sum())
    return 100 * wrong / len(values)


def tally(
    of: str,
    world: str,
    n: int,
    found: Iterable[Estimate],
    truth: float,
    before: float | None = None,
) -> Row:
    """Count the intervals that miss the truth, on either side."""
    seen = [(e.high < truth, e.low > truth, bool(e.caution)) for e in found]
    below, above, cautious = 100 * np.mean(seen, axis=0)
    return Row(of, world, n, float(below), float(above), float(cautious), before)


def numbers(samples: int) -> list[Row]:
    """Means, and paired differences, of scores that are numbers."""
    rows, g = [], np.random.default_rng(1)
    for world, draw in WORLDS.items():
        for n in SIZES:
            values = draw(g, samples, n)
            found = (paired(gaps, np.zeros(n)) for gaps in values)
            rows.append(
                tally(
                    "mean or paired difference",
                    world,
                    n,
                    found,
                    0.0,
                    percentile(values),
                )
            )
    return rows


def apart(samples: int) -> list[Row]:
    """Differences of means over different items."""
    rows, g = [], np.random.default_rng(2)
    for world in ("normal", "lopsided (exponential)"):
        for n, m in ((20, 20), (30, 60), (60, 200)):
            sides = WORLDS[world](g, samples, n), 3 * WORLDS[world](g, samples, m)
            found = (unpaired(a, b) for a, b in zip(*sides, strict=True))
            rows.append(tally(f"different items, {n} and {m}", world, n, found, 0.0))
    for n, m in ((20, 20), (30, 60), (60, 200)):
        one, two = [[_yes(k, x) for k in range(x + 1)] for x in (n, m)]
        table = [[unpaired(a, b) for b in two] for a in one]
        for p, q in ((0.1, 0.1), (0.5, 0.5), (0.8, 0.3)):
            chance = np.outer(
                stats.binom.pmf(np.arange(n + 1), n, p),
                stats.binom.pmf(np.arange(m + 1), m, q),
            )
            rows.append(
                _exact(
                    f"yes/no, different items, {n} and {m}",
                    f"{p} and {q}",
                    n,
                    [e for line in table for e in line],
                    chance.ravel(),
                    p - q,
                )
            )
    return rows


def _yes(k: int, n: int) -> np.ndarray:
    return (np.arange(n) < k).astype(np.float64)


def _exact(
    of: str,
    world: str,
    n: int,
    found: Sequence[Estimate],
    chance: np.ndarray,
    truth: float,
) -> Row:
    tiny = 1e-9
    seen = np.array(
        [(e.high < truth - tiny, e.low > truth + tiny, bool(e.caution)) for e in found]
    )
    below, above, cautious = (100 * chance @ seen).tolist()
    return Row(of, world, n, below, above, cautious)


def rates() -> list[Row]:
    """One yes/no rate: the mean over many true rates, since single ones jump with n."""
    rows = []
    for n in SIZES:
        found = [mean(_yes(k, n)) for k in range(n + 1)]
        each = [
            _exact("", "", n, found, stats.binom.pmf(np.arange(n + 1), n, p), p)
            for p in np.linspace(0.05, 0.95, 181)
        ]
        wrong = [row.wrong for row in each]
        rows.append(
            Row(
                "yes/no rate",
                f"true rates .05 to .95; single rates {min(wrong):.1f} to {max(wrong):.1f}",
                n,
                float(np.mean([row.below for row in each])),
                float(np.mean([row.above for row in each])),
                each[0].cautious,
            )
        )
    return rows


def flips() -> list[Row]:
    """Paired yes/no scores: gains and losses at several rates."""
    rows = []
    for n in (10, 20, 30, 60, 100):
        outcomes = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
        found = [_flipped(b, c, n) for b, c in outcomes]
        counts = np.array([(b, c, n - b - c) for b, c in outcomes])
        for gain, loss in (
            (0.05, 0.05),
            (0.1, 0.1),
            (0.25, 0.25),
            (0.3, 0.1),
            (0.6, 0.1),
        ):
            chance = stats.multinomial.pmf(counts, n, [gain, loss, 1 - gain - loss])
            world = f"{gain:.0%} gain, {loss:.0%} lose"
            rows.append(_exact("yes/no, paired", world, n, found, chance, gain - loss))
    return rows


def _flipped(b: int, c: int, n: int) -> Estimate:
    after = np.zeros(n)
    before = np.zeros(n)
    after[:b], before[b : b + c] = 1, 1
    return paired(after, before)


def pooled(samples: int, targets: int = 4) -> list[Row]:
    """The same prompts under several targets, whose changes go together."""
    rows, g = [], np.random.default_rng(3)
    for kind in ("numbers", "yes/no"):
        for n in (20, 60, 200):
            labels = np.tile(np.arange(n), targets)
            for together in (0.0, 0.5, 0.9):
                shared = g.normal(size=(samples, 1, n))
                own = g.normal(size=(samples, targets, n))
                z = np.sqrt(together) * shared + np.sqrt(1 - together) * own
                if kind == "yes/no":  # 15% gain and as many lose
                    edge = stats.norm.ppf(0.85)
                    z = (z > edge).astype(float) - (z < -edge)
                flat = z.reshape(samples, -1)
                found = (
                    paired(np.maximum(x, 0), np.maximum(-x, 0), groups=labels)
                    for x in flat
                )
                rows.append(
                    tally(
                        f"{kind}, {targets} targets pooled",
                        f"correlation {together}",
                        n,
                        found,
                        0.0,
                        percentile(flat[: samples // 10]),
                    )
                )
    return rows


def perplexities(samples: int) -> list[Row]:
    """Ratios of perplexities: texts of unequal length, whose true ratio is one."""
    rows, g = [], np.random.default_rng(4)
    for world, spread, lopsided in (
        ("texts of like length", 0.3, False),
        ("unequal length", 0.8, False),
        ("unequal length, lopsided losses", 0.8, True),
    ):
        for n in (5, 10, 20, 50, 200):
            tokens = np.maximum(g.lognormal(4, spread, (samples, n)).round(), 4)
            each = (
                g.exponential(size=(samples, n)) - 1
                if lopsided
                else g.normal(size=(samples, n))
            )
            change = tokens * 0.1 * each + np.sqrt(tokens) * g.normal(
                0, 0.5, each.shape
            )
            base = 3 * tokens
            found = (
                perplexity_ratio(np.stack([x + y, t], 1), np.stack([x, t], 1))
                for x, y, t in zip(base, change, tokens, strict=True)
            )
            rows.append(
                tally(
                    "perplexity ratio",
                    world,
                    n,
                    found,
                    1.0,
                    _ratio_before(change, tokens),
                )
            )
    return rows


def _ratio_before(change: np.ndarray, tokens: np.ndarray) -> float:
    w = weights(change.shape[1])
    some = slice(0, 4000)
    ratios = (change[some] @ w.T) / (tokens[some] @ w.T)
    low, high = np.quantile(ratios, [0.025, 0.975], axis=1)
    return 100 * float(((low > 0) | (high < 0)).mean())


@dataclass(frozen=True, slots=True)
class Power:
    """How often the difference that a run says it would show is shown by the next."""

    of: str
    world: str
    n: int
    found: float
    """Percent."""


def powers(samples: int) -> list[Power]:
    """A run in which nothing differs states a difference; then it is the true one."""
    rows, g = [], np.random.default_rng(5)
    for world in ("normal", "long tails (Laplace)", "lopsided (exponential)"):
        for n in (20, 60, 200):
            first, second = (WORLDS[world](g, samples // 4, n) for _ in range(2))
            none = np.zeros(n)
            hits = [
                paired(gaps + detectable(paired(seen, none)), none).p() < 0.05
                for seen, gaps in zip(first, second, strict=True)
            ]
            rows.append(Power("numbers", world, n, 100 * float(np.mean(hits))))
    for loss in (0.02, 0.05, 0.1, 0.2):
        for n in (20, 60, 200):
            hits = []
            for _ in range(samples // 8):
                b, c, _ = g.multinomial(n, [loss, loss, 1 - 2 * loss])
                gain = min(loss + detectable(_flipped(b, c, n)), 1 - loss)
                b, c, _ = g.multinomial(n, [gain, loss, max(1 - gain - loss, 0)])
                hits.append(_flipped(b, c, n).p() < 0.05)
            world = f"{loss:.0%} lose"
            rows.append(Power("yes/no", world, n, 100 * float(np.mean(hits))))
    return rows


@dataclass(frozen=True, slots=True)
class Seen:
    """What "about N prompts would decide it", from the difference seen, was worth."""

    truth: str
    n: int
    undecided: float
    right: float
    """Percent of undecided runs after which N prompts did decide."""


def seen(samples: int) -> list[Seen]:
    """After runs that decided nothing, as many new prompts as the old formula asked."""
    rows, g, n = [], np.random.default_rng(6), 60
    for errors in (0.25, 0.5, 1.0, 2.0):
        true, undecided, right = errors / np.sqrt(n), 0, []
        for gaps in g.normal(true, 1, (samples // 20, n)):
            found = paired(gaps, np.zeros(n))
            if found.p() < 0.05:
                continue
            undecided += 1
            needed = prompts_needed(found.value, found.spread) or 10**9
            chance = stats.norm.cdf(true * np.sqrt(needed) - stats.norm.ppf(0.975))
            right.append(chance)
        rows.append(
            Seen(
                f"{errors} standard errors",
                n,
                100 * undecided / (samples // 20),
                100 * float(np.mean(right)),
            )
        )
    return rows


def page(
    rows: Sequence[Row], power: Sequence[Power], old: Sequence[Seen], samples: int
) -> str:
    """All results as Markdown."""
    beyond = [row for row in rows if row.n >= FEW and not LOW <= row.wrong <= HIGH]
    lines = [
        "# How often intervals are wrong",
        "",
        "Made by `python benchmarks/intervals.py --markdown docs/results/intervals.md`: "
        f"percent of {samples:,} samples in which a 95% interval misses the truth. Wanted: "
        f"{LOW:.0f} to {HIGH:.0f} at {FEW} items and more; below that contrans says "
        'that there are too few. "Below" and "above": the whole interval lies below or '
        "above the truth. The last column is the percentile bootstrap (4,999 draws in "
        "the first release, 1,999 here), with items of several targets taken for "
        "independent, as before. Yes/no scores are exact sums over all outcomes.",
        "",
        "- **within**: in that range. **safe side**: wrong more seldom; with few changed "
        "items of yes/no scores nothing else is possible, and contrans says so below "
        "four. **said to be too few**: outside, and contrans says that n is too small.",
        f"- Of {sum(row.n >= FEW for row in rows)} rows at {FEW} items and more, "
        f"{len(beyond)} are outside: "
        f"{sum(row.wrong > HIGH for row in beyond)} too often wrong, "
        f"{sum(row.wrong < LOW for row in beyond)} on the safe side.",
        "",
    ]
    head = ["world", "n", "wrong %", "below", "above", "verdict", "bootstrap %"]
    for of in dict.fromkeys(row.of for row in rows):
        lines += [f"## {of[0].upper()}{of[1:]}", "", *_head(head)]
        for row in (row for row in rows if row.of == of):
            before = "" if row.before is None else f"{row.before:.1f}"
            cells = [row.world, str(row.n), f"{row.wrong:.1f}", f"{row.below:.1f}"]
            cells += [f"{row.above:.1f}", row.verdict, before]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "## The difference that a run says it would show",
        "",
        "A run without a difference states the difference that so many prompts show in "
        "about 80% of runs; in the next run that is the true one. Percent that find it:",
        "",
        *_head(["scores", "world", "n", "found %"]),
        *(f"| {p.of} | {p.world} | {p.n} | {p.found:.0f} |" for p in power),
        "",
        'The first release said "about N prompts would decide it", with N from the '
        "difference seen. After runs that decided nothing:",
        "",
        *_head(["true difference", "n", "undecided runs %", "N was right %"]),
        *(f"| {o.truth} | {o.n} | {o.undecided:.0f} | {o.right:.0f} |" for o in old),
    ]
    return "\n".join(lines) + "\n"


def _head(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", f"| {' | '.join('---' for _ in cells)} |"]


def main() -> int:
    """Simulate, print, and say whether anything is wrong more often than it should be."""
    asked = argparse.ArgumentParser(description="How often intervals are wrong.")
    asked.add_argument("--quick", action="store_true", help="a tenth of the samples")
    asked.add_argument("--markdown", type=Path, help="write the page here")
    given = asked.parse_args()
    samples = SAMPLES // 10 if given.quick else SAMPLES
    rows: list[Row] = []
    for part in (numbers, apart, pooled, perplexities):
        rows += part(samples)
    rows += [*rates(), *flips()]
    text = page(rows, powers(samples), seen(samples), samples)
    if given.markdown is not None:
        given.markdown.write_text(text, encoding="utf-8")
    print(text)
    slack = 3 * np.sqrt(HIGH * (100 - HIGH) / samples)
    late = [r for r in rows if r.n >= FEW and r.wrong > HIGH + slack]
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
