"""Models that are not whole: each kind of damage is named, at loading and at baking."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from contrans.control.steer import Steer
from contrans.export.checkpoint.bake import bake
from contrans.models.loading import load_model

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def folder(make_lm, tmp_path) -> Path:
    """A sound checkpoint with its tokenizer."""
    lm = make_lm("llama")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def config(**fields):
    """A config.json with some fields changed; None takes one out."""

    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        raw = {**json.loads(path.read_text()), **fields}
        path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))

    return spoil


def tensors(change):
    """Weights after a change of the dict of tensors."""

    def spoil(folder: Path) -> None:
        found = {k: v.clone() for k, v in load_file(folder / SINGLE).items()}
        save_file(change(found) or found, folder / SINGLE, {"format": "pt"})

    return spoil


def put(name, value):
    """A tensor with one number replaced."""

    def change(found):
        found[name].view(-1)[7] = value

    return tensors(change)


def write(name, content):
    """A file with other content."""

    def spoil(folder: Path) -> None:
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).write_text(content)

    return spoil


def cut(share):
    """Weights of which the end is lost."""

    def spoil(folder: Path) -> None:
        raw = (folder / SINGLE).read_bytes()
        (folder / SINGLE).write_bytes(raw[: int(len(raw) * share)])

    return spoil


def index(weight_map, **files):
    """Weights in shards: "weight_map" as given, or made of the single file."""

    def spoil(folder: Path) -> None:
        (folder / SINGLE).rename(folder / "a.safetensors")
        raw = weight_map if isinstance(weight_map, str) else json.dumps(weight_map)
        (folder / INDEX).write_text(raw)
        for name, content in files.items():
            (folder / name).write_text(content)

    return spoil


def drop(*names):
    """A folder without some files."""

    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def pickled(folder: Path) -> None:
    """Weights as a pickle that would write a file when it is read."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (folder / "ran",)

    (folder / SINGLE).unlink()
    torch.save({"a": Trap()}, folder / "pytorch_model.bin")


def without(*parts):
    """Weights without the tensors whose names hold one of these."""
    return tensors(
        lambda found: {k: v for k, v in found.items() if not any(p in k for p in parts)}
    )


DAMAGE = {
    "a tensor less": (
        without(UP),
        "lacks 1 of the model's tensors, such as 'model.layers",
    ),
    "no head": (without("lm_head"), r"lacks 1 .* 'lm_head.weight'"),
    "no embedding": (without("embed_tokens"), "lacks 1 of the model's tensors"),
    "a layer less": (
        without("layers.2."),
        r"num_hidden_layers 3, but .* hold 2 blocks",
    ),
    "a bias more": (
        tensors(lambda f: f.update({UP.replace("weight", "bias"): torch.ones(64)})),
        "1 tensors that its config.json has no place for, such as 'model.layers.1",
    ),
    "a norm's bias": (
        tensors(lambda f: f.update({"model.norm.bias": torch.ones(32)})),
        "no place for, such as 'model.norm.bias'",
    ),
    "more layers": (config(num_hidden_layers=5), r"num_hidden_layers 5, .* 3 blocks"),
    "fewer layers": (config(num_hidden_layers=2), r"num_hidden_layers 2, .* 3 blocks"),
    "no layers": (config(num_hidden_layers=0), r"num_hidden_layers 0, .* 3 blocks"),
    "minus layers": (
        config(num_hidden_layers=-1),
        r"num_hidden_layers -1, .* 3 blocks",
    ),
    "wider": (config(intermediate_size=48), r"to have the shape \[.*48.*\]"),
    "other vocabulary": (config(vocab_size=400), r"to have the shape \[400, 32\]"),
    "NaN": (put(UP, float("nan")), "none .NaN or infinite. in 'model.layers.1.mlp.up"),
    "infinite": (put("model.norm.weight", float("inf")), "NaN or infinite"),
    "minus infinite": (put("lm_head.weight", float("-inf")), "NaN or infinite"),
    "half a file": (cut(0.5), r"model.safetensors cannot be read .*truncated"),
    "all but the end": (cut(0.999), r"model.safetensors cannot be read .*truncated"),
    "an empty file": (cut(0), r"model.safetensors cannot be read .*truncated"),
    "a pointer": (
        write(SINGLE, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "pointer of git-lfs, not the weights; fetch them",
    ),
    "a header too long": (
        write(SINGLE, struct.pack("<Q", 1 << 60) + b"{}"),
        "cannot be read",
    ),
    "another file": (write(SINGLE, b"PK\x03\x04" * 99), "cannot be read"),
    "a pickle": (pickled, r"pickle \(pytorch_model.bin\), which can run code"),
    "no weights": (drop(SINGLE), "has neither model.safetensors nor"),
    "no config": (drop("config.json"), "has no config.json"),
    "a broken config": (write("config.json", "{"), "config.json is not readable JSON"),
    "an empty config": (write("config.json", ""), "config.json is not readable JSON"),
    "no object": (write("config.json", "[1]"), "config.json holds no JSON object"),
    "not UTF-8": (write("config.json", b"\xff\xfe{"), "not readable JSON"),
    "deep": (write("config.json", "[" * 99_999), "not readable JSON"),
    "no type": (config(model_type=None), "cannot be read"),
    "an unknown type": (config(model_type="nothing-such"), "cannot be read"),
    "text for a number": (config(hidden_size="wide"), "cannot be read"),
    "a list for a number": (config(num_hidden_layers=[3]), "cannot be read"),
    "a number for text": (config(hidden_act=3), "cannot be read"),
    "an unknown activation": (config(hidden_act="nothing"), "cannot be read"),
    "heads that do not divide": (
        config(num_attention_heads=5, head_dim=None),
        r"cannot be read|shape",
    ),
    "no heads": (config(num_attention_heads=0, head_dim=None), r"cannot be read|shape"),
    "an index of no object": (index("[1]"), "holds no JSON object"),
    "an index without map": (index({"metadata": {}}), "no weight_map"),
    "an index of a list": (index({"weight_map": ["a"]}), "no weight_map"),
    "an index of numbers": (index({"weight_map": {"a": 3}}), "not a plain file name"),
    "an index of paths": (
        index({"weight_map": {"a": "../a.safetensors"}}),
        "do not trust",
    ),
    "an absolute index": (
        index({"weight_map": {"a": "/etc/hostname"}}),
        "do not trust",
    ),
    "a shard less": (
        index({"weight_map": {"a": "b.safetensors"}}),
        "lacks b.safetensors",
    ),
    "a false index": (
        index({"weight_map": {"nothing": "a.safetensors"}}),
        "a.safetensors holds 'nothing', which it does not",
    ),
    "a broken tokenizer": (
        write("tokenizer.json", "{"),
        "tokenizer of .* cannot be read .*tokenizer.json",
    ),
    "an empty tokenizer": (write("tokenizer.json", "{}"), "tokenizer of .* cannot be"),
    "no tokenizer": (
        drop("tokenizer.json", "tokenizer_config.json"),
        "tokenizer of .*tokenizer files",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_by_loading_and_by_baking(
    folder, llama, make_vector, tmp_path, kind
):
    spoil, message = DAMAGE[kind]
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as loading:
        load_model(folder, dtype="float32")
    steer = Steer(make_vector(llama), any_model=True)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as baking:
        bake(steer, folder, tmp_path / "out")
    for said in (str(loading.value), str(baking.value)):
        assert len(said) < 800
        assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert not (folder / "ran").exists()


def test_weights_that_do_not_fit_the_dtype_are_refused(folder):
    put(UP, 1e30)(folder)
    assert load_model(folder, dtype="float32").layers == 3
    with pytest.raises(ValueError, match="load it in bfloat16 or float32"):
        load_model(folder, dtype="float16")


def test_a_tokenizer_of_another_model_is_refused(folder):
    config(vocab_size=50)(folder)
    tensors(
        lambda f: f.update(
            {k: f[k][:50].clone() for k in f if k[0] == "l" or "emb" in k}
        )
    )(folder)
    with pytest.raises(
        ValueError, match="embedding has 50 rows: it is of another model"
    ):
        load_model(folder)


def test_what_a_text_model_has_no_use_for_is_said(
    folder, llama, make_vector, tmp_path, caplog
):
    """Heads of other tasks and buffers of old releases are no damage."""
    rotary = "model.layers.0.self_attn.rotary_emb.inv_freq"
    tensors(
        lambda f: f.update(
            {"v_head.summary.weight": torch.ones(1, 32), rotary: torch.ones(4)}
        )
    )(folder)
    assert load_model(folder, dtype="float32").fingerprint == llama.fingerprint
    assert "does not use, such as 'v_head.summary.weight'" in caplog.text
    bake(Steer(make_vector(llama)), folder, tmp_path / "out")
    assert load_model(tmp_path / "out", dtype="float32").layers == 3


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_tied_heads_are_not_missed(make_lm, tmp_path, family):
    lm = make_lm(family, tie_word_embeddings=True)
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / SINGLE)
    assert load_model(tmp_path, dtype="float32").fingerprint == lm.fingerprint
