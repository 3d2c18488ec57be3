"""Rows of tokens as a tree of shared prefixes, cut into pieces that run together.

Sorted rows that share a beginning stand together, so the tree is a list of rows and the
number of tokens that each shares with the one before it. Nothing here knows a model.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

SAVING = 64
"""Tokens that running a shared piece on its own must save; it costs a forward."""


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two rows both begin with.

    Example:
        >>> shared([1, 2, 3], [1, 2, 4, 5])
        2
    """
    low, high = 0, min(len(left), len(right))
    while low < high:  # comparing slices is fast
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class Span:
    """Rows `low` to `high` (excluded) of a tree, whose first `depth` tokens are known."""

    low: int
    high: int
    depth: int


class PrefixTree:
    """Rows of tokens in sorted order; `order[i]` is where row `i` was.

    Example:
        >>> tree = PrefixTree([[1, 2, 3], [1, 2, 4], [7]])
        >>> tree.tokens, tree.unique
        (7, 5)
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]))
        self.rows = [list(rows[i]) for i in self.order]
        self.common = [0] * len(rows)
        """Tokens that a row shares with the one before it."""
        for i in range(1, len(rows)):
            self.common[i] = shared(self.rows[i - 1], self.rows[i])
        self._fresh = [0, *accumulate(map(self._new, range(len(rows))))]

    def _new(self, i: int) -> int:
        return len(self.rows[i]) - self.common[i]

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(map(len, self.rows))

    @property
    def unique(self) -> int:
        """Tokens that differ in themselves or in what stands before them."""
        return self._fresh[-1]

    def size(self, span: Span) -> int:
        """Unique tokens of a span below its depth."""
        first = len(self.rows[span.low]) - span.depth
        return max(first, 0) + self._fresh[span.high] - self._fresh[span.low + 1]

    def _branches(self, span: Span) -> list[int]:
        """Rows of a span that leave the row before them before its end."""
        rows, common = self.rows, self.common
        inner = range(span.low + 1, span.high)
        return [i for i in inner if common[i] < len(rows[i - 1])]

    def is_chain(self, span: Span) -> bool:
        """Whether every row of a span is a beginning of the last one."""
        return not self._branches(span)

    def split(self, span: Span) -> tuple[int, list[Span]]:
        """How far the rows of a span agree, and the spans in which they go on.

        Rows that end before are part of what is shared. The parts keep the depth of
        the span where running the shared piece on its own would save too little.
        """
        branches = self._branches(span)
        if not branches:
            return len(self.rows[span.high - 1]), []
        until = min(self.common[i] for i in branches)
        cuts = [i for i in branches if self.common[i] == until]
        if len(cuts) * (until - span.depth) < SAVING:
            until = span.depth
        edges = [span.low, *cuts, span.high]
        parts = [Span(a, b, until) for a, b in pairwise(edges)]
        return until, parts

    def spans(self, capacity: int) -> list[Span]:
        """All rows in spans of at most `capacity` unique tokens, or of one row.

        Example:
            >>> tree = PrefixTree([[1, 2, 3], [1, 2, 4], [7]])
            >>> [(span.low, span.high) for span in tree.spans(4)]
            [(0, 2), (2, 3)]
        """
        found, low = [], 0
        for high in range(1, len(self.rows) + 1):
            last = high == len(self.rows)
            if last or self.size(Span(low, high + 1, 0)) > capacity:
                found.append(Span(low, high, 0))
                low = high
        return found

    def pack(self, span: Span) -> "Packed":
        """The tokens of a span below its depth, each once, in one row."""
        ids: list[int] = []
        depth: list[int] = []
        paths: list[np.ndarray] = []
        path = np.zeros(0, dtype=np.int64)
        for i in range(span.low, span.high):
            keep = 0 if i == span.low else max(self.common[i] - span.depth, 0)
            new = self.rows[i][span.depth + keep :]
            fresh = np.arange(len(ids), len(ids) + len(new))
            path = np.concatenate([path[:keep], fresh])
            paths.append(path)
            depth += range(span.depth + keep, span.depth + keep + len(new))
            ids += new
        return Packed(span, ids, depth, paths)


@dataclass(frozen=True, slots=True)
class Packed:
    """A piece of a tree as one row of tokens."""

    span: Span
    ids: list[int]
    depth: list[int]
    """How many tokens stand before each."""
    paths: list[np.ndarray]
    """For each row of the span, where its tokens below the depth of the span are."""

    def seen(self) -> np.ndarray:
        """Which tokens (columns) each token (row) may look at: itself and before."""
        mask = np.eye(len(self.ids), dtype=bool)
        known = 0
        for path in self.paths:
            fresh = path[path >= known]
            old = path[: len(path) - len(fresh)]
            mask[np.ix_(fresh, old)] = True
            mask[np.ix_(fresh, fresh)] = np.tri(len(fresh), dtype=bool)
            known = max(known, int(fresh[-1]) + 1 if len(fresh) else 0)
        return mask


def bins(parts: Sequence[Packed], capacity: int) -> list[list[Packed]]:
    """Pieces in rows of at most `capacity` tokens, or of one piece that is longer.

    Longest first, each into the fullest row that still holds it (best fit decreasing).
    """
    rows: list[list[Packed]] = []
    spare: list[tuple[int, int]] = []  # tokens left in a row, and which: in order
    for part in sorted(parts, key=lambda part: -len(part.ids)):
        size = len(part.ids)
        at = bisect_left(spare, (size, 0))
        left, row = spare.pop(at) if at < len(spare) else (capacity, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(part)
        insort(spare, (left - size, row))
    return rows
