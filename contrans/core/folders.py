"""Folders that appear whole or not at all, whenever their writer is stopped."""

import errno
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from contrans.core.files import FULL, check_place, sync, writing

MARK = "contrans.json"
"""Index of a folder that contrans wrote; its "kind" says by which command."""
COMMANDS = {
    "baked-model": "contrans export --bake",
    "transplant": "contrans transplant",
}
"""The kinds of folders that `force` may replace, and what writes them."""


def check_folder(path: Path, kind: str | None = None, *, force: bool = False) -> None:
    """Refuse to overwrite before any work is done.

    With `force`, only a folder of the same kind is replaced, so that a slip of the
    fingers does not delete models, results or a concept library.

    Args:
        path: the folder to be.
        kind: what its index will say it is; None for a folder without an index.
        force: whether the user asked to replace it.

    Raises:
        FileExistsError: when `path` is not to be replaced.
    """
    check_place(path)
    if path.is_file():
        raise FileExistsError(f"{path} is a file; -o needs the name of a folder")
    if not path.exists() or not any(path.iterdir()):
        return
    if kind is None:
        raise FileExistsError(
            f"{path} is not empty; name a new folder, or empty this one first"
        )
    if not force:
        raise FileExistsError(
            f"{path} is not empty and is not overwritten; choose another folder or pass "
            "force (--force on the command line)"
        )
    if read_index(path).get("kind") != kind:
        raise FileExistsError(
            f"{path} is not empty and was not written by {COMMANDS[kind]} (no {MARK} "
            f"there says {kind!r}), so it is not replaced even with force; remove it "
            "yourself or choose another"
        )


def read_index(folder: Path) -> dict[str, Any]:
    """What a folder says about itself; empty where it says nothing readable."""
    try:
        index = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return index if isinstance(index, dict) else {}


@contextmanager
def new_folder(
    path: Path, kind: str | None = None, *, force: bool = False, room: int = 0
) -> Iterator[Path]:
    """Yield a hidden folder beside `path` that becomes it when the block succeeds.

    What a killed process left beside `path` is removed, or put back where it had taken
    the old folder away. With `force`, files that the old folder's index does not list
    under "files" move into the new one (an index that lists none keeps none).

    Args:
        path: the folder to make; its parents are made too.
        kind: see `check_folder`.
        force: replace a folder of the same kind.
        room: bytes that will be needed.

    Raises:
        FileExistsError: see `check_folder`, which is asked again at the end.
        OSError: when the disk has no such room, or writing fails; `path` is as before.
    """
    check_folder(path, kind, force=force)
    place = path.absolute()
    with writing(path):
        place.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.parent).free
    if free < room:
        raise OSError(
            errno.ENOSPC,
            f"{path} needs {room / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB "
            "free; free some space or choose another disk",
        )
    with writing(path), _turn(place.parent):
        _tidy(place)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=_part(place)))
        temporary.rmdir()  # made again: only a new folder gets the mode of the umask
        temporary.mkdir()
        alive = _lock(temporary)
    try:
        with writing(path, only=FULL):
            yield temporary
        with writing(path), _turn(place.parent):
            for file in temporary.iterdir():
                sync(file)
            check_folder(path, kind, force=force)
            _replace(temporary, place)
    finally:
        if alive is not None:
            os.close(alive)
        shutil.rmtree(temporary, ignore_errors=True)


def _part(place: Path) -> str:
    return f".{place.name}.part."


def _old(place: Path) -> str:
    return f".{place.name}.old."


def _beside(place: Path, prefix: str) -> list[Path]:
    return list(place.parent.glob(glob.escape(prefix) + "*"))


def _replace(temporary: Path, place: Path) -> None:
    """Put the new folder in the place of the old one, which goes last."""
    if not place.exists():
        temporary.rename(place)
        return
    beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=_old(place)))
    try:
        os.replace(place, beside / place.name)  # noqa: PTH105
        temporary.rename(place)
    except BaseException:
        if not place.exists():
            _tidy(place)
        with suppress(OSError):  # not empty: the old folder is still in it
            beside.rmdir()
        raise
    _tidy(place)


def _tidy(place: Path) -> None:
    """Finish what stopped half-way: nothing here belongs to a process that lives."""
    for beside in _beside(place, _old(place)):
        old = beside / place.name
        if old.exists() and not place.exists():
            os.replace(old, place)  # noqa: PTH105
        elif ours := read_index(old).get("files"):
            for entry in old.iterdir():
                kept = entry.name == MARK or entry.name in ours
                if not kept and not (place / entry.name).exists():
                    os.replace(entry, place / entry.name)  # noqa: PTH105
        shutil.rmtree(beside, ignore_errors=True)
    for part in _beside(place, _part(place)):
        held = _lock(part)
        if held is not None:
            shutil.rmtree(part, ignore_errors=True)
            os.close(held)


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """A handle that locks a folder until it is closed or its process ends.

    None where another process has the lock, or where folders have no locks (Windows).
    """
    try:
        import fcntl
    except ImportError:
        return None
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process at a time renames in a folder; one that is killed gives way."""
    held = _lock(folder, wait=True)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)
