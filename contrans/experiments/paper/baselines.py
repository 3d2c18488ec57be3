"""The methods that Tables 1 and 2 compare, for one target."""

from contrans.control.methods import AlignTraining, InstAlign, ProxyTuning
from contrans.control.methods.inst_align import instruction_for
from contrans.experiments.paper.concept_tasks import Subject
from contrans.experiments.paper.effect_table import (
    Group,
    Try,
    from_controls,
    from_planted,
    measure_group,
)
from contrans.experiments.paper.plan import Plan, Series, Target
from contrans.experiments.paper.transplants import Route, best, controls, own_vector
from contrans.experiments.paper.workbench import Lab

CONTRANS, PROXY = "ConTrans", "EFT / proxy-tuning"


def every_target(plan: Plan) -> list[tuple[Series, Target]]:
    """All targets of all series."""
    return [(series, target) for series in plan.series for target in series.targets]


def into(series: Series, target: Target) -> Route:
    """The paper's route: aligned small model into the base model of a target."""
    return Route(series.weak_aligned, target.model, map_source=series.weak)


def every_method(
    lab: Lab, series: Series, target: Target, subject: Subject
) -> list[Try]:
    """The rows of Table 1 and 2, and our controls.

    Align-Training and Self-Align need an aligned model of the target's size and are
    left out without one.

    Args:
        lab: the models and the cache of a run.
        series: the models of one family.
        target: which of them is the target.
        subject: the concept and its tasks.
    """
    route = into(series, target)
    main = best(lab, route, subject)
    rows = []
    if target.aligned is not None:
        aligned = AlignTraining(lab.lm(target.aligned))
        rows.append(Try("Align-Training", "reference", [aligned]))
        own = own_vector(lab, target.aligned, target.model, subject, main.layers[1])
        rows.append(from_planted("Self-Align", own, "reference"))
    asked = InstAlign(instruction_for(subject.name, subject.answer))
    rows.append(Try("Inst-Align", "reference", [asked]))
    proxy = ProxyTuning(lab.lm(series.weak_aligned), lab.lm(series.weak))
    rows.append(Try(PROXY, "reference", [proxy]))
    rows.append(from_planted(CONTRANS, main))
    if lab.plan.method != "ridge":
        ridge = best(lab, route, subject, method="ridge")
        rows.append(from_planted("ridge map (ours)", ridge))
    return [*rows, *from_controls(controls(lab, route, subject, main))]


def measure_targets(lab: Lab, subject: Subject) -> list[Group]:
    """Every method on every target, on the test items of a subject."""
    return [
        measure_group(
            lab,
            str(target),
            target.model,
            subject.test_task,
            every_method(lab, series, target, subject),
            published=target.published,
        )
        for series, target in every_target(lab.plan)
    ]
