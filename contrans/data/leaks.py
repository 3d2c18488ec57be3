"""The leak guard: no text that made a vector may also judge it."""

from collections.abc import Iterable

_SHORTEST_TAIL = 20
"""Characters from which a text counts as found at the end of a longer one."""


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def overlapping(refine_texts: Iterable[str], test_texts: Iterable[str]) -> list[str]:
    """Test texts that are also refine texts, or end in one after a few-shot prefix.

    Case and white space do not count.

    Example:
        >>> overlapping(["It rains."], ["it  rains.", "It snows."])
        ['it  rains.']
    """
    refine = {_normal(text) for text in refine_texts}
    tails = {len(text) for text in refine if len(text) >= _SHORTEST_TAIL}
    found = []
    for text in dict.fromkeys(test_texts):
        plain = _normal(text)
        ends = (plain[-n:] for n in tails if n < len(plain) and plain[-n - 1] == " ")
        if plain in refine or any(end in refine for end in ends):
            found.append(text)
    return found


def check_disjoint(
    refine_texts: Iterable[str], test_texts: Iterable[str], *, allow_leak: bool = False
) -> int:
    """Refuse to test on texts that made the vector.

    Args:
        refine_texts: every text the vector was made from.
        test_texts: every text of the task.
        allow_leak: only count, as the published protocol needs; say so in the report.

    Returns:
        How many distinct test texts overlap.

    Raises:
        ValueError: when some do and `allow_leak` is false.
    """
    test_texts = list(test_texts)
    found = overlapping(refine_texts, test_texts)
    if found and not allow_leak:
        raise ValueError(
            f"{len(found)} of {len(set(test_texts))} test texts were also used to make "
            f"the vector, the first is {found[0][-80:]!r}; a score on them would be "
            "in-sample. Test on other texts (contrans splits files without a 'split' "
            "field by itself), or pass allow_leak=True (--protocol paper on the command "
            "line) to repeat the published protocol, labelled as in-sample"
        )
    return len(found)
