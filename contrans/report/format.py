"""Numbers and texts of a report: one place decides how each is written."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "\u2013"
"""An en dash, for everything that was not measured."""
HARMFUL = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, marks that turn the direction of text, and lone surrogates."""


def number(value: object) -> float | None:
    """A finite number, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def fixed(value: object, digits: int = 3, *, sign: bool = False) -> str:
    """A number with fixed decimals; very small and very large ones in powers of ten.

    Example:
        >>> fixed(0.51234), fixed(0.25, sign=True), fixed(0.00001), fixed(123456.7)
        ('0.512', '+0.250', '1.0e-05', '1.23e+05')
    """
    x = number(value)
    if x is None:
        return MISSING
    plus = "+" if sign else ""
    if x and abs(x) < 0.5 * 10**-digits:
        return f"{x:{plus}.1e}"
    if abs(x) >= 1e5:
        return f"{x:{plus}.2e}"
    return f"{x:{plus}.{digits}f}"


def interval(entry: object, *, digits: int = 3, sign: bool = False) -> str:
    """A value and its 95% interval from a dict with value, low and high.

    Example:
        >>> interval({"value": 0.5, "low": 0.4, "high": 0.6})
        '0.500 [0.400, 0.600]'
    """
    if number(pick(entry, "value")) is None:
        return MISSING
    value, low, high = (
        fixed(pick(entry, key), digits, sign=sign) for key in ("value", "low", "high")
    )
    return value if low == high == MISSING else f"{value} [{low}, {high}]"


def times(value: object) -> str:
    """A ratio, such as 1.07 times written with a multiplication sign."""
    return MISSING if number(value) is None else f"{fixed(value, 2)}\u00d7"


def plus_minus(value: object, stderr: object) -> str:
    """A perplexity with its standard error."""
    if number(value) is None or number(stderr) is None:
        return fixed(value, 2)
    return f"{fixed(value, 2)} \u00b1 {fixed(stderr, 2)}"


def whole(value: object) -> str:
    """A count with thousands separated."""
    x = number(value)
    return MISSING if x is None else f"{round(x):,}"


def count(value: object) -> str:
    """A whole number, or whatever else stands there as text."""
    return whole(value) if number(value) is not None else one_line(value)


def clean(text: object) -> str:
    """Text that every file and browser can hold; None and empty become a dash.

    Lone surrogates, control characters and characters that turn the direction of the
    text round are shown as the replacement character, so that no generation can break
    the file or hide what stands beside it.
    """
    if text is None or (isinstance(text, float) and not math.isfinite(text)):
        return MISSING
    shown = str(text).replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n")
    shown = re.sub("[\u2028\u2029\v\f]", "\n", shown)
    shown = HARMFUL.sub("\ufffd", shown)
    return shown if shown.strip() else MISSING


def one_line(text: object, limit: int = 1000) -> str:
    """Cleaned text on a single line, cut at `limit` characters."""
    shown = " ".join(clean(text).split()) or MISSING
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def excerpt(text: object, limit: int = 2000) -> str:
    """Cleaned text with its lines, cut at `limit` characters, and saying so."""
    shown = clean(text)
    if len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(shown) - limit:,} more characters in results.json)"


def pick(tree: object, *path: str) -> Any:
    """The value at a path of keys, or None when anything on the way is missing.

    Example:
        >>> pick({"a": {"b": 1}}, "a", "b"), pick({"a": None}, "a", "b")
        (1, None)
    """
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def entries(tree: object, *path: str) -> list[Any]:
    """The list at a path of keys; empty when there is none."""
    found = pick(tree, *path)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [item for item in found if item is not None]


def is_in_sample(results: Mapping[str, Any]) -> bool:
    """Whether the run used the published protocol, which tests on what it refined on."""
    return pick(results, "task", "protocol") == "paper"
