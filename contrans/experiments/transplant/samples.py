"""A few generations for the report, before and after."""

from contrans.data import Concept
from contrans.evaluation import Task
from contrans.experiments.transplant.prepare import Job
from contrans.models.edits import Control

OPENING_TOKENS = 24
"""Tokens generated per prompt for the report."""
OPENINGS = 3
"""How many prompts."""


def openings(job: Job, control: Control) -> list[dict[str, str]]:
    """How the target goes on from test prompts, without and with a control."""
    prompts = opening_prompts(job.concept, job.test_task)
    before = job.target.generate(prompts, max_new_tokens=OPENING_TOKENS)
    with control.on(job.target) as steered:
        after = steered.generate(prompts, max_new_tokens=OPENING_TOKENS)
    return [
        {"prompt": p, "before": b, "after": a}
        for p, b, a in zip(prompts, before, after, strict=True)
    ]


def opening_prompts(concept: Concept, task: Task, count: int = OPENINGS) -> list[str]:
    """Distinct prompts for the generations of the report, from test texts.

    Of pairs judged by likelihood it is the first half of the negative texts, which many
    pairs of one frame share.

    Args:
        concept: whose test texts they come from.
        task: what is measured.
        count: so many at most.
    """
    if concept.task.kind != "likelihood":
        return list(dict.fromkeys(task.texts))[:count]
    halves = map(_first_half, concept.test.negative)
    return list(dict.fromkeys(halves))[:count]


def _first_half(text: str) -> str:
    words = text.split(" ")
    return " ".join(words[: max(len(words) // 2, 1)]) or text
