"""Logits at chosen positions of many rows, under one control or under several.

Three ways, the first that applies: rows as a tree of shared prefixes, read in pieces;
rows in padded batches; and, where hooks are active that contrans does not know, padded
batches that leave the forward of the model entirely alone.

Several controls that only edit the stream share what lies below their lowest edited
block: it runs once, and the blocks above it once for every control (`partial_forward`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrans.models.edits import Control, NoControl, residual_edits
from contrans.models.hooks import Edit, edit_residual, reads_in_pieces
from contrans.models.kv_cache import (
    Batch,
    fork,
    forked_batch,
    grafted,
    joined,
    packed_batch,
    padded_logits,
    run,
    splits,
)
from contrans.models.lm import LM
from contrans.models.packing import packable, readable
from contrans.models.padding import pad, token_batches
from contrans.models.partial_forward import Stream
from contrans.models.prefix_tree import Packed, PrefixTree, Span, bins

WORTH = 0.6
"""A tree is used where it holds at most this share of the tokens of its rows."""
PACK = {"cpu": 256}
"""Tokens in a packed row: fewer copies of the cache against less wasted attention."""
PACK_ELSEWHERE = 512
FORKS = {"cpu": 16}
"""Rows after one fork: every layer copies the known beginning for each of them."""
FORKS_ELSEWHERE = 64
CACHES = 2 << 30
"""Bytes that the kept keys and values of several controls may take together."""
GROUPED_ON_CPU = False
"""Run a small batch for several controls at once. On a CPU one at a time is as fast, and
then its products have the very shapes of a run under one control: bit-equal."""
BASE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Logits of one batch under one control, and which positions of which rows they are.

    Position `column[i]` of row `row[i]` has the logits `logits[slot[i]]`.
    """

    control: int
    logits: Tensor
    slot: Tensor
    row: Tensor
    column: Tensor


@dataclass
class Reading:
    """One pass over rows; iterate over `found()`."""

    lm: LM
    rows: Sequence[Sequence[int]]
    wanted: Sequence[range]
    """For each row, the columns whose logits are wanted."""
    budget: int
    """Padded tokens per batch."""
    controls: Sequence[Control] = (NoControl(),)
    share: bool = True
    """Whether prefixes that rows share may run once."""
    groups: dict[int, list[int]] = field(default_factory=dict)
    """Controls by their lowest edited block."""
    plain: list[int] = field(default_factory=list)
    """Controls that change nothing."""
    edits: list[Mapping[int, Edit]] = field(default_factory=list)
    """What each control does to the stream after each block."""

    def found(self) -> Iterator[Found]:
        """The logits, batch by batch and control by control."""
        if not reads_in_pieces(self.lm) or not self._group():
            yield from self._apart()
            return
        self.rows = [
            row[: columns.stop]
            for row, columns in zip(self.rows, self.wanted, strict=True)
        ]
        longest = max(map(len, self.rows))
        shares = self.share and readable(self.lm, longest)
        tree = PrefixTree(self.rows) if shares else None
        worth = tree is not None and tree.unique <= WORTH * tree.tokens
        if tree is not None and worth and splits(self.lm):
            yield from self._tree(tree, packable(self.lm, longest))
        else:
            yield from self._flat()

    def _group(self) -> bool:
        """Whether all controls are edits of the stream; if so, by their lowest block."""
        for index, control in enumerate(self.controls):
            edits = residual_edits(control, self.lm)
            if edits is None:
                return False
            self.edits.append(edits)
            if edits:
                self.groups.setdefault(min(edits), []).append(index)
            else:
                self.plain.append(index)
        return True

    def _uses(self, rows: Sequence[int], offset: int) -> tuple[Tensor, ...]:
        """Positions of rows of a padded batch, in the order they are gathered."""
        pairs = [(i, c) for i in rows for c in self.wanted[i]]
        row, column = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)
        return torch.arange(len(pairs)) + offset, row, column

    def _apart(self) -> Iterator[Found]:
        """Every control by itself, in padded batches, through the model's own forward."""
        for index, control in enumerate(self.controls):
            with control.on(self.lm) as lm:
                for batch in token_batches(self.rows, self.budget):
                    logits, first = padded_logits(
                        lm,
                        [self.rows[i] for i in batch],
                        [self.wanted[i] for i in batch],
                    )
                    _, row, column = self._uses(batch, 0)
                    place = {i: n for n, i in enumerate(batch)}
                    at = torch.tensor([place[int(i)] for i in row], dtype=torch.long)
                    slot = at * logits.shape[1] + column - first
                    yield Found(index, logits.flatten(0, 1), slot, row, column)

    def _flat(self) -> Iterator[Found]:
        for chosen in token_batches(self.rows, self.budget):
            ids, mask = pad(
                [self.rows[i] for i in chosen], self.lm.pad_id, side="right"
            )
            place = {i: n for n, i in enumerate(chosen)}
            slot, row, column = self._uses(chosen, 0)
            rows = torch.tensor([place[int(i)] for i in row], dtype=torch.long)
            batch = Batch(ids, rows, column, {"attention_mask": mask})
            for control, logits, _ in self._under(batch, {}, keep=False):
                yield Found(control, logits, slot, row, column)

    def _under(
        self, batch: Batch, caches: dict[int, Any], *, keep: bool
    ) -> Iterator[tuple[int, Tensor, Any]]:
        """One batch under every control: (control, logits, grown cache if kept).

        The cache of `BASE` comes first, without logits of its own.
        """
        lm, size = self.lm, len(batch.ids)
        stream, cache = Stream(), caches.get(BASE)
        stop = bool(self.groups) and not self.plain and not keep
        logits = grown = None
        with stream.recording(lm, self.groups, stop=stop):
            logits, grown = run(lm, batch, fork(cache, size), keep=keep)
        for control in self.plain:
            yield control, logits, grown
        if keep:
            yield BASE, logits[:0], grown
        together = 1
        if (lm.device.type != "cpu" or GROUPED_ON_CPU) and not keep:
            together = max(self.budget // batch.ids.numel(), 1)
        for layer, members in self.groups.items():
            for start in range(0, len(members), together):
                some = members[start : start + together]
                copies = len(some)
                hidden = stream.at[layer].repeat(copies, 1, 1)
                own = joined(cache, [caches.get(c) for c in some], layer + 1, size)
                with ExitStack() as stack:
                    stack.enter_context(stream.resumed(lm, layer, hidden))
                    self._steer(stack, some, size)
                    logits, mine = run(lm, batch.repeated(copies), own, keep=keep)
                for control, part in zip(some, logits.chunk(copies), strict=True):
                    kept = grafted(grown, mine, layer + 1) if keep else None
                    yield control, part, kept

    def _steer(self, stack: ExitStack, some: Sequence[int], size: int) -> None:
        """Apply controls to their own rows of a batch."""
        for place, index in enumerate(some):
            edits = self.edits[index]
            if len(some) > 1:
                here = slice(place * size, (place + 1) * size)
                edits = {layer: _on_rows(edit, here) for layer, edit in edits.items()}
            stack.enter_context(edit_residual(self.lm, edits, by_token=True))

    def _tree(self, tree: PrefixTree, packed: bool) -> Iterator[Found]:
        """The tree, depth first; few controls at a time where their caches are large."""
        longest = max(map(len, tree.rows))
        per = 2 * longest * self.lm.hidden * self.lm.layers * self.lm.dtype.itemsize
        most = max(CACHES // per, 1)
        groups, plain = self.groups, self.plain
        flat = [(layer, c) for layer, cs in groups.items() for c in cs]
        for start in range(0, max(len(flat), 1), most):
            self.groups, self.plain = {}, plain if start == 0 else []
            for layer, control in flat[start : start + most]:
                self.groups.setdefault(layer, []).append(control)
            yield from self._walk(tree, packed)
        self.groups, self.plain = groups, plain

    def _walk(self, tree: PrefixTree, packed: bool) -> Iterator[Found]:
        cpu = self.lm.device.type
        capacity = PACK.get(cpu, PACK_ELSEWHERE) if packed else 0
        capacity = min(capacity, self.lm.context)  # some masks are no wider
        stack: list[tuple[Span, dict[int, Any]]] = [(Span(0, len(tree.rows), 0), {})]
        while stack:
            span, caches = stack.pop()
            until, parts = span.depth, [span]
            if tree.size(span) > capacity and not tree.is_chain(span):
                until, parts = tree.split(span)
            if until > span.depth:  # what they share is long enough to run by itself
                caches = yield from self._grow(tree, span, until, caches)
            ready, open_ = [], []
            while parts:
                part = parts.pop()
                if tree.size(part) <= capacity or tree.is_chain(part):
                    ready.append(part)
                    continue
                further, inner = tree.split(part)
                if further > until:
                    open_.append(part)
                else:
                    parts += inner
            leaves = [leaf for leaf in map(tree.pack, ready) if leaf.ids]
            yield from self._leaves(tree, leaves, until, caches, capacity)
            stack += [(part, caches) for part in open_]

    def _grow(
        self, tree: PrefixTree, span: Span, until: int, caches: dict[int, Any]
    ) -> Iterator[Found]:
        """Run what the rows of a span share; the caches that hold it, for each control."""
        depth = span.depth
        ids = tree.rows[span.high - 1][depth:until]
        row = torch.tensor([ids])
        inside = [
            (i, c)
            for i in range(span.low, span.high)
            for c in self._columns(tree, i, depth, until)
        ]
        slots = sorted({c - depth for _, c in inside}) or [0]
        batch = Batch(row, torch.zeros(len(slots)).long(), torch.tensor(slots), {})
        grown = {}
        for control, logits, cache in self._under(batch, caches, keep=True):
            grown[control] = cache
            if control != BASE and inside:
                slot = [slots.index(c - depth) for _, c in inside]
                yield self._hit(tree, control, logits, slot, inside)
        return grown

    def _columns(self, tree: PrefixTree, i: int, low: int, high: int) -> range:
        wanted = self.wanted[tree.order[i]]
        return range(max(wanted.start, low), min(wanted.stop, high))

    def _hit(
        self,
        tree: PrefixTree,
        control: int,
        logits: Tensor,
        slot: Sequence[int],
        positions: Sequence[tuple[int, int]],
    ) -> Found:
        row = torch.tensor([tree.order[i] for i, _ in positions])
        column = torch.tensor([c for _, c in positions])
        return Found(control, logits, torch.tensor(slot), row, column)

    def _leaves(
        self,
        tree: PrefixTree,
        leaves: list[Packed],
        depth: int,
        caches: dict[int, Any],
        capacity: int,
    ) -> Iterator[Found]:
        """Pieces that need no further splitting, in packed or forked rows."""
        kind = self.lm.device.type
        if capacity:
            rows = bins(leaves, capacity)
            limit = len(rows)
        else:
            rows = [[leaf] for leaf in sorted(leaves, key=lambda p: len(p.ids))]
            limit = FORKS.get(kind, FORKS_ELSEWHERE)
        lengths = [[0] * sum(len(p.ids) for p in row) for row in rows]
        for chosen in token_batches(lengths, self.budget):
            for start in range(0, len(chosen), limit):
                some = [rows[i] for i in chosen[start : start + limit]]
                yield from self._leaf(tree, some, depth, caches, bool(capacity))

    def _leaf(
        self,
        tree: PrefixTree,
        rows: list[list[Packed]],
        depth: int,
        caches: dict[int, Any],
        packed: bool,
    ) -> Iterator[Found]:
        wanted, slots, positions = [], [], []
        total = 0
        for row in rows:
            start, columns = 0, {}
            for part in row:
                for i, path in enumerate(part.paths, part.span.low):
                    for c in self._columns(tree, i, depth, depth + len(path)):
                        place = start + int(path[c - depth])
                        slots.append(columns.setdefault(place, total + len(columns)))
                        positions.append((i, c))
                start += len(part.ids)
            wanted.append(np.array(list(columns), dtype=np.int64))
            total += len(columns)
        if not positions:
            return
        if packed:
            batch = packed_batch(self.lm, rows, depth, wanted)
        else:
            batch = forked_batch(self.lm, [row[0].ids for row in rows], wanted)
        for control, logits, _ in self._under(batch, caches, keep=False):
            yield self._hit(tree, control, logits, slots, positions)


def _on_rows(edit: Edit, rows: slice) -> Edit:
    """An edit of some rows of a batch only."""

    def change(hidden: Tensor) -> Tensor:
        out = hidden.clone()
        out[rows] = edit(hidden[rows])
        return out

    return change
