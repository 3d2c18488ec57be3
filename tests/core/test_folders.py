"""Folders that appear whole, and what `force` replaces."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from contrans.core.folders import MARK, check_folder, new_folder

BAKED = "baked-model"


def make(path: Path, text: str, *, force: bool = False) -> Path:
    """A folder with the mark of a baked checkpoint."""
    with new_folder(path, BAKED, force=force) as folder:
        (folder / MARK).write_text(json.dumps({"kind": BAKED}))
        (folder / "weights").write_text(text)
    return path


@pytest.mark.parametrize(
    "index",
    [
        '{"kind": "concept-library", "version": 1}',
        '{"settings_digest": "abc"}',
        "[]",
        "{",
        b"\xff",
        None,
    ],
)
def test_only_a_baked_checkpoint_is_replaced(tmp_path, index):
    (tmp_path / "vector.safetensors").touch()
    if index is not None:
        raw = index if isinstance(index, bytes) else index.encode()
        (tmp_path / MARK).write_bytes(raw)
    with pytest.raises(FileExistsError, match="not written by contrans export --bake"):
        check_folder(tmp_path, BAKED, force=True)


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_that_appears_meanwhile_is_kept(tmp_path, force):
    out = tmp_path / "out"

    def write():
        with new_folder(out, BAKED, force=force) as folder:
            (folder / "weights").touch()
            out.mkdir()
            (out / "thesis.txt").write_text("years of work")

    with pytest.raises(FileExistsError):
        write()
    assert (out / "thesis.txt").read_text() == "years of work"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.EIO, "broken")])
def test_an_interruption_at_the_rename_restores(tmp_path, monkeypatch, error):
    out = make(tmp_path / "out", "old")

    def interrupted(*_):
        raise error

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises((KeyboardInterrupt, OSError)):
        make(out, "new", force=True)
    assert (out / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_an_interruption_after_the_rename_loses_neither(tmp_path, monkeypatch):
    out, rename = make(tmp_path / "out", "old"), Path.rename

    def late(path, target):
        rename(path, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(KeyboardInterrupt):
        make(out, "new", force=True)
    assert (out / "weights").read_text() == "new"
    assert [p.read_text() for p in tmp_path.glob(".out.old.*/out/weights")] == ["old"]


def test_force_replaces_and_cleans_up(tmp_path):
    out = make(tmp_path / "out", "old")
    make(out, "new", force=True)
    assert (out / "weights").read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_errors_of_reading_are_left_as_they_are(tmp_path):
    def write():
        with new_folder(tmp_path / "out"):
            (tmp_path / "input").read_text()

    with pytest.raises(FileNotFoundError) as found:
        write()
    assert "could not write" not in str(found.value)


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_mode_is_that_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        out = make(tmp_path / "out", "new")
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (out / "weights").stat().st_mode & 0o777 == 0o666 & ~umask
