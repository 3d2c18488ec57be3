"""Files written whole or not at all, by one writer of several."""

import errno
import os
import sys
from pathlib import Path

import pytest

from contrans.core.files import atomic, write_text

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")


@pytest.fixture(params=[True, False], ids=["links", "no links"])
def links(request, monkeypatch):
    """File systems with hard links, and without."""
    if not request.param:

        def refused(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)


@pytest.mark.usefixtures("links")
def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "o.txt"

    def write():
        with atomic(path) as temporary:
            temporary.write_text("mine")
            path.write_text("theirs")

    with pytest.raises(FileExistsError, match="--force"):
        write()
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("links")
def test_force_and_a_free_name(tmp_path):
    path = tmp_path / "deep" / "o.txt"
    write_text(path, "one")
    with pytest.raises(FileExistsError, match="--force"):
        write_text(path, "two")
    assert path.read_text() == "one"
    write_text(path, "two", force=True)
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def fail(path: Path, error: OSError) -> None:
    with atomic(path):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file", "input.txt"),
        PermissionError(errno.EACCES, "Permission denied", "input.txt"),
        OSError("the store does not answer"),
    ],
)
def test_errors_of_the_block_are_its_own(tmp_path, error):
    with pytest.raises(type(error)) as found:
        fail(tmp_path / "o.txt", error)
    assert found.value is error


def test_a_full_disk_is_told_once(tmp_path):
    def nested():
        with atomic(tmp_path / "outer.txt"):
            fail(tmp_path / "inner.txt", OSError(errno.ENOSPC, "No space left"))

    with pytest.raises(OSError, match=r"write .*inner\.txt: No space") as found:
        nested()
    assert str(found.value).count("could not write") == 1
    assert found.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"could not write .*o\.txt"):
        write_text(tmp_path / "file" / "o.txt", "one")


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_mode_is_that_of_the_umask(tmp_path, umask):
    path = tmp_path / "o.txt"
    before = os.umask(umask)
    try:
        write_text(path, "one")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "o.txt", []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.exists()))
    write_text(path, "one")
    assert synced == [False]
