"""From --expert, --instruction, --aligned and --set to controls and settings.

Imports torch: verbs import this module inside their functions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from contrans.control.methods import AlignTraining, InstAlign, ProxyTuning
from contrans.models.edits import Control
from contrans.models.loading import load_model


def baselines(
    *,
    expert: str | None = None,
    anti_expert: str | None = None,
    instruction: str | None = None,
    aligned: str | None = None,
    loading: Mapping[str, Any],
) -> dict[str, Control]:
    """The baselines that were asked for, by the name of their row.

    Args:
        expert: small tuned model for proxy-tuning.
        anti_expert: its base.
        instruction: text before every prompt.
        aligned: model in the place of the target.
        loading: options of `load_model`.

    Raises:
        ValueError: for an expert without its base, or the other way round.
    """
    found: dict[str, Control] = {}
    if (expert is None) != (anti_expert is None):
        raise ValueError(
            "proxy-tuning needs both --expert (a small tuned model) and --anti-expert "
            "(its base); give the other one, too"
        )
    if expert is not None and anti_expert is not None:
        tuned, base = (load_model(name, **loading) for name in (expert, anti_expert))
        found[f"proxy-tuning, {expert} - {anti_expert}"] = ProxyTuning(tuned, base)
    if instruction is not None:
        found["instruction"] = InstAlign(instruction)
    if aligned is not None:
        found[f"aligned: {aligned}"] = AlignTraining(load_model(aligned, **loading))
    return found


def task_settings(
    tasks: Sequence[str], given: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The settings of each task, from KEY=VALUE; a setting goes to all that know it.

    Raises:
        ValueError: when a setting has no "=", or no task knows it.
        KeyError: for an unknown task.
    """
    from contrans.evaluation.registry import settings_of

    known = [settings_of(name) for name in tasks]
    found: list[dict[str, Any]] = [{} for _ in tasks]
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"cannot read --set {text!r}; write KEY=VALUE")
        takers = [i for i, names in enumerate(known) if key in names]
        if not takers:
            every = sorted({name for names in known for name in names})
            raise ValueError(
                f"--set {key}: none of the tasks ({', '.join(tasks) or 'none'}) has "
                f"this setting; they have {', '.join(every) or 'none'}"
            )
        for i in takers:
            found[i][key] = _value(text, value)
    return found


def _value(text: str, value: str) -> Any:
    """What stands behind the equals sign, read as YAML.

    Raises:
        ValueError: when it cannot be read.
    """
    try:
        return yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise ValueError(
            f"cannot read the value of --set {text!r}; put it into quotes: "
            f"--set '{text.partition('=')[0]}=\"...\"'"
        ) from error
