"""A folder that appears whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contrans.files import unwritten

MARK = "contrans.json"
"""Index of a folder that contrans wrote."""


def check_folder(path: Path, *, force: bool) -> None:
    """Refuse to overwrite before any work is done.

    With `force`, only a folder that contrans wrote is replaced, so that a slip of the
    fingers does not delete another one.

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
    if not (path / MARK).is_file():
        raise FileExistsError(
            f"{path} is not empty and was not written by contrans (it has no {MARK}), so "
            "it is not replaced even with force; remove it yourself or choose another"
        )


@contextmanager
def new_folder(path: Path, *, force: bool = False, room: int = 0) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without error.

    Args:
        path: the folder to make; its parents are made too.
        force: replace a folder that contrans wrote.
        room: bytes that will be needed.

    Raises:
        FileExistsError: see `check_folder`.
        OSError: when the disk has no such room, or writing fails; `path` is as before.
    """
    check_folder(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < room:
        raise OSError(
            errno.ENOSPC,
            f"{path} needs {room / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB "
            "free; free some space or choose another disk",
        )
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in temporary.iterdir():
            file.chmod(0o644)
        _replace(temporary, path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: Path, path: Path) -> None:
    """Put the new folder in the place of the old one, which goes last."""
    if not path.exists():
        temporary.rename(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    os.replace(path, old / path.name)  # noqa: PTH105
    try:
        temporary.rename(path)
    except OSError:
        os.replace(old / path.name, path)  # noqa: PTH105
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
