"""Layers as a person writes them."""


def parse_layers(text: str | None) -> list[int] | None:
    """Layers as a person writes them; None and "all" mean every layer.

    Example:
        >>> parse_layers("4,6-8,-1")
        [4, 6, 7, 8, -1]

    Raises:
        ValueError: when the text cannot be read.
    """
    if text is None or text == "all":
        return None
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            if first and dash:
                found += _between(int(first), int(last))
            else:
                found.append(int(part))
        except ValueError:
            raise ValueError(
                f"cannot read layers {text!r}; write them like 24, 4,5,6 or 20-28"
            ) from None
    return found


def _between(first: int, last: int) -> range:
    if last < first:
        raise ValueError("a range goes up")
    return range(first, last + 1)
