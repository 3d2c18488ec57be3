"""Tasks by name: published data sets, read from a file, a folder or the hub.

Their settings are the keyword arguments of the function behind the name, so that the
command line and the library say the same.
"""

from collections.abc import Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from contrans.evaluation.task import Task
from contrans.registry import lookup, unknown

TASKS = {
    "truthfulqa_mc1": "contrans.evaluation.truthfulqa:truthfulqa_task",
    "truthfulqa_mc2": "contrans.evaluation.truthfulqa:truthfulqa_mc2_task",
    "toxigen": "contrans.evaluation.toxigen:toxigen_task",
    "perplexity": "contrans.evaluation.perplexity_task:perplexity_task",
    "emotions": "contrans.evaluation.emotions:paper_emotion_task",
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
