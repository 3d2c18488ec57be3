"""Figure 6: emotion vectors of a small base model in the largest target."""

from contrans.experiments.paper.emotion_bars import emotions_into
from contrans.experiments.paper.workbench import Lab
from contrans.report.sheet import Sheet


def run(lab: Lab) -> Sheet:
    """The last (the paper: 65B) target."""
    plan = lab.plan.emotions
    assert plan is not None
    last = plan.targets[-1].model
    return emotions_into(lab, plan.weak, last, where="§4.1, Figure 6")
