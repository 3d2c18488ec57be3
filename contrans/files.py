"""Plain files: written atomically, never overwritten silently. Needs no torch."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends without error.

    Raises:
        FileExistsError: when `path` exists and `force` is false.
        OSError: when writing fails, such as on a full disk; `path` is then as before.
    """
    path = Path(path)
    if path.exists() and not force:
        raise FileExistsError(
            f"{path} exists and is not overwritten; choose another name or pass force "
            "(--force on the command line)"
        )
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def unwritten(path: Path, error: OSError) -> OSError:
    """The error that says what could not be written, and what to do."""
    return OSError(
        error.errno,
        f"could not write {path}: {error.strerror or error}; nothing was changed. "
        "Free some space or choose another folder, then run the same command again",
    )


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a text file atomically."""
    with atomic(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, force: bool = False) -> None:
    """Write JSON atomically, indented for people."""
    text = json.dumps(finite(value), indent=2, allow_nan=False)
    write_text(path, text + "\n", force=force)


def finite(value: Any) -> Any:
    """The same value with null where JSON has no number: NaN and infinity.

    Example:
        >>> finite({"a": [1.5, float("nan")]})
        {'a': [1.5, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


def digest(value: Any) -> str:
    """A short content hash of anything that JSON can hold."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]
