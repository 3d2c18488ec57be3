"""Logits and log-probabilities of given tokens: what every score is made of.

What rows have in common runs once (`contrans.models.logits`), and the
language-model head meets the scored positions only, inside the model's own forward:
soft caps, scales and any control that is active are kept. A row's numbers do not depend
on its neighbours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrans.models.collect import Progress, batch_tokens
from contrans.models.edits import Control, NoControl
from contrans.models.lm import LM
from contrans.models.logits import Reading

LOGITS_PER_BATCH = 1 << 28
"""Numbers in one batch of logits at most; 1 GiB in float32."""
AT_ONCE = {"cpu": 1 << 19}
"""Numbers whose logarithm of summed exponentials is taken at once: what a cache holds."""
AT_ONCE_ELSEWHERE = 1 << 26
_ANCHORS = ("\n", ".", "x")


@dataclass(frozen=True, slots=True, eq=False)
class ContinuationScores:
    """What a model thinks of some continuations."""

    total: Float[Tensor, " items"]
    """Summed log-probability, natural logarithm, float64."""
    tokens: Float[Tensor, " items"]
    """How many tokens were summed."""
    greedy: Bool[Tensor, " items"]
    """Whether greedy decoding would write exactly this."""


def continuation_ids(lm: LM, prompt: str, text: str) -> list[int]:
    """The tokens by which `text` follows `prompt`, as this tokenizer would write it.

    Tokenizers differ in where the space goes and whether they invent one at the start
    of a text. So the ids are read off the joined text, wherever the prompt's own ids
    are its beginning; else off the text behind a neutral character.

    Args:
        lm: the model, as `load_model` returns it.
        prompt: what stands before.
        text: what follows it.

    Raises:
        ValueError: when the text has no tokens.
    """
    for context in (prompt, *_ANCHORS):
        before = _plain_ids(lm, context)
        joined = _plain_ids(lm, context + text)
        if len(joined) > len(before) and joined[: len(before)] == before:
            return joined[len(before) :]
    alone = _plain_ids(lm, text)
    if not alone:
        raise ValueError(f"the text {text!r} has no tokens in {lm.name!r}")
    return alone


def _plain_ids(lm: LM, text: str) -> list[int]:
    return list(lm.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def fit(lm: LM, context: Sequence[int], continuation: Sequence[int]) -> list[int]:
    """The context without so much of its beginning (after BOS) that both fit.

    Args:
        lm: the model, as `load_model` returns it.
        context: token ids of the prompt.
        continuation: token ids that are scored.

    Raises:
        ValueError: when the continuation alone is too long.
    """
    head = lm.special_affixes[0]
    head = head if list(context[: len(head)]) == head else []
    room = lm.context - len(continuation) - len(head)
    if room < (0 if head else 1):
        raise ValueError(
            f"a continuation of {len(continuation)} tokens does not fit the context of "
            f"{lm.context} tokens of {lm.name!r}; shorten it"
        )
    tail = list(context[len(head) :])
    return head + (tail[len(tail) - room :] if len(tail) > room else tail)


def _budget(lm: LM, tokens_per_batch: int | None) -> int:
    vocabulary = lm.model.get_output_embeddings()
    size = len(lm.tokenizer) if vocabulary is None else vocabulary.weight.shape[0]
    return max(
        min(tokens_per_batch or batch_tokens(lm), LOGITS_PER_BATCH // max(size, 1)), 1
    )


def last_token_logits(
    lm: LM,
    rows: Sequence[Sequence[int]],
    *,
    tokens_per_batch: int | None = None,
    share: bool = True,
    progress: Progress | None = None,
) -> Iterator[tuple[int, Float[Tensor, " vocabulary"]]]:
    """For each row of token ids, its index and the logits after its last token.

    Args:
        lm: the model, with whatever control is active.
        rows: token ids, as from `lm.encode`.
        tokens_per_batch: padded tokens per batch; None chooses by device.
        share: let prefixes that rows have in common run once.
        progress: called with (rows done, rows in all).

    Yields:
        (index, logits in float32), in no particular order.
    """
    for _, index, logits in last_token_logits_under(
        lm,
        rows,
        (NoControl(),),
        tokens_per_batch=tokens_per_batch,
        share=share,
        progress=progress,
    ):
        yield index, logits


def last_token_logits_under(
    lm: LM,
    rows: Sequence[Sequence[int]],
    controls: Sequence[Control],
    *,
    tokens_per_batch: int | None = None,
    share: bool = True,
    progress: Progress | None = None,
) -> Iterator[tuple[int, int, Float[Tensor, " vocabulary"]]]:
    """The same under each of several controls, in one pass where they allow it.

    `Steer` controls on all tokens share the blocks below their lowest edit. The numbers
    are those of `last_token_logits` inside `steer.on(lm)`, for one control at a time.

    Args:
        lm: the model.
        rows: token ids.
        controls: what to measure under.
        tokens_per_batch: padded tokens per batch; None chooses by device.
        share: let prefixes that rows have in common run once.
        progress: called with (rows done, rows in all), each row once per control.

    Yields:
        (index of the control, index of the row, logits in float32).
    """
    ends = [range(len(row) - 1, len(row)) for row in rows]
    budget = tokens_per_batch or batch_tokens(lm)
    reading = Reading(lm, rows, ends, budget, controls, share)
    done = 0
    for found in reading.found():
        for slot, row in zip(found.slot.tolist(), found.row.tolist(), strict=True):
            yield found.control, row, found.logits[slot].float()
        done += len(found.row)
        if progress is not None:
            progress(done, len(rows) * len(controls))


def score_continuations(
    lm: LM,
    items: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    tokens_per_batch: int | None = None,
    share: bool = True,
    progress: Progress | None = None,
) -> ContinuationScores:
    """Summed log-probability of each continuation after its context.

    Args:
        lm: the model, with whatever control is active.
        items: (context ids, continuation ids); the context holds one token or more.
        tokens_per_batch: padded tokens per batch; None chooses by device.
        share: let prefixes that items have in common run once.
        progress: called with (items done, items in all).

    Raises:
        ValueError: for an empty context or continuation, one that is too long, or NaN.
    """
    return score_continuations_under(
        lm,
        items,
        (NoControl(),),
        tokens_per_batch=tokens_per_batch,
        share=share,
        progress=progress,
    )[0]


def score_continuations_under(
    lm: LM,
    items: Sequence[tuple[Sequence[int], Sequence[int]]],
    controls: Sequence[Control],
    *,
    tokens_per_batch: int | None = None,
    share: bool = True,
    progress: Progress | None = None,
) -> list[ContinuationScores]:
    """The same under each of several controls, in one pass where they allow it.

    See `last_token_logits_under` for the controls, `score_continuations` for the rest.

    Args:
        lm: the model, as `load_model` returns it.
        items: (context, continuation) in token ids.
        controls: the controls, each applied alone.
        tokens_per_batch: of a forward, padding included; None chooses.
        share: compute beginnings that texts share once.
        progress: called with (done, total).

    Raises:
        ValueError: for an empty continuation, or one longer than the context.
    """
    for i, (context, continuation) in enumerate(items):
        if not context or not continuation:
            empty = "continuation" if context else "context"
            raise ValueError(f"item {i} has an empty {empty}; give it a token or more")
    if not items:
        return [_empty() for _ in controls]
    fitted = [(fit(lm, context, rest), list(rest)) for context, rest in items]
    rows = [context + rest for context, rest in fitted]
    wanted = [
        range(len(context) - 1, len(context) + len(rest) - 1)
        for context, rest in fitted
    ]
    following = torch.tensor([token for row in rows for token in row])
    starts = torch.tensor([0, *accumulate(map(len, rows))])
    total = torch.zeros(len(controls), len(rows), dtype=torch.float64)
    misses = torch.zeros(len(controls), len(rows), dtype=torch.long)
    scored, every = 0, len(controls) * sum(map(len, wanted))
    budget = _budget(lm, tokens_per_batch)
    for found in Reading(lm, rows, wanted, budget, controls, share).found():
        right = following[starts[found.row] + found.column + 1]
        logs, greedy = _log_probabilities(found.logits, found.slot, right)
        total[found.control].index_add_(0, found.row, logs)
        misses[found.control].index_add_(0, found.row, (~greedy).long())
        scored += len(right)
        if progress is not None:
            progress(len(rows) * scored // every, len(rows))
    tokens = torch.tensor([float(len(rest)) for _, rest in fitted])
    return [
        ContinuationScores(total[i], tokens, misses[i] == 0)
        for i in range(len(controls))
    ]


def _log_probabilities(
    logits: Float[Tensor, "slots vocabulary"],
    slot: Int[Tensor, " uses"],
    target: Int[Tensor, " uses"],
) -> tuple[Float[Tensor, " uses"], Bool[Tensor, " uses"]]:
    """Log-probability of `target` in row `slot`, and whether no token is likelier."""
    at_once = AT_ONCE.get(logits.device.type, AT_ONCE_ELSEWHERE)
    size = max(at_once // logits.shape[-1], 1)
    used, place = slot.unique(return_inverse=True)
    if len(used) == len(logits):
        parts = logits.split(size)
    else:
        parts = (logits[part.to(logits.device)] for part in used.split(size))
    sums, tops = [], []
    for part in parts:  # `logsumexp`, whose maximum is wanted too
        part = part.float()
        top = part.amax(-1, keepdim=True)
        sums.append((part - top).exp_().sum(-1).log_() + top[:, 0])
        tops.append(top[:, 0])
    picked = logits[slot.to(logits.device), target.to(logits.device)]
    logs = picked.double().cpu() - torch.cat(sums).double().cpu()[place]
    return logs, picked.float().cpu() == torch.cat(tops).cpu()[place]


def _empty() -> ContinuationScores:
    none = torch.zeros(0, dtype=torch.float64)
    return ContinuationScores(none, none.float(), none.bool())
