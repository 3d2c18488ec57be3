"""Files: round trips, nothing half-written, nothing overwritten silently."""

import errno
import io
import json
import pickle
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import contrans as ct
from contrans.core.artifacts import load, read_header, save
from contrans.core.cache import Cache, cache_folder, tensor_digest
from contrans.core.files import atomic, digest, write_json
from contrans.core.types import ConceptVector, HiddenStates, PairedStates
from contrans.vectors.maps import METHODS, fit_linear_map


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hidden(**changes) -> HiddenStates:
    known = {
        "layers": (1, 3),
        "model": "abc",
        "name": "tiny",
        "provenance": {"data": "d", "n": 9, "parents": [{"x": 1.5}, None]},
    }
    return HiddenStates(draw(9, 2, 6), **{**known, **changes})


def vector(**changes) -> ConceptVector:
    known = {"layers": (1, 3), "model": "abc", "concept": "anger", "name": "tiny"}
    return ConceptVector(draw(2, 6), **{**known, **changes})


def a_map(method: str = "ridge") -> ct.LinearMap:
    return fit_linear_map(
        hidden(), hidden(model="def"), source_layer=1, target_layer=3, method=method
    )


ARTEFACTS = {
    "states": hidden,
    "tokens": lambda: hidden(position="all", counts=(4, 5)),
    "pairs": lambda: PairedStates(hidden(), hidden(), "anger"),
    "vector": vector,
    "vector with norms": lambda: vector(norms=torch.tensor([2.0, 3.0])),
    **{f"map {method}": (lambda m=method: a_map(m)) for method in METHODS},
}


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif is_dataclass(one):
        for field in fields(one):
            assert_equal(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


@pytest.fixture
def kept(tmp_path) -> Path:
    """A vector that a user made."""
    path = tmp_path / "anger.safetensors"
    save(vector(), path)
    return path


@pytest.mark.parametrize("make", ARTEFACTS.values(), ids=list(ARTEFACTS))
def test_round_trip(make, tmp_path):
    value = make()
    save(value, tmp_path / "deep" / "value.safetensors")
    assert_equal(load(tmp_path / "deep" / "value.safetensors"), value)


def test_tensors_that_share_memory_can_be_saved(tmp_path):
    states = hidden()
    save(PairedStates(states, states), tmp_path / "pairs.safetensors")
    found = load(tmp_path / "pairs.safetensors")
    assert torch.equal(found.negative.values, states.values)


def test_header_is_read_alone_and_knows_the_version(kept):
    header = read_header(kept)
    assert header["kind"] == "concept-vector"
    assert header["version"] == ct.__version__
    assert header["layers"] == [1, 3]


def test_nothing_is_overwritten_silently(kept):
    before = kept.read_bytes()
    with pytest.raises(FileExistsError, match=r"not overwritten.*--force"):
        save(vector(concept="joy"), kept)
    with pytest.raises(FileExistsError):
        write_json(kept, {})
    assert kept.read_bytes() == before
    save(vector(concept="joy"), kept, force=True)
    assert load(kept).concept == "joy"


@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_leaves_the_old_file(kept, monkeypatch, kind):
    before = kept.read_bytes()

    def half_a_file(path, data):
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise kind

    monkeypatch.setattr(Path, "write_bytes", half_a_file)
    with pytest.raises(
        OSError, match=r"No space left on device; nothing was changed"
    ) as e:
        save(vector(concept="joy"), kept, force=True)
    assert e.value.errno == errno.ENOSPC
    assert kept.read_bytes() == before
    assert list(kept.parent.iterdir()) == [kept]


def test_a_full_disk_before_the_first_byte_says_the_same(kept, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(OSError, match="nothing was changed"):
        save(vector(), kept, force=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_the_old_file(kept, error):
    def write():
        with atomic(kept, force=True) as temporary:
            temporary.write_text("half")
            raise error

    before = kept.read_bytes()
    with pytest.raises(error):
        write()
    assert kept.read_bytes() == before
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize("share", [0, 4, 0.3, 0.9])
def test_a_truncated_file_is_named(kept, share):
    whole = kept.read_bytes()
    size = share if isinstance(share, int) else int(len(whole) * share)
    kept.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r"anger.safetensors.*truncated"):
        load(kept)


def test_foreign_files_are_refused(tmp_path):
    foreign = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(2)}, foreign)
    with pytest.raises(ValueError, match="not one of contrans"):
        load(foreign)
    with pytest.raises(FileNotFoundError, match="check the name"):
        load(tmp_path / "missing.safetensors")
    with pytest.raises(FileNotFoundError):
        load(tmp_path)


def test_the_wrong_or_an_unknown_kind_is_refused(kept, tmp_path):
    with pytest.raises(ValueError, match=r"'concept-vector'; this needs 'linear-map'"):
        load(kept, "linear-map")
    assert load(kept, "concept-vector").concept == "anger"
    newer = tmp_path / "newer.safetensors"
    header = {"contrans": json.dumps({"kind": "dream", "version": "9"})}
    save_file({"x": torch.ones(1)}, newer, metadata=header)
    with pytest.raises(ValueError, match="newer contrans"):
        load(newer)


@pytest.mark.parametrize("meta", ["no json", json.dumps({"kind": "linear-map"}), "[]"])
def test_a_damaged_header_is_a_value_error(tmp_path, meta):
    path = tmp_path / "damaged.safetensors"
    save_file({"x": torch.ones(1)}, path, metadata={"contrans": meta})
    with pytest.raises(ValueError, match="damaged"):
        load(path)


def test_files_of_other_tools_are_told_apart(tmp_path):
    path = tmp_path / "v.safetensors"
    archive = io.BytesIO()
    np.savez(archive, v=np.ones(3))
    array = io.BytesIO()
    np.save(array, np.ones(3))
    for raw, said in (
        (array.getvalue(), "NumPy array"),
        (archive.getvalue(), "zip archive"),
        (pickle.dumps({"v": 1}), "pickle"),
        (b"GGUF\x03\0\0\0" + bytes(40), "GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x80\0\0\0\0\0\0\0{}", "not a readable safetensors"),
    ):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=said):
            load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", None),
        ("layers", [1, "3"]),
        ("layers", [1.0, 3]),
        ("layers", {"1": 3}),
        ("model", None),
        ("concept", 7),
        ("name", ["tiny"]),
        ("provenance", None),
        ("provenance", "none"),
        ("kind", None),
        ("kind", ["concept-vector"]),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path, field, value):
    path = tmp_path / "v.safetensors"
    save(vector(), path)
    meta = read_header(path) | {field: value}
    save_file({"directions": draw(2, 6)}, path, metadata={"contrans": json.dumps(meta)})
    with pytest.raises(ValueError, match=f"v.safetensors is damaged.*{field}"):
        load(path)


@pytest.mark.parametrize("said", [None, "2", [2.0], True, float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(said):
    with pytest.raises(ValueError, match="no finite number"):
        _ = vector(provenance={"strength": said}).strength
    assert vector(provenance={"strength": 2}).strength == 2.0
    assert vector().strength == 1.0


def test_only_artefacts_are_saved(tmp_path):
    with pytest.raises(Exception, match="ConceptVector"):
        save({"a": 1}, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_cache_makes_each_value_once(tmp_path):
    cache, made = Cache(tmp_path), []

    def make():
        made.append(1)
        return vector()

    first = cache.artefact({"model": "abc", "layers": [1]}, make)
    second = cache.artefact({"layers": [1], "model": "abc"}, make)
    assert_equal(first, second)
    assert (len(made), cache.hits, cache.misses) == (1, 1, 1)
    cache.artefact({"layers": [2], "model": "abc"}, make)
    assert len(made) == 2
    assert cache.json("key", lambda: {"a": [1, 2.5]}) == {"a": [1, 2.5]}
    assert cache.json("key", lambda: pytest.fail("made twice")) == {"a": [1, 2.5]}


@pytest.mark.parametrize("damage", ["truncate", "foreign", "header", "empty"])
def test_a_damaged_cache_entry_is_made_again(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.artefact("key", vector)
    (entry,) = tmp_path.iterdir()
    if damage == "truncate":
        entry.write_bytes(entry.read_bytes()[:-7])
    elif damage == "empty":
        entry.write_bytes(b"")
    else:
        kind = json.dumps({"kind": "concept-vector"})
        meta = {"contrans": kind} if damage == "header" else None
        save_file({"x": torch.ones(1)}, entry, metadata=meta)
    assert_equal(cache.artefact("key", vector), vector())
    assert cache.misses == 2
    assert_equal(load(entry), vector())


def test_a_plain_value_is_the_same_on_every_use(tmp_path):
    cache = Cache(tmp_path)
    odd = {"pair": (1.0, float("nan")), "far": float("-inf"), 3: None}
    first = cache.json("key", lambda: odd)
    second = cache.json("key", lambda: pytest.fail("made twice"))
    assert repr(first) == repr(second)
    assert repr(first["pair"]) == "[1.0, nan]"
    assert (cache.hits, cache.misses) == (1, 1)


def test_a_damaged_json_entry_is_made_again(tmp_path):
    cache = Cache(tmp_path)
    cache.json("key", lambda: [1])
    (entry,) = tmp_path.iterdir()
    entry.write_text("[1")
    assert cache.json("key", lambda: [2]) == [2]


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CONTRANS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("CONTRANS_CACHE")
    assert cache_folder().name == "contrans"


def test_digests_follow_content():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2})
    ones = torch.ones(2, 3)
    assert tensor_digest(ones) == tensor_digest(ones.T.contiguous().T)
    assert tensor_digest(ones) != tensor_digest(torch.ones(3, 2))
    assert tensor_digest(torch.tensor(1.0)) != tensor_digest(torch.tensor(2.0))
    assert tensor_digest(ones.bfloat16()) != tensor_digest(ones.half())
