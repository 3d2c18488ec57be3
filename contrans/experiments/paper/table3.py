"""Table 3: one target, honesty from sources of other kinds.

The paper takes sources of other families and finds that one whose base model is like
the target works best.
"""

from contrans.core.verdicts import Claim
from contrans.experiments.paper.claims import difference, judge, pooled, untestable
from contrans.experiments.paper.concept_tasks import honesty
from contrans.experiments.paper.effect_table import (
    BASE,
    Group,
    beyond_controls,
    effect_table,
    from_controls,
    from_planted,
    measure_group,
    notes_of,
    whiskers,
)
from contrans.experiments.paper.plan import Sources
from contrans.experiments.paper.published import TABLE3
from contrans.experiments.paper.transplants import Route, best, controls
from contrans.experiments.paper.workbench import Lab
from contrans.report.figures import dots
from contrans.report.sheet import Sheet

WHERE = "§6.1, Table 3"


def run(lab: Lab) -> Sheet:
    """One line per source, each at its own best layers and strength."""
    plan = lab.plan.sources
    assert plan is not None
    subject = honesty(lab.plan, lab.limit)
    target = plan.target.model
    tries, strongest = [], None
    for source in plan.sources:
        route = Route(source.model, target, map_source=source.base)
        planted = best(lab, route, subject)
        tries.append(from_planted(f"from {source}", planted))
        if strongest is None:
            strongest = controls(lab, route, subject, planted)
    tries += from_controls(strongest or {})
    group = measure_group(
        lab,
        str(plan.target),
        target,
        subject.test_task,
        tries,
        published=plan.target.published,
    )
    return Sheet(
        title="Honesty from sources of other kinds",
        about=f"Honesty vectors of {len(plan.sources)} sources in {plan.target}. The "
        "controls have the length of the first source's vector.",
        tables=(effect_table([group], lab.plan, title="By source", published=TABLE3),),
        claims=tuple(_claims(group, plan)),
        notes=tuple(notes_of([group], subject)),
        draw=lambda: dots(whiskers([group]), group[BASE].metric),
    )


def _claims(group: Group, plan: Sources) -> list[Claim]:
    base, first = group[BASE].values, f"from {plan.sources[0]}"
    names = [f"from {source}" for source in plan.sources]
    values = {name: group[name].values for name in names}
    text, where = "a source whose base is like the target works better", "§6.1"
    near = [f"from {s}" for s in plan.sources if s.near]
    far = [f"from {s}" for s in plan.sources if s.near is False]
    found = [
        judge(
            "every kind of source raises the accuracy of the target",
            WHERE,
            pooled([(values[name], base) for name in names]),
            above=0,
            how="each source minus no edit, all sources pooled",
        ),
        judge(
            "the first source does more than any random vector or shuffled map",
            "ours",
            beyond_controls([group], first, sign=1),
            above=0,
            how=f"{first} minus the strongest control",
        ),
    ]
    if not near or not far:
        why = "the plan marks no source as like or unlike the target (one family)"
        return [*found, untestable(text, where, why)]
    one, other = (
        [
            sum(column) / len(names)
            for column in zip(*(values[n] for n in names), strict=True)
        ]
        for names in (near, far)
    )
    how = "mean of the like sources minus mean of the unlike, question by question"
    return [*found, judge(text, where, difference(one, other), above=0, how=how)]
