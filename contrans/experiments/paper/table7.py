"""Table 7: honesty and fairness added at the same time.

Each vector has the layers and strength that were chosen for it alone. Together they may
disturb too much, so one common factor is chosen on the validation prompts of both.
"""

from contrans.control.steer import Composed, Steer, compose
from contrans.core.verdicts import Claim
from contrans.experiments.paper.baselines import every_target, into
from contrans.experiments.paper.claims import judge, pooled
from contrans.experiments.paper.concept_tasks import Subject, fairness, honesty
from contrans.experiments.paper.effect_table import (
    BASE,
    Group,
    Try,
    effect_table,
    from_controls,
    from_planted,
    gain,
    gains,
    measure_group,
    notes_of,
    whiskers,
)
from contrans.experiments.paper.plan import Series, Target
from contrans.experiments.paper.published import TABLE7_FAIRNESS, TABLE7_HONESTY
from contrans.experiments.paper.transplants import best, controls
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Planted
from contrans.report.figures import dots
from contrans.report.sheet import Sheet

FACTORS = (1.0, 0.75, 0.5)
"""Common factors of both strengths, tried on validation prompts."""
KEPT = 0.5
"""What we read "still performs well" as: at least half of the effect alone."""
WHERE = "appendix B.1, Table 7"


def run(lab: Lab) -> Sheet:
    """Both tasks under each vector alone and under both."""
    subjects = honesty(lab.plan, lab.limit), fairness(lab.plan, lab.limit)
    measured = [_both_groups(lab, *where, subjects) for where in every_target(lab.plan)]
    honest, fair = (list(groups) for groups in zip(*measured, strict=True))
    tables = (
        effect_table(
            honest, lab.plan, title="Honesty", published=TABLE7_HONESTY, name="honesty"
        ),
        effect_table(
            fair, lab.plan, title="Fairness", published=TABLE7_FAIRNESS, name="fairness"
        ),
    )
    panels = {
        f"{name}, {label}": rows
        for name, groups in (("honesty", honest), ("fairness", fair))
        for label, rows in whiskers(groups).items()
    }
    return Sheet(
        title="Honesty and fairness at once",
        about="Two vectors in one model. Strengths as chosen for each alone, times a "
        "common factor chosen on validation prompts within the perplexity budget. The "
        "controls have the length and strength of the vector of their own task.",
        tables=tables,
        claims=(
            *_claims("honesty", honest, subjects[0]),
            *_claims("fairness", fair, subjects[1]),
        ),
        notes=(*notes_of(honest, subjects[0]), *notes_of(fair, subjects[1])),
        draw=lambda: dots(panels, "score of each task"),
    )


def _both_groups(
    lab: Lab, series: Series, target: Target, subjects: tuple[Subject, Subject]
) -> tuple[Group, Group]:
    route = into(series, target)
    parts = [best(lab, route, subject) for subject in subjects]
    both = Try("both", "method", [_together(lab, target, subjects, parts)])
    names = ("honesty alone", "fairness alone")
    tries = [*(from_planted(n, p) for n, p in zip(names, parts, strict=True)), both]
    honest, fair = (
        measure_group(
            *(lab, str(target), target.model, subject.test_task),
            [*tries, *from_controls(controls(lab, route, subject, part))],
            published=target.published,
        )
        for subject, part in zip(subjects, parts, strict=True)
    )
    return honest, fair


def _together(
    lab: Lab,
    target: Target,
    subjects: tuple[Subject, Subject],
    parts: list[Planted],
) -> Composed:
    """The largest common factor within the budget; the smallest when none is."""
    model, texts = target.model, lab.fluent_validate
    budget = max(subject.budget for subject in subjects)
    task = subjects[0].validate_task
    base = lab.measure(model, task, texts=texts).perplexity
    found = None
    for factor in FACTORS:
        found = compose(*(Steer(p.vector, strength=factor * p.raw) for p in parts))
        if lab.measure(model, task, found, texts=texts).perplexity <= budget * base:
            break
    assert found is not None
    return found


def _claims(name: str, groups: list[Group], subject: Subject) -> list[Claim]:
    alone = f"{name} alone"
    kept = pooled(
        [(gains(g["both"], g[BASE]), KEPT * gains(g[alone], g[BASE])) for g in groups],
        sign=subject.sign,
    )
    return [
        judge(
            f"{name}: both vectors together still have the effect",
            WHERE,
            gain(groups, "both", sign=subject.sign),
            above=0,
            how="change in the wanted direction under both, targets pooled",
        ),
        judge(
            f"{name}: at least half of the effect alone remains",
            WHERE,
            kept,
            above=0,
            how="effect of both minus half of the effect alone",
        ),
    ]
