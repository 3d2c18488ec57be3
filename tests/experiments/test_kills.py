"""Writers killed at calls of the system: nothing half is seen, a rerun is whole."""

import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from contrans.core.artifacts import save
from contrans.core.files import write_json, write_text
from contrans.core.folders import MARK, new_folder
from contrans.core.types import ConceptVector
from contrans.experiments.transplant import run as transplant
from contrans.export.gguf.control_vector import write_control_vector
from contrans.export.neighbours import write_steering_vectors
from contrans.library import Library
from contrans.models import zoo
from contrans.report import to_html
from tests.result_parts import transplant_results

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes of POSIX")
POINTS = 20
CALLS = ("open", "os.", "fcntl.", "shutil.", "tempfile.")
"""Audit events of the interpreter that touch the file system."""
VECTOR = ConceptVector(
    torch.arange(12.0).reshape(3, 4) + 1,
    layers=(1, 2, 3),
    model="gpt2 (f)",
    concept="anger",
    provenance={"strength": 2.0, "layer": 1, "raw_strength": 1.0},
)


def run_transplant(out: Path, *, force: bool = False) -> None:
    transplant._write(out, transplant_results(), VECTOR, "key", force=force)


def zoo_export(out: Path, *, force: bool = False) -> None:
    del force
    zoo.export("zoo/small", out)


def library_add(out: Path, *, force: bool = False) -> None:
    del force
    Library(out).add("anger", name="mine")


VERBS: dict[str, tuple[str, Callable[..., object]]] = {
    "collect, concept and map": ("out", partial(save, VECTOR)),
    "eval, compare and check": (
        "out",
        lambda out, force: write_text(out, "yes", force=force),
    ),
    "transplant": ("out", run_transplant),
    "zoo export": ("out", zoo_export),
    "export --gguf": (
        "out.gguf",
        partial(write_control_vector, VECTOR, model_hint="gpt2"),
    ),
    "export --steering-vectors": ("out.pt", partial(write_steering_vectors, VECTOR)),
    "concepts add": ("out", library_add),
}


def contents(place: Path) -> dict[str, bytes]:
    """Every file of a place that has a name people see."""
    files = [place] if place.is_file() else sorted(place.rglob("*"))
    return {
        str(file.relative_to(place)): file.read_bytes()
        for file in files
        if file.is_file() and not file.name.startswith(".")
    }


def run_until(point: int, work: Callable[[], object], folder: Path) -> int:
    """The calls that a process made in a folder; at the one of this number, it dies."""
    context = get_context("fork")
    made = context.Value("i", 0)

    def child() -> None:
        def count(event: str, args: tuple[object, ...]) -> None:
            if event.startswith(CALLS) and str(folder) in str(args):
                made.value += 1
                if made.value == point:
                    os._exit(9)

        sys.addaudithook(count)
        work()
        os._exit(0)

    process = context.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode in (0, 9)
    return made.value


@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_writer_leaves_all_or_nothing(
    verb, before, tmp_path, capsys, monkeypatch
):
    page = to_html(transplant_results().as_dict())  # drawn once: this is about writing
    monkeypatch.setattr("contrans.report.to_html", lambda _: page)
    name, write = VERBS[verb]
    once = verb in ("zoo export", "concepts add")
    if once and before:
        pytest.skip("never replaces")

    def work(place: Path) -> None:
        write(place, force=before)

    work(tmp_path / name)
    expected = contents(tmp_path / name)
    place = tmp_path / "count" / name
    place.parent.mkdir()
    if before:
        work(place)
    calls = run_until(-1, lambda: work(place), place.parent)
    assert calls > 3
    points = sorted({round(1 + i * (calls - 1) / (POINTS - 1)) for i in range(POINTS)})
    for point in points:
        place = tmp_path / str(point) / name
        place.parent.mkdir()
        if before:
            work(place)
        run_until(point, lambda: work(place), place.parent)  # noqa: B023
        seen = contents(place) if place.exists() else {}
        if seen and verb != "concepts add":
            assert same(seen, expected)
        if not (seen and verb == "zoo export"):  # that never replaces
            write(place, force=True)
        assert same(contents(place), expected)
        if place.is_dir():
            assert [file.name for file in place.parent.iterdir()] == [name]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{verb}: {len(points)} of {len(points)} kills ended in the same files\n"
        )


def same(found: dict[str, bytes], expected: dict[str, bytes]) -> bool:
    """Whether two contents agree, but for the time of day in records."""
    return found.keys() == expected.keys() and all(
        found[name] == expected[name]
        for name in found
        if not name.startswith("concepts/")
    )


@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
def test_two_writers_at_once_end_in_one_whole_result(before, tmp_path):
    out = tmp_path / "out"

    def write(text: str) -> None:
        with new_folder(out, "transplant", force=True) as part:
            for name in ("one", "two"):
                write_text(part / name, text)
            write_json(part / MARK, {"kind": "transplant", "files": ["one", "two"]})

    if before:
        write("0")
        (out / "notes.txt").write_text("mine")
    context = get_context("fork")
    workers = [context.Process(target=write, args=(str(i),)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert len({(out / name).read_text() for name in ("one", "two")}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    if before:
        assert (out / "notes.txt").read_text() == "mine"


def test_results_of_the_same_command_at_once_are_one(tmp_path):
    write = partial(run_transplant, tmp_path / "out")
    write()
    with pytest.raises(FileExistsError, match="--force"):
        write()
    assert transplant._of(tmp_path / "out", "key")


@pytest.mark.parametrize(
    "kind", ["pipe", "socket", "link", "loose link", "folder link"]
)
@pytest.mark.parametrize(
    "verb", ["eval, compare and check", "transplant", "zoo export"]
)
def test_only_files_and_folders_of_ours_are_replaced(verb, kind, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "pipe":
            os.mkfifo(out)
        elif kind == "socket":
            bound.bind(str(out))
        else:
            if kind == "link":
                other.write_text("years of work")
            if kind == "folder link":
                other.mkdir()
            out.symlink_to(other)
        mode = out.lstat().st_mode
        with pytest.raises(FileExistsError, match=f"is a .*{kind.split()[-1]}"):
            VERBS[verb][1](out, force=True)
    assert out.lstat().st_mode == mode
    assert kind != "link" or other.read_text() == "years of work"


def test_a_device_is_not_replaced():
    with pytest.raises(FileExistsError, match="is a device"):
        write_text(Path(os.devnull), "yes", force=True)
