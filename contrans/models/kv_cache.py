"""Read texts in pieces: what they share runs once, with its keys and values kept.

A piece is a row of tokens that continues a known beginning. Two ways, both exact:

- packed: several pieces in one row, with explicit positions and a mask that lets every
  token see its own beginning only. The kept keys and values are then copied for a few
  rows instead of for every text. For families whose attention takes such a mask.
- forked: a row for each piece, padded on the right, after a fork of the cache. For every
  family with a key-value cache, also with sliding windows.

The cache is forked by copying its layer objects and expanding keys and values as views;
rebuilding one by `update` is silently wrong where a window slides.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrans.models.calls import cache_made, takes, with_cache
from contrans.models.lm import LM
from contrans.models.packing import packed_inputs
from contrans.models.padding import pad
from contrans.models.partial_forward import narrow
from contrans.models.patching import hooked
from contrans.models.prefix_tree import Packed

_CACHES = frozenset(("DynamicLayer", "DynamicSlidingWindowLayer"))


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that run together after one known beginning."""

    ids: Tensor
    rows: Tensor
    """Row and column of each position whose logits are wanted."""
    columns: Tensor
    inputs: dict[str, Tensor]
    """Mask and positions, where the model cannot find them by itself."""

    def repeated(self, times: int) -> "Batch":
        """The batch several times over, wanted positions included."""
        if times == 1:
            return self
        size = len(self.ids)
        return Batch(
            self.ids.repeat(times, 1),
            torch.cat([self.rows + i * size for i in range(times)]),
            self.columns.repeat(times),
            {
                name: value.repeat(times, *[1] * (value.dim() - 1))
                for name, value in self.inputs.items()
            },
        )


def refuse_overflow(lm: LM, logits: Tensor) -> None:
    """Logits that are no numbers.

    Raises:
        ValueError: for NaN or positive infinity.
    """
    if not bool(logits.amax() < float("inf")):  # the maximum of anything and NaN is NaN
        raise ValueError(
            f"NaN or infinite logits in {lm.name!r}; an edit may be too strong, or float16 "
            "overflowed: lower the strength, or load the model in bfloat16 or float32"
        )


@contextmanager
def _only(lm: LM, batch: Batch) -> Iterator[list[bool]]:
    """Let no other positions meet the language-model head than those wanted."""
    head = lm.model.get_output_embeddings()
    met: list[bool] = []

    def gather(_module: Any, args: tuple[Any, ...], options: dict) -> Any:
        met.append(True)
        hidden = args[0]
        where = batch.rows.to(hidden.device), batch.columns.to(hidden.device)
        return (hidden[where][None], *args[1:]), options

    if head is None:
        yield met
        return
    with hooked(head, before=gather):
        yield met


@torch.no_grad()
def run(
    lm: LM, batch: Batch, cache: Any = None, *, keep: bool = False
) -> tuple[Tensor, Any]:
    """Logits at the wanted positions of a batch, and the cache grown by it.

    For models under edits that look at one token at a time.

    Args:
        lm: the model, with whatever control is active.
        batch: what to run.
        cache: the known beginning, already forked: it is changed.
        keep: whether the grown cache is wanted.
    """
    here = batch.rows, batch.columns
    with narrow(lm, lm.layers - 1, *here, batch.ids.numel()), _only(lm, batch) as met:
        out = lm.model(
            input_ids=batch.ids.to(lm.device),
            use_cache=keep or cache is not None,
            **with_cache(lm.model, cache),
            **{name: value.to(lm.device) for name, value in batch.inputs.items()},
        )
    logits = out.logits[0] if met else out.logits[here]
    refuse_overflow(lm, logits)
    return logits, cache_made(out) if keep else None


def fork(cache: Any, copies: int) -> Any:
    """A cache for `copies` rows that begin alike; the original stays as it is."""
    if cache is None:
        return None
    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in new.layers:
        if getattr(layer, "keys", None) is not None and layer.keys.numel():
            layer.keys = layer.keys.expand(copies, -1, -1, -1)
            layer.values = layer.values.expand(copies, -1, -1, -1)
    return new


def joined(lower: Any, uppers: Sequence[Any], split: int, copies: int) -> Any:
    """Forks of several caches in one batch, which agree below layer `split`.

    Args:
        lower: a cache whose layers below `split` all of them share.
        uppers: one cache for each.
        split: first layer in which they differ.
        copies: rows of each.
    """
    if lower is None:
        return None
    new = fork(lower, copies * len(uppers))
    for index in range(split, len(new.layers)):
        parts = [upper.layers[index] for upper in uppers]
        if len(parts) == 1:
            new.layers[index] = fork(uppers[0], copies).layers[index]
            continue
        layer = copy.copy(parts[0])
        for name in ("keys", "values"):
            rows = [getattr(part, name).expand(copies, -1, -1, -1) for part in parts]
            setattr(layer, name, torch.cat(rows))
        new.layers[index] = layer
    return new


def grafted(lower: Any, upper: Any, split: int) -> Any:
    """The layers of one cache below `split`, and of another from there on.

    Args:
        lower: the cache for the blocks below.
        upper: the cache for the others.
        split: the first block of the upper one.
    """
    new = copy.copy(upper)
    new.layers = [*lower.layers[:split], *upper.layers[split:]]
    return new


@torch.no_grad()
def splits(lm: LM) -> bool:
    """Whether the model's cache is one whose forks are known to be exact.

    Recurrent and hybrid models keep states of another kind; one token tells.
    """
    ids = torch.zeros(1, 1, dtype=torch.long, device=lm.device)
    out = lm.body(input_ids=ids, use_cache=True)
    layers = getattr(cache_made(out), "layers", None)
    return bool(layers) and all(type(layer).__name__ in _CACHES for layer in layers)


def packed_batch(
    lm: LM, rows: Sequence[Sequence[Packed]], known: int, wanted: Sequence[np.ndarray]
) -> Batch:
    """Rows of packed pieces, with the mask that keeps them apart.

    Args:
        lm: the model.
        rows: the pieces of each row.
        known: tokens in the cache before all of them.
        wanted: columns of each row whose logits are wanted.
    """
    ids, inputs = packed_inputs(lm, rows, known)
    return Batch(ids, *_positions(wanted), inputs)


def forked_batch(
    lm: LM, rows: Sequence[Sequence[int]], wanted: Sequence[np.ndarray]
) -> Batch:
    """A row for each piece, padded on the right; nothing looks at what is behind it.

    Args:
        lm: the model, as `load_model` returns it.
        rows: token ids, [rows][tokens].
        wanted: columns that are wanted, for each row.
    """
    ids, _ = pad(rows, lm.pad_id, side="right")
    return Batch(ids, *_positions(wanted), {})


@torch.no_grad()
def padded_logits(
    lm: LM, rows: Sequence[Sequence[int]], wanted: Sequence[range]
) -> tuple[Tensor, int]:
    """Logits of padded rows from the first wanted column on, and which column that is.

    Nothing but the model's own forward runs, so any hook sees what it always sees.

    Args:
        lm: the model, as `load_model` returns it.
        rows: token ids, [rows][tokens].
        wanted: columns that are wanted, for each row.
    """
    ids, mask = pad(rows, lm.pad_id, side="right")
    first = min((c.start for c in wanted if len(c)), default=0)
    columns = torch.arange(first, max(ids.shape[1], first + 1))
    options = {}
    if "logits_to_keep" in takes(lm.model):
        options["logits_to_keep"] = columns.to(lm.device)
    logits = lm.model(
        input_ids=ids.to(lm.device),
        attention_mask=mask.to(lm.device),
        use_cache=False,
        **options,
    ).logits
    if logits.shape[1] != len(columns):
        logits = logits[:, columns.to(logits.device)]
    refuse_overflow(lm, logits)
    return logits, first


def _positions(wanted: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    rows = [np.full(len(columns), i) for i, columns in enumerate(wanted)]
    joined_rows, columns = np.concatenate(rows), np.concatenate(wanted)
    if not len(columns):  # the head must run on something
        joined_rows, columns = np.zeros(1, np.int64), np.zeros(1, np.int64)
    return torch.from_numpy(joined_rows).long(), torch.from_numpy(columns).long()
