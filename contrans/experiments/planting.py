"""Plant a concept in a model: rank layers, search, and draw controls.

The main job and the recipes of the paper ask the same functions here, so that the same
question has the same answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from contrans.control.steer import Steer, matched_norm, random_like, with_norms
from contrans.core.cache import cache_key
from contrans.core.types import ConceptVector, HiddenStates, PairedStates
from contrans.evaluation import Measurement, Task, bootstrap
from contrans.evaluation.dose import TOLERANCE, Dose, OutOfReach
from contrans.experiments.cached import Stages
from contrans.experiments.search import (
    RELATIVE_GRID,
    TRIED_PAIRS,
    Budget,
    Decision,
    Pair,
    Trial,
    decide,
    rank_coarsely,
    shortlist,
    sweep,
)
from contrans.models.edits import NoControl
from contrans.models.lm import LM
from contrans.vectors.diagnostics import Promise, promise
from contrans.vectors.transplant import assume_model, transplant

GUESS = 0.1
"""Relative strength from which the search for a strength of some dose starts."""
NEAR = 0.1
"""Relative error of the doses of a grid: what they are is measured all the same."""
AHEAD = 2
"""Strengths measured in one pass: what lies below the edit then runs once for both."""
CONTROL_DRAWS = 3
"""Random vectors and shuffled maps per control: tables show their mean, and beside it
the strongest draw, which a method has to beat."""
RANDOM = "random vector, equal norm"
SHUFFLED = "map on shuffled pairs, equal norm"


@dataclass(frozen=True, slots=True)
class Planted:
    """A vector in the target, the layers it is for, and its strength."""

    vector: ConceptVector
    layers: Pair
    raw: float
    relative: float
    dose: Dose | None = None
    """On the texts that the strength was chosen with, where it was measured."""

    def steer(self) -> Steer:
        """The control that applies it."""
        return Steer(self.vector, strength=self.raw)


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """A concept on its way from one model into another."""

    vector: ConceptVector
    """The concept in the source."""
    source: HiddenStates
    """States of the texts that maps are fitted on."""
    target: HiddenStates
    """States of the same texts on the other side."""
    model: str
    """Fingerprint of the model that receives it; maps may end at its base model."""
    name: str
    norms: dict[int, float]
    """Mean residual norm of the model that receives it, per block (H9)."""
    method: str
    validate: PairedStates | None = None
    """Held-out pairs in the model that receives it; needed to rank layers."""
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """A model that receives vectors, and what their strength is chosen on."""

    stages: Stages
    lm: LM
    task: Task
    """Validation items."""
    texts: Sequence[str]
    """Neutral texts for doses and perplexity; others than those of the result."""
    budget: Budget
    grid: Sequence[float]
    unit: Literal["nats", "relative", "raw"]

    @property
    def read(self) -> Sequence[str]:
        """Texts whose perplexity is measured at every strength: none for nats."""
        return self.texts if self.budget.unit == "perplexity" else ()

    def strengths(
        self, vector: ConceptVector, layer: int
    ) -> list[tuple[float, float, Dose | None]]:
        """Raw and relative strengths to try for a vector at a layer, and their doses.

        What is known to be beyond the budget is left out, but for the gentlest. Where a
        model cannot be moved by the doses of the grid, such as one that predicts nothing,
        shares of its residual norm are tried instead.

        Raises:
            ValueError: for a vector of length zero.
            OutOfReach: when the one dose that is wanted cannot be had.
        """
        unit = vector.relative_strength(layer) or 0.0
        if self.unit == "raw":
            known = self._dosed(vector, self.grid)
        elif self.unit == "relative":
            known = self._shares(vector, layer, self.grid)
        else:
            try:
                known = self._of_doses(vector, layer)
            except OutOfReach:
                if len(self.grid) == 1:
                    raise
                known = self._shares(vector, layer, RELATIVE_GRID)
        if self.budget.unit == "nats":
            most = self.budget.most
            known = [(r, d) for r, d in known if d and d.kl <= most] or known[:1]
        return [(raw, raw * unit, dose) for raw, dose in known]

    def _of_doses(
        self, vector: ConceptVector, layer: int
    ) -> list[tuple[float, Dose | None]]:
        found = self.stages.strengths(
            self.lm,
            lambda raw: Steer(vector, strength=raw),
            self.texts,
            self.grid,
            start=with_strength(vector, layer, GUESS),
            tolerance=TOLERANCE if len(self.grid) == 1 else NEAR,
        )
        return [*found]

    def _shares(
        self, vector: ConceptVector, layer: int, shares: Sequence[float]
    ) -> list[tuple[float, Dose | None]]:
        raws = [with_strength(vector, layer, share) for share in shares]
        return self._dosed(vector, raws)

    def _dosed(
        self, vector: ConceptVector, raws: Sequence[float]
    ) -> list[tuple[float, Dose | None]]:
        if self.budget.unit == "perplexity":
            return [(raw, None) for raw in raws]
        steers = [Steer(vector, strength=raw) for raw in raws]
        return [*zip(raws, self.stages.doses(self.lm, steers, self.texts), strict=True)]


def with_strength(vector: ConceptVector, layer: int, relative: float) -> float:
    """The raw strength that gives a relative one at a layer.

    Args:
        vector: the concept vector.
        layer: a block, counted from 0.
        relative: strength as a share of the residual norm.

    Raises:
        ValueError: for a vector of length zero there.
    """
    unit = vector.relative_strength(layer)
    if not unit:
        raise ValueError(
            f"the vector of {vector.concept!r} is zero at layer {layer}: the map sends "
            "the concept nowhere; fit it on text that varies along the concept"
        )
    return relative / unit


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search chose, and all that it tried."""

    planted: Planted
    decision: Decision
    trials: tuple[Trial, ...]
    fine: str | None
    """The finest score of the task, where that is not its metric."""
    promises: Mapping[Pair, float]
    """What the diagnosis says of the pairs of layers that it ranked."""


def plant(
    stages: Stages,
    way: Passage,
    pair: Pair,
    *,
    method: str | None = None,
    shuffle: int | None = None,
) -> ConceptVector:
    """The source's vector in the target, with the target's residual norms.

    Args:
        stages: for the cache.
        way: the concept and the states between which the map is fitted.
        pair: source and target block.
        method: of the map; None takes that of `way`.
        shuffle: a seed to break the pairing of the states: a control.
    """
    link = stages.link(
        way.source,
        way.target,
        pair,
        method or way.method,
        seed=way.seed,
        shuffle=shuffle,
    )
    moved = transplant(assume_model(way.vector, link), link)
    return with_norms(replace(moved, model=way.model, name=way.name), way.norms)


def rank(
    stages: Stages, way: Passage, pairs: Sequence[Pair], *, stage: str = "diagnose"
) -> dict[Pair, float]:
    """How much of the concept arrives at each pair of layers; best first.

    Many layers are ranked on a coarse grid first (`search.rank_coarsely`); maps are
    made for it and not kept.

    Args:
        stages: where finished stages are kept.
        way: the concept in the source, and the states of both sides.
        pairs: (source, target) blocks.
        stage: name of the stage, for progress.
    """
    done = 0

    def several(some: Sequence[Pair]) -> dict[Pair, float]:
        nonlocal done
        found = {}
        for pair in sorted(some):  # by source block: maps share its factorisation
            found[pair] = _promise(stages, way, pair).value
            done += 1
            stages.step(stage, done, len(pairs))
        return found

    found = rank_coarsely(pairs, several)
    stages.step(stage, len(pairs), len(pairs))
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def _promise(stages: Stages, way: Passage, pair: Pair) -> Promise:
    (s, t), pairs = pair, way.validate
    if pairs is None:
        raise ValueError("layers are ranked by held-out pairs of the target; give some")
    key = cache_key(
        "promise",
        x=way.source.at(s),
        y=way.target.at(t),
        pairs=[side.at(t) for side in (pairs.positive, pairs.negative)],
        vector=way.vector[s],
        method=way.method,
        seed=way.seed,
    )

    def make() -> list[float]:
        fits = stages.fits(way.source, way.target, way.seed)
        moved = fits.map(s, t, method=way.method).directions(way.vector[s])
        found = promise(moved, pairs, t)
        return [found.cosine, found.auroc]

    return Promise(*stages.cache.json(key, make))


def search(
    bench: Bench,
    vectors: Mapping[Pair, ConceptVector],
    promises: Mapping[Pair, float] | None = None,
    *,
    stage: str = "search",
) -> Found:
    """Layers and strength of one of some vectors, chosen on validation items.

    Args:
        bench: the model and what is measured.
        vectors: by (source, target) block.
        promises: what the diagnosis says of each; None holds all for equally good, as
            where the layers are given.
        stage: told as the name of what goes on.
    """
    stages, task = bench.stages, bench.task
    base = stages.outcome(bench.lm, task, NoControl(), bench.read)
    total, done = len(vectors) * len(bench.grid), 0

    def tell() -> None:
        nonlocal done
        done += 1
        stages.step(stage, done, total)

    trials: list[Trial] = []
    for pair, vector in vectors.items():
        trials += _swept(bench, base, pair, vector, tell)
    stages.step(stage, total, total)
    decision = decide(
        trials,
        promises or dict.fromkeys(vectors, 1.0),
        budget=bench.budget,
        metric=base.metric or task.metric,
        fine=base.fine,
    )
    won = decision.trial
    planted = Planted(vectors[won.layers], won.layers, won.raw, won.relative, won.dose)
    return Found(planted, decision, tuple(trials), base.fine, promises or {})


def _swept(
    bench: Bench,
    base: Measurement,
    pair: Pair,
    vector: ConceptVector,
    tell: Callable[[], None],
) -> list[Trial]:
    """Every strength of a vector, until the budget is spent."""
    strengths = bench.strengths(vector, pair[1])
    steers = [Steer(vector, strength=raw) for raw, *_ in strengths]
    sign = 1.0 if bench.task.higher_is_better else -1.0

    def measure(place: int) -> Trial:
        some = steers[place : place + AHEAD]
        found = bench.stages.first(bench.lm, bench.task, some, bench.read)
        value, low, high = bootstrap(found.values)
        raw, relative, dose = strengths[place]
        perplexity = found.perplexity if found.losses else None
        tell()
        return Trial(
            layers=pair,
            raw=raw,
            relative=relative,
            dose=dose,
            perplexity=perplexity,
            ratio=None if perplexity is None else perplexity / base.perplexity,
            value=value,
            low=low,
            high=high,
            before=base.mean,
            change=sign * (found.values - base.values),
            fine=sign * (fine_values(found) - fine_values(base)),
        )

    return sweep(range(len(steers)), measure, budget=bench.budget)


def fine_values(found: Measurement) -> np.ndarray:
    """The finest score of a measurement, item by item."""
    return found.values if found.fine is None else found.extra[found.fine]


def transplant_best(
    bench: Bench,
    way: Passage,
    pairs: Sequence[Pair],
    *,
    tried: int = TRIED_PAIRS,
    ranked: bool = True,
) -> Found:
    """The transplant at the layers and strength that validation items choose.

    Args:
        bench: the model that receives it, and what is measured.
        way: the concept and the states between which maps are fitted.
        pairs: of layers, to choose from.
        tried: how many of them are tried in behaviour, the most promising ones.
        ranked: False tries all, and lets the diagnosis say nothing against them, as
            where the layers are given.
    """
    stages, promises, chosen = bench.stages, None, list(pairs)
    if ranked and len(pairs) > 1:
        with stages.stage("diagnose"):
            promises = rank(stages, way, pairs)
            chosen = shortlist(promises, tried)
    with stages.stage("search"):
        vectors = {pair: plant(stages, way, pair) for pair in sorted(chosen)}
        return search(bench, vectors, promises)


def controls(stages: Stages, way: Passage, main: Planted) -> dict[str, list[Planted]]:
    """Random vectors and shuffled maps, at the length and strength of a transplant.

    Args:
        stages: where finished stages are kept.
        way: the concept in the source, and the states of both sides.
        main: the transplant they are compared with.
    """
    draws = range(way.seed, way.seed + CONTROL_DRAWS)
    shuffles = []
    for draw in draws:
        moved = plant(stages, way, main.layers, shuffle=draw)
        if not moved.directions.any():
            moved = random_like(main.vector, seed=draw)
        equal = matched_norm(moved, main.vector)
        shuffles.append(replace(main, vector=equal))
    return {RANDOM: randoms(main, way.seed), SHUFFLED: shuffles}


def randoms(main: Planted, seed: int = 0) -> list[Planted]:
    """Random vectors of the length and strength of a transplant."""
    return [
        replace(main, vector=random_like(main.vector, seed=1000 + draw))
        for draw in range(seed, seed + CONTROL_DRAWS)
    ]
