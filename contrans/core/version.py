"""The version of contrans, as results and files carry it, and what it was tested with."""

import re

__version__ = "0.1.0"

LOWEST_TRANSFORMERS = "4.56.0"
"""The oldest transformers that the tests of models run with."""
NEWEST_TRANSFORMERS = "5.24.0"
"""The newest one that all tests ran with."""


def newer_than_tested(installed: str) -> str | None:
    """What to say where transformers is a newer release than any tested; None if not.

    A release that only mends another (5.24.1) counts as that one.

    Example:
        >>> newer_than_tested("5.24.3"), "5.25.0.dev0" in newer_than_tested("5.25.0.dev0")
        (None, True)
    """

    def release(version: str) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"\d+", version)[:2]))

    if release(installed) <= release(NEWEST_TRANSFORMERS):
        return None
    return (
        f"transformers {installed} is newer than {NEWEST_TRANSFORMERS}, the newest that "
        "this contrans was tested with; should anything look odd, install that one: "
        f"pip install transformers=={NEWEST_TRANSFORMERS}"
    )
