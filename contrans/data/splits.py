"""Three disjoint splits: those that a file names, or shares drawn by a seed."""

import random
from collections.abc import Sequence
from pathlib import Path

from contrans.data.catalogue import SPLITS
from contrans.data.readers import Row

SHARES = (0.6, 0.2, 0.2)
"""Refine, validate and test shares of a file without splits."""
FEWEST_PAIRS = 5
"""Pairs below which three splits make no sense."""


def by_split(path: Path, rows: Sequence[Row], seed: int) -> dict[str, Sequence[Row]]:
    """Rows by their own splits, or 60/20/20 at random when the file names none.

    Args:
        path: the file, for messages.
        rows: its pairs.
        seed: by which rows without a split are dealt out.

    Raises:
        ValueError: when some rows have a split and others none, when a split is empty,
            or when there are too few rows to split.
    """
    bare = next((row for row in rows if row.split is None), None)
    named = next((row for row in rows if row.split is not None), None)
    if bare is not None and named is not None:
        raise ValueError(
            f"{path}, {bare.where}: no split, but {named.where} has {named.split!r}; "
            "give every pair a split, or none"
        )
    if named is not None:
        parts = {s: [row for row in rows if row.split == s] for s in SPLITS}
        empty = [split for split, part in parts.items() if not part]
        if empty:
            raise ValueError(
                f"{path}: no pairs with split {' or '.join(map(repr, empty))}; every "
                f"one of {', '.join(SPLITS)} needs some, or leave the field out to have "
                "the pairs split for you"
            )
        return {split: part for split, part in parts.items()}
    if len(rows) < FEWEST_PAIRS:
        raise ValueError(
            f"{path}: {len(rows)} pairs are too few to make a vector and to test it on "
            f"other texts; give at least {FEWEST_PAIRS} (20 or more are sensible)"
        )
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    held = max(round(SHARES[1] * len(rows)), 1)
    cut = len(rows) - 2 * held
    spans = (slice(0, cut), slice(cut, cut + held), slice(cut + held, None))
    return {
        split: [rows[i] for i in sorted(order[span])]
        for split, span in zip(SPLITS, spans, strict=True)
    }
