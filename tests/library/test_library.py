"""The library: versions that never change, content by hash, lineage, damage."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contrans.core import artifacts
from contrans.core.files import digest
from contrans.library import Library, default_root, draw, named, pin, prune, resolve
from contrans.library.concepts import load_concept, pin_concept
from contrans.library.entries import content_id, is_reference, object_name

sys.path.insert(0, str(Path(__file__).parents[1]))
from library_parts import a_vector, write_pairs, write_results, write_vector


@pytest.fixture
def library(tmp_path, monkeypatch) -> Library:
    monkeypatch.setenv("CONTRANS_LIBRARY", str(tmp_path / "library"))
    monkeypatch.chdir(tmp_path)
    return Library()


def objects(library: Library) -> list[Path]:
    return [p for p in (library.place.folder / "objects").rglob("*") if p.is_file()]


def object_of(library: Library, reference: str) -> Path:
    """The file on disk, unchecked."""
    entry = library.find(reference)
    name, file = next(iter(entry.files.items()))
    return library.place.folder / object_name(file.sha256, name)


def test_the_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CONTRANS_LIBRARY", "s3://team/concepts")
    assert default_root() == "s3://team/concepts"
    monkeypatch.delenv("CONTRANS_LIBRARY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Path(default_root()) == tmp_path / "contrans" / "library"


def test_versions_count_up_and_equal_content_is_kept_once(library, tmp_path):
    first = write_pairs(tmp_path / "a.jsonl")
    second = write_pairs(tmp_path / "b.jsonl", word="calm")
    one = library.add(first, name="glad", note="first")
    two = library.add(second, name="glad")
    assert (one.entry.label, two.entry.label) == ("glad@1", "glad@2")
    assert library.find("glad") == library.find("glad@latest") == two.entry
    assert library.find("glad@1").note == "first"

    before = {p: p.read_bytes() for p in library.place.folder.rglob("*.json*")}
    again = library.add(first, name="glad", note="other words")
    assert not again.new
    assert again.entry == one.entry
    copied = write_pairs(tmp_path / "another name.jsonl")
    assert not library.add(copied, name="glad").new
    assert {p: p.read_bytes() for p in library.place.folder.rglob("*.json*")} == before

    other = library.add(first, name="joy")
    assert other.new
    assert other.entry.id == one.entry.id
    assert len(objects(library)) == 2  # the same bytes lie there once


def test_content_is_addressed_as_sha256sum_does(library, tmp_path):
    file = write_pairs(tmp_path / "a.jsonl")
    entry = library.add(file, name="glad").entry
    known = hashlib.sha256(file.read_bytes()).hexdigest()
    assert object_of(library, "glad").name == f"{known}.jsonl"
    assert object_of(library, "glad").read_bytes() == file.read_bytes()
    line = f"{known}  pairs.jsonl\n"
    assert entry.id == hashlib.sha256(line.encode()).hexdigest()
    assert entry.id == content_id({"pairs.jsonl": known})


def test_pairs_of_the_library_are_a_concept(library, tmp_path):
    file = write_pairs(tmp_path / "mine.jsonl")
    library.add(file, name="glad")
    direct, kept = load_concept(file), load_concept("glad@1")
    assert kept.digest == direct.digest
    assert kept.refine.positive == direct.refine.positive
    assert kept.name == "glad"
    assert kept.origin == f"library glad@1 {library.find('glad').id}"
    assert load_concept("glad").origin == kept.origin


@pytest.mark.parametrize("name", ["anger", "honesty", "formality"])
def test_a_built_in_pack_is_kept_with_its_task(library, name):
    entry = library.add(name, name=f"my-{name}").entry
    kept, built_in = load_concept(entry.label), load_concept(name)
    assert kept.digest == built_in.digest
    assert kept.task == built_in.task
    assert (kept.answer, kept.title) == (built_in.answer, built_in.title)


def test_an_answer_found_in_the_file_name_is_kept(library, tmp_path):
    ending = "The emotion of the above scenario is"
    sides = {"pos": [f"{i} a\n{ending}" for i in range(9)]}
    sides["neg"] = [f"{i} b\n{ending}" for i in range(9)]
    (tmp_path / "fear_pairs.json").write_text(json.dumps(sides))
    library.add(tmp_path / "fear_pairs.json", name="mine")
    assert load_concept("mine@1").answer == "fear"
    assert load_concept("mine@1").task.kind == "emotion"


def test_a_built_in_concept_comes_before_one_of_the_library(library, tmp_path):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="anger")
    assert load_concept("anger").origin.startswith("built-in pack")
    assert load_concept("anger@1").origin.startswith("library anger@1")
    assert pin_concept("anger") == "anger"
    library.add(write_pairs(tmp_path / "b.jsonl", word="b"), name="mine")
    assert pin_concept("mine") == "mine@1"
    assert pin_concept("mine@latest") == "mine@1"
    assert pin_concept("mine@7") == "mine@7"  # its error comes from whoever reads it
    assert pin_concept("nothing") == "nothing"


def test_files_of_the_user_come_first(library, tmp_path):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="glad")
    assert named("glad")
    assert named("sad@3")
    (tmp_path / "glad").mkdir()
    assert not named("glad")
    assert pin("glad") == "glad"
    assert not is_reference("org/model@3")


def test_vectors_are_resolved_to_checked_files(library, tmp_path):
    library.add(write_vector(tmp_path / "v.safetensors"), name="v")
    library.add(write_results(tmp_path / "run", seed=1), name="moved")
    assert artifacts.load(resolve("v@1", "vector")).concept == "glad"
    moved = artifacts.load(resolve("moved", "vector"))
    assert (moved[1] == a_vector(seed=1)[1]).all()
    with pytest.raises(
        ValueError, match=r"moved@1 holds a transplant; this needs pairs"
    ):
        load_concept("moved@1")


def test_metrics_and_the_model_stand_in_the_record(library, tmp_path):
    about = library.add(write_results(tmp_path / "run"), name="moved").entry.about
    assert about["model"]["name"] == "tiny"
    assert about["model"] == {
        "name": "tiny",
        "fingerprint": "abc",
        "layers": 4,
        "hidden": 6,
    }
    assert about["at"] == [1, 3]
    assert about["metrics"]["effect"]["low"] == pytest.approx(0.4)
    kinds = [row["kind"] for row in about["metrics"]["rows"]]
    assert kinds == ["base", "method", "control"]
    assert about["metrics"]["perplexity_ratio"] == 1.1


def test_lineage_is_told_by_hash_and_drawn(library, tmp_path):
    file = write_pairs(tmp_path / "a.jsonl")
    pairs = library.add(file, name="pairs").entry
    texts = load_concept(file).refine
    made = {"data": digest([*texts.positive, *texts.negative])}
    write_vector(tmp_path / "v.safetensors", provenance=made)
    vector = library.add(tmp_path / "v.safetensors", name="vector").entry
    assert vector.parents == (pairs.id,)
    far = {"method": "transplant/ridge", "vector": made, "map": {"data": "x"}}
    write_vector(tmp_path / "m.safetensors", provenance=far, seed=3)
    moved = library.add(tmp_path / "m.safetensors", name="moved").entry
    assert moved.parents == (vector.id,)
    lines = draw(library.tree("moved"))
    assert [line.split("  ")[0].strip("└─ ") for line in lines[:2]] == [
        "moved@1",
        "vector@1",
    ]
    assert lines[2].startswith("   └─ pairs@1")


def test_a_parent_may_be_said_and_may_be_missing(library, tmp_path):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="pairs")
    file = write_vector(tmp_path / "v.safetensors")
    with pytest.raises(KeyError, match="did you mean 'pairs@1'"):
        library.add(file, name="v", parents=["pears"])
    entry = library.add(file, name="v", parents=["pairs@1"]).entry
    library.remove("pairs@1", force=True)
    assert draw(library.tree("v"))[1] == (
        f"└─ {entry.parents[0][:12]} (not in this library)"
    )


def test_unknown_names_and_versions_say_what_there_is(library, tmp_path):
    with pytest.raises(KeyError, match="is empty"):
        library.find("honesty")
    library.add(write_pairs(tmp_path / "a.jsonl"), name="honesty")
    library.add(write_pairs(tmp_path / "b.jsonl", word="b"), name="honesty")
    with pytest.raises(KeyError, match="did you mean 'honesty@2'"):
        library.find("honsty@2")
    with pytest.raises(KeyError, match=r"no version 7 .*versions there: 1, 2"):
        load_concept("honesty@7")
    with pytest.raises(ValueError, match=r"write NAME@VERSION, such as honesty@1"):
        library.find("honesty@two")
    with pytest.raises(KeyError, match="honesty"):
        load_concept("honestly")
    identity = library.find("honesty@1").id
    assert library.find(identity[:10]).version == 1


@pytest.mark.parametrize(
    "name",
    [
        *("Honesty", "a b", "../a", "", "a" * 65, "zoo/a", "@"),
        *("nul", "con", "aux.v2", "com1", "a..", "a.", "a.json"),
    ],
)
def test_names_that_no_file_system_confuses(library, tmp_path, name):
    with pytest.raises(ValueError, match="no name for a concept"):
        library.add(write_pairs(tmp_path / "a.jsonl"), name=name)
    assert not library.exists()
    assert not is_reference(f"{name}@1")


@pytest.mark.parametrize("name", ["null", "confidence", "com", "a.b", "lpt-1"])
def test_names_that_only_look_like_devices_are_fine(library, tmp_path, name):
    entry = library.add(write_pairs(tmp_path / "a.jsonl"), name=name).entry
    assert library.find(f"{name}@1") == entry


def test_what_is_no_concept_is_refused(library, tmp_path):
    with pytest.raises(FileNotFoundError, match="did you mean 'anger'"):
        library.add("angr", name="a")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no vector\\.safetensors and no results"):
        library.add(empty, name="a")
    broken = write_results(tmp_path / "run")
    (broken / "results.json").write_text('{"rows": []}')
    with pytest.raises(ValueError, match="holds no results of contrans transplant"):
        library.add(broken, name="a")
    half = write_vector(tmp_path / "v.safetensors")
    half.write_bytes(half.read_bytes()[:-8])
    with pytest.raises(ValueError, match="truncated"):
        library.add(half, name="a")
    assert library.list() == ()


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="no concept library"):
        Library(tmp_path).add("anger", name="a")
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == ["thesis.tex"]
    (tmp_path / "contrans.json").write_text('{"contrans": "0.1.0"}')
    with pytest.raises(ValueError, match="not that of a concept library"):
        Library(tmp_path).list()
    (tmp_path / "contrans.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="newer contrans"):
        Library(tmp_path).list()


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_found_named_and_mended(library, tmp_path, damage):
    file = write_vector(tmp_path / "v.safetensors")
    library.add(file, name="v")
    library.add(write_pairs(tmp_path / "a.jsonl"), name="whole")
    assert library.verify() == ()
    kept = object_of(library, "v")
    raw = bytearray(kept.read_bytes())
    raw[-1] ^= 1
    if damage == "gone":
        kept.unlink()
    else:
        kept.write_bytes(raw if damage == "flip" else raw[:-5])
    (problem,) = library.verify()
    assert str(kept) in problem.message
    assert problem.entries == ("v@1",)
    with pytest.raises(ValueError, match=r"vector.safetensors of v@1 is (corr|miss)"):
        resolve("v@1")
    assert resolve("whole@1").is_file()
    assert not library.add(file, name="v").new  # and yet:
    assert library.verify() == ()
    assert resolve("v@1").read_bytes() == file.read_bytes()


def test_a_damaged_record_is_named_and_takes_no_other_with_it(library, tmp_path):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="a")
    library.add(write_pairs(tmp_path / "b.jsonl", word="b"), name="b")
    record = library.place.folder / "concepts" / "a" / "1.json"
    record.write_text(record.read_text()[:-30])
    (problem,) = library.verify()
    assert problem.file == str(record)
    with pytest.raises(ValueError, match=r"1\.json: the record is damaged"):
        library.find("a@1")
    assert library.find("b").version == 1
    assert library.add(
        write_pairs(tmp_path / "c.jsonl", word="c"), name="a"
    ).entry.label
    assert [entry.label for entry in library.list()] == ["a@2", "b@1"]
    with pytest.raises(ValueError, match="damaged"):
        prune(library)  # it may need any file


def test_a_damaged_version_takes_no_other_of_its_name_with_it(library, tmp_path):
    for word in "abc":
        library.add(write_pairs(tmp_path / f"{word}.jsonl", word=word), name="rage")
    record = library.place.folder / "concepts" / "rage" / "1.json"
    record.write_text("{")
    assert library.find("rage@2").version == 2
    assert library.find("rage").version == 3
    with pytest.raises(ValueError, match=r"1\.json: the record is damaged"):
        library.find("rage@1")
    with pytest.raises(KeyError, match="versions there: 2, 3"):
        library.find("rage@7")
    (record.parent / "3.json").write_text("")
    with pytest.raises(ValueError, match=r"3\.json: the record is damaged"):
        library.find("rage")  # the newest is wanted, not the newest that is whole
    with pytest.raises(ValueError, match=r"3\.json: the record is damaged"):
        library.remove("rage@1", prune=True)  # that one may need any file
    assert library.remove("rage@3").label == "rage@3"
    gone = library.remove("rage@1", prune=True)
    assert (gone.entry, len(gone.objects)) == (None, 2)
    assert [entry.label for entry in library.list()] == ["rage@2"]
    assert library.verify() == ()
    assert library.next_version("rage") == 4


def test_a_record_of_a_newer_contrans_is_left_alone(library, tmp_path):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="a")
    other = Library(tmp_path / "other")
    other.pull(library.place.folder)
    record = library.place.folder / "concepts" / "a" / "1.json"
    newer = json.dumps(json.loads(record.read_text()) | {"format": 2, "new": {}})
    record.write_text(newer)
    for action in (
        lambda: library.find("a@1"),
        lambda: library.remove("a@1"),
        lambda: library.pull(other),
        lambda: other.push(library),
    ):
        with pytest.raises(ValueError, match="install a newer contrans"):
            action()
    assert record.read_text() == newer


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"version": 2},
        {"kind": "program"},
        {"files": {"../../x.json": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"x.json": {"sha256": "../../etc", "bytes": 1}}},
        {"files": {}},
        {"parents": ["../x"]},
        {"id": "0" * 64},
        {"was": 3},
        {"about": {"marks": 5}},
        {"about": {"marks": [["x"]]}},
        {"about": {"needs": {}}},
        {"about": {"at": "12"}},
        {"about": {"model": "m"}},
        {"about": {"source": []}},
        {"about": {"pairs": [1]}},
        {"about": {"pairs": {"test": "many"}}},
        {"about": {"r2": float("nan")}},
    ],
)
def test_a_record_of_a_stranger_is_checked(library, tmp_path, change):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="a")
    record = library.place.folder / "concepts" / "a" / "1.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(ValueError, match="the record is damaged"):
        library.find("a@1")


@pytest.mark.parametrize("size", ["x", -1, 1.5, None, True])
def test_a_size_in_a_record_is_a_number(library, tmp_path, size):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="a")
    record = library.place.folder / "concepts" / "a" / "1.json"
    value = json.loads(record.read_text())
    value["files"]["pairs.jsonl"]["bytes"] = size
    record.write_text(json.dumps(value))
    with pytest.raises(ValueError, match="the size of a file is no whole number"):
        library.find("a@1")


def test_removal_keeps_the_number_and_the_files_until_pruned(library, tmp_path):
    one = write_pairs(tmp_path / "a.jsonl")
    library.add(one, name="a")
    library.add(one, name="same")
    library.add(write_pairs(tmp_path / "b.jsonl", word="b"), name="a")
    with pytest.raises(ValueError, match="name the version to remove"):
        library.remove("a")
    removed = library.remove("a@2")
    assert removed.objects == ()
    assert len(objects(library)) == 2
    gone = library.remove("a@1", prune=True)
    assert len(gone.objects) == 1  # that of a@2; same@1 needs the other
    assert library.verify() == ()
    assert [entry.label for entry in library.list()] == ["same@1"]
    assert library.add(one, name="a").entry.label == "a@3"


def test_what_others_came_from_is_not_removed_by_accident(library, tmp_path):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="pairs")
    file = write_vector(tmp_path / "v.safetensors")
    library.add(file, name="v", parents=["pairs@1"])
    with pytest.raises(ValueError, match=r"v@1 came from pairs@1.*--force"):
        library.remove("pairs@1", prune=True)
    assert library.verify() == ()
    library.add(tmp_path / "a.jsonl", name="copy")
    library.remove("pairs@1", prune=True)  # the same content stays as copy@1
    assert library.tree("v").parents[0].entry.label == "copy@1"
    library.remove("copy@1", force=True, prune=True)
    assert [entry.label for entry in library.list()] == ["v@1"]


def test_differences_of_vectors(library, tmp_path):
    first, second = a_vector(), a_vector(seed=1)
    artifacts.save(first, tmp_path / "1.safetensors")
    artifacts.save(replace(second, provenance={"seed": 2}), tmp_path / "2.safetensors")
    for file in ("1", "2"):
        library.add(tmp_path / f"{file}.safetensors", name="v")
    found = library.diff("v@1", "v@2")
    layer = found["layers"][0]
    expected = first[1] @ second[1] / (first[1].norm() * second[1].norm())
    assert layer["cosine"] == pytest.approx(float(expected), abs=1e-6)
    assert layer["one"]["length"] == pytest.approx(float(first[1].norm()), rel=1e-6)
    fields = {d["field"]: (d["one"], d["other"]) for d in found["differences"]}
    assert fields["provenance.seed"] == (None, 2)
    assert library.diff("v@1", "v@1")["same"]
    library.add(write_vector(tmp_path / "3.safetensors", model="def"), name="v")
    other = library.diff("v@1", "v@3")
    assert "no cosine" in other["spaces"]
    assert other["layers"][0]["cosine"] is None


def test_differences_of_pairs_and_of_metrics(library, tmp_path):
    write_pairs(tmp_path / "1.jsonl", n=10)
    write_pairs(tmp_path / "2.jsonl", n=12)
    for file in ("1", "2"):
        library.add(tmp_path / f"{file}.jsonl", name="p")
    found = library.diff("p@1", "p@2")["pairs"]
    assert (found["kept"], len(found["added"]), found["removed"]) == (10, 2, [])
    assert found["added"][0]["positive"] == "10 is glad"
    assert library.diff("p@2", "p@1")["pairs"]["removed"] == found["added"]
    library.add(write_results(tmp_path / "x"), name="r")
    library.add(write_results(tmp_path / "y", effect=0.7, seed=1), name="r")
    rows = {line["row"]: line for line in library.diff("r@1", "r@2")["metrics"]}
    sides = [rows["ridge"][side]["difference"]["value"] for side in ("one", "other")]
    assert sides == [0.5, 0.7]
    settings = {d["field"] for d in library.diff("r@1", "r@2")["differences"]}
    assert "settings.seed" in settings


def test_an_interrupted_add_leaves_no_entry(library, tmp_path, monkeypatch):
    library.add(write_pairs(tmp_path / "a.jsonl"), name="a")
    file = write_pairs(tmp_path / "b.jsonl", word="b")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("contrans.library.storage.publish", stop)
        with pytest.raises(KeyboardInterrupt):
            library.add(file, name="a")
    assert [entry.label for entry in library.list()] == ["a@1"]
    assert library.verify() == ()
    assert not list(library.place.folder.rglob(".part-*"))
    assert library.add(file, name="a").entry.label == "a@2"


def test_a_full_disk_changes_nothing(library, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("contrans.library.storage.os.fsync", full)
        with pytest.raises(OSError, match=r"No space left on device; nothing was"):
            library.add(write_pairs(tmp_path / "a.jsonl"), name="a")
    assert library.list() == ()
    assert not [p for p in library.place.folder.rglob("*") if p.is_file()]
