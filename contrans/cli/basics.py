"""What every command line here is built on: settings, messages for mistakes, help."""

import os
import re
from typing import Any

PLAIN: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
}
"""Settings of every typer app here; rich would cost 0.2 s a start."""


_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What a terminal obeys instead of showing; line ends and tabs are left."""


def visible(text: str) -> str:
    r"""A text for a terminal: what would command it is shown as such.

    Example:
        >>> visible("red: \x1b[31m")
        'red: \\x1b[31m'
    """
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)


def explain(error: Exception) -> str | None:
    """The one message for a mistake of the user; None for a fault of the program."""
    if isinstance(error, BrokenPipeError):
        return None
    if isinstance(error, KeyError):
        text = error.args[0] if error.args else None
        return text if isinstance(text, str) and " " in text else None
    if isinstance(error, OSError):
        said = error.strerror or str(error)
        return f"{error.filename}: {said}" if error.filename else said
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "out of memory; load the models smaller (--dtype bfloat16, --quantize "
            "8bit), spread them (--device-map auto), or use fewer texts (--limit)"
        )
    if isinstance(error, ValueError | ImportError):
        return str(error)
    return None


def debugging() -> bool:
    """Whether the user asked for tracebacks and all warnings."""
    return bool(os.environ.get("CONTRANS_DEBUG"))


def help_text(text: str) -> str:
    """A docstring with its indented paragraphs marked as not to be wrapped."""
    parts = text.split("\n\n")
    return "\n\n".join(f"\b\n{p}" if "\n  " in f"\n{p}" else p for p in parts)
