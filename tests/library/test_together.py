"""Many at once: real processes that add, remove and die, and nothing is lost."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from contrans.library import Library, prune
from contrans.library.storage import Place

sys.path.insert(0, str(Path(__file__).parents[1]))
from library_parts import write_pairs

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="starts processes by fork"
)
WRITERS, EACH = 8, 4
SECONDS = 120


def together(work, count: int) -> list:
    """Run `work(number, ready)` in so many processes at once; what each returned."""
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(count), context.Queue()

    def go(number: int) -> None:
        start.wait(SECONDS)
        answers.put((number, work(number)))

    running = [context.Process(target=go, args=(number,)) for number in range(count)]
    for process in running:
        process.start()
    found = [answers.get(timeout=SECONDS) for _ in running]
    for process in running:
        process.join(SECONDS)
        assert process.exitcode == 0
    return [answer for _, answer in sorted(found)]


@pytest.fixture
def files(tmp_path) -> list[list[Path]]:
    """Files of different content for every writer."""
    return [
        [
            write_pairs(tmp_path / f"{w}-{i}.jsonl", word=f"w{w}-{i}")
            for i in range(EACH)
        ]
        for w in range(WRITERS)
    ]


@pytest.mark.parametrize("locked", [True, False])
def test_all_that_add_at_once_get_a_version(tmp_path, files, locked, monkeypatch):
    if not locked:  # as on a store: only the exclusive creation of records is left
        monkeypatch.setattr(Place, "lock", lambda _: contextlib.nullcontext())
    root = tmp_path / "library"

    def work(number: int) -> list[str]:
        library = Library(root)
        return [library.add(file, name="shared").entry.label for file in files[number]]

    given = [label for some in together(work, WRITERS) for label in some]
    wanted = [f"shared@{i}" for i in range(1, WRITERS * EACH + 1)]
    assert sorted(given) == sorted(wanted)
    library = Library(root)
    assert library.verify() == ()
    kept = {library.read(entry, "pairs.jsonl") for entry in library.list("shared")}
    assert kept == {file.read_bytes() for some in files for file in some}


def test_the_same_content_at_once_is_one_version(tmp_path, files):
    root = tmp_path / "library"
    done = together(lambda _: Library(root).add(files[0][0], name="a").new, WRITERS)
    assert sorted(done) == [False] * (WRITERS - 1) + [True]
    assert [entry.label for entry in Library(root).list()] == ["a@1"]


def test_adding_while_others_prune(tmp_path, files):
    root = tmp_path / "library"
    Library(root).add(files[0][0], name="old")

    def work(number: int) -> int:
        library = Library(root)
        for i, file in enumerate(files[number]):
            if number % 2:
                prune(library)
            library.add(file, name=f"n{number}")
            if number % 2 and i:
                library.remove(f"n{number}@{i}", prune=True)
        return number

    together(work, WRITERS)
    library = Library(root)
    assert library.verify() == ()
    assert len(library.list()) == 1 + WRITERS // 2 * EACH + WRITERS // 2


def test_two_people_pushing_at_once(tmp_path, files):
    shared = tmp_path / "shared"

    def work(number: int) -> str:
        mine = Library(tmp_path / f"person-{number}")
        mine.add(files[number][0], name="concept")
        for _ in range(2 * WRITERS):
            try:
                mine.push(shared)
            except ValueError:  # the number is taken: theirs keeps it
                mine.pull(shared, renumber=True)
            else:
                return mine.list("concept")[-1].label
        raise AssertionError("never got through")

    together(work, WRITERS)
    kept = Library(shared)
    assert kept.verify() == ()
    contents = {kept.read(entry, "pairs.jsonl") for entry in kept.list()}
    assert contents == {files[number][0].read_bytes() for number in range(WRITERS)}
    assert len(kept.list()) == WRITERS


def test_a_killed_writer_blocks_no_one_and_leaves_nothing_half(tmp_path, files):
    root = tmp_path / "library"
    Library(root).add(files[0][0], name="a")
    context = multiprocessing.get_context("fork")
    reached = context.Event()

    def die() -> None:
        def wait(*_):
            reached.set()
            time.sleep(SECONDS)

        from contrans.library import storage

        storage.publish = wait  # the lock is held, the record has no name yet
        Library(root).add(files[1][0], name="a")

    writer = context.Process(target=die)
    writer.start()
    assert reached.wait(SECONDS)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(SECONDS)
    library = Library(root)
    assert [entry.label for entry in library.list()] == ["a@1"]
    assert library.verify() == ()
    assert library.add(files[2][0], name="a").entry.label == "a@2"
    assert library.add(files[1][0], name="a").entry.label == "a@3"
    assert library.verify() == ()
