"""Table 10: honesty refined from texts of another domain than the questions."""

from dataclasses import replace

from contrans.core.verdicts import Claim
from contrans.experiments.paper.baselines import every_target, into
from contrans.experiments.paper.claims import judge, untestable
from contrans.experiments.paper.concept_tasks import Subject, honesty, honesty_elsewhere
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
    whiskers,
)
from contrans.experiments.paper.plan import Series, Target
from contrans.experiments.paper.published import TABLE10
from contrans.experiments.paper.transplants import Route, best, controls, own_vector
from contrans.experiments.paper.workbench import Lab
from contrans.report.figures import dots
from contrans.report.sheet import Sheet

WHERE = "appendix B.5, Table 10"
ELSEWHERE, OWN = "other domain, aligned source", "other domain, own aligned version"
HERE = "same domain, aligned source"


def run(lab: Lab) -> Sheet:
    """Every target, and its aligned version, with vectors of both domains."""
    subject = honesty(lab.plan, lab.limit)
    other = replace(subject, refine=honesty_elsewhere(lab.plan, lab.limit))
    base, aligned = [], []
    for series, target in every_target(lab.plan):
        base.append(_group(lab, series, target, subject, other))
        if target.aligned is not None:
            aligned.append(_aligned(lab, series, target, subject, other))
    groups = [*base, *aligned]
    return Sheet(
        title="Honesty from data of another domain",
        about="The honesty vector is refined from statements of another domain than "
        "the questions that judge it; the in-domain vector stands beside it.",
        tables=(effect_table(groups, lab.plan, title="By data", published=TABLE10),),
        claims=tuple(_claims(base, aligned)),
        notes=tuple(notes_of(groups, other)),
        draw=lambda: dots(whiskers(groups), groups[0][BASE].metric),
    )


def _group(
    lab: Lab, series: Series, target: Target, subject: Subject, other: Subject
) -> Group:
    route = into(series, target)
    main = best(lab, route, other)
    tries = [
        from_planted(ELSEWHERE, main),
        from_planted(HERE, best(lab, route, subject)),
    ]
    if target.aligned is not None:
        own = own_vector(lab, target.aligned, target.model, other, main.layers[1])
        tries.append(from_planted(OWN, own, "reference"))
    tries += from_controls(controls(lab, route, other, main))
    return measure_group(
        lab,
        str(target),
        target.model,
        subject.test_task,
        tries,
        published=target.published,
    )


def _aligned(
    lab: Lab, series: Series, target: Target, subject: Subject, other: Subject
) -> Group:
    model = target.aligned
    assert model is not None
    route = Route(
        series.weak_aligned, model, map_source=series.weak, map_target=target.model
    )
    main = best(lab, route, other)
    tries = [
        from_planted(ELSEWHERE, main),
        from_planted(HERE, best(lab, route, subject)),
        from_planted(
            OWN, own_vector(lab, model, model, other, main.layers[1]), "reference"
        ),
        *from_controls(controls(lab, route, other, main)),
    ]
    name = None if target.published is None else f"{target.published}, aligned"
    return measure_group(
        lab, str(model), model, subject.test_task, tries, published=name
    )


def _claims(base: list[Group], aligned: list[Group]) -> list[Claim]:
    found = [
        judge(
            "a vector from another domain improves base models",
            WHERE,
            gain(base, ELSEWHERE),
            above=0,
            how="other domain minus no edit, base targets pooled",
        ),
        judge(
            "more than any random vector or shuffled map does",
            "ours",
            beyond_controls([*base, *aligned], ELSEWHERE, sign=1),
            above=0,
            how="other domain minus the strongest control, all targets pooled",
        ),
        judge(
            "it does less than a vector from the same domain",
            "Tables 1 and 10 together",
            gain(base, HERE, ELSEWHERE),
            above=0,
            how="same domain minus other domain, base targets pooled",
        ),
    ]
    text = "it improves aligned models, too"
    if not aligned:
        return [*found, untestable(text, WHERE, "no target has an aligned version")]
    how = "other domain minus no edit, aligned models pooled"
    return [*found, judge(text, WHERE, gain(aligned, ELSEWHERE), above=0, how=how)]
