"""Table 1: honesty carried from a small aligned model into larger base models.

Every method of the paper on every target: multiple choice, accuracy of the option with
the largest summed log-probability (MC1).
"""

from contrans.core.verdicts import Claim
from contrans.experiments.paper.baselines import CONTRANS, PROXY, measure_targets
from contrans.experiments.paper.claims import judge, pooled, untestable
from contrans.experiments.paper.concept_tasks import honesty
from contrans.experiments.paper.effect_table import (
    BASE,
    Group,
    beyond_controls,
    effect_table,
    gain,
    gains,
    notes_of,
    whiskers,
)
from contrans.experiments.paper.published import TABLE1
from contrans.experiments.paper.workbench import Lab
from contrans.report.figures import dots
from contrans.report.sheet import Sheet

WHERE = "§5.1, Table 1"


def run(lab: Lab) -> Sheet:
    """Measure every method on every target."""
    subject = honesty(lab.plan, lab.limit)
    groups = measure_targets(lab, subject)
    return Sheet(
        title="Honesty in base models, by every method",
        about="The honesty vector of a small aligned model, moved by a linear map into "
        "larger base models, beside the paper's baselines and our controls.",
        tables=(
            effect_table(groups, lab.plan, title="Multiple choice", published=TABLE1),
        ),
        claims=(*_claims(groups), _larger(lab, groups)),
        notes=tuple(notes_of(groups, subject)),
        draw=lambda: dots(whiskers(groups), groups[0][BASE].metric),
    )


def _claims(groups: list[Group]) -> list[Claim]:
    aligned = [group for group in groups if group.has("Align-Training")]
    found = [
        judge(
            "ConTrans raises the accuracy of base models",
            WHERE,
            gain(groups, CONTRANS),
            above=0,
            how="ConTrans minus no edit, all targets pooled",
        ),
        judge(
            "more than any random vector or shuffled map does",
            "ours",
            beyond_controls(groups, CONTRANS, sign=1),
            above=0,
            how="ConTrans minus the strongest control, pooled",
        ),
        judge(
            "ConTrans is ahead of EFT / proxy-tuning",
            "Table 1, every column",
            gain(groups, CONTRANS, PROXY),
            above=0,
            how="ConTrans minus proxy-tuning, pooled",
        ),
    ]
    text, where = "ConTrans surpasses Align-Training (the paper: some)", "§5.1"
    if not aligned:
        return [*found, untestable(text, where, "no target has an aligned version")]
    how = "ConTrans minus Align-Training, pooled over targets that have one"
    estimate = gain(aligned, CONTRANS, "Align-Training")
    return [*found, judge(text, where, estimate, above=0, how=how)]


def _larger(lab: Lab, groups: list[Group]) -> Claim:
    """The gain in the largest against the smallest target of each series."""
    text, where = "the larger target gains more", "§5.1; its averages say less"
    pairs, start = [], 0
    for series in lab.plan.series:
        own = groups[start : start + len(series.targets)]
        start += len(series.targets)
        if len(own) > 1:
            last, first = own[-1], own[0]
            pairs.append(
                (
                    gains(last[CONTRANS], last[BASE]),
                    gains(first[CONTRANS], first[BASE]),
                )
            )
    if not pairs:
        return untestable(text, where, "there is one target only")
    how = "gain in the largest target minus gain in the smallest, same questions"
    return judge(text, where, pooled(pairs), above=0, how=how)
