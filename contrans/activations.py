"""Collect hidden states: batched, padding-safe, only what is asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from contrans.files import digest
from contrans.hooks import run_until
from contrans.mapped import mapped_states, open_mapped
from contrans.models import LM
from contrans.resume import replaced_forward
from contrans.rows import pad, token_batches
from contrans.types import HiddenStates, PairedStates, Position, PromptPairs

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
CPU_BATCH_TOKENS = 1024
"""Larger batches are slower on CPUs: page faults."""
GPU_BATCH_TOKENS = 16384


def _chosen_layers(lm: LM, layers: Iterable[int] | None) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(lm.layers))
    return tuple(sorted({lm.layer(layer) for layer in layers}))


def batch_tokens(lm: LM) -> int:
    """Padded tokens per batch that this model's device handles well."""
    return CPU_BATCH_TOKENS if lm.device.type == "cpu" else GPU_BATCH_TOKENS


@cache
def _compiled(kind: type) -> Callable[..., Any]:
    return torch.compile(kind.forward, dynamic=True)


@contextmanager
def compiled_blocks(lm: LM) -> Iterator[None]:
    """Run the blocks through `torch.compile` while the context lasts.

    One graph of dynamic shape serves all blocks of a kind, whatever the batch. The first
    use takes 10 s or so (2 s with torch's cache on disk) and needs a C++ compiler on a
    CPU, so it is for large collections. Blocks under an edit run as they are.
    """
    with ExitStack() as stack:
        for block in lm.blocks:
            own = vars(block).get("forward")  # transformers 4 leaves the class's own
            if own is None or getattr(own, "__func__", None) is type(block).forward:
                forward = partial(_compiled(type(block)), block)
                stack.enter_context(replaced_forward(block, forward))
        yield


def collect(
    lm: LM,
    texts: Sequence[str],
    *,
    layers: Iterable[int] | None = None,
    position: Position = "last",
    tokens_per_batch: int | None = None,
    compile: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> HiddenStates:
    """Residual-stream states of texts, after each of some blocks.

    Rows are padded on the right and masked, so the states of a text do not depend on
    its neighbours: a batch of 1 equals a batch of 32 to rounding. The forward stops
    after the deepest layer asked for and never meets the language-model head.

    Args:
        lm: the model.
        texts: one row each.
        layers: zero-based blocks (negative from the end); None for all.
        position: "last" token, "mean" over tokens, or "all" tokens as rows of their
            own. A leading BOS token is left out of "mean" and "all".
        tokens_per_batch: padded tokens per batch; None chooses by device.
        compile: compile the blocks first, see `compiled_blocks`.
        out: write the states to this file as they come, for results beyond memory; what
            is returned then reads from the file.
        force: overwrite `out`.
        facts: what the provenance should hold besides, as JSON.
        progress: called with (texts done, texts in all).

    Returns:
        States in float32 on the CPU, rows in the order of `texts`.

    Raises:
        ValueError: for no or empty texts, an unknown position, or NaN in the states.
        FileExistsError: when `out` exists and `force` is false.
    """
    if not texts:
        raise ValueError("no texts to collect from; give at least one")
    if position not in get_args(Position):
        raise ValueError(
            f"unknown position {position!r}; choose one of {get_args(Position)}"
        )
    chosen = _chosen_layers(lm, layers)
    if not chosen:
        raise ValueError("no layers to collect from; give one, or None for all")
    rows = lm.encode(texts)
    skip = len(lm.special_affixes[0]) if position != "last" else 0
    counts = [max(len(row) - skip, 1) for row in rows] if position == "all" else None
    starts = [0]
    for count in counts or [1] * len(rows):
        starts.append(starts[-1] + count)
    found = HiddenStates(
        torch.empty(0, len(chosen), lm.hidden),
        layers=chosen,
        model=lm.fingerprint,
        position=position,
        counts=None if counts is None else tuple(counts),
        name=lm.name,
        provenance=provenance(lm)
        | {"data": digest(list(texts)), "n": len(texts)}
        | dict(facts or {}),
    )
    finite = torch.ones(starts[-1], len(chosen), dtype=torch.bool)
    with ExitStack() as stack:
        if out is None:
            values = torch.empty(starts[-1], len(chosen), lm.hidden)
        else:
            filling = mapped_states(found, starts[-1], out, force=force)
            values = stack.enter_context(filling)
        if compile:
            stack.enter_context(compiled_blocks(lm))
        done = 0
        for batch in token_batches(rows, tokens_per_batch or batch_tokens(lm)):
            taken = _read(lm, [rows[i] for i in batch], chosen, position, skip)
            for index, states in zip(batch, taken, strict=True):
                here = slice(starts[index], starts[index + 1])
                values[here] = states
                finite[here] = torch.isfinite(states).all(-1)
            done += len(batch)
            if progress is not None:
                progress(done, len(rows))
        _refuse_nan(lm, finite, chosen, starts, texts)
    return replace(found, values=values if out is None else open_mapped(out))


def _read(
    lm: LM,
    rows: list[list[int]],
    layers: tuple[int, ...],
    position: str,
    skip: int,
) -> list[Tensor]:
    """The wanted states of one batch: per row, [rows of that text, layers, hidden]."""
    ids, mask = pad(rows, lm.pad_id, side="right")
    lengths = mask.sum(1)
    first = torch.clamp(torch.full_like(lengths, skip), max=lengths - 1)
    found: dict[int, Tensor] = {}

    def sink(layer: int, hidden: Tensor) -> None:
        here = lengths.to(hidden.device)
        if position == "last":
            index = torch.arange(len(rows), device=hidden.device)
            picked = hidden[index, here - 1].float()
        elif position == "mean":
            column = torch.arange(hidden.shape[1], device=hidden.device)
            inside = (column >= first.to(hidden.device)[:, None]) & (
                column < here[:, None]
            )
            total = (hidden.float() * inside[..., None]).sum(1)
            picked = total / inside.sum(1, keepdim=True)
        else:
            picked = hidden.float()
        found[layer] = picked.cpu()

    run_until(
        lm,
        layers,
        sink,
        input_ids=ids.to(lm.device),
        attention_mask=mask.to(lm.device),
    )
    stacked = torch.stack([found[layer] for layer in layers], dim=-2)
    if position != "all":
        return [row[None] for row in stacked]
    return [stacked[i, first[i] : lengths[i]] for i in range(len(rows))]


def _refuse_nan(
    lm: LM,
    finite: Tensor,
    layers: tuple[int, ...],
    starts: list[int],
    texts: Sequence[str],
) -> None:
    if finite.all():
        return
    row, column = (int(i) for i in (~finite).nonzero()[0])
    text = next(i for i in range(len(texts)) if starts[i + 1] > row)
    raise ValueError(
        f"NaN or infinite state in {lm.name!r} at layer {layers[column]} for text "
        f"{text} ({texts[text][:60]!r}); float16 overflow is the usual cause: load the "
        "model in bfloat16 or float32"
    )


def provenance(lm: LM) -> dict[str, Any]:
    """What an artefact should remember of the model it came from."""
    return {
        "model": lm.name,
        "revision": lm.revision,
        "fingerprint": lm.fingerprint,
        "tokenizer": lm.tokenizer_hash,
        "dtype": str(lm.dtype).removeprefix("torch."),
    }


def collect_pairs(
    lm: LM,
    pairs: PromptPairs,
    *,
    layers: Iterable[int] | None = None,
    position: Position = "last",
    tokens_per_batch: int | None = None,
    compile: bool = False,
    progress: Progress | None = None,
) -> PairedStates:
    """States of both sides of prompt pairs; see `collect`.

    Raises:
        ValueError: as `collect`, and for position "all", whose rows do not pair up.
    """
    if position == "all":
        raise ValueError("pairs need one state a text; use position 'last' or 'mean'")
    both = collect(
        lm,
        [*pairs.positive, *pairs.negative],
        layers=layers,
        position=position,
        tokens_per_batch=tokens_per_batch,
        compile=compile,
        progress=progress,
    )
    n = len(pairs)
    return PairedStates(
        both.rows(range(n)), both.rows(range(n, 2 * n)), concept=pairs.concept
    )


@torch.no_grad()
def residual_norms(
    lm: LM, texts: Sequence[str], *, layers: Iterable[int] | None = None
) -> dict[int, float]:
    """Mean length of the residual stream per layer, over all tokens but BOS (H9).

    Args:
        lm: the model.
        texts: neutral text; a few dozen are enough.
        layers: zero-based blocks; None for all.
    """
    states = collect(lm, texts, layers=layers, position="all")
    means = states.values.double().norm(dim=-1).mean(0)
    return dict(zip(states.layers, means.tolist(), strict=True))
