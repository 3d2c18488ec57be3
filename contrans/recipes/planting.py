"""From a vector in one model to a steered other one, chosen on validation prompts.

The rule for layers and strength: the largest effect on validation prompts whose
perplexity stays within the budget. Test prompts have no part in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from contrans.comparison import Planted
from contrans.control import Steer, matched_norm, random_like, with_norms
from contrans.evaluation import Measurement, bootstrap
from contrans.recipes.lab import Lab
from contrans.recipes.plan import Model
from contrans.recipes.subjects import Subject
from contrans.search import Point, choose, sweep
from contrans.stages import with_strength
from contrans.transfer import assume_model, transplant
from contrans.types import ConceptVector, PromptPairs

DRAWS = 3
"""Random vectors and shuffled maps per control; the strongest is reported."""
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a vector comes from and goes to, and between which models the map is."""

    source: Model
    target: Model
    map_source: Model | None = None
    """The base model of an aligned source; the paper fits between base models."""
    map_target: Model | None = None
    """The base model of an aligned target."""


def plant(
    lab: Lab,
    route: Route,
    pairs: PromptPairs,
    layers: Pair,
    *,
    method: str | None = None,
    shuffle: int | None = None,
) -> ConceptVector:
    """The source's vector in the target, with the target's residual norms."""
    link = lab.link(
        route.map_source or route.source,
        route.map_target or route.target,
        layers,
        method=method,
        shuffle=shuffle,
    )
    vector = lab.vector(route.source, pairs)
    return at_home(lab, route.target, transplant(assume_model(vector, link), link))


def at_home(lab: Lab, model: Model, vector: ConceptVector) -> ConceptVector:
    """A vector of the same space, as one of this model."""
    lm = lab.lm(model)
    named = replace(vector, model=lm.fingerprint, name=lm.name)
    return with_norms(named, lab.norms(lm))


def best(
    lab: Lab,
    route: Route,
    subject: Subject,
    *,
    method: str | None = None,
    grid: Sequence[float] | None = None,
    unit: str | None = None,
    tried: int | None = None,
) -> Planted:
    """The transplant at the layers and strength that validation prompts choose."""
    source, target = lab.lm(route.source), lab.lm(route.target)
    options = sorted(lab.pairs(source, target))
    vectors = {
        pair: plant(lab, route, subject.refine, pair, method=method) for pair in options
    }
    if len(options) > 1:
        own = lab.vector(route.target, subject.validate)
        options.sort(key=lambda p: -_cosine(vectors[p][p[1]], own[p[1]]))
        options = options[: tried or lab.plan.choice.tried]
    chosen = {pair: vectors[pair] for pair in options}
    return best_of(lab, route.target, subject, chosen, grid=grid, unit=unit)


def best_of(
    lab: Lab,
    target: Model,
    subject: Subject,
    vectors: Mapping[Pair, ConceptVector],
    *,
    grid: Sequence[float] | None = None,
    unit: str | None = None,
) -> Planted:
    """The best strength of the best of some vectors, on validation prompts."""
    choice, task = lab.plan.choice, subject.validate_task
    grid, unit = grid or choice.grid, unit or choice.unit
    texts = lab.fluent_validate
    base = lab.measure(target, task, texts=texts)
    sign = 1.0 if task.higher_is_better else -1.0
    points: list[Point] = []
    for pair, vector in vectors.items():
        share = vector.relative_strength(pair[1]) or 0.0

        def at(
            given: float,
            pair: Pair = pair,
            vector: ConceptVector = vector,
            share: float = share,
        ) -> Point:
            raw = given if unit == "raw" else with_strength(vector, pair[1], given)
            found = lab.measure(target, task, Steer(vector, strength=raw), texts=texts)
            value, low, high = bootstrap(found.values)
            return Point(
                source=pair[0],
                target=pair[1],
                raw=raw,
                relative=raw * share,
                effect=sign * (found.mean - base.mean),
                value=value,
                low=low,
                high=high,
                perplexity=found.perplexity,
                perplexity_ratio=found.perplexity / base.perplexity,
            )

        points += sweep(grid, at, budget=subject.budget)
    won = choose(points, budget=subject.budget)
    pair = (won.source, won.target)
    return Planted(vectors[pair], pair, won.raw, won.relative)


def own_vector(
    lab: Lab, model: Model, target: Model, subject: Subject, layer: int
) -> Planted:
    """Self-Align: a vector from a model of the target's own shape, without a map."""
    vector = lab.vector(model, subject.refine).select([layer])
    vectors = {(layer, layer): at_home(lab, target, vector)}
    return best_of(lab, target, subject, vectors)


def controls(
    lab: Lab,
    route: Route,
    subject: Subject,
    planted: Planted,
    *,
    method: str | None = None,
) -> dict[str, list[Steer]]:
    """Several draws of each control, of the length and strength of the transplant."""
    shuffles = []
    for draw in range(lab.plan.seed, lab.plan.seed + DRAWS):
        moved = plant(
            lab, route, subject.refine, planted.layers, method=method, shuffle=draw
        )
        if not moved.directions.any():
            moved = random_like(planted.vector, seed=draw)
        equal = matched_norm(moved, planted.vector)
        shuffles.append(replace(planted, vector=equal).steer())
    return randoms(lab, planted) | {
        f"map on shuffled pairs, equal norm (strongest of {DRAWS})": shuffles,
    }


def randoms(lab: Lab, planted: Planted) -> dict[str, list[Steer]]:
    """Random vectors of the length and strength of a transplant."""
    seeds = range(1000 + lab.plan.seed, 1000 + lab.plan.seed + DRAWS)
    drawn = (random_like(planted.vector, seed=seed) for seed in seeds)
    found = [replace(planted, vector=vector).steer() for vector in drawn]
    return {f"random vector, equal norm (strongest of {DRAWS})": found}


def strongest(
    lab: Lab, route: Route, subject: Subject, planted: Planted
) -> Measurement:
    """The control with the largest effect on the test, of all kinds and draws."""
    draws = controls(lab, route, subject, planted).values()
    task = subject.test_task
    found = [lab.measure(route.target, task, c) for steers in draws for c in steers]
    return max(found, key=lambda measured: subject.sign * measured.mean)


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.double(), b.double(), dim=0))
