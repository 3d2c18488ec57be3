"""Concepts as data: prompt pairs in three splits, and how their effect is measured."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contrans.core.files import digest
from contrans.core.types import PromptPairs
from contrans.data.catalogue import (
    EMOTIONS,
    SPLITS,
    ZOO_PREFIX,
    PackInfo,
    pack_info,
)
from contrans.data.concept import Concept, Item, TaskSpec
from contrans.data.leaks import LeakWarning, concept_leaks
from contrans.data.readers import (
    Row,
    is_list,
    json_lines,
    read_rows,
    read_text,
    split_field,
    text_field,
)
from contrans.data.splits import by_split

EMOTION_LINE = "The emotion of the above scenario is"
"""What every emotion prompt ends with; the model goes on with the emotion."""
FILE_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".gz", ".txt")


def pack(name: str, split: str = "refine") -> PromptPairs:
    """The pairs of one split of a built-in pack.

    Raises:
        KeyError: for an unknown pack or split; the message suggests near names.
    """
    return load_pack(pack_info(name)).split(split)


def read_pairs(path: str | Path, *, concept: str | None = None) -> PromptPairs:
    """All pairs of a file, unsplit: for the published protocol, which is in-sample.

    Args:
        path: JSON, JSONL, CSV or TSV, as `load_file` reads it.
        concept: the concept's name; None takes the file's.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file cannot be used; the message names the place.
    """
    path = Path(path)
    rows = read_rows(path)
    return PromptPairs(
        tuple(row.positive for row in rows),
        tuple(row.negative for row in rows),
        concept=concept or path.name.split(".")[0],
    )


def load_pack(info: PackInfo, answer: str | None = None) -> Concept:
    """The pairs and the task of a pack.

    Args:
        info: what its index says.
        answer: nothing, or the pack's own.

    Raises:
        ValueError: for another answer than the pack's, or a damaged file.
    """
    if answer is not None and answer != info.answer:
        raise ValueError(
            f"the pack {info.name!r} has the answer {info.answer!r}, not {answer!r}; "
            "an answer is given for your own files only, leave it out"
        )
    rows = read_rows(info.path)
    validate, test = (), ()
    if info.items is not None:
        items = _read_items(info.items, with_choices=info.kind == "choices")
        validate, test = items["validate"], items["test"]
    spec = TaskSpec(
        info.kind, validate, test, info.marked, info.label, info.higher_is_better
    )
    stem = info.name.removeprefix(ZOO_PREFIX)
    where = "zoo pack" if info.name.startswith("zoo") else "built-in pack"
    return _concept(
        info.path,
        rows,
        name=info.name,
        title=info.title,
        answer=info.answer,
        task=spec,
        origin=f"{where} {stem}, version {info.version}",
        seed=0,
    )


def _read_items(path: Path, *, with_choices: bool) -> dict[str, tuple[Item, ...]]:
    """The items of a choices or continuations task, by split."""
    found: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for number, record in json_lines(path, read_text(path)):
        where = f"line {number}"
        split = split_field(path, where, record)
        if split is None:
            raise ValueError(
                f"{path}, {where}: no field 'split'; say refine, validate or test"
            )
        prompt = text_field(path, where, record, "prompt")
        options, right = (), None
        if with_choices:
            options, right = _choices(path, where, record)
        label = str(record.get("id", number))
        found[split].append(Item(label, prompt, options, right))
    for split in ("validate", "test"):
        if not found[split]:
            raise ValueError(f"{path}: no items with split {split!r}; add some")
    return {split: tuple(items) for split, items in found.items()}


def _choices(
    path: Path, where: str, record: dict[str, Any]
) -> tuple[tuple[str, ...], int]:
    options, right = record.get("choices"), record.get("answer")
    texts = is_list(options) and all(
        isinstance(option, str) and option.strip() for option in options
    )
    if not is_list(options) or not texts or len(options) < 2:
        raise ValueError(
            f"{path}, {where}, field 'choices': expected a list of two or more texts, "
            f"found {options!r:.80}"
        )
    if len(set(options)) != len(options):
        raise ValueError(
            f"{path}, {where}, field 'choices': two options are equal ({options!r:.80})"
        )
    number = isinstance(right, int) and not isinstance(right, bool)
    if not isinstance(right, int) or not number or not 0 <= right < len(options):
        raise ValueError(
            f"{path}, {where}, field 'answer': expected the index of the right option, "
            f"0 to {len(options) - 1}, found {right!r}"
        )
    return tuple(options), right


def load_file(
    path: Path, answer: str | None = None, seed: int = 0, *, stem: str | None = None
) -> Concept:
    """A user's own pairs.

    The file is JSON `{"pos": [...], "neg": [...]}`, a JSON list of `[positive,
    negative]`, JSONL with `positive` and `negative`, or CSV/TSV with that header. A
    field `split` (refine, validate, test) is kept; without it, pairs are split
    60/20/20 by `seed`.

    Args:
        path: the file; a `LeakWarning` says which of its splits share texts.
        answer: for prompts that end in "The emotion of the above scenario is", the
            word the model should say; found in the stem if it is one of the six.
        seed: for splitting.
        stem: what the file is called; None takes its name without suffixes.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file cannot be used; the message names the place.
    """
    rows = read_rows(path)
    stem = stem or path.name.split(".")[0]
    ends = all(
        text.endswith(EMOTION_LINE)
        for row in rows
        for text in (row.positive, row.negative)
    )
    if answer is not None and not ends:
        raise ValueError(
            f"{path}: the answer {answer!r} was given, but not every text ends in "
            f"{EMOTION_LINE!r}; end them so, or leave the answer out to measure the "
            "likelihood of held-out pairs"
        )
    words = re.findall(r"[a-z]+", stem.lower())
    if answer is None and ends:
        answer = next((word for word in words if word in EMOTIONS), None)
    concept = _concept(
        path,
        rows,
        name=answer if answer in EMOTIONS else stem,
        title=(answer if answer in EMOTIONS else stem.replace("_", " ")).capitalize(),
        answer=answer,
        task=TaskSpec("emotion" if answer is not None else "likelihood"),
        origin=str(path),
        seed=seed,
    )
    for count in concept_leaks(concept):
        warnings.warn(f"{path}: {count}", LeakWarning, stacklevel=3)
    return concept


def _concept(
    path: Path,
    rows: Sequence[Row],
    *,
    name: str,
    title: str,
    answer: str | None,
    task: TaskSpec,
    origin: str,
    seed: int,
) -> Concept:
    parts = by_split(path, rows, seed)
    pairs = {
        split: PromptPairs(
            tuple(row.positive for row in part),
            tuple(row.negative for row in part),
            concept=name,
        )
        for split, part in parts.items()
    }
    content = [
        {split: [part.positive, part.negative] for split, part in pairs.items()},
        answer,
        task.kind,
        [
            [item.prompt, item.choices, item.answer]
            for item in (*task.validate, *task.test)
        ],
        task.marked,
        task.higher_is_better,
    ]
    return Concept(
        name=name,
        title=title,
        **pairs,
        answer=answer,
        task=task,
        origin=origin,
        digest=digest(content),
    )
