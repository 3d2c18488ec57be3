"""Everything that decides the result of the main job, checked before a model is loaded."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from contrans.core.registry import unknown
from contrans.evaluation.dose import TOLERANCE
from contrans.experiments.search import (
    KL_BUDGET,
    KL_SHARES,
    PAPER_GRID,
    PAPER_STRENGTHS,
    RELATIVE_GRID,
    Budget,
)
from contrans.vectors.maps import METHODS

_NEEDS = {
    "align-training": "aligned_target",
    "inst-align": None,
    "proxy": "map_source",
}
"""Baselines, and the setting that each needs."""
_WHY = {
    "align-training": "the tuned model of the target's shape",
    "proxy": "the base of SOURCE, which is the anti-expert beside SOURCE as expert",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides the result of a run."""

    source: str
    target: str
    concept: str
    corpus: str | None = None
    perplexity: str | None = None
    """File of texts for perplexity and residual norms; None keeps part of the corpus."""
    answer: str | None = None
    layers: str = "auto"
    """"auto", or "S:T" (several: "S:T,S:T")."""
    strength: str | float = "auto"
    """"auto", or a raw strength."""
    kl: float | None = None
    """Or the dose that the strength is to have, in nats per token."""
    method: str = "ridge"
    map_source: str | None = None
    """Model to fit the map from; the paper fits between base models."""
    aligned_target: str | None = None
    """Aligned model of the target's size, for the Self-Align reference."""
    protocol: str = "heldout"
    eval_file: str | None = None
    kl_budget: float = KL_BUDGET
    """Largest dose that "auto" may spend, in nats per token."""
    budget: float | None = None
    """Largest ratio of perplexities, in its place."""
    grid: str = "kl"
    """Strengths tried: "kl", of doses up to the budget; "relative" shares of the residual
    norm; or "paper", 0.3 to 1.5."""
    baselines: str = ""
    """Further rows, by comma: align-training, inst-align, proxy; or "all" possible."""
    instruction: str | None = None
    """What Inst-Align says; None takes the instruction for the concept."""
    limit: int | None = None
    seed: int = 0
    dtype: str = "auto"
    device_map: str | None = None
    quantize: Literal["8bit", "4bit"] | None = None
    blocks_source: str | None = None
    blocks_target: str | None = None
    trust_remote_code: bool = False

    def check(self) -> None:
        """Refuse settings that cannot work, before any model is loaded.

        Raises:
            KeyError, ValueError: naming the setting.
        """
        if self.method not in METHODS:
            raise unknown("map method", self.method, METHODS)
        if self.protocol not in ("heldout", "paper"):
            raise ValueError(
                f"unknown protocol {self.protocol!r}; choose 'heldout' (disjoint texts) "
                "or 'paper' (the published files, in-sample)"
            )
        for name, dose in (("kl", self.kl), ("kl_budget", self.kl_budget)):
            if dose is not None and not (isfinite(dose) and dose > 0):
                raise ValueError(
                    f"{name} {dose} is no dose; give nats per token, such as 0.3"
                )
        if self.kl is not None and self.strength != "auto":
            raise ValueError(
                f"strength {self.strength} and kl {self.kl} both say how strong the edit "
                "is; give one of them"
            )
        if self.budget is not None and self.budget < 1:
            raise ValueError(
                f"a perplexity budget of {self.budget} allows no edit at all; give the "
                "largest acceptable ratio, such as 1.15"
            )
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"limit {self.limit} is too small; use at least 2 items")
        if self.grid not in ("kl", "relative", "paper"):
            raise ValueError(
                f"unknown grid {self.grid!r}; choose 'kl' (doses in nats per token), "
                "'relative' (shares of the residual norm) or 'paper' (0.3 to 1.5 times "
                "the vector)"
            )
        if self.strength != "auto":
            self.raw_strength()
        self.layer_pairs()
        self.baseline_names()

    def baseline_names(self) -> list[str]:
        """The baselines asked for; "all" leaves out those whose models are not given.

        Raises:
            KeyError: for an unknown one.
            ValueError: when one needs a model that is not given.
        """
        asked = [part.strip() for part in self.baselines.split(",") if part.strip()]
        needed = {name: _NEEDS[name] for name in asked if name in _NEEDS}
        missing = {
            name: option
            for name, option in _NEEDS.items()
            if option is not None and getattr(self, option) is None
        }
        if asked == ["all"]:
            return [name for name in _NEEDS if name not in missing]
        for name in asked:
            if name not in needed:
                raise unknown("baseline", name, [*_NEEDS, "all"])
            if name in missing:
                raise ValueError(
                    f"the baseline {name!r} needs --{missing[name].replace('_', '-')}: "
                    f"{_WHY[name]}"
                )
        return asked

    def layer_pairs(self) -> list[tuple[int, int]] | None:
        """The layers given, or None for "auto".

        Raises:
            ValueError: when they cannot be read.
        """
        if self.layers == "auto":
            return None
        try:
            pairs = [
                (int(s), int(t))
                for s, t in (part.split(":") for part in self.layers.split(","))
            ]
        except ValueError:
            raise ValueError(
                f"cannot read layers {self.layers!r}; write SOURCE:TARGET, such as 24:30"
            ) from None
        return pairs

    def spending(self) -> Budget:
        """What the edit may do besides its effect; a dose that is given is allowed."""
        if self.budget is not None:
            return Budget(self.budget, "perplexity")
        return Budget(max(self.kl_budget, (1 + TOLERANCE) * (self.kl or 0)))

    def strengths(
        self,
    ) -> tuple[tuple[float, ...], Literal["nats", "relative", "raw"]]:
        """The strengths to try, and their unit."""
        given = self.raw_strength()
        if given is not None:
            return (given,), "raw"
        if self.kl is not None:
            return (self.kl,), "nats"
        if self.protocol == "paper":
            return PAPER_STRENGTHS, "raw"
        if self.grid == "kl":
            return tuple(self.kl_budget * share for share in KL_SHARES), "nats"
        return (
            (PAPER_GRID, "raw") if self.grid == "paper" else (RELATIVE_GRID, "relative")
        )

    def raw_strength(self) -> float | None:
        """The raw strength given, or None for "auto".

        Raises:
            ValueError: when it is no number.
        """
        if self.strength == "auto":
            return None
        try:
            return float(self.strength)
        except ValueError:
            raise ValueError(
                f"cannot read strength {self.strength!r}; give a number, or 'auto'"
            ) from None
