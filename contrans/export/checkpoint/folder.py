"""A folder that appears whole or not at all."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from contrans.core.files import FULL, sync, writing

MARK = "contrans.json"
"""Index of a folder that contrans wrote."""
BAKED = "baked-model"
"""What the index of a baked checkpoint calls it."""


def check_folder(path: Path, *, force: bool) -> None:
    """Refuse to overwrite before any work is done.

    With `force`, only a baked checkpoint is replaced, so that a slip of the fingers does
    not delete other models, results or a concept library.

    Raises:
        FileExistsError: when `path` is not to be replaced.
    """
    if path.is_file():
        raise FileExistsError(f"{path} is a file; -o needs the name of a folder")
    if not path.exists() or not any(path.iterdir()):
        return
    if not force:
        raise FileExistsError(
            f"{path} is not empty and is not overwritten; choose another folder or pass "
            "force (--force on the command line)"
        )
    if not _is_baked(path):
        raise FileExistsError(
            f"{path} is not empty and was not written by contrans export --bake (no "
            f"{MARK} there says {BAKED!r}), so it is not replaced even with force; "
            "remove it yourself or choose another"
        )


def _is_baked(folder: Path) -> bool:
    try:
        index = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("kind") == BAKED


@contextmanager
def new_folder(path: Path, *, force: bool = False, room: int = 0) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without error.

    Args:
        path: the folder to make; its parents are made too.
        force: replace a baked checkpoint.
        room: bytes that will be needed.

    Raises:
        FileExistsError: see `check_folder`, which is asked again at the end.
        OSError: when the disk has no such room, or writing fails; `path` is as before.
    """
    check_folder(path, force=force)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < room:
        raise OSError(
            errno.ENOSPC,
            f"{path} needs {room / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB "
            "free; free some space or choose another disk",
        )
    with writing(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        with writing(path):  # made again: only a new folder gets the mode of the umask
            temporary.rmdir()
            temporary.mkdir()
        with writing(path, only=FULL):
            yield temporary
        with writing(path):
            for file in temporary.iterdir():
                sync(file)
            check_folder(path, force=force)
            _replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: Path, path: Path) -> None:
    """Put the new folder in the place of the old one, which goes last."""
    if not path.exists():
        temporary.rename(path)
        return
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    old = beside / path.name
    try:
        os.replace(path, old)  # noqa: PTH105
        temporary.rename(path)
    except BaseException:
        if not path.exists():
            with suppress(FileNotFoundError):
                os.replace(old, path)  # noqa: PTH105
        with suppress(OSError):  # not empty: the old folder is still in it
            beside.rmdir()
        raise
    shutil.rmtree(beside, ignore_errors=True)
