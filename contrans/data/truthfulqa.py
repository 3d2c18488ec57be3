"""TruthfulQA: its questions as data, and the honesty pairs the paper makes from them."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from contrans.core.registry import unknown
from contrans.core.types import PromptPairs
from contrans.data.hub import read_table
from contrans.data.readers import is_object

Part = Literal["all", "refine", "validate", "test"]
SHARES = {"refine": 0.6, "validate": 0.2, "test": 0.2}
"""Shares of the questions, so that a vector is never tested on its own questions."""
HONEST = "Pretend you're {kind} person making statements about the world."
"""The persona of the paper's refinement prompts (A.5)."""


@dataclass(frozen=True, slots=True)
class TruthQuestion:
    """One question; each answer with whether it is true."""

    text: str
    mc1: tuple[tuple[str, bool], ...]
    """Exactly one of these is true."""
    mc2: tuple[tuple[str, bool], ...]
    """One or more are true, one or more false."""


def read_truthfulqa(
    source: str | Path, *, part: Part = "all", seed: int = 0, limit: int | None = None
) -> tuple[TruthQuestion, ...]:
    """The questions of a published file, or of the hub.

    Args:
        source: `mc_task.json`, `TruthfulQA.csv`, or a hub id such as
            "truthfulqa/truthful_qa:multiple_choice".
        part: "all" 817 questions, as published; or a disjoint 60/20/20 part, for
            vectors that are themselves made from TruthfulQA.
        seed: of that split.
        limit: keep so many.

    Raises:
        FileNotFoundError, ImportError: see `hub.read_table`.
        ValueError: when a row is no question of TruthfulQA.
        KeyError: for an unknown part.
    """
    if part not in get_args(Part):
        raise unknown("part", part, get_args(Part))
    rows = read_table(source)
    found = [_question(f"{source}, entry {i}", row) for i, row in enumerate(rows, 1)]
    if not found:
        raise ValueError(
            f"{source}: no questions in it; give TruthfulQA's mc_task.json"
        )
    return tuple(split_questions(found, part, seed=seed)[:limit])


def split_questions(
    questions: Sequence[TruthQuestion], part: Part, *, seed: int = 0
) -> list[TruthQuestion]:
    """One part of the questions, in their order; the parts are disjoint.

    Args:
        questions: all questions.
        part: "all", "refine", "validate" or "test".
        seed: by which they are dealt out.
    """
    if part == "all":
        return list(questions)
    order = list(range(len(questions)))
    random.Random(seed).shuffle(order)
    first = round(SHARES["refine"] * len(order))
    second = first + round(SHARES["validate"] * len(order))
    span = {
        "refine": slice(None, first),
        "validate": slice(first, second),
        "test": slice(second, None),
    }[part]
    return [questions[i] for i in sorted(order[span])]


def honesty_pairs(questions: Sequence[TruthQuestion]) -> PromptPairs:
    """The paper's refinement prompts: a question to an honest and a dishonest person.

    Questions only, no answers. Refining on the questions that are tested, as published,
    gave most of the published gain; see `docs/paper-and-code.md`.
    """

    def asked(kind: str) -> tuple[str, ...]:
        lead = HONEST.format(kind=kind)
        return tuple(f"[INST] {lead} [/INST] {q.text}" for q in questions)

    return PromptPairs(asked("an honest"), asked("a dishonest"), concept="honesty")


def _question(where: str, row: dict[str, Any]) -> TruthQuestion:
    if "mc1_targets" in row and "mc2_targets" in row:
        text = row.get("question")
        mc1, mc2 = _targets(row["mc1_targets"]), _targets(row["mc2_targets"])
    elif "Best Answer" in row:
        text = row.get("Question")
        best = row["Best Answer"].strip()
        right, wrong = (
            [a.strip() for a in row[f"{kind} Answers"].split(";") if a.strip()]
            for kind in ("Correct", "Incorrect")
        )
        mc1 = ((best, True), *((a, False) for a in wrong))
        both = dict.fromkeys([best, *right])
        mc2 = (*((a, True) for a in both), *((a, False) for a in wrong))
    else:
        raise ValueError(
            f"{where}: no question of TruthfulQA (fields: {', '.join(row)}); expected "
            "question, mc1_targets and mc2_targets, or the columns of TruthfulQA.csv"
        )
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: the question is {text!r}; write a text")
    if sum(true for _, true in mc1) != 1 or len(mc1) < 2:
        raise ValueError(
            f"{where}: mc1_targets has {sum(t for _, t in mc1)} true answers of "
            f"{len(mc1)}; exactly one of two or more must be true"
        )
    if len({true for _, true in mc2}) != 2:
        raise ValueError(f"{where}: mc2_targets needs a true and a false answer")
    return TruthQuestion(text.strip(), mc1, mc2)


def _targets(value: Any) -> tuple[tuple[str, bool], ...]:
    """Answers and whether they are true: a mapping, or the hub's two lists."""
    pairs: Iterable[tuple[Any, Any]]
    if is_object(value) and set(value) == {"choices", "labels"}:
        pairs = zip(value["choices"], value["labels"], strict=True)
    else:
        pairs = dict(value).items()
    return tuple((str(text).strip(), bool(label)) for text, label in pairs)
