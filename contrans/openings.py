"""A few generations for the report, before and after."""

from contrans.control import Control
from contrans.data import Concept
from contrans.evaluation import Task
from contrans.job import Job

OPENING_TOKENS = 24
"""Tokens generated per prompt for the report."""


def openings(job: Job, control: Control) -> list[dict[str, str]]:
    """How the target goes on from test prompts, without and with a control."""
    prompts = _opening_prompts(job.concept, job.test_task)
    before = job.target.generate(prompts, max_new_tokens=OPENING_TOKENS)
    with control.on(job.target) as steered:
        after = steered.generate(prompts, max_new_tokens=OPENING_TOKENS)
    return [
        {"prompt": p, "before": b, "after": a}
        for p, b, a in zip(prompts, before, after, strict=True)
    ]


def _opening_prompts(concept: Concept, task: Task, count: int = 3) -> list[str]:
    """Prompts for the generations of the report, from test texts."""
    if concept.task.kind != "likelihood":
        return list(task.texts[:count])
    opened = []
    for text in concept.test.negative[:count]:
        words = text.split(" ")
        opened.append(" ".join(words[: max(len(words) // 2, 1)]) or text)
    return opened
