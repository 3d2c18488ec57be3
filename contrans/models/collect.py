"""Collect hidden states: batched, padding-safe, only what is asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from contrans.core.files import digest
from contrans.core.streaming import mapped_states, open_mapped
from contrans.core.types import HiddenStates, PairedStates, Position, PromptPairs
from contrans.models.batching import Pass, passes
from contrans.models.hooks import reads_in_pieces, run_until
from contrans.models.lm import LM
from contrans.models.partial_forward import can_narrow, narrow
from contrans.models.patching import Wrap, is_own, replaced
from contrans.vectors.sinks import outlying

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
CPU_BATCH_TOKENS = 1024
"""Larger batches are slower on CPUs: page faults."""
GPU_BATCH_TOKENS = 16384
NORM_TEXTS = 16
"""Texts whose states are held at once to measure their norms."""


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
def compiled_blocks(lm: LM, layers: Iterable[int]) -> Iterator[None]:
    """Run some blocks through `torch.compile` while the context lasts.

    One graph of dynamic shape serves all blocks of a kind, whatever the batch. The first
    use takes 10 s or so (2 s with torch's cache on disk) and needs a C++ compiler on a
    CPU, so it is for large collections. Blocks under an edit run as they are.
    """
    with ExitStack() as stack:
        for block in (lm.blocks[layer] for layer in layers):
            if is_own(vars(block).get("forward"), block):
                forward = partial(_compiled(type(block)), block)
                stack.enter_context(replaced(block, "forward", _instead(forward)))
        yield


def _instead(forward: Callable[..., Any]) -> Wrap:
    return lambda _inner: forward


def collect(
    lm: LM,
    texts: Sequence[str],
    *,
    layers: Iterable[int] | None = None,
    position: Position = "last",
    tokens_per_batch: int | None = None,
    share: bool = True,
    compile: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> HiddenStates:
    """Residual-stream states of texts, after each of some blocks.

    Rows are masked, so the states of a text do not depend on its neighbours: a batch of
    1 equals a batch of 32 to rounding. The forward stops after the deepest layer asked
    for and never meets the language-model head.

    Args:
        lm: the model.
        texts: one row each.
        layers: zero-based blocks (negative from the end); None for all.
        position: "last" token, "mean" over tokens, or "all" tokens as rows of their
            own. A leading BOS token is left out of "mean" and "all". The mean also
            leaves out what takes its place as attention sink: the first token where
            the tokenizer puts no BOS, and at each layer tokens whose states are far
            longer than the others of the text (`contrans.vectors.sinks`).
        tokens_per_batch: padded tokens per batch; None chooses by device.
        share: for last tokens, let what texts share at their beginning run once, where
            that is exact and less work (`contrans.models.batching`).
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
    few = position == "last" and reads_in_pieces(lm)
    rows = lm.encode(texts)
    skip = {"last": 0, "mean": _head(lm), "all": len(lm.special_affixes[0])}[position]
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
        if compile:  # the deepest block as it is where only its attention runs whole
            below = range(chosen[-1] + (not (few and can_narrow(lm, chosen[-1]))))
            stack.enter_context(compiled_blocks(lm, below))
        done = 0
        budget = tokens_per_batch or batch_tokens(lm)
        wanted = _Wanted(chosen, position, skip, few)
        for some in _states(lm, rows, wanted, budget, share and few):
            for index, states in some:
                here = slice(starts[index], starts[index + 1])
                values[here] = states
                finite[here] = torch.isfinite(states).all(-1)
            done += len(some)
            if progress is not None:
                progress(done, len(rows))
        _refuse_nan(lm, finite, chosen, starts, texts)
    return replace(found, values=values if out is None else open_mapped(out))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which states are read."""

    layers: tuple[int, ...]
    position: Position
    skip: int
    """Tokens at the beginning of a text that do not count."""
    few: bool
    """Whether nothing looks at other tokens than these."""


def _states(
    lm: LM, rows: Sequence[list[int]], wanted: _Wanted, budget: int, share: bool
) -> Iterator[list[tuple[int, Tensor]]]:
    """Texts and their states, [rows of that text, layers, hidden], forward by forward."""
    for each in passes(lm, rows, budget, share=share):
        states = _read(lm, each, wanted)
        if not each.shared or all(torch.isfinite(part).all() for part in states):
            yield list(zip(each.texts, states, strict=True))
            continue
        apart = [rows[i] for i in each.texts]  # a NaN spoils every text of its row
        for again in passes(lm, apart, budget, share=False):
            texts = [each.texts[i] for i in again.texts]
            yield list(zip(texts, _read(lm, again, wanted), strict=True))


def _read(lm: LM, each: Pass, wanted: _Wanted) -> Sequence[Tensor]:
    """The wanted states of one forward, text by text."""
    if wanted.position == "last":
        chosen = [columns[-1:] for columns in each.columns]
    else:  # a BOS alone is kept
        chosen = [c[min(wanted.skip, len(c) - 1) :] for c in each.columns]
    counts = [len(columns) for columns in chosen]
    rows = torch.from_numpy(np.repeat(each.rows, counts)).to(lm.device)
    columns = torch.from_numpy(np.concatenate(chosen)).to(lm.device)
    found: dict[int, Tensor] = {}

    def sink(layer: int, hidden: Tensor) -> None:
        here = hidden.device
        picked = hidden[rows.to(here), columns.to(here)].float()
        if wanted.position == "mean":
            picked = _means(picked, counts)
        found[layer] = picked.cpu()

    inputs = {name: value.to(lm.device) for name, value in each.inputs.items()}
    tokens, deepest = inputs["input_ids"].numel(), wanted.layers[-1]
    few = narrow(lm, deepest, rows, columns, tokens) if wanted.few else nullcontext()
    with few:
        run_until(lm, wanted.layers, sink, **inputs)
    stacked = torch.stack([found[layer] for layer in wanted.layers], dim=1)
    return stacked.split(1 if wanted.position == "mean" else counts)


def _head(lm: LM) -> int:
    """Tokens at the beginning of a text that are or take the place of BOS."""
    return max(len(lm.special_affixes[0]), 1)


def _means(states: Tensor, counts: list[int]) -> Tensor:
    """Text by text, the mean state of the tokens that are no sinks."""
    lengths = pad_sequence(
        list(states.norm(dim=1).split(counts)), padding_value=torch.nan
    )
    many = torch.tensor(counts, device=states.device)
    owner = torch.arange(len(counts), device=states.device).repeat_interleave(many)
    real = torch.arange(len(lengths), device=states.device) < many[:, None]
    kept = ~outlying(lengths).mT[real]
    sums = states.new_zeros(len(counts), states.shape[1])
    sums.index_add_(0, owner, states * kept[:, None])
    return sums / torch.bincount(owner[kept], minlength=len(counts))[:, None]


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
    share: bool = True,
    compile: bool = False,
    progress: Progress | None = None,
) -> PairedStates:
    """States of both sides of prompt pairs; see `collect`.

    Args:
        lm: the model, as `load_model` returns it.
        pairs: the prompt pairs.
        layers: blocks, counted from 0.
        position: which token's state is kept: "last" or "mean".
        tokens_per_batch: of a forward, padding included; None chooses.
        share: compute beginnings that texts share once.
        compile: compile the body once; pays for itself on many texts.
        progress: called with (done, total).

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
        share=share,
        compile=compile,
        progress=progress,
    )
    n = len(pairs)
    return PairedStates(
        both.rows(range(n)), both.rows(range(n, 2 * n)), concept=pairs.concept
    )


@dataclass(frozen=True, slots=True)
class ResidualNorms:
    """Lengths of the residual stream on some texts (H9)."""

    means: dict[int, float]
    """Per layer, over the tokens that count."""
    tokens: int
    """Tokens of the texts, first ones and BOS not among them."""
    left_out: dict[int, int]
    """Per layer, how many of them were sinks and did not count."""


def measure_norms(
    lm: LM, texts: Sequence[str], *, layers: Iterable[int] | None = None
) -> ResidualNorms:
    """Mean length of the residual stream per layer, and what took no part in it.

    Attention sinks and massive activations would be most of the mean: not counted are
    BOS, the first token of a text where there is none (unless it is the only one), and
    at each layer tokens far longer than the others (`contrans.vectors.sinks`).

    Args:
        lm: the model.
        texts: neutral text; a few dozen are enough.
        layers: zero-based blocks; None for all.
    """
    chosen, parts = _chosen_layers(lm, layers), []
    skip = _head(lm) - len(lm.special_affixes[0])
    for start in range(0, len(texts), NORM_TEXTS):
        some = texts[start : start + NORM_TEXTS]
        states = collect(lm, some, layers=chosen, position="all")
        lengths = states.values.double().norm(dim=-1)
        each = lengths.split(list(states.counts or ()))
        parts += [part[min(skip, len(part) - 1) :] for part in each]
    lengths = torch.cat(parts)
    odd = outlying(lengths)
    means = lengths.masked_fill(odd, 0).sum(0) / (~odd).sum(0)
    return ResidualNorms(
        dict(zip(chosen, means.tolist(), strict=True)),
        len(lengths),
        dict(zip(chosen, odd.sum(0).tolist(), strict=True)),
    )


def residual_norms(
    lm: LM, texts: Sequence[str], *, layers: Iterable[int] | None = None
) -> dict[int, float]:
    """Mean length of the residual stream per layer (H9), without attention sinks.

    See `measure_norms` for what does not count.

    Args:
        lm: the model.
        texts: neutral text; a few dozen are enough.
        layers: zero-based blocks; None for all.
    """
    return measure_norms(lm, texts, layers=layers).means
