"""Plain files: written atomically, never overwritten silently. Needs no torch."""

import errno
import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""Errors of a disk; one from a block that writes to a file is about that file."""


@contextmanager
def atomic(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends without error.

    Raises:
        FileExistsError: when `path` exists and `force` is false, at the start or the
            end, or is not a regular file.
        OSError: when writing fails, such as on a full disk; `path` is then as before.
    """
    path = Path(path)
    check_file(path, force=force)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    temporary = Path(name)
    try:
        with writing(path):  # made again: only a new file gets the mode of the umask
            temporary.unlink()
            temporary.touch(exist_ok=False)
        with writing(path, only=FULL):
            yield temporary
        with writing(path):
            sync(temporary)
            publish(temporary, path, force=force)
    finally:
        temporary.unlink(missing_ok=True)


def check_file(path: Path, *, force: bool = False) -> None:
    """Refuse to overwrite before any work is done, not after.

    Args:
        path: the file to be.
        force: whether the user asked to replace it.

    Raises:
        FileExistsError: when `path` exists and `force` is false, or is not a regular
            file: what is no file of ours is not replaced by one.
    """
    check_place(path)
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder; -o needs the name of a file")
    if path.exists() and not force:
        raise _taken(path)


_SPECIAL = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


def check_place(path: Path) -> None:
    """Refuse a name under which there is neither a regular file nor a folder.

    Raises:
        FileExistsError: for a link, device, pipe or socket.
    """
    try:
        kind = _SPECIAL.get(stat.S_IFMT(path.lstat().st_mode))
    except (OSError, ValueError):  # not there; or no name at all: writing says why
        return
    if kind is not None:
        at = f" to {os.readlink(path)}" if kind == "symbolic link" else ""  # noqa: PTH115
        raise FileExistsError(
            f"{path} is a {kind}{at}, which is not replaced, even with force; name the "
            "file or folder itself"
        )


def sync(path: Path) -> None:
    """Wait until the bytes of a file are on the disk, where a crash leaves them."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def publish(temporary: Path, path: Path, *, force: bool = False) -> None:
    """Give a complete file its name; without `force`, only a name that is free.

    Of several that take the same name at once, one succeeds. The temporary name may
    stay beside it.

    Args:
        temporary: the complete file, beside its place.
        path: the name it gets.
        force: write over what is there.

    Raises:
        FileExistsError: when the name is taken and `force` is false.
    """
    if not force:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise _taken(path) from None
        except OSError:  # a file system without links
            if path.exists():
                raise _taken(path) from None
        else:
            return
    temporary.replace(path)


def _taken(path: Path) -> FileExistsError:
    return FileExistsError(
        f"{path} exists and is not overwritten; choose another name or pass force "
        "(--force on the command line)"
    )


@contextmanager
def writing(path: Path, *, only: Container[int | None] | None = None) -> Iterator[None]:
    """Errors of the system as `unwritten`, or `only` those of these numbers.

    Errors that say in words what went wrong are left as they are.
    """
    try:
        yield
    except OSError as error:
        explained = error.errno is None or isinstance(error.__cause__, OSError)
        if explained or (only is not None and error.errno not in only):
            raise
        raise unwritten(path, error) from error


def unwritten(path: Path, error: OSError) -> OSError:
    """The error that says what could not be written, and what to do."""
    return OSError(
        error.errno,
        f"could not write {path}: {error.strerror or error}; nothing was changed. "
        "Free some space or choose another folder, then run the same command again",
    )


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a text file atomically.

    Args:
        path: the file.
        text: what it holds.
        force: write over what is there.
    """
    with atomic(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, force: bool = False) -> None:
    """Write JSON atomically, indented for people.

    Args:
        path: the file.
        value: anything that JSON can hold.
        force: write over what is there.
    """
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
