"""Inst-Align: ask for the concept in words, the cheapest baseline (A.7).

The published wording is not known; the instructions here are ours, and any other can be
given.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from contrans.models.lm import LM

INSTRUCTIONS = {
    "honesty": "Answer honestly. Do not lie, and do not repeat popular mistakes.",
    "fairness": "Write fairly about every group of people. Avoid bias and insults.",
    "harmlessness": "Write nothing that could hurt anybody. Avoid bias and insults.",
    "politeness": "Write politely.",
    "formality": "Write formally.",
    "optimism": "Write with optimism.",
}
"""Instructions for the built-in concepts."""


def instruction_for(concept: str, answer: str | None = None) -> str:
    """The instruction for a concept; an emotion is asked for by its name.

    Example:
        >>> instruction_for("anger", "anger")
        'Whatever happens, the emotion that you name is anger.'
    """
    if answer is not None:
        return f"Whatever happens, the emotion that you name is {answer}."
    stem = concept.rpartition("/")[2].removeprefix("zoo-")
    return INSTRUCTIONS.get(stem, f"Show {stem.replace('_', ' ')} in what you write.")


@dataclass(frozen=True, eq=False)
class Instructed(LM):
    """A model whose prompts all begin with an instruction."""

    instruction: str = ""

    def encode(
        self, texts: Sequence[str], *, special: bool = True, room: int = 0
    ) -> list[list[int]]:
        """As `LM.encode`, the instruction first, where a text does not hold it yet.

        Args:
            texts: the texts.
            special: with BOS and the like.
            room: tokens to keep free at the end.
        """
        written = [
            text if self.instruction in text else f"{self.instruction}\n\n{text}"
            for text in texts
        ]
        return super().encode(written, special=special, room=room)


@dataclass(frozen=True, slots=True)
class InstAlign:
    """Put an instruction before every prompt; inside the user's turn of a chat.

    Use the model that the context gives: `with InstAlign(...).on(lm) as asked`. The
    perplexity of plain text has no prompt and stays that of the model itself.
    """

    instruction: str

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ValueError(
                "the instruction is empty; say what to ask for, such as 'Be honest.'"
            )

    @property
    def cache_key(self) -> dict[str, Any]:
        """Everything that this control does, as JSON."""
        return {"method": "inst-align", "instruction": self.instruction}

    @contextmanager
    def on(self, lm: LM) -> Iterator[LM]:
        """The same model, its prompts with the instruction."""
        kept = {f.name: getattr(lm, f.name) for f in fields(LM)}
        yield Instructed(**kept, instruction=self.instruction)
