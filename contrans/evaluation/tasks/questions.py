"""Capability questions: ARC, MMLU and other multiple choice, from files or the hub.

They tell what an edit costs. Every layout below becomes the same item: a prompt, its
options, and the index of the right one.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from contrans.data.concept import Item
from contrans.data.hub import read_table
from contrans.data.readers import read_text, suffix, table_lines
from contrans.evaluation.prompts import LAYOUTS, Question, to_question
from contrans.evaluation.tasks.choices import ChoicesTask

Style = Literal["text", "letters"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gz")
_BARE_MMLU = 6
"""Columns of MMLU's own files, which have no header: question, four options, letter."""


def read_questions(
    source: str | Path, *, subset: str | None = None, split: str | None = None
) -> list[Question]:
    """Multiple-choice questions from a file, or from a data set of the hub.

    Args:
        source: .json, .jsonl, .csv, .tsv (or these .gz), .parquet; or, with the
            `datasets` extra, a hub id, such as "allenai/ai2_arc", or a folder of one.
        subset: for the hub: the configuration, such as "ARC-Challenge".
        split: for the hub: the split; None takes "test", or "validation" without one.

    Raises:
        FileNotFoundError: when there is no such file.
        ImportError: when the extra is missing; the message says how to install it.
        ValueError: when a row is in no known layout; the message names it.
    """
    path = Path(source)
    here = path.is_file() or path.suffix in _FILES
    if not here and not path.is_dir() and str(source).count("/") != 1:
        raise FileNotFoundError(
            f"no file {source} (looked in {Path.cwd()}), and it is no hub id either "
            "(OWNER/NAME); check the name"
        )
    rows = _rows(path) if here else _hub_rows(str(source), subset, split)
    found = [to_question(f"{source}, row {i}", row) for i, row in enumerate(rows, 1)]
    if not found:
        raise ValueError(f"{source}: no questions in it; expected {LAYOUTS}")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    if suffix(path) not in (".csv", ".tsv"):
        return read_table(path)
    lines = [line for _, line in table_lines(path, read_text(path))]
    head = [name.strip().lower() for name in lines[0]]
    bare = len(head) == _BARE_MMLU and head[-1] in tuple("abcd")
    if bare:
        head = ["question", "a", "b", "c", "d", "answer"]
    return [dict(zip(head, line, strict=False)) for line in lines[0 if bare else 1 :]]


def _missing(what: str) -> ImportError:
    return ImportError(
        f'{what} needs the package "datasets"; pip install "contrans[datasets]", or '
        "give the questions as .jsonl or .csv"
    )


def _hub_rows(name: str, subset: str | None, split: str | None) -> list[dict[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise _missing(f"the data set {name!r}") from error
    wanted = [split] if split is not None else ["test", "validation"]
    for i, part in enumerate(wanted):
        try:
            found: Any = datasets.load_dataset(name, subset, split=part)
        except ValueError as error:
            if i + 1 < len(wanted) and "split" in str(error).lower():
                continue
            raise ValueError(
                f"data set {name!r} (subset {subset!r}, split {part!r}): {error}"
            ) from error
        return [dict(row) for row in found]
    return []


def question_task(
    questions: Sequence[Question],
    *,
    name: str = "questions",
    limit: int | None = None,
    seed: int | None = None,
    shots: int = 0,
    style: Style = "text",
) -> ChoicesTask:
    """The accuracy of the option with the largest log-likelihood.

    Args:
        questions: from `read_questions`.
        name: of the task in tables.
        limit: ask so many at most.
        seed: which ones, drawn at random; None takes the first.
        shots: put so many questions with their answers in front; the first ones of
            the file, which are then not asked.
        style: "text" scores every option in full after the question, as is usual for
            ARC; "letters" lists the options and scores their letters, as for MMLU.

    Raises:
        ValueError: when the settings leave nothing to ask.
    """
    if shots < 0 or (limit is not None and limit < 1):
        raise ValueError(
            f"limit {limit} and shots {shots}: ask one question or more, and show none "
            "or more"
        )
    shown, asked = list(questions[:shots]), list(questions[shots:])
    if not asked:
        raise ValueError(
            f"{len(questions)} questions with shots {shots} leave nothing to ask; give "
            "more questions or fewer shots"
        )
    chosen = list(range(len(asked)))
    if seed is not None:
        random.Random(seed).shuffle(chosen)
    chosen = sorted(chosen[:limit])
    head = "".join(_shown(question, style) for question in shown)
    items = tuple(_item(head, asked[i], shots + i + 1, style) for i in chosen)
    return ChoicesTask(items, name=name, metric="accuracy")


def _asked(question: Question, style: Style) -> str:
    options = ""
    if style == "letters":
        listed = zip(LETTERS, question.options, strict=False)
        options = "".join(f"{letter}. {option}\n" for letter, option in listed)
    return f"{question.lead}{question.text}\n{options}{question.cue}"


def _options(question: Question, style: Style) -> tuple[str, ...]:
    if style == "letters":
        return tuple(f" {letter}" for letter in LETTERS[: len(question.options)])
    return tuple(f" {option}" for option in question.options)


def _shown(question: Question, style: Style) -> str:
    right = _options(question, style)[question.answer]
    return f"{_asked(question, style)}{right}\n\n"


def _item(head: str, question: Question, number: int, style: Style) -> Item:
    prompt = head + _asked(question, style)
    return Item(str(number), prompt, _options(question, style), question.answer)
