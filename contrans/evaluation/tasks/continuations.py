"""What a model writes: the share of greedy continuations that hold a marked word."""

import re
from dataclasses import dataclass

import numpy as np

from contrans.core.types import PromptPairs
from contrans.evaluation.task import MARGIN, Measurement
from contrans.evaluation.tasks.likelihood import LikelihoodTask
from contrans.models.lm import LM
from contrans.models.padding import token_batches

MAX_NEW_TOKENS = 40
TOKENS_PER_BATCH = 4096
"""Padded tokens, prompt and continuation, generated at once."""
_PLAIN = re.compile(r"[\w' -]+")


def marker(marked: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for word stems (matched at the start of words) and expressions.

    Raises:
        ValueError: when there are none, or one is no regular expression.

    Example:
        >>> bool(marker(("stupid",)).search("How stupidly done"))
        True
        >>> bool(marker(("rude",)).search("a crude oil"))
        False
    """
    if not marked:
        raise ValueError("no marked words; give at least one word stem or expression")
    parts = []
    for entry in marked:
        plain = _PLAIN.fullmatch(entry) is not None
        try:
            parts.append(rf"\b{re.escape(entry)}" if plain else f"(?:{entry})")
            re.compile(parts[-1])
        except re.error as error:
            raise ValueError(
                f"the marked entry {entry!r} is neither a word stem nor a regular "
                f"expression ({error}); mend it"
            ) from error
    return re.compile("|".join(parts), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ContinuationsTask:
    """Share of prompts that are continued with a marked word, in the first line."""

    prompts: tuple[str, ...]
    marked: tuple[str, ...]
    label: str = "marked"
    """What a continuation with a marked word is called."""
    name: str = "continuations"
    max_new_tokens: int = MAX_NEW_TOKENS
    higher_is_better: bool = True
    chance: float | None = None
    pairs: PromptPairs | None = None
    """Held-out pairs of the concept. Few greedy texts hold a marked word; how much
    likelier one side of a pair is than the other tells far smaller changes."""

    def __post_init__(self) -> None:
        marker(self.marked)
        if not self.prompts:
            raise ValueError("no prompts to continue; give at least one")

    @property
    def metric(self) -> str:
        """The share, by its label."""
        return f"share {self.label}" if self.label else "share marked"

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts, and both sides of the pairs."""
        pairs = self.pairs
        return self.prompts + (pairs.positive + pairs.negative if pairs else ())

    def generate(self, lm: LM) -> list[str]:
        """The first line of the greedy continuation of every prompt.

        Raises:
            ValueError: when a prompt fills the context.
        """
        found = [""] * len(self.prompts)
        rows = lm.encode(self.prompts)
        room = lm.context - max(len(row) for row in rows)
        if room < 1:
            raise ValueError(
                f"a prompt of {lm.context - room} tokens fills the context of "
                f"{lm.name!r} ({lm.context}) and cannot be continued; shorten it"
            )
        new = min(self.max_new_tokens, room)
        rows = [row + [0] * new for row in rows]
        for batch in token_batches(rows, TOKENS_PER_BATCH):
            written = lm.generate([self.prompts[i] for i in batch], max_new_tokens=new)
            for index, text in zip(batch, written, strict=True):
                lines = text.lstrip().splitlines()
                found[index] = lines[0] if lines else ""
        return found

    def measure(self, lm: LM) -> Measurement:
        """1 where the continuation holds a marked word; extra: the margin of the pairs.

        The margin, one per pair, is that of the side which a larger share goes with:
        the positive side, or the negative one where a lower share is better.
        """
        pattern = marker(self.marked)
        written = self.generate(lm)
        hits = [float(pattern.search(text) is not None) for text in written]
        if self.pairs is None:
            return Measurement(np.array(hits))
        margin = LikelihoodTask(self.pairs).measure(lm).extra[MARGIN]
        sign = 1.0 if self.higher_is_better else -1.0
        return Measurement(np.array(hits), {MARGIN: sign * margin}, fine=MARGIN)
