"""From a vector in one model to a steered other one, in the words of a plan.

Layers, strength and controls are those of the main job: the same functions
(`contrans.experiments.planting`), asked about the models, texts and choices of a plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from contrans.control.steer import Steer, with_norms
from contrans.core.types import ConceptVector, PromptPairs
from contrans.evaluation import Measurement
from contrans.experiments import planting
from contrans.experiments.paper.concept_tasks import Subject
from contrans.experiments.paper.plan import Model
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Bench, Passage, Planted, transplant_best
from contrans.experiments.search import Budget, Pair


@dataclass(frozen=True, slots=True)
class Route:
    """Where a vector comes from and goes to, and between which models the map is."""

    source: Model
    target: Model
    map_source: Model | None = None
    """The base model of an aligned source; the paper fits between base models."""
    map_target: Model | None = None
    """The base model of an aligned target."""


def passage(
    lab: Lab,
    route: Route,
    pairs: PromptPairs,
    *,
    validate: PromptPairs | None = None,
    method: str | None = None,
) -> Passage:
    """A concept on its way along a route.

    Args:
        lab: the models and their states.
        route: where from and where to.
        pairs: what the vector is made from.
        validate: held-out pairs, to rank layers by.
        method: of the map; None takes that of the plan.
    """
    source, target = lab.common(
        route.map_source or route.source, route.map_target or route.target
    )
    lm = lab.lm(route.target)
    return Passage(
        vector=lab.vector(route.source, pairs),
        source=source,
        target=target,
        model=lm.fingerprint,
        name=lm.name,
        norms=lab.norms(lm),
        validate=None if validate is None else lab.pair_states(route.target, validate),
        method=method or lab.plan.method,
        seed=lab.plan.seed,
    )


def bench(lab: Lab, target: Model, subject: Subject) -> Bench:
    """A target, and what the strength of a vector is chosen on.

    Args:
        lab: the models and the cache of a run.
        target: the target model.
        subject: the concept and its tasks.
    """
    choice = lab.plan.choice
    return Bench(
        stages=lab.stages,
        lm=lab.lm(target),
        task=subject.validate_task,
        texts=lab.fluent_validate,
        budget=Budget(subject.budget, "perplexity"),
        grid=choice.grid,
        unit=choice.unit,
    )


def plant(
    lab: Lab,
    route: Route,
    pairs: PromptPairs,
    layers: Pair,
    *,
    method: str | None = None,
) -> ConceptVector:
    """The source's vector in the target, with the target's residual norms.

    Args:
        lab: the models and the cache of a run.
        route: source, target and the model the map starts at.
        pairs: that refine the vector.
        layers: (source, target) blocks.
        method: of fitting the map, see `fit_linear_map`.
    """
    return planting.plant(lab.stages, passage(lab, route, pairs, method=method), layers)


def at_home(lab: Lab, model: Model, vector: ConceptVector) -> ConceptVector:
    """A vector of the same space, as one of this model.

    Args:
        lab: the models and the cache of a run.
        model: the model it is to be used in.
        vector: the concept vector.
    """
    lm = lab.lm(model)
    named = replace(vector, model=lm.fingerprint, name=lm.name)
    return with_norms(named, lab.norms(lm))


def best(
    lab: Lab,
    route: Route,
    subject: Subject,
    *,
    method: str | None = None,
    tried: int | None = None,
) -> Planted:
    """The transplant at the layers and strength that validation prompts choose.

    Args:
        lab: the models and the cache of a run.
        route: source, target and the model the map starts at.
        subject: the concept and its tasks.
        method: None takes the plan's.
        tried: so many pairs of layers at most.
    """
    way = passage(lab, route, subject.refine, validate=subject.validate, method=method)
    options = lab.pairs(lab.lm(route.source), lab.lm(route.target))
    found = transplant_best(
        bench(lab, route.target, subject),
        way,
        options,
        tried=tried or lab.plan.choice.tried,
    )
    return found.planted


def best_of(
    lab: Lab, target: Model, subject: Subject, vectors: Mapping[Pair, ConceptVector]
) -> Planted:
    """The best strength of the best of some vectors, on validation prompts.

    Args:
        lab: the models and the cache of a run.
        target: the target model.
        subject: the concept and its tasks.
        vectors: (source, target) blocks to the vector in the target.
    """
    return planting.search(bench(lab, target, subject), vectors).planted


def own_vector(
    lab: Lab, model: Model, target: Model, subject: Subject, layer: int
) -> Planted:
    """Self-Align: a vector from a model of the target's own shape, without a map.

    Args:
        lab: the models and the cache of a run.
        model: an aligned model of the target's shape.
        target: the target model.
        subject: the concept and its tasks.
        layer: a block, counted from 0.
    """
    vector = lab.vector(model, subject.refine).select([layer])
    return best_of(lab, target, subject, {(layer, layer): at_home(lab, target, vector)})


def controls(
    lab: Lab,
    route: Route,
    subject: Subject,
    planted: Planted,
    *,
    method: str | None = None,
) -> dict[str, list[Steer]]:
    """Several draws of each control, of the length and strength of the transplant.

    Args:
        lab: the models and the cache of a run.
        route: source, target and the model the map starts at.
        subject: the concept and its tasks.
        planted: the transplant they are compared with.
        method: None takes the plan's.
    """
    way = passage(lab, route, subject.refine, method=method)
    return _steers(planting.controls(lab.stages, way, planted))


def randoms(lab: Lab, planted: Planted) -> dict[str, list[Steer]]:
    """Random vectors of the length and strength of a transplant."""
    drawn = planting.randoms(planted, lab.plan.seed)
    return _steers({planting.RANDOM: drawn})


def strongest(
    lab: Lab, route: Route, subject: Subject, planted: Planted
) -> Measurement:
    """The control with the largest effect on the test, of all kinds and draws.

    Args:
        lab: the models and the cache of a run.
        route: source, target and the model the map starts at.
        subject: the concept and its tasks.
        planted: the transplant they are compared with.
    """
    draws = controls(lab, route, subject, planted).values()
    task = subject.test_task
    found = [lab.measure(route.target, task, c) for steers in draws for c in steers]
    return max(found, key=lambda measured: subject.sign * measured.mean)


def _steers(drawn: Mapping[str, list[Planted]]) -> dict[str, list[Steer]]:
    return {name: [one.steer() for one in draws] for name, draws in drawn.items()}
