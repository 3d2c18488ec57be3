"""Numbers and texts as people read them: one place decides how each is written."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

MISSING = "\u2013"
"""An en dash, for everything that was not measured."""
DUST = 1e-9
"""Below any effect and above what rounding leaves of nothing: written as zero."""
SURE = 0.001
"""Smallest p-value that is written out; no test is so exact that smaller ones mean more."""
HARMFUL = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, marks that turn the direction of text, and lone surrogates."""
BREAKS = re.compile("\r\n|[\r\x85\u2028\u2029\v\f]")


def number(value: object) -> float | None:
    """A finite number, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def fixed(value: object, digits: int = 3, *, sign: bool = False) -> str:
    """A number with fixed decimals; very small and very large ones in powers of ten.

    What rounding errors leave of zero is zero, and zero is never negative.

    Args:
        value: a number; anything else is a dash.
        digits: after the point.
        sign: write + too.

    Example:
        >>> fixed(0.51234), fixed(0.25, sign=True), fixed(0.00001), fixed(123456.7)
        ('0.512', '+0.250', '1.0e-05', '1.23e+05')
        >>> fixed(-7.9e-18), fixed(-7.9e-18, sign=True), fixed(-0.0, 1)
        ('0.000', '+0.000', '0.0')
    """
    x = number(value)
    if x is None:
        return MISSING
    x = 0.0 if abs(x) < DUST else x
    plus = "+" if sign else ""
    if x and abs(x) < 0.5 * 10**-digits:
        return f"{x:{plus}.1e}"
    return f"{x:{plus}.2e}" if abs(x) >= 1e5 else f"{x:{plus}z.{digits}f}"


def span(low: object, high: object, digits: int = 3, *, sign: bool = False) -> str:
    """An interval in brackets; its ends keep the decimals of the value beside it.

    Args:
        low: the lower end; anything but a number is a dash.
        high: the upper end.
        digits: after the point.
        sign: write + too.
    """
    return f"[{fixed(low, digits, sign=sign)}, {fixed(high, digits, sign=sign)}]"


def interval(entry: object, digits: int = 3, *, sign: bool = False) -> str:
    """A value and its interval, from anything with value, low and high.

    Args:
        entry: a dict with value, low and high.
        digits: after the point.
        sign: write + too.

    Example:
        >>> interval({"value": 0.5, "low": 0.4, "high": 0.6})
        '0.500 [0.400, 0.600]'
    """
    value, low, high = (number(pick(entry, key)) for key in ("value", "low", "high"))
    if value is None:
        return MISSING
    shown = fixed(value, digits, sign=sign)
    if low is None and high is None:
        return shown
    return f"{shown} {span(low, high, digits, sign=sign)}"


def p_value(p: object) -> str:
    """A p-value to three decimals, and no smaller than can be known.

    Example:
        >>> p_value(0.04321), p_value(3e-7), p_value(0.0), p_value(1.0)
        ('0.043', '< 0.001', '< 0.001', '1.000')
    """
    x = number(p)
    if x is None:
        return MISSING
    return f"< {SURE}" if x < SURE else f"{x:.3f}"


def equals_p(p: object) -> str:
    """A p-value within a sentence.

    Example:
        >>> equals_p(0.04321), equals_p(0.0)
        ('p = 0.043', 'p < 0.001')
    """
    shown = p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def times(value: object) -> str:
    """A ratio, such as 1.07 times written with a multiplication sign."""
    return MISSING if number(value) is None else f"{fixed(value, 2)}\u00d7"


def share(value: object) -> str:
    """A share in per cent, without decimals."""
    x = number(value)
    return MISSING if x is None else f"{x:z.0%}"


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


def plain(text: object) -> str:
    """Text that every file, browser and terminal can hold.

    Lone surrogates, control characters (escape sequences start with one) and characters
    that turn the direction of the text round are shown as the replacement character, so
    that no generation can break the file, drive the terminal or hide what stands beside
    it.
    """
    return HARMFUL.sub("\ufffd", BREAKS.sub("\n", str(text)))


def clean(text: object) -> str:
    """Plain text; None, NaN and empty become a dash."""
    if text is None or (isinstance(text, float) and not math.isfinite(text)):
        return MISSING
    shown = plain(text)
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
    """The value at a path of keys or fields, or None when any is missing.

    Example:
        >>> pick({"a": {"b": 1}}, "a", "b"), pick({"a": None}, "a", "b")
        (1, None)
    """
    for key in path:
        if isinstance(tree, Mapping):
            tree = tree.get(key)
        elif is_dataclass(tree):
            tree = getattr(tree, key, None)
        else:
            return None
    return tree


def entries(tree: object, *path: str) -> list[Any]:
    """The list at a path of keys; empty when there is none."""
    found = pick(tree, *path)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [item for item in found if item is not None]
