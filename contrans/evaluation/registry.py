"""Tasks by name: published data sets, read from a file, a folder or the hub.

Their settings are the keyword arguments of the function behind the name, so that the
command line and the library say the same.
"""

from collections.abc import Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from contrans.core.registry import lookup, unknown
from contrans.core.types import PromptPairs
from contrans.data.catalogue import EMOTIONS
from contrans.data.concept import Concept
from contrans.evaluation.task import Task
from contrans.evaluation.tasks.choices import ChoicesTask
from contrans.evaluation.tasks.continuations import ContinuationsTask
from contrans.evaluation.tasks.emotions import EmotionTask
from contrans.evaluation.tasks.likelihood import LikelihoodTask

TASKS = {
    "truthfulqa_mc1": "contrans.evaluation.tasks.truthfulqa:truthfulqa_task",
    "truthfulqa_mc2": "contrans.evaluation.tasks.truthfulqa:truthfulqa_mc2_task",
    "toxigen": "contrans.evaluation.tasks.toxigen:toxigen_task",
    "perplexity": "contrans.evaluation.tasks.perplexity:perplexity_task",
    "emotions": "contrans.evaluation.tasks.emotions:paper_emotion_task",
}
"""Name to the function that makes the task from its data."""
_GIVEN = ("limit", "seed")


def settings_of(name: str) -> dict[str, Any]:
    """The settings of a task with their defaults.

    Raises:
        KeyError: for an unknown task; the message suggests near names.
    """
    parameters = list(signature(lookup("task", TASKS, name)).parameters.values())[1:]
    return {
        p.name: None if p.default is Parameter.empty else p.default
        for p in parameters
        if p.name not in (*_GIVEN, "score")
    }


def named_task(
    name: str,
    data: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Task:
    """A task on published data.

    Args:
        name: one of `TASKS`.
        data: file, folder or hub id; which ones, see the function behind the name.
        limit: so many items at most.
        seed: for whatever is drawn.
        settings: further keyword arguments, see `settings_of`.

    Raises:
        KeyError: for an unknown task or setting.
        FileNotFoundError, ImportError, ValueError: when the data cannot be used.
    """
    make = lookup("task", TASKS, name)
    known = settings_of(name)
    for key in settings or {}:
        if key not in known:
            raise unknown(f"setting of {name}", key, known)
    if limit is not None and limit < 1:
        raise ValueError(f"limit {limit} leaves nothing to measure; give 1 or more")
    takes = signature(make).parameters
    given = {"limit": limit, "seed": seed}
    both = {key: value for key, value in given.items() if key in takes}
    chosen = {
        key: _value(name, key, value, signature(make, eval_str=True).parameters[key])
        for key, value in (settings or {}).items()
    }
    return make(data, **both, **chosen)


def _value(task: str, key: str, value: Any, parameter: Parameter) -> Any:
    """A setting as its parameter is annotated.

    Raises:
        ValueError: when it is of another kind.
    """
    try:
        return TypeAdapter(parameter.annotation).validate_python(value)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise ValueError(f"setting {key}={value!r} of {task}: {said}") from None


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
