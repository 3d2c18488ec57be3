"""The stored baseline of a suite: every score, so that a later run can be paired."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from contrans.core.files import write_text
from contrans.core.version import __version__
from contrans.evaluation import Measurement
from contrans.evaluation.measure import check_finite

KIND = "check-baseline"
Key = tuple[str, str | None, str]
"""Model, vector (None for the model as it is) and task, as named in the suite."""


def check_place(path: str | Path) -> None:
    """Refuse to write a baseline over anything but a baseline.

    Raises:
        FileExistsError: when there is something else.
    """
    path = Path(path)
    if not path.exists():
        return
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        kind = None
    if kind != KIND:
        raise FileExistsError(
            f"{path} exists and is no baseline of contrans check, so it is not "
            "overwritten; name another file with --baseline, or remove this one"
        )


def write_baseline(
    path: str | Path, suite: str, found: Mapping[Key, Measurement]
) -> None:
    """Write a baseline, one line per measurement, so that a diff can be read.

    Args:
        path: the file.
        suite: its name.
        found: (model, vector, task) to what was measured.

    Raises:
        ValueError: when a measurement is NaN or infinite.
    """
    for (model, vector, task), entry in found.items():
        check_finite(entry, f"{task} under {vector or 'no edit'} in {model}")
    lines = ",\n".join(
        "  "
        + json.dumps(
            {
                "model": model,
                "vector": vector,
                "task": task,
                "metric": entry.metric,
                "tokenizer": entry.tokenizer,
                "items": entry.items,
                "values": entry.values.tolist(),
                "losses": entry.losses,
            },
            allow_nan=False,
        )
        for (model, vector, task), entry in found.items()
    )
    head = json.dumps({"kind": KIND, "contrans": __version__, "suite": suite})
    text = f'{head[:-1]}, "entries": [\n{lines}\n]}}\n'
    write_text(Path(path), text, force=True)


def read_baseline(path: str | Path) -> dict[Key, Measurement]:
    """A baseline as `write_baseline` left it.

    Raises:
        FileNotFoundError: when there is no such file; the message says how to make it.
        ValueError: when it is no baseline.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no baseline {path}; make it once with --baseline {path} "
            "--update-baseline, and keep it beside the suite"
        )
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        if value["kind"] != KIND:
            raise ValueError(f"its kind is {value['kind']!r}")
        found = {
            (entry["model"], entry["vector"], entry["task"]): Measurement(
                values=np.array(entry["values"], dtype=np.float64),
                losses=tuple((float(loss), float(n)) for loss, n in entry["losses"]),
                metric=entry["metric"],
                tokenizer=entry["tokenizer"],
                items=entry["items"],
            )
            for entry in value["entries"]
        }
        for (_, _, task), entry in found.items():
            check_finite(entry, task)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is no baseline of contrans check ({type(error).__name__}: {error});"
            " name another file, or remove this one and write it anew with "
            "--update-baseline"
        ) from error
    return found
