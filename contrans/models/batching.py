"""Texts as forwards of a model's body: which run together, and where each one's tokens are.

Two ways to the same states, whichever is the less work: a row for each text, padded on
the right; or texts that begin alike packed in one row, where what they share (a template,
a system prompt) runs once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from contrans.models.lm import LM
from contrans.models.packing import packable, packed_inputs, readable
from contrans.models.padding import pad, token_batches
from contrans.models.prefix_tree import PrefixTree, Span

CAPACITIES = (64, 128, 256, 512, 1024)
"""Tokens in a packed row: longer ones share more, and attend to more in vain."""
ATTENTION = 6.0
"""Tokens, as a multiple of the model's width, whose attention costs a block as much time
as its products with weights do."""
WORTH = 0.95
"""Rows are packed where that takes at most this share of the work of padded ones."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward, and where the tokens of its texts are."""

    texts: list[int]
    inputs: dict[str, Tensor]
    rows: list[int]
    """For each text, its row."""
    columns: list[np.ndarray]
    """For each text, the columns of that row that hold its tokens, in their order."""
    shared: bool = False
    """Whether texts stand in the same row."""


def padded_pass(lm: LM, rows: Sequence[Sequence[int]], texts: list[int]) -> Pass:
    """A row for each of some texts, padded on the right and masked.

    Args:
        lm: the model, as `load_model` returns it.
        rows: all token ids, [texts][tokens].
        texts: which of them.
    """
    ids, mask = pad([rows[i] for i in texts], lm.pad_id, side="right")
    columns = [np.arange(len(rows[i])) for i in texts]
    inputs = {"input_ids": ids, "attention_mask": mask}
    return Pass(texts, inputs, list(range(len(texts))), columns)


def passes(
    lm: LM, rows: Sequence[Sequence[int]], budget: int, *, share: bool = True
) -> Iterator[Pass]:
    """Forwards that hold every text once, in no particular order.

    Args:
        lm: the model, under edits or not.
        rows: token ids of the texts.
        budget: padded tokens in a forward.
        share: let texts stand in one row where the family allows it and it is less
            work. Not under hooks that look at more than one token
            (`contrans.models.hooks.reads_in_pieces`).
    """
    capacities = [c for c in CAPACITIES if c <= min(budget, lm.context)]
    fitting = {n for n in set(map(len, rows)) if share and _packs(lm, n, capacities)}
    alike = [i for i, row in enumerate(rows) if len(row) in fitting]
    tree = PrefixTree([rows[i] for i in alike])
    spans = _spans(lm, tree, capacities, budget)
    for each in _packed(lm, tree, spans, budget):
        yield replace(each, texts=[alike[i] for i in each.texts])
    done = set(alike if spans else ())
    left = [i for i in range(len(rows)) if i not in done]
    for batch in token_batches([rows[i] for i in left], budget):
        yield padded_pass(lm, rows, [left[i] for i in batch])


def _packs(lm: LM, length: int, capacities: Sequence[int]) -> bool:
    """Whether texts of so many tokens may stand in rows of one of some capacities."""
    fits = bool(capacities) and length <= capacities[-1]
    return fits and packable(lm, length) and readable(lm, length)


def _spans(
    lm: LM, tree: PrefixTree, capacities: Sequence[int], budget: int
) -> list[Span]:
    """Packed rows with the least work; none where padded ones are as good."""
    lengths = list(map(len, tree.rows))
    if len(lengths) < 2:
        return []
    best, least = [], WORTH * _work(lm, lengths, budget)
    for capacity in capacities:
        spans = tree.spans(capacity)
        work = _work(lm, [tree.size(span) for span in spans], budget)
        if capacity >= max(lengths) and work <= least:
            best, least = spans, work
    return best


def _work(lm: LM, lengths: Sequence[int], budget: int) -> float:
    """Time of rows of some lengths, in tokens of a model without attention."""
    work = 0.0
    for batch in token_batches([range(n) for n in lengths], budget):
        width = max(lengths[i] for i in batch)
        work += len(batch) * width * (1 + width / (ATTENTION * lm.hidden))
    return work


def _packed(
    lm: LM, tree: PrefixTree, spans: Sequence[Span], budget: int
) -> Iterator[Pass]:
    for chosen in token_batches([range(tree.size(s)) for s in spans], budget):
        some = [tree.pack(spans[i]) for i in chosen]
        ids, inputs = packed_inputs(lm, [[pack] for pack in some])
        yield Pass(
            [tree.order[i] for p in some for i in range(p.span.low, p.span.high)],
            {"input_ids": ids, **inputs},
            [row for row, pack in enumerate(some) for _ in pack.paths],
            [path for pack in some for path in pack.paths],
            shared=True,
        )
