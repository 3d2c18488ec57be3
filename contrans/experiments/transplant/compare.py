"""The second half of the main job: map, search on validation, test once, compare."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice

from contrans.core.results import (
    CandidateInfo,
    ConceptInfo,
    CorpusInfo,
    DecisionInfo,
    DiagnosisInfo,
    DoseInfo,
    EffectRow,
    Generation,
    Kind,
    LayerReliability,
    LayersInfo,
    MapInfo,
    ModelInfo,
    PairCounts,
    PerplexityTexts,
    Promise,
    StrengthInfo,
    TaskInfo,
    TransplantResults,
    TriedPoint,
    Truncated,
)
from contrans.core.types import ConceptVector
from contrans.core.version import __version__
from contrans.evaluation import Measurement
from contrans.experiments.cached import Stages, row
from contrans.experiments.planting import (
    Found,
    Planted,
    controls,
    plant,
    search,
    transplant_best,
)
from contrans.experiments.search import Pair, Point
from contrans.experiments.transplant.baselines import baseline_rows
from contrans.experiments.transplant.prepare import Job, sinks_left_out
from contrans.experiments.transplant.samples import openings
from contrans.experiments.transplant.verdict import verdict
from contrans.models.edits import NoControl
from contrans.vectors.concepts import reliability
from contrans.vectors.diagnostics import diagnose

LABELS = {
    "contrans": "ConTrans",
    "ridge": "ridge",
    "procrustes": "Procrustes",
    "low_rank": "low rank",
}
"""Names of the map methods in tables."""
Planned = tuple[str, Kind, list[Planted]]
"""What is tested: name, kind, and the draws of it."""
WRECKED = 10
"""Times the dose of the transplant above which a control is said to wreck the model."""


def compare(job: Job, stages: Stages) -> tuple[TransplantResults, ConceptVector]:
    """Diagnose, choose on validation prompts, test once; results and final vector."""
    settings, how, budget = job.settings, _how_layers(job), job.settings.spending()
    found = transplant_best(job.bench(stages), job.way, job.pairs, ranked=how == "auto")
    main, decision = found.planted, found.decision
    pair = main.layers
    with stages.stage("diagnose"):
        link = stages.link(
            job.source.corpus,
            job.target_corpus,
            pair,
            settings.method,
            seed=settings.seed,
        )
        checked = diagnose(
            job.vector,
            link,
            corpus=job.source.corpus,
            source_pairs=job.source.validate,
            target_pairs=job.target_validate,
        )
    left_out = sinks_left_out(job, link)
    for message in (*checked.warnings, *link.report.warnings, *left_out):
        stages.warn(message)
    chosen = settings.strength == "auto" and settings.kl is None
    given = how != "auto" and not chosen
    if decision.stuck or (decision.how != "validation" and not given):
        stages.warn(decision.why)
    if main.relative > 1:
        stages.warn(
            f"relative strength {main.relative:.2f} is above 1, where random vectors "
            "have effects of their own; read the controls"
        )
    dose = main.dose or stages.doses(job.target, [main.steer()], job.fluent_validate)[0]
    with stages.stage("test"):
        rows, tested = _rows(job, stages, main)
    for message in wrecked_controls(rows):
        stages.warn(message)
    for note in tested.notes:
        stages.warn(note)
    with stages.stage("generate"):
        generations = openings(job, main.steer())
    points = tuple(TriedPoint(**asdict(Point.of(trial))) for trial in found.trials)
    models = {role: ModelInfo(**m) for role, m in job.models.items() if m is not None}
    results = TransplantResults(
        contrans=__version__,
        command=asdict(settings),
        source=models["source"],
        target=models["target"],
        map_source=models.get("map_source"),
        aligned_target=models.get("aligned_target"),
        concept=_about_concept(job),
        corpus=CorpusInfo(
            name=job.corpus.name,
            n=len(job.corpus.texts),
            digest=job.corpus.digest,
            truncated=Truncated(**job.truncated),
        ),
        reliability=tuple(
            LayerReliability(**asdict(entry))
            for entry in reliability(job.vector, job.source.validate)
        ),
        map=MapInfo(method=settings.method, **asdict(link.report)),
        diagnosis=DiagnosisInfo(**asdict(checked)),
        decision=_about_decision(found, given=given),
        layers=LayersInfo(source=pair[0], target=pair[1], how=how, tried=points),
        strength=StrengthInfo(
            raw=main.raw,
            relative=main.relative,
            dose=DoseInfo(**asdict(dose)),
            how="auto" if chosen else "given",
            budget=budget.most,
            budget_unit=budget.unit,
            curve=tuple(p for p in points if (p.source, p.target) == pair),
        ),
        task=TaskInfo(
            name=job.test_task.name,
            metric=tested.metric,
            chance=job.test_task.chance,
            higher_is_better=job.test_task.higher_is_better,
            n=len(tested.values),
            split="test" if settings.protocol == "heldout" else "refine",
            protocol=settings.protocol,
        ),
        rows=tuple(rows),
        perplexity_texts=PerplexityTexts(
            validate=len(job.fluent_validate),
            test=len(job.fluent_test),
            shared=job.fluent_validate == job.fluent_test,
        ),
        generations=tuple(Generation(**entry) for entry in generations),
        warnings=tuple(stages.warnings),
        verdict=verdict(
            rows,
            decision.score,
            higher_is_better=job.test_task.higher_is_better,
            budget=budget,
            over_budget=decision.how == "over budget",
            stuck=decision.stuck,
            refused=decision.how == "no-go",
        ),
        seed=settings.seed,
        seconds=dict(stages.seconds),
    )
    kept = dict(main.vector.provenance)
    kept |= {"strength": main.raw, "dose": asdict(dose)}
    return results, replace(main.vector, provenance=kept)


def _how_layers(job: Job) -> str:
    if job.settings.layers != "auto":
        return "given"
    return "published depth" if job.settings.protocol == "paper" else "auto"


def _about_decision(found: Found, *, given: bool) -> DecisionInfo:
    """What chose layers and strength, in words and numbers."""
    decision = found.decision
    return DecisionInfo(
        how="given" if given else decision.how,
        why=decision.why,
        score=decision.score,
        fine=found.fine,
        stuck=decision.stuck,
        candidates=tuple(CandidateInfo(**asdict(c)) for c in decision.candidates),
        promises=tuple(
            Promise(source=s, target=t, promise=value)
            for (s, t), value in found.promises.items()
        ),
    )


def _about_concept(job: Job) -> ConceptInfo:
    concept = job.concept
    return ConceptInfo(
        name=concept.name,
        title=concept.title,
        answer=concept.answer,
        task=concept.task.kind,
        origin=concept.origin,
        digest=concept.digest,
        pairs=PairCounts(
            refine=len(job.refine_pairs),
            validate=len(concept.validate),
            test=len(concept.test),
        ),
    )


def _tuned(job: Job, stages: Stages, vector: ConceptVector, pair: Pair) -> Planted:
    """A vector at its own best validation strength, at the layers of the main job."""
    bench = job.bench(stages)
    return search(bench, {pair: vector}, stage="search, references").planted


def _plan(job: Job, stages: Stages, main: Planted) -> list[Planned]:
    """What is tested: name, kind, and the draws that are averaged."""
    pair, chosen = main.layers, job.settings.method
    plan: list[Planned] = [(LABELS[chosen], "method", [main])]
    for method in ("contrans", "ridge"):
        if method != chosen:
            other = plant(stages, job.way, pair, method=method)
            plan.append((LABELS[method], "method", [_tuned(job, stages, other, pair)]))
    name, own = job.reference
    tuned = _tuned(job, stages, own.select([pair[1]]), pair)
    plan.append((name, "reference", [tuned]))
    drawn = controls(stages, job.way, main)
    for name, draws in drawn.items():
        plan.append((name, "control", draws))
    return plan


def wrecked_controls(rows: Sequence[EffectRow]) -> list[str]:
    """Controls of equal norm that do far more harm than the transplant itself.

    Returns:
        A warning for each whose dose is over `WRECKED` times that of the first method.
    """
    main = next((row.dose for row in rows if row.kind == "method"), None)
    return [
        f"the control {row.name!r} moves the target by {row.dose.kl:.2g} nats per token, "
        f"the transplant by {main.kl:.2g}: at equal norm it wrecks the model, so that it "
        "shows no effect says little; compare with the other controls"
        for row in rows
        if main
        and row.kind == "control"
        and row.dose
        and row.dose.kl > WRECKED * max(main.kl, 0.01)
    ]


def _rows(
    job: Job, stages: Stages, main: Planted
) -> tuple[list[EffectRow], Measurement]:
    """Test prompts, touched once: the table, and the outcome without an edit."""
    lm, task = job.target, job.test_task
    plan = _plan(job, stages, main)
    total = 1 + sum(len(draws) for *_, draws in plan)
    steers = [planted.steer() for *_, draws in plan for planted in draws]
    doses = iter(stages.doses(lm, steers, job.fluent_test))
    base = stages.outcome(lm, task, NoControl(), job.fluent_test)
    better = task.higher_is_better
    rows = [row("no edit", "base", [base], base, higher_is_better=better)]
    done = 1
    for name, kind, draws in plan:
        outcomes = []
        for planted in draws:
            stages.step("test", done, total)
            outcomes.append(stages.outcome(lm, task, planted.steer(), job.fluent_test))
            done += 1
        rows.append(
            row(
                name,
                kind,
                outcomes,
                base,
                higher_is_better=better,
                raw=draws[0].raw,
                relative=draws[0].relative,
                doses=list(islice(doses, len(draws))),
            )
        )
    rows += baseline_rows(job, stages, base)
    stages.step("test", total, total)
    return rows, base
