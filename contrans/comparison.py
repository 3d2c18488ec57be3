"""The second half of the main job: map, search on validation, test once, compare."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from contrans.baselines import baseline_rows
from contrans.concept import reliability
from contrans.control import NoControl, Steer, matched_norm, random_like, with_norms
from contrans.core.version import __version__
from contrans.diagnostics import Diagnosis, diagnose
from contrans.evaluation import Measurement
from contrans.job import Job
from contrans.openings import openings
from contrans.search import PAPER_GRID, RELATIVE_GRID, Point, choose, sweep
from contrans.stages import Stages, point, row, with_strength
from contrans.transfer import assume_model, transplant
from contrans.types import ConceptVector, LinearMap
from contrans.verdict import STRONGEST, verdict

AHEAD = 4
"""Strengths measured in one pass: what lies below the edit then runs once for all."""
TRIED_PAIRS = 4
"""Layer pairs tried in behaviour, after the diagnostics ranked all candidates."""
CONTROL_DRAWS = 3
"""Random vectors and shuffled maps averaged per control."""
PAPER_STRENGTHS = (1.0, 2.0)
"""Raw strengths of the published emotion scripts."""
LABELS = {
    "contrans": "ConTrans",
    "ridge": "ridge",
    "procrustes": "Procrustes",
    "low_rank": "low rank",
}
"""Names of the map methods in tables."""

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Planted:
    """A vector in the target, the layers it is for, and its strength."""

    vector: ConceptVector
    layers: Pair
    raw: float
    relative: float

    def steer(self) -> Steer:
        """The control that applies it."""
        return Steer(self.vector, strength=self.raw)


def compare(job: Job, stages: Stages) -> tuple[dict[str, Any], ConceptVector]:
    """Diagnose, choose on validation prompts, test once; results and final vector."""
    settings = job.settings
    with stages.stage("diagnose"):
        checked = {pair: _diagnose(job, stages, pair) for pair in sorted(job.pairs)}
    ranked = sorted(job.pairs, key=lambda p: -checked[p].cosine_own)[:TRIED_PAIRS]
    for message in checked[ranked[0]].warnings:
        stages.warn(message)
    with stages.stage("search"):
        base = stages.outcome(
            job.target, job.validate_task, NoControl(), job.fluent_validate
        )
        vectors = {p: plant(job, stages, p, settings.method) for p in ranked}
        tried = _search(job, stages, vectors, base, "search")
        best = choose(tried, budget=settings.budget)
    pair = (best.source, best.target)
    main = Planted(vectors[pair], pair, best.raw, best.relative)
    link = _link(job, stages, pair, settings.method)
    for message in link.report.warnings:
        stages.warn(message)
    if best.relative > 1:
        stages.warn(
            f"relative strength {best.relative:.2f} is above 1, where random vectors "
            "have effects of their own; read the controls"
        )
    with stages.stage("test"):
        rows, tested = _rows(job, stages, main, base)
    for note in tested.notes:
        stages.warn(note)
    with stages.stage("generate"):
        generations = openings(job, main.steer())
    results = {
        "contrans": __version__,
        "command": asdict(settings),
        **job.models,
        "concept": _about_concept(job),
        "corpus": {
            "name": job.corpus.name,
            "n": len(job.corpus.texts),
            "digest": job.corpus.digest,
            "truncated": job.truncated,
        },
        "reliability": [
            asdict(entry) for entry in reliability(job.vector, job.source.validate)
        ],
        "map": {"method": settings.method, **asdict(link.report)},
        "diagnosis": asdict(checked[pair]),
        "layers": {
            "source": pair[0],
            "target": pair[1],
            "how": _how_layers(job),
            "tried": [asdict(p) for p in tried],
        },
        "strength": {
            "raw": main.raw,
            "relative": main.relative,
            "how": "auto" if settings.strength == "auto" else "given",
            "budget": settings.budget,
            "curve": [asdict(p) for p in tried if (p.source, p.target) == pair],
        },
        "task": {
            "name": job.test_task.name,
            "metric": tested.metric,
            "chance": job.test_task.chance,
            "higher_is_better": job.test_task.higher_is_better,
            "n": len(tested.values),
            "split": "test" if settings.protocol == "heldout" else "refine",
            "protocol": settings.protocol,
        },
        "rows": rows,
        "perplexity_texts": {
            "validate": len(job.fluent_validate),
            "test": len(job.fluent_test),
            "shared": job.fluent_validate == job.fluent_test,
        },
        "generations": generations,
        "warnings": stages.warnings,
        "verdict": verdict(
            rows,
            tested.metric,
            higher_is_better=job.test_task.higher_is_better,
            budget=settings.budget,
        ),
        "seed": settings.seed,
        "seconds": stages.seconds,
    }
    kept = dict(main.vector.provenance) | {"strength": main.raw}
    return results, replace(main.vector, provenance=kept)


def _how_layers(job: Job) -> str:
    if job.settings.layers != "auto":
        return "given"
    return "published depth" if job.settings.protocol == "paper" else "auto"


def _about_concept(job: Job) -> dict[str, Any]:
    concept = job.concept
    return {
        "name": concept.name,
        "title": concept.title,
        "answer": concept.answer,
        "task": concept.task.kind,
        "origin": concept.origin,
        "digest": concept.digest,
        "pairs": {
            "refine": job.refine_pairs,
            "validate": len(concept.validate),
            "test": len(concept.test),
        },
    }


def _link(
    job: Job, stages: Stages, pair: Pair, method: str, *, shuffle: int | None = None
) -> LinearMap:
    return stages.link(
        job.source.corpus,
        job.target_corpus,
        pair,
        method,
        seed=job.settings.seed,
        shuffle=shuffle,
    )


def plant(
    job: Job, stages: Stages, pair: Pair, method: str, *, shuffle: int | None = None
) -> ConceptVector:
    """The source's vector in the target, with the target's residual norms."""
    link = _link(job, stages, pair, method, shuffle=shuffle)
    return with_norms(transplant(assume_model(job.vector, link), link), job.norms)


def _diagnose(job: Job, stages: Stages, pair: Pair) -> Diagnosis:
    return diagnose(
        job.vector,
        _link(job, stages, pair, job.settings.method),
        corpus=job.source.corpus,
        source_pairs=job.source.validate,
        target_pairs=job.target_validate,
    )


def _strengths(
    job: Job, vector: ConceptVector, layer: int
) -> list[tuple[float, float]]:
    """(raw, relative) strengths to try for a vector at a layer."""
    unit = vector.relative_strength(layer) or 0.0
    given = job.settings.raw_strength()
    if given is not None:
        return [(given, given * unit)]
    if "paper" in (job.settings.protocol, job.settings.grid):
        published = job.settings.protocol == "paper"
        return [(x, x * unit) for x in (PAPER_STRENGTHS if published else PAPER_GRID)]
    return [(with_strength(vector, layer, share), share) for share in RELATIVE_GRID]


def _search(
    job: Job,
    stages: Stages,
    vectors: dict[Pair, ConceptVector],
    base: Measurement,
    stage: str,
) -> list[Point]:
    """Every strength of every vector on validation prompts, within the budget."""
    task = job.validate_task
    total = len(vectors) * len(RELATIVE_GRID)
    done = 0

    def at(
        pair: Pair, strengths: list[tuple[float, float]]
    ) -> Callable[[tuple[float, float]], Point]:
        steers = [Steer(vectors[pair], strength=raw) for raw, _ in strengths]

        def measure(strength: tuple[float, float]) -> Point:
            nonlocal done
            raw, relative = strength
            place = strengths.index(strength)
            some = steers[place : place + AHEAD]
            outcome = stages.first(job.target, task, some, job.fluent_validate)
            done += 1
            stages.step(stage, done, total)
            return point(
                outcome,
                base,
                layers=pair,
                raw=raw,
                relative=relative,
                sign=1.0 if task.higher_is_better else -1.0,
                seed=job.settings.seed,
            )

        return measure

    found = []
    for pair, vector in vectors.items():
        strengths = _strengths(job, vector, pair[1])
        found += sweep(strengths, at(pair, strengths), budget=job.settings.budget)
    stages.step(stage, total, total)
    return found


def _tuned(
    job: Job, stages: Stages, vector: ConceptVector, pair: Pair, base: Measurement
) -> Planted:
    """A vector at its own best validation strength, at the layers of the main job."""
    points = _search(job, stages, {pair: vector}, base, "search, references")
    best = choose(points, budget=job.settings.budget)
    return Planted(vector, pair, best.raw, best.relative)


def _shuffled(job: Job, stages: Stages, main: Planted, draw: int) -> Planted:
    """The map fitted on shuffled pairs, its vector brought to the same length."""
    moved = plant(job, stages, main.layers, job.settings.method, shuffle=draw)
    if not moved.directions.any():
        moved = random_like(main.vector, seed=draw)
    return replace(main, vector=matched_norm(moved, main.vector))


def _plan(
    job: Job, stages: Stages, main: Planted, base: Measurement
) -> list[tuple[str, str, list[Planted]]]:
    """What is tested: name, kind, and the draws that are averaged."""
    pair, chosen = main.layers, job.settings.method
    plan: list[tuple[str, str, list[Planted]]] = [(LABELS[chosen], "method", [main])]
    for method in ("contrans", "ridge"):
        if method != chosen:
            other = plant(job, stages, pair, method)
            tuned = _tuned(job, stages, other, pair, base)
            plan.append((LABELS[method], "method", [tuned]))
    name, own = job.reference
    tuned = _tuned(job, stages, own.select([pair[1]]), pair, base)
    plan.append((name, "reference", [tuned]))
    draws = range(job.settings.seed, job.settings.seed + CONTROL_DRAWS)
    randoms = [
        replace(main, vector=random_like(main.vector, seed=1000 + draw))
        for draw in draws
    ]
    plan.append(("random vector, equal norm", "control", randoms))
    shuffles = [_shuffled(job, stages, main, draw) for draw in draws]
    plan.append(("map on shuffled pairs, equal norm", "control", shuffles))
    return plan


def _rows(
    job: Job, stages: Stages, main: Planted, validate_base: Measurement
) -> tuple[list[dict[str, Any]], Measurement]:
    """Test prompts, touched once: the table, and the outcome without an edit."""
    lm, task, seed = job.target, job.test_task, job.settings.seed
    plan = _plan(job, stages, main, validate_base)
    total = 1 + sum(len(draws) for *_, draws in plan)
    base = stages.outcome(lm, task, NoControl(), job.fluent_test)
    rows = [row("no edit", "base", [base], base, raw=None, relative=None, seed=seed)]
    done = 1
    for name, kind, draws in plan:
        outcomes = []
        for planted in draws:
            stages.step("test", done, total)
            outcomes.append(stages.outcome(lm, task, planted.steer(), job.fluent_test))
            done += 1
        line = row(
            name,
            kind,
            outcomes,
            base,
            raw=draws[0].raw,
            relative=draws[0].relative,
            seed=seed,
        )
        if len(outcomes) > 1:
            best = max if task.higher_is_better else min
            line["extra"][STRONGEST] = best(outcome.mean for outcome in outcomes)
        rows.append(line)
    rows += baseline_rows(job, stages, base)
    stages.step("test", total, total)
    return rows, base
