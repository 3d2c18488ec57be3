"""Sharing a library: one code path for folders, memory, S3; nothing lost on the way."""

import sys
from pathlib import Path

import fsspec
import pytest

from contrans.library import Library
from contrans.library.entries import object_name
from contrans.library.storage import Place

sys.path.insert(0, str(Path(__file__).parents[1]))
from library_parts import write_pairs, write_results, write_vector


@pytest.fixture(scope="module")
def s3_server():
    """A server on this machine that speaks the S3 protocol."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def remote(request, tmp_path, monkeypatch) -> str:
    """The address of an empty store."""
    if request.param == "folder":
        return str(tmp_path / "shared")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return "memory://team/concepts"
    address = request.getfixturevalue("s3_server")
    for key, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    store = fsspec.filesystem("s3")
    bucket = f"bucket-{abs(hash(str(tmp_path)))}"
    store.mkdir(bucket)
    return f"s3://{bucket}/concepts"


@pytest.fixture
def people(tmp_path) -> tuple[Library, Library]:
    """Two people, each with a library."""
    return Library(tmp_path / "ann"), Library(tmp_path / "bob")


@pytest.fixture
def pairs(tmp_path) -> dict[str, Path]:
    """Files of pairs of different content."""
    return {w: write_pairs(tmp_path / f"{w}.jsonl", word=w) for w in ("x", "y", "z")}


def labels(library: Library) -> dict[str, str]:
    return {entry.label: entry.id for entry in library.list()}


def test_what_is_pushed_can_be_pulled(remote, people, pairs, tmp_path):
    ann, bob = people
    with pytest.raises(FileNotFoundError, match="no concept library at"):
        bob.pull(remote)
    ann.add(pairs["x"], name="pairs", note="reviewed")
    ann.add(write_results(tmp_path / "run"), name="moved", parents=["pairs"])
    done = ann.push(remote)
    assert [entry.label for entry in done.entries] == ["moved@1", "pairs@1"]
    assert done.objects == 4
    again = ann.push(remote)
    assert (again.objects, again.entries, len(again.present)) == (0, (), 2)
    there = Library(remote)
    assert there.verify() == ()
    assert labels(there) == labels(ann)

    pulled = bob.pull(remote)
    assert (pulled.objects, pulled.bytes) == (done.objects, done.bytes)
    assert bob.list() == ann.list()  # notes, dates, metrics and parents too
    assert bob.verify() == ()
    assert bob.tree("moved") == ann.tree("moved")


def test_only_what_is_missing_is_copied(remote, people, pairs):
    ann, bob = people
    ann.add(pairs["x"], name="a")
    ann.push(remote)
    ann.add(pairs["x"], name="b")  # the same file under another name
    ann.add(pairs["y"], name="a")
    counted = []
    done = ann.push(remote, progress=lambda i, n: counted.append((i, n)))
    assert [entry.label for entry in done.entries] == ["a@2", "b@1"]
    assert counted == [(1, 1)]
    bob.add(pairs["y"], name="own")
    assert bob.pull(remote).objects == 1


def test_a_name_comes_with_what_it_was_made_from(remote, people, pairs, tmp_path):
    ann, bob = people
    ann.add(pairs["x"], name="pairs")
    ann.add(pairs["y"], name="other")
    ann.add(write_vector(tmp_path / "v.safetensors"), name="v", parents=["pairs"])
    ann.push(remote)
    bob.pull(remote, ["v@1"])
    assert set(labels(bob)) == {"v@1", "pairs@1"}
    with pytest.raises(KeyError, match="did you mean 'other@1'"):
        bob.pull(remote, ["othr"])


def test_the_same_number_for_different_content_loses_nothing(remote, people, pairs):
    ann, bob = people
    ann.add(pairs["x"], name="a")
    bob.add(pairs["y"], name="a")
    bob.add(pairs["z"], name="b")
    ann.push(remote)
    before = labels(bob)
    for action in (bob.push, bob.pull):
        with pytest.raises(ValueError, match=r"a@1 .*pull .* --renumber"):
            action(remote)
    assert labels(bob) == before  # nothing was copied, in either direction
    assert labels(Library(remote)) == labels(ann)

    done = bob.pull(remote, renumber=True)
    assert done.renumbered == (("a@1", "a@2"),)
    assert labels(bob) == {
        "a@1": labels(ann)["a@1"],
        "a@2": before["a@1"],
        "b@1": before["b@1"],
    }
    assert bob.find("a@2").was == "a@1"
    bob.push(remote)
    ann.pull(remote)
    assert labels(ann) == labels(bob) == labels(Library(remote))
    assert bob.pull(remote, renumber=True).renumbered == ()


def test_the_same_content_under_the_same_number_is_no_conflict(remote, people, pairs):
    ann, bob = people
    ann.add(pairs["x"], name="a", note="mine")
    bob.add(pairs["x"], name="a", note="yours")
    ann.push(remote)
    assert bob.push(remote).entries == ()
    assert bob.pull(remote).entries == ()
    assert bob.find("a").note == "yours"


def test_what_was_removed_does_not_come_back_by_itself(remote, people, pairs):
    ann, _ = people
    ann.add(pairs["x"], name="a")
    ann.add(pairs["y"], name="a")
    ann.push(remote)
    ann.remove("a@1", prune=True)
    assert ann.pull(remote).left == ("a@1",)
    assert set(labels(ann)) == {"a@2"}
    assert ann.pull(remote, ["a@1"]).left == ()
    assert set(labels(ann)) == {"a@1", "a@2"}
    assert ann.verify() == ()
    assert Library(remote).remove("a@2").entry.label == "a@2"
    assert ann.push(remote).left == ("a@2",)


def test_a_file_that_is_damaged_there_is_refused_on_arrival(remote, people, pairs):
    ann, bob = people
    ann.add(pairs["x"], name="a")
    ann.push(remote)
    place = Place(remote)
    file = ann.find("a").files["pairs.jsonl"]
    name = object_name(file.sha256, "pairs.jsonl")
    place.put(name, b"!" * file.bytes)
    with pytest.raises(
        ValueError, match=r"pairs.jsonl of a@1 is corrupted: .*objects/"
    ):
        bob.pull(remote)
    assert bob.list() == ()
    (problem,) = Library(remote).verify()
    assert problem.entries == ("a@1",)
    assert Library(remote).add(pairs["x"], name="a").entry.label == "a@1"  # mends it
    assert len(bob.pull(remote).entries) == 1


def test_a_damaged_file_here_is_not_spread(remote, people, pairs):
    ann, _ = people
    entry = ann.add(pairs["x"], name="a").entry
    ann.place.put(object_name(entry.files["pairs.jsonl"].sha256, ".jsonl"), b"!")
    with pytest.raises(ValueError, match="of a@1 is corrupted"):
        ann.push(remote)
    assert labels(Library(remote)) == {}


@pytest.mark.parametrize("damage", ["gone", "cut", "flip"])
def test_what_is_damaged_is_mended_from_the_other_side(remote, people, pairs, damage):
    ann, _ = people
    entry = ann.add(pairs["x"], name="a").entry
    ann.add(pairs["y"], name="b")
    ann.push(remote)
    there = Library(remote)
    ((name, file),) = entry.objects().items()

    def harm(library: Library):
        if damage == "gone":
            library.place.delete(name)
        else:
            library.place.put(name, b"!" * (file.bytes - (damage == "cut")))
        assert len(library.verify()) == 1

    harm(ann)
    done = ann.pull(remote)
    assert (done.entries, done.objects) == ((), 1)
    assert ann.verify() == ()
    harm(there)
    assert ann.push(remote, ["a@1"]).objects == 1
    assert there.verify() == ()
    assert ann.push(remote).objects == ann.pull(remote).objects == 0


def test_wrong_bytes_of_the_right_size_are_not_taken_for_the_file(people, pairs):
    ann, bob = people
    ((name, file),) = ann.add(pairs["x"], name="a").entry.objects().items()
    bob.place.put(name, b"!" * file.bytes)
    assert bob.pull(ann).objects == 1
    assert bob.verify() == ()


def test_a_damaged_record_is_written_anew(remote, people, pairs):
    ann, bob = people
    ann.add(pairs["x"], name="rage")
    ann.add(pairs["y"], name="rage")
    ann.push(remote)
    bob.pull(remote)
    there = Library(remote)
    for library, mend in ((bob, bob.pull), (there, ann.push)):
        library.place.put("concepts/rage/1.json", b"{")
        assert [entry.label for entry in mend(remote).entries] == ["rage@1"]
        assert library.find("rage@1") == ann.find("rage@1")
        assert library.verify() == ()
    there.place.put("concepts/rage/1.json", b"{")
    carl = Library(bob.place.folder.parent / "carl")
    assert len(carl.pull(remote, ["rage@2"]).entries) == 1
    with pytest.raises(ValueError, match="record is damaged"):
        carl.pull(remote, ["rage@1"])
    with pytest.raises(ValueError, match="record is damaged"):
        carl.pull(remote)


def test_an_interrupted_push_shows_nothing_and_goes_on(remote, people, pairs):
    ann, bob = people
    for word, file in pairs.items():
        ann.add(file, name=word)

    def stop(done: int, _total: int):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ann.push(remote, progress=stop)
    assert Library(remote).list() == ()
    assert Library(remote).verify() == ()
    assert bob.pull(remote).entries == ()
    rest = ann.push(remote)
    assert (rest.objects, len(rest.entries)) == (1, 3)
    with pytest.raises(KeyboardInterrupt):
        bob.pull(remote, progress=stop)
    assert bob.list() == ()
    assert bob.pull(remote).objects == 1


def test_entries_are_used_where_they_lie(remote, people, pairs, tmp_path, monkeypatch):
    ann, _ = people
    monkeypatch.setenv("CONTRANS_CACHE", str(tmp_path / "cache"))
    ann.add(pairs["x"], name="a")
    ann.push(remote)
    from contrans.library import resolve

    for _ in range(2):
        assert resolve("a@1", library=Library(remote)).read_bytes() == (
            pairs["x"].read_bytes()
        )


def test_two_that_create_the_same_record_do_not_overwrite(remote):
    place = Place(remote)
    place.create("concepts/a/1.json", b"first")
    with pytest.raises(FileExistsError):
        place.create("concepts/a/1.json", b"second")
    assert place.read("concepts/a/1.json") == b"first"


def test_a_push_that_lost_the_race_says_so(remote, people, pairs):
    ann, bob = people
    ann.add(pairs["x"], name="a")
    bob.add(pairs["y"], name="a")

    def meanwhile(*_):
        bob.push(remote)  # between ann's look and ann's record

    with pytest.raises(ValueError, match="--renumber"):
        ann.push(remote, progress=meanwhile)
    assert labels(Library(remote)) == labels(bob)
    ann.pull(remote, renumber=True)
    assert len(labels(ann)) == 2


def test_addresses_that_cannot_be_reached():
    with pytest.raises(ValueError, match="cannot reach 'ftpx://a'"):
        Library("ftpx://a")
    hub = Library("hf://datasets/nobody/concepts")  # real code, opened without network
    assert hub.place.folder is None


def test_a_missing_package_is_named(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ImportError, match=r'pip install "contrans\[s3\]"'):
        Library("s3://bucket/concepts")
