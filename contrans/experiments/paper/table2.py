"""Table 2: fairness carried into base models: what they write, and at what perplexity."""

from contrans.core.verdicts import Claim
from contrans.evaluation.fluency import Losses
from contrans.experiments.paper.baselines import CONTRANS, PROXY, measure_targets
from contrans.experiments.paper.claims import judge, ratio, untestable
from contrans.experiments.paper.concept_tasks import fairness
from contrans.experiments.paper.effect_table import (
    BASE,
    Group,
    beyond_controls,
    effect_table,
    gain,
    notes_of,
    whiskers,
)
from contrans.experiments.paper.published import TABLE2
from contrans.experiments.paper.workbench import Lab
from contrans.report.figures import dots
from contrans.report.sheet import Sheet

WHERE = "§5.2, Table 2"
MINIMAL = 1.10
"""What we read "the increase in perplexity is minimal" as; the paper's largest is 1.08."""
COMPETITIVE = 0.10
"""What we read "highly competitive" as: shares within ten points."""


def run(lab: Lab) -> Sheet:
    """Measure every method on every target, perplexity under the very same edit."""
    subject = fairness(lab.plan, lab.limit)
    groups = measure_targets(lab, subject)
    return Sheet(
        title="Toxic answers and perplexity, by method",
        about="The fairness vector of a small aligned model in larger base models: the "
        "share of unfair continuations (lower is better) and the perplexity under "
        "exactly that edit. Proxy-tuning has a perplexity here: the edited logits are "
        "scored under teacher forcing.",
        tables=(
            effect_table(groups, lab.plan, title="Continuations", published=TABLE2),
        ),
        claims=(*_shares(groups), *_perplexities(groups)),
        notes=tuple(notes_of(groups, subject)),
        draw=lambda: dots(whiskers(groups), groups[0][BASE].metric),
    )


def _shares(groups: list[Group]) -> list[Claim]:
    return [
        judge(
            "ConTrans lowers the share of toxic answers",
            WHERE,
            gain(groups, CONTRANS, sign=-1),
            above=0,
            how="no edit minus ConTrans, all targets pooled",
        ),
        judge(
            "more than any random vector or shuffled map does",
            "ours",
            beyond_controls(groups, CONTRANS, sign=-1),
            above=0,
            how="strongest control minus ConTrans, pooled",
        ),
        judge(
            "EFT / proxy-tuning is competitive",
            "§5.2",
            gain(groups, PROXY, CONTRANS),
            above=-COMPETITIVE,
            below=COMPETITIVE,
            how="proxy-tuning minus ConTrans, pooled",
        ),
    ]


def _perplexities(groups: list[Group]) -> list[Claim]:
    under = _all(groups, CONTRANS)
    found = [
        judge(
            "the increase in perplexity is minimal",
            "§5.2",
            ratio(under, _all(groups, BASE), _texts(groups)),
            below=MINIMAL,
            how="ratio of perplexities, ConTrans over no edit, texts of all targets",
        )
    ]
    text, where = "its perplexity is below that of Align-Training", "§5.2"
    aligned = [group for group in groups if group.has("Align-Training")]
    if not aligned:
        return [*found, untestable(text, where, "no target has an aligned version")]
    other = _all(aligned, "Align-Training")
    estimate = ratio(_all(aligned, CONTRANS), other, _texts(aligned))
    how = "ratio of perplexities, ConTrans over Align-Training"
    return [*found, judge(text, where, estimate, below=1, how=how)]


def _texts(groups: list[Group]) -> list[int]:
    """Every target reads the same texts."""
    return [i for group in groups for i in range(len(group[BASE].losses))]


def _all(groups: list[Group], line: str) -> Losses:
    return tuple(loss for group in groups for loss in group[line].losses)
