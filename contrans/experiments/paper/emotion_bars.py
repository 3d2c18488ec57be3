"""Six emotions in one target, by strength: what Figures 2(a) and 6 share."""

from contrans.core.verdicts import Claim, Estimate
from contrans.data import EMOTIONS
from contrans.evaluation import Measurement
from contrans.experiments.paper.claims import average, judge
from contrans.experiments.paper.concept_tasks import Subject, emotion
from contrans.experiments.paper.effect_table import (
    BASE,
    Group,
    beyond_controls,
    effect_table,
    from_controls,
    from_planted,
    gain,
    measure_group,
    notes_of,
)
from contrans.experiments.paper.plan import Model
from contrans.experiments.paper.transplants import Route, best, controls
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Planted
from contrans.report.blocks import Cell, Table
from contrans.report.figures import bars
from contrans.report.sheet import Sheet

FALSE_POSITIVES = 0.10
"""What we read "notably low" as."""
CHOSEN = "alpha chosen on validation"


def emotions_into(lab: Lab, source: Model, target: Model, *, where: str) -> Sheet:
    """Every emotion at no, the two published, and the chosen strength.

    Args:
        lab: the models and the cache of a run.
        source: the source model.
        target: the target model.
        where: in the paper.
    """
    strengths = lab.plan.choice.emotion_strengths
    names = [f"alpha {value:g}" for value in strengths]
    route, groups, subject = Route(source, target), [], None
    for name in EMOTIONS:
        subject = emotion(lab.plan, name, lab.limit)
        groups.append(_group(lab, route, subject, name, names))
    shown = [BASE, *names, CHOSEN]
    return Sheet(
        title=f"Six emotions from {source} in {target}",
        about="How often the target names the emotion of the vector for scenarios of "
        "other emotions. Layers are chosen on validation prompts; the strengths are "
        "the published ones, and the one that validation chooses within the budget.",
        tables=(
            effect_table(groups, lab.plan, title="Token Acc", first="emotion"),
            _logits(groups, shown),
        ),
        claims=tuple(_claims(groups, names, where)),
        notes=tuple(notes_of(groups, subject)),
        draw=lambda: bars(
            list(EMOTIONS),
            {name: [average(g[name].values) for g in groups] for name in shown},
            "Token Acc on other emotions",
            marks={name: [_logit(g[name]).value for g in groups] for name in shown},
            mark_label="Logit Acc",
        ),
    )


def _group(
    lab: Lab, route: Route, subject: Subject, name: str, names: list[str]
) -> Group:
    main = best(lab, route, subject)
    unit = main.relative / main.raw
    fixed = [
        Planted(main.vector, main.layers, raw, raw * unit)
        for raw in lab.plan.choice.emotion_strengths
    ]
    tries = [from_planted(n, p) for n, p in zip(names, fixed, strict=True)]
    tries.append(from_planted(CHOSEN, main))
    tries += from_controls(controls(lab, route, subject, main))
    return measure_group(lab, name, route.target, subject.test_task, tries)


def _logit(found: Measurement) -> Estimate:
    """Logit Acc on the same prompts; the first extra of the emotion task."""
    return average(next(iter(found.extra.values())))


def _logits(groups: list[Group], shown: list[str]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (group.label, *(_logit(group[name]) for name in shown)) for group in groups
    ]
    return Table("logit", "Logit Acc", ("emotion", *shown), tuple(rows))


def _claims(groups: list[Group], names: list[str], where: str) -> list[Claim]:
    weak, strong = names
    base = [v for group in groups for v in group[BASE].values]
    prompts = [text for group in groups for text in group.prompts]
    return [
        judge(
            "without a vector, false positives are rare",
            where,
            average(base, prompts),
            below=FALSE_POSITIVES,
            how="share of other scenarios that get the emotion's name, pooled",
        ),
        judge(
            "the small model's vector makes the target name its emotion",
            where,
            gain(groups, strong),
            above=0,
            how=f"{strong} minus no edit, six emotions pooled",
        ),
        judge(
            "the effect rises with the strength",
            where,
            gain(groups, strong, weak),
            above=0,
            how=f"{strong} minus {weak}, pooled",
        ),
        judge(
            "at the chosen strength, more than any random vector or shuffled map does",
            "ours",
            beyond_controls(groups, CHOSEN, sign=1),
            above=0,
            how="chosen strength minus the strongest control, pooled",
        ),
    ]
