"""Emotion accuracy, as published: does the model name the emotion that was added?

On scenarios of *other* emotions (the negative prompts), so that the unsteered value is
the rate of false positives. Token Acc is 1 where the next token is the first sub-token
of the emotion. Logit Acc is 1 where Token Acc is, or where that sub-token has the
largest logit of the six. The margin, in nats, is by how much it is likelier than the
likeliest of the other five: it moves long before either of them does.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from contrans.data.catalogue import EMOTIONS
from contrans.data.leaks import overlapping
from contrans.data.pairs import read_pairs
from contrans.evaluation.task import MARGIN, Measurement
from contrans.models.edits import Control, NoControl
from contrans.models.lm import LM
from contrans.models.logit_hooks import encode_prompts
from contrans.models.scoring import (
    continuation_ids,
    last_token_logits_under,
    score_continuations_under,
)

FEWSHOT = Path(__file__).parents[2] / "data" / "fewshot.json"
LOGIT, TOKEN = "logit accuracy", "token accuracy"
WORD, GREEDY = "word accuracy", "greedy word accuracy"
IN_SAMPLE = {
    True: " (in-sample, as published)",
    False: "",
    None: " (published prompts)",
}
"""What a metric says of its prompts: that the vector was made from them, from others, or
that nobody knows."""
UNKNOWN = (
    "whether the vector was refined on these very scenarios, as published, is not known; "
    "give the file it was made from (refine_file) to have the overlap counted"
)
Ids = Literal["continuation", "published"]


@cache
def fewshot_prefix() -> str:
    """Six demonstrations with right labels, written for contrans."""
    return json.loads(FEWSHOT.read_text(encoding="utf-8"))["prefix"]


@dataclass(frozen=True, slots=True)
class EmotionTask:
    """How often the model names `answer` for scenarios of other emotions."""

    prompts: tuple[str, ...]
    """Scenarios of other emotions."""
    answer: str
    """The emotion that the control adds."""
    options: tuple[str, ...] = EMOTIONS
    positives: tuple[str, ...] = ()
    """Scenarios of that emotion; their accuracy is an extra."""
    ids: Ids = "continuation"
    """How first sub-tokens are found: by the tokenizer's own continuation of the prompt,
    or by the published rule."""
    fewshot: bool = False
    """Put six demonstrations in front, where they fit the context."""
    in_sample: bool | None = False
    """Whether the vector was made from these very scenarios (the published protocol);
    None where that is not known."""
    name: str = "emotion"
    notes: tuple[str, ...] = field(default=())
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if self.answer not in self.options:
            raise ValueError(
                f"the answer {self.answer!r} is not one of the options "
                f"{', '.join(self.options)}; add it to them"
            )
        if not self.prompts:
            raise ValueError("no prompts to measure on; give at least one")

    @property
    def metric(self) -> str:
        """Token Acc; Logit Acc is an extra."""
        return TOKEN + IN_SAMPLE[self.in_sample]

    @property
    def chance(self) -> float | None:
        """None: an arg-max over the whole vocabulary has no chance level."""
        return None

    @property
    def texts(self) -> tuple[str, ...]:
        """Negative and positive prompts."""
        return (*self.prompts, *self.positives)

    def measure(self, lm: LM) -> Measurement:
        """Token Acc on other emotions; extras: Logit Acc, the margin, and on positives.

        Where the options share their first token (characters, bytes), whole words are
        compared instead, and the metric is the accuracy among the options.
        """
        return self.measure_under(lm, (NoControl(),))[0]

    def measure_under(self, lm: LM, controls: Sequence[Control]) -> list[Measurement]:
        """The same under each of several controls, in one pass where they allow it."""
        notes = list(self.notes)
        prompts = self._prompts(lm, notes)
        first = self._first_ids(lm, prompts[0], notes)
        rows = encode_prompts(lm, prompts)
        if len(set(first)) == len(first):
            names = (TOKEN, LOGIT)
            found = self._by_token(lm, rows, first, controls)
            notes += _vague(lm, prompts[0], self.options)
        else:
            names = (WORD, GREEDY)
            notes.append(
                "the options share their first token in this tokenizer, so whole words "
                "are compared by log-likelihood; a uniform guess scores "
                f"{1 / len(self.options):.2f}"
            )
            found = self._by_word(lm, prompts, rows, controls)
        n, end = len(self.prompts), IN_SAMPLE[self.in_sample]
        measured = []
        for values, extra_values, margin in found:
            extra = {names[1] + end: extra_values[:n], MARGIN + end: margin[:n]}
            if self.positives:
                extra |= {
                    f"{names[0]} on positives{end}": values[n:],
                    f"{names[1]} on positives{end}": extra_values[n:],
                }
            kept = Measurement(
                values[:n], extra, names[0] + end, tuple(notes), MARGIN + end
            )
            measured.append(kept)
        return measured

    def _prompts(self, lm: LM, notes: list[str]) -> list[str]:
        """The prompts as they are fed, with what a reader should know about them."""
        prompts = list(self.texts)
        if self.fewshot:
            longer = [fewshot_prefix() + text for text in prompts]
            if _longest(lm, longer, self.options) <= lm.context:
                return longer
            notes.append("the six demonstrations do not fit the context: zero-shot")
        lengths = [_length(lm, text) for text in prompts]
        cut = sum(length > lm.context for length in lengths)
        if cut:
            notes.append(
                f"{cut} of {len(prompts)} prompts are longer than the context of "
                f"{lm.context} tokens and lost their beginning"
            )
        return prompts

    def _first_ids(self, lm: LM, prompt: str, notes: list[str]) -> list[int]:
        if self.ids == "published":
            found = published_ids(lm, self.options)
            if found is not None:
                return found
            notes.append(
                "the published rule for sub-tokens fits the tokenizers of LLaMA 1 and 2 "
                "and of Pythia only; here the tokenizer's own continuation was used"
            )
        return [continuation_ids(lm, prompt, f" {word}")[0] for word in self.options]

    def _by_token(
        self,
        lm: LM,
        rows: Sequence[list[int]],
        first: Sequence[int],
        controls: Sequence[Control],
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Token Acc, Logit Acc and margin of every prompt, for each control."""
        right = self.options.index(self.answer)
        loose, strict, margins = np.zeros((3, len(controls), len(rows)))
        for control, row, logits in last_token_logits_under(lm, rows, controls):
            strict[control, row] = int(logits.argmax()) == first[right]
            named = logits[torch.tensor(first, device=logits.device)].double().cpu()
            best = int(named.argmax())
            loose[control, row] = max(strict[control, row], float(best == right))
            margins[control, row] = _margin(named.numpy()[None], right)[0]
        return list(zip(strict, loose, margins, strict=True))

    def _by_word(
        self,
        lm: LM,
        prompts: Sequence[str],
        rows: Sequence[list[int]],
        controls: Sequence[Control],
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The same with whole words: likeliest of the six, greedy decoding, margin."""
        words = [continuation_ids(lm, prompts[0], f" {word}") for word in self.options]
        items = [(row, word) for row in rows for word in words]
        right, found = self.options.index(self.answer), []
        for scores in score_continuations_under(lm, items, controls):
            total = scores.total.numpy().reshape(len(rows), -1)
            strict = scores.greedy.numpy().reshape(len(rows), -1)
            greedy = strict[:, right].astype(float)
            named = np.maximum(greedy, total.argmax(1) == right)
            found.append((named, greedy, _margin(total, right)))
        return found


def _margin(scores: np.ndarray, right: int) -> np.ndarray:
    """How much likelier the right option is than the best other one, row by row.

    Logits do as well as log-probabilities: what they differ by cancels.

    Example:
        >>> _margin(np.array([[0.0, 2.0, -1.0]]), 0)
        array([-2.])
    """
    return scores[:, right] - np.delete(scores, right, axis=1).max(axis=1)


def _length(lm: LM, text: str) -> int:
    ids = lm.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return len(lm.special_affixes[0]) + len(ids)


def _longest(lm: LM, texts: Sequence[str], options: Sequence[str]) -> int:
    longest = max(_length(lm, text) for text in texts)
    return longest + max(_length(lm, f" {word}") for word in options)


def _vague(lm: LM, prompt: str, options: Sequence[str]) -> list[str]:
    """A warning for words whose first sub-token also begins other words."""
    pieces = {}
    for word in options:
        ids = continuation_ids(lm, prompt, f" {word}")
        if len(ids) > 1:
            pieces[word] = lm.tokenizer.decode([ids[0]])
    if not pieces:
        return []
    listed = ", ".join(f"{piece!r} of {word!r}" for word, piece in pieces.items())
    return [f"only a first sub-token is compared, not the whole word, for {listed}"]


def published_ids(lm: LM, options: Sequence[str] = EMOTIONS) -> list[int] | None:
    """First sub-tokens by the published rule, or None where it does not fit.

    LLaMA: the bare word, index 1, after BOS; right only where the tokenizer puts a
    space in front by itself. Pythia: the word behind a space, index 0.
    """
    kind, head = lm.model.config.model_type, lm.special_affixes[0]
    if kind == "llama" and len(head) == 1:
        found = [lm.tokenizer(word).input_ids[1] for word in options]
        spaced = [continuation_ids(lm, "is", f" {word}")[0] for word in options]
        return found if found == spaced else None
    if kind == "gpt_neox" and not head:
        return [lm.tokenizer(f" {word}").input_ids[0] for word in options]
    return None


def paper_emotion_task(
    eval_file: str | Path,
    refine_file: str | Path | None = None,
    *,
    answer: str | None = None,
    ids: Ids = "published",
    limit: int | None = None,
    in_sample: bool | None = None,
) -> EmotionTask:
    """The published protocol on a published file: six-shot prompts.

    In the publication the vector was refined on the very scenarios that are tested
    here. Where that is so, metric names say "in-sample, as published"; use held-out
    splits to learn what a vector does.

    Args:
        eval_file: JSON `{"pos": [...], "neg": [...]}` of prompts with demonstrations.
        refine_file: the file the vector was made from; the overlap is then counted.
        answer: the emotion; None reads it from the name of the file.
        ids: the published rule for sub-tokens, or the tokenizer's own continuation.
        limit: keep the first so many prompts of each side.
        in_sample: whether the vector was made from these scenarios; None asks the
            overlap with `refine_file`, and without one says that it is not known.

    Raises:
        ValueError: when no emotion is given or named by the file.
    """
    path = Path(eval_file)
    answer = answer or next((e for e in EMOTIONS if e in path.stem.lower()), None)
    if answer is None:
        raise ValueError(
            f"{path}: its name holds none of {', '.join(EMOTIONS)}; say which emotion "
            "it tests: answer='anger' (--answer on the command line)"
        )
    pairs = read_pairs(path, concept=answer)
    task = EmotionTask(
        pairs.negative[:limit],
        answer,
        positives=pairs.positive[:limit],
        ids=ids,
        in_sample=in_sample,
        name=f"emotion: {answer}",
        notes=(UNKNOWN,) if in_sample is None else (),
    )
    if refine_file is None:
        return task
    refine = read_pairs(refine_file)
    count = len(overlapping((*refine.positive, *refine.negative), task.texts))
    note = f"{count} of {len(task.texts)} tested scenarios also made the vector"
    known = count > 0 if in_sample is None else in_sample
    return replace(task, notes=(note,), in_sample=known)
