"""Table 6: honesty added to models that are aligned already."""

from contrans.core.verdicts import Claim
from contrans.experiments.paper.claims import judge, untestable
from contrans.experiments.paper.concept_tasks import Subject, honesty
from contrans.experiments.paper.effect_table import (
    BASE,
    Group,
    Try,
    beyond_controls,
    effect_table,
    from_controls,
    from_planted,
    gain,
    measure_group,
    notes_of,
    whiskers,
)
from contrans.experiments.paper.plan import Model, Series, Target
from contrans.experiments.paper.published import TABLE6
from contrans.experiments.paper.transplants import (
    Route,
    at_home,
    best,
    best_of,
    controls,
    randoms,
)
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Planted
from contrans.report.figures import dots
from contrans.report.sheet import Sheet

PLAIN, ALIGNED = "from the small base", "from the small aligned"
OWN, OWN_ALIGNED = "from its own base", "from itself"


def run(lab: Lab) -> Sheet:
    """The small aligned model itself, then the aligned version of every target."""
    subject = honesty(lab.plan, lab.limit)
    groups = []
    for series in lab.plan.series:
        groups.append(_itself(lab, series, subject))
        groups += [
            _larger(lab, series, target, target.aligned, subject)
            for target in series.targets
            if target.aligned is not None
        ]
    return Sheet(
        title="Honesty added to aligned models",
        about="Honesty vectors of small models, and of the receiving model itself, in "
        "models that are aligned already. Maps are fitted between base models.",
        tables=(effect_table(groups, lab.plan, title="By vector", published=TABLE6),),
        claims=tuple(_claims(groups)),
        notes=tuple(notes_of(groups, subject)),
        draw=lambda: dots(whiskers(groups), groups[0][BASE].metric),
    )


def _larger(
    lab: Lab, series: Series, target: Target, aligned: Model, subject: Subject
) -> Group:
    base = target.model
    route = Route(series.weak_aligned, aligned, map_source=series.weak, map_target=base)
    main = best(lab, route, subject)
    plain = Route(series.weak, aligned, map_target=base)
    tries = [
        from_planted(PLAIN, best(lab, plain, subject)),
        from_planted(ALIGNED, main),
        *_own(lab, aligned, base, subject, [main.layers[1]]),
        *from_controls(controls(lab, route, subject, main)),
    ]
    return _measured(lab, aligned, subject, tries, target.published)


def _itself(lab: Lab, series: Series, subject: Subject) -> Group:
    """In the small aligned model both vectors are at home: there is no map."""
    model, base = series.weak_aligned, series.weak
    lm = lab.lm(model)
    layers = sorted({t for _, t in lab.pairs(lm, lm)})
    tries = _own(lab, model, base, subject, layers)
    assert tries[-1].planted is not None
    tries += from_controls(randoms(lab, tries[-1].planted))
    return _measured(lab, model, subject, tries, series.published)


def _own(
    lab: Lab, model: Model, base: Model, subject: Subject, layers: list[int]
) -> list[Try]:
    found = []
    for name, source in ((OWN, base), (OWN_ALIGNED, model)):
        vector = at_home(lab, model, lab.vector(source, subject.refine))
        vectors = {(t, t): vector.select([t]) for t in layers}
        planted: Planted = best_of(lab, model, subject, vectors)
        found.append(from_planted(name, planted, "reference"))
    return found


def _measured(
    lab: Lab, model: Model, subject: Subject, tries: list[Try], published: str | None
) -> Group:
    return measure_group(
        lab, str(model), model, subject.test_task, tries, published=published
    )


def _claims(groups: list[Group]) -> list[Claim]:
    text = "the small aligned model's vector improves larger aligned models"
    larger = [group for group in groups if group.has(ALIGNED)]
    if not larger:
        return [untestable(text, "Table 6", "no target has an aligned version")]
    return [
        judge(
            text,
            "Table 6",
            gain(larger, ALIGNED),
            above=0,
            how=f"{ALIGNED} minus no edit, larger models pooled",
        ),
        judge(
            "more than any random vector or shuffled map does",
            "ours",
            beyond_controls(larger, ALIGNED, sign=1),
            above=0,
            how=f"{ALIGNED} minus the strongest control, pooled",
        ),
        judge(
            "aligned models gain from a vector of their own, too",
            "Table 6",
            gain(groups, OWN_ALIGNED),
            above=0,
            how=f"{OWN_ALIGNED} minus no edit, all aligned models pooled",
        ),
    ]
