"""GGUF files as models: what is read, converted once, and refused."""

import struct
from pathlib import Path

import pytest
import torch

from contrans import load_model
from contrans.export.gguf.model import write_model
from contrans.models.gguf import as_folder, is_gguf, locate

TEXTS = ["The meeting was moved again.", "Ada lost her book and walked home."]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest embedded model as a GGUF file."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_model("zoo/small", path)
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "gguf-cache"
    monkeypatch.setenv("CONTRANS_CACHE", str(folder))


def test_a_gguf_file_is_the_model_it_was_made_from(small):
    there, here = load_model("zoo/small"), load_model(small)
    assert here.encode(TEXTS) == there.encode(TEXTS)
    assert here.tokenizer_hash == there.tokenizer_hash
    odd = ["<|endoftext|>"]  # a token that transformers' converter invents
    assert here.encode(odd) == there.encode(odd)
    ids = torch.tensor(there.encode(TEXTS[:1]))
    with torch.no_grad():
        wanted, found = there.model(ids).logits, here.model(ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    texts = [lm.generate(TEXTS[0]).strip() for lm in (here, there)]  # 4.56 strips
    assert texts[0] == texts[1]
    assert here.name == str(small)


def test_it_is_converted_once_and_again_when_its_content_changes(small, tmp_path):
    first = as_folder(small)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    copy = tmp_path / "renamed.gguf"
    copy.write_bytes(small.read_bytes())
    assert as_folder(copy) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    raw = bytearray(small.read_bytes())
    raw[-64:-60] = struct.pack("<f", 0.5)  # one number of the last tensor
    copy.write_bytes(raw)
    assert as_folder(copy) != first
    assert load_model(copy).fingerprint is not None


def test_an_interrupted_conversion_is_made_again(small):
    folder = as_folder(small)
    (folder / "contrans-gguf.json").unlink()
    (folder / "model.safetensors").write_bytes(b"cut")
    assert as_folder(small) == folder
    assert (folder / "model.safetensors").stat().st_size > 1000


def _with_metadata(small: Path, old: bytes, new: bytes) -> bytes:
    raw = small.read_bytes()
    assert raw.count(old) >= 1
    assert len(old) == len(new)
    return raw.replace(old, new, 1)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cut", lambda p: p.read_bytes()[:-200_000], "damaged or cut short"),
        ("text", lambda _: b"version https://git-lfs", "not a GGUF file"),
        ("empty", lambda _: b"", "not a GGUF file"),
        (
            "architecture",
            lambda p: p.read_bytes().replace(b"llama", b"lxama"),
            "of architecture 'lxama'",
        ),
        (
            "no tokenizer",
            lambda p: _with_metadata(
                p, b"tokenizer.ggml.tokens", b"tokenizer.ggml.xokens"
            ),
            "has no tokenizer",
        ),
        (
            "a tensor less",
            lambda p: _with_metadata(p, b"blk.1.attn_q.weight", b"blk.9.attn_q.weight"),
            "lacks 1 of the model's tensors",
        ),
    ],
)
def test_what_is_no_whole_model_is_named(small, tmp_path, name, change, message):
    path = tmp_path / f"{name}.gguf"
    path.write_bytes(change(small))
    with pytest.raises(ValueError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_numbers_that_are_none_are_refused(small, tmp_path):
    raw = bytearray(small.read_bytes())
    raw[-64:-60] = struct.pack("<f", float("nan"))
    path = tmp_path / "nan.gguf"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="NaN or infinite"):
        load_model(path)


def test_a_name_that_is_no_file_says_what_would_be_one(tmp_path):
    assert is_gguf("org/repo:a.Q4_K_M.gguf")
    for name in ("nothing.gguf", str(tmp_path / "a.gguf"), "repo:a.gguf"):
        with pytest.raises(FileNotFoundError, match=r"org/repo:file\.gguf"):
            locate(name)
    with pytest.raises(FileNotFoundError, match="reached on the hub"):
        locate("org/repo:a.gguf")
