"""Table 4: is the vector of an aligned source better than that of its base model?

Longer vectors do more. Beside the paper's comparison stands one at equal length.
"""

from dataclasses import replace

from contrans.control.steer import matched_norm
from contrans.core.verdicts import Claim
from contrans.experiments.paper.baselines import every_target, into
from contrans.experiments.paper.claims import judge
from contrans.experiments.paper.concept_tasks import Subject, honesty
from contrans.experiments.paper.effect_table import (
    BASE,
    Group,
    effect_table,
    from_controls,
    from_planted,
    gain,
    measure_group,
    notes_of,
    whiskers,
)
from contrans.experiments.paper.plan import Series, Target
from contrans.experiments.paper.published import TABLE4
from contrans.experiments.paper.transplants import Route, best, controls, plant
from contrans.experiments.paper.workbench import Lab
from contrans.experiments.planting import Planted
from contrans.report.figures import dots
from contrans.report.sheet import Sheet

WHERE = "§6.2, Table 4"
ALIGNED, PLAIN = "from the aligned source", "from the base source"
RAW, EQUAL = f"{PLAIN}, same raw alpha", f"{PLAIN}, equal length"


def run(lab: Lab) -> Sheet:
    """Both sources into every target, and two fairer comparisons."""
    subject = honesty(lab.plan, lab.limit)
    groups = [_group(lab, *where, subject) for where in every_target(lab.plan)]
    return Sheet(
        title="Honesty from base or aligned sources",
        about="The honesty vector of a small model before and after alignment. Each has "
        "its own best strength on validation prompts; then the base vector is given the "
        "layers and raw strength of the aligned one, and its length too.",
        tables=(effect_table(groups, lab.plan, title="By source", published=TABLE4),),
        claims=tuple(_claims(groups)),
        notes=tuple(notes_of(groups, subject)),
        draw=lambda: dots(whiskers(groups), groups[0][BASE].metric),
    )


def _group(lab: Lab, series: Series, target: Target, subject: Subject) -> Group:
    route, plain = into(series, target), Route(series.weak, target.model)
    main, other = best(lab, route, subject), best(lab, plain, subject)
    vector = plant(lab, plain, subject.refine, main.layers)
    share = vector.relative_strength(main.layers[1], main.raw) or 0.0
    same = Planted(vector, main.layers, main.raw, share)
    equal = replace(main, vector=matched_norm(vector, main.vector))
    return measure_group(
        lab,
        str(target),
        target.model,
        subject.test_task,
        [
            from_planted(PLAIN, other),
            from_planted(ALIGNED, main),
            from_planted(RAW, same),
            from_planted(EQUAL, equal),
            *from_controls(controls(lab, route, subject, main)),
        ],
        published=target.published,
    )


def _claims(groups: list[Group]) -> list[Claim]:
    said = (
        ("the base source's vector raises the accuracy", PLAIN, BASE, WHERE),
        ("the aligned source's vector raises it more", ALIGNED, PLAIN, WHERE),
        ("... at the same raw strength", ALIGNED, RAW, "ours"),
        ("... at equal length, too", ALIGNED, EQUAL, "ours"),
    )
    return [
        judge(
            text,
            where,
            gain(groups, one, other),
            above=0,
            how=f"{one} minus {other}, pooled",
        )
        for text, one, other, where in said
    ]
