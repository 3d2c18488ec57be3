"""From a concept to the task that measures it."""

from typing import Literal

from contrans.data.catalogue import EMOTIONS
from contrans.data.pairs import Concept
from contrans.evaluation.choices import ChoicesTask
from contrans.evaluation.continuations import ContinuationsTask
from contrans.evaluation.emotions import EmotionTask
from contrans.evaluation.likelihood import LikelihoodTask
from contrans.evaluation.task import Task
from contrans.registry import unknown
from contrans.types import PromptPairs

HELD_OUT = ("validate", "test")


def make_task(
    concept: Concept,
    split: Literal["validate", "test"],
    *,
    limit: int | None = None,
    fewshot: bool = False,
) -> Task:
    """The task of a concept on one of its held-out splits.

    Args:
        concept: from `load_concept`.
        split: "validate" for choosing settings, "test" for reporting.
        limit: keep the first so many items.
        fewshot: for emotions, put six demonstrations in front where they fit.

    Raises:
        KeyError: for another split.
        ValueError: when the limit leaves nothing.
    """
    if split not in HELD_OUT:
        raise unknown("held-out split", split, HELD_OUT)
    if limit is not None and limit < 1:
        raise ValueError(f"limit {limit} leaves nothing to measure; give 1 or more")
    pairs, spec = concept.split(split), concept.task
    items = (spec.test if split == "test" else spec.validate)[:limit]
    name = f"{concept.name}, {split}"
    kept = PromptPairs(pairs.positive[:limit], pairs.negative[:limit], pairs.concept)
    if spec.kind == "emotion" and concept.answer is not None:
        known = concept.answer in EMOTIONS
        return EmotionTask(
            pairs.negative[:limit],
            concept.answer,
            options=EMOTIONS if known else (*EMOTIONS, concept.answer),
            positives=pairs.positive[:limit],
            fewshot=fewshot,
            name=name,
        )
    if spec.kind == "choices":
        return ChoicesTask(items, name=name)
    if spec.kind == "continuations":
        return ContinuationsTask(
            tuple(item.prompt for item in items),
            spec.marked,
            spec.label,
            name=name,
            higher_is_better=spec.higher_is_better,
            pairs=kept,
        )
    return LikelihoodTask(kept, name=name)
