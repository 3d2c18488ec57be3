"""Logits and log-probabilities of given tokens: what every score is made of.

Rows are right-padded and masked, so a row's numbers do not depend on its neighbours.
The language-model head runs at the scored columns only (`logits_to_keep`), inside the
model's own forward: soft caps, scales and any control that is active are kept.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contrans.activations import Progress, batch_tokens
from contrans.models import LM
from contrans.rows import pad, token_batches

LOGITS_PER_BATCH = 1 << 28
"""Numbers in one batch of logits at most; 1 GiB in float32."""
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


@torch.no_grad()
def _logits(lm: LM, ids: Tensor, mask: Tensor, columns: Tensor) -> Tensor:
    """Logits at some columns of a batch: [rows, columns, vocabulary]."""
    options = {}
    if "logits_to_keep" in inspect.signature(lm.model.forward).parameters:
        options["logits_to_keep"] = columns.to(lm.device)
    logits = lm.model(
        input_ids=ids.to(lm.device),
        attention_mask=mask.to(lm.device),
        use_cache=False,
        **options,
    ).logits
    if logits.shape[1] != len(columns):
        logits = logits[:, columns.to(logits.device)]
    if torch.isnan(logits).any() or torch.isposinf(logits).any():
        raise ValueError(
            f"NaN or infinite logits in {lm.name!r}; an edit may be too strong, or float16 "
            "overflowed: lower the strength, or load the model in bfloat16 or float32"
        )
    return logits


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
    progress: Progress | None = None,
) -> Iterator[tuple[int, Float[Tensor, " vocabulary"]]]:
    """For each row of token ids, its index and the logits after its last token.

    Args:
        lm: the model, with whatever control is active.
        rows: token ids, as from `lm.encode`.
        tokens_per_batch: padded tokens per batch; None chooses by device.
        progress: called with (rows done, rows in all).

    Yields:
        (index, logits in float32), in order of length.
    """
    done = 0
    for batch in token_batches(rows, tokens_per_batch or batch_tokens(lm)):
        chosen = [rows[i] for i in batch]
        ids, mask = pad(chosen, lm.pad_id, side="right")
        ends = mask.sum(1) - 1
        columns, where = ends.unique(return_inverse=True)
        logits = _logits(lm, ids, mask, columns)
        for i, index in enumerate(batch):
            yield index, logits[i, where[i]].float()
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))


def score_continuations(
    lm: LM,
    items: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    tokens_per_batch: int | None = None,
    progress: Progress | None = None,
) -> ContinuationScores:
    """Summed log-probability of each continuation after its context.

    Args:
        lm: the model, with whatever control is active.
        items: (context ids, continuation ids); the context holds one token or more.
        tokens_per_batch: padded tokens per batch; None chooses by device.
        progress: called with (items done, items in all).

    Raises:
        ValueError: for an empty context or continuation, one that is too long, or NaN.
    """
    for i, (context, continuation) in enumerate(items):
        if not context or not continuation:
            empty = "continuation" if context else "context"
            raise ValueError(f"item {i} has an empty {empty}; give it a token or more")
    fitted = [(fit(lm, context, rest), list(rest)) for context, rest in items]
    rows = [context + rest for context, rest in fitted]
    total = torch.zeros(len(rows), dtype=torch.float64)
    greedy = torch.zeros(len(rows), dtype=torch.bool)
    done = 0
    for batch in token_batches(rows, _budget(lm, tokens_per_batch)):
        ids, mask = pad([rows[i] for i in batch], lm.pad_id, side="right")
        first = min(len(fitted[i][0]) for i in batch) - 1
        columns = torch.arange(first, ids.shape[1] - 1)
        logits = _logits(lm, ids, mask, columns)
        for i, index in enumerate(batch):
            start = len(fitted[index][0]) - 1 - first
            wanted = torch.tensor(fitted[index][1], device=logits.device)
            here = logits[i, start : start + len(wanted)].float()
            logs = here.log_softmax(-1).gather(-1, wanted[:, None])
            total[index] = logs.double().sum().cpu()
            greedy[index] = bool((here.argmax(-1) == wanted).all())
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))
    tokens = torch.tensor([float(len(rest)) for _, rest in fitted])
    return ContinuationScores(total, tokens, greedy)
