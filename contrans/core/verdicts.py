"""What is judged, as typed values that a page or a file shows."""

from dataclasses import asdict, dataclass
from math import isinf
from typing import Any, Literal

from contrans.core.version import __version__

Verdict = Literal["supported", "not supported", "undecided"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% interval, and how many items it is of."""

    value: float
    low: float
    high: float
    n: int
    caution: str = ""
    """Why the interval should not be leant on; empty where it may be."""


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


def region(above: float, below: float) -> str:
    """The region in words.

    Example:
        >>> from math import inf
        >>> region(0, inf), region(-0.05, 0.05), region(-inf, 1.1)
        ('above 0', 'between -0.05 and 0.05', 'below 1.1')
    """
    if isinf(below):
        return f"above {above:g}"
    return f"below {below:g}" if isinf(above) else f"between {above:g} and {below:g}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task under both sides."""

    task: str
    metric: str
    n: int
    chance: float | None
    a: dict[str, float]
    """Score of A: value, low, high."""
    b: dict[str, float]
    difference: dict[str, float]
    """B minus A (for texts B divided by A), as measured: value, low, high."""
    p: float
    """Two-sided, after Holm's correction over all tasks."""
    verdict: str
    """"better", "worse" or "no difference": B against A."""
    detectable: float
    """The true difference (for texts the ratio) that so many prompts show with
    probability 0.8 at the level of the verdict."""
    said: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole A/B test."""

    a: str
    b: str
    outcomes: tuple[Outcome, ...]
    generations: tuple[dict[str, str], ...]
    """Per prompt: prompt, a, b."""
    confidence: float
    seed: int
    notes: tuple[str, ...]
    measured: int
    cached: int

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {"contrans": __version__, **asdict(self)}


Status = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, slots=True)
class Case:
    """One bound on one measurement, and what became of it."""

    model: str
    vector: str | None
    task: str
    bound: str
    """What was asked, such as "effect at least 0.3"."""
    status: Status
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    said: str = ""
    """What a reader should know beyond the numbers."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a suite."""

    suite: str
    cases: tuple[Case, ...]
    undecided: str
    """What an undecided case counts as."""
    confidence: float
    notes: tuple[str, ...] = ()
    measured: int = 0
    """Measurements made now."""
    cached: int = 0
    """Measurements that were there from an earlier run."""
    seconds: float = 0.0

    def count(self, status: str) -> int:
        """How many cases have a status."""
        return sum(case.status == status for case in self.cases)

    def fails(self, case: Case) -> bool:
        """Whether a case counts as failed."""
        undecided = case.status == "undecided" and self.undecided == "fail"
        return case.status == "fail" or undecided

    @property
    def ok(self) -> bool:
        """Whether the suite passed."""
        return not any(self.fails(case) for case in self.cases)
