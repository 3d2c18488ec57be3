"""Figure 2(a): emotion vectors of a small base model in a larger one, by strength."""

from contrans.experiments.paper.emotion_bars import emotions_into
from contrans.experiments.paper.workbench import Lab
from contrans.report.sheet import Sheet


def run(lab: Lab) -> Sheet:
    """The first (the paper: 13B) target."""
    plan = lab.plan.emotions
    assert plan is not None
    first = plan.targets[0].model
    return emotions_into(lab, plan.weak, first, where="§4.1, Figure 2(a)")
