"""What baking does with the vector, the strength, and with mistakes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from baking import logits, random_steer, random_vector, write_model

import contrans as ct
from contrans.control.steer import Steer, compose
from contrans.export.checkpoint.bake import bake
from contrans.export.checkpoint.checkpoint import open_checkpoint
from contrans.models.anatomy import UnsupportedModelError
from contrans.models.edits import NoControl
from contrans.models.loading import load_model

CLOSE = 1e-4
"""Logits reach 20 in float32; a bias and a hook add in another order."""
HALF = 0.15
"""The same in bfloat16, whose numbers near 8 are 0.06 apart."""


@pytest.fixture
def base(make_lm, tmp_path):
    """A tiny Llama, in memory and on disk."""
    lm = make_lm("llama")
    return lm, write_model(lm, tmp_path / "base")


def same(folder, wanted, tolerance=CLOSE):
    found = logits(load_model(folder, dtype="float32"))
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


def test_chosen_layers_strength_and_unit(base, tmp_path):
    lm, folder = base
    vector = ct.control.with_norms(random_vector(lm), {0: 5.0, 1: 6.0, 2: 7.0})
    steer = Steer(vector, layers=[-1, 0], strength=-0.4, unit="relative")
    report = bake(steer, folder, tmp_path / "out")
    assert report.layers == (0, 2)
    assert report.lengths == pytest.approx({0: 2.0, 2: 2.8})
    same(tmp_path / "out", logits(lm, steer))


def test_several_at_once_add_up(base, tmp_path):
    lm, folder = base
    one = Steer(random_vector(lm, seed=1), layers=[0, 1], strength=2.0)
    both = compose(one, Steer(random_vector(lm, seed=2), layers=[1], strength=-1.0))
    report = bake(both, folder, tmp_path / "out")
    assert report.layers == (0, 1)
    same(tmp_path / "out", logits(lm, both))


def test_a_bare_vector_is_added_once(base, tmp_path):
    lm, folder = base
    vector = random_vector(lm)
    report = bake(vector, folder, tmp_path / "out")
    wanted = {layer: float(vector[layer].norm()) for layer in vector.layers}
    assert report.lengths == pytest.approx(wanted)
    same(tmp_path / "out", logits(lm, Steer(vector)))


def test_baking_twice_adds_both(base, tmp_path):
    lm, folder = base
    steer = random_steer(lm)
    bake(steer, folder, tmp_path / "once")
    once = load_model(tmp_path / "once")
    back = Steer(-steer.vector, strength=steer.strength, any_model=True)
    bake(back, tmp_path / "once", tmp_path / "twice")
    same(tmp_path / "twice", logits(lm))
    assert (logits(once) - logits(lm)).abs().max() > 1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_half_precision_keeps_its_dtype_and_says_the_rounding(
    family, make_lm, tmp_path
):
    lm = make_lm(family)
    lm.model.to(torch.bfloat16)
    folder = write_model(lm, tmp_path / "base")
    report = bake(random_steer(lm), folder, tmp_path / "out")
    assert report.dtypes == ("BF16",)
    assert 1e-4 < report.rounding < 2**-8
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert "stored as BF16" in (tmp_path / "out" / "README.md").read_text()
    full = load_model(folder, dtype="float32")
    steer = random_steer(full)
    same(tmp_path / "out", logits(full, steer), HALF)


def test_an_edit_too_large_for_half_precision_is_refused(make_lm, tmp_path):
    lm = make_lm("llama")
    lm.model.to(torch.float16)
    folder = write_model(lm, tmp_path / "base")
    with pytest.raises(ValueError, match="lower the strength"):
        bake(random_steer(lm, strength=1e5), folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"positions": "prompt"}, "positions='prompt'"),
        ({"positions": "generated"}, "positions='generated'"),
        ({"skip_bos": True}, "skip_bos"),
        ({"keep_norm": True}, "keep_norm"),
    ],
)
def test_edits_that_are_not_constant_are_refused(base, tmp_path, options, reason):
    lm, folder = base
    with pytest.raises(ValueError, match=reason):
        bake(random_steer(lm, **options), folder, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base"]


def test_nothing_to_bake_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match="nothing to bake"):
        bake(NoControl(), base[1], tmp_path / "out")


def test_a_vector_of_another_model_is_refused(base, make_lm, tmp_path):
    lm, folder = base
    other = random_vector(make_lm("llama", seed=9))
    with pytest.raises(ValueError, match=r"was made for .* transplant it"):
        bake(other, folder, tmp_path / "out")
    bake(Steer(other, any_model=True), folder, tmp_path / "out")
    same(tmp_path / "out", logits(lm, Steer(other, any_model=True)))
    wide = random_vector(make_lm("llama", hidden_size=64))
    with pytest.raises(ValueError, match=r"width 64 .* does not fit"):
        bake(Steer(wide, any_model=True), folder, tmp_path / "wide")


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("qwen3", "normalises queries and keys"),
        ("gemma2", "normalises what its MLP puts out"),
        ("gemma3_text", "normalises what its MLP puts out"),
        ("olmo2", "normalises what its MLP puts out"),
        ("mixtral", "experts of its own choice"),
        ("qwen3_moe", "experts of its own choice"),
    ],
)
def test_architectures_without_a_place_are_refused(family, reason, make_lm, tmp_path):
    lm = make_lm(family)
    folder = write_model(lm, tmp_path / "base")
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        bake(random_steer(lm), folder, tmp_path / "out")
    assert "contrans generate" in str(caught.value)  # the way out
    assert "--gguf" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base"]


def test_an_unknown_architecture_is_refused(base, tmp_path):
    lm, folder = base
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mamba"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=r"no place .* known .* 'mamba'"):
        bake(random_steer(lm), folder, tmp_path / "out")


def test_a_window_shorter_than_the_context_is_refused(make_lm, tmp_path):
    lm = make_lm("mistral", sliding_window=12)
    folder = write_model(lm, tmp_path / "base")
    steer = random_steer(lm)
    for context in (None, 13, 64):
        with pytest.raises(UnsupportedModelError, match="--context 12"):
            bake(steer, folder, tmp_path / "out", context=context)
    report = bake(steer, folder, tmp_path / "out", context=12)
    assert report.context == 12
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["max_position_embeddings"] == 12
    assert "up to 12 tokens only" in (tmp_path / "out" / "README.md").read_text()
    same(tmp_path / "out", logits(lm, steer))  # 12 tokens: as long as the window


def test_beyond_the_window_a_rehosted_model_differs(make_lm, tmp_path):
    """Why it is refused: the same weights without the window say something else."""
    lm = make_lm("mistral", sliding_window=6)
    folder = write_model(lm, tmp_path / "base")
    steer = random_steer(lm)
    bake(steer, folder, tmp_path / "out", context=6)
    longer = logits(load_model(tmp_path / "out", dtype="float32"))
    hooked = logits(lm, steer)
    torch.testing.assert_close(longer[:, :6], hooked[:, :6], atol=CLOSE, rtol=CLOSE)
    assert (longer[:, 7:] - hooked[:, 7:]).abs().max() > 0.1


def test_qwen2_with_a_window_in_use_is_refused(make_lm, tmp_path):
    lm = make_lm(
        "qwen2", use_sliding_window=True, sliding_window=12, max_window_layers=1
    )
    folder = write_model(lm, tmp_path / "base")
    with pytest.raises(UnsupportedModelError, match="looks back 12 tokens"):
        bake(random_steer(lm), folder, tmp_path / "out")


def test_phi3_with_long_rotation_is_refused(make_lm, tmp_path):
    lm = make_lm("phi3")
    folder = write_model(lm, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters", None)
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    config |= {"rope_theta": 1e4, "rope_scaling": {"type": "longrope", **factors}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="longrope"):
        bake(random_steer(lm), folder, tmp_path / "out")


def test_context_is_for_models_with_a_window(base, tmp_path):
    lm, folder = base
    with pytest.raises(ValueError, match="sliding window"):
        bake(random_steer(lm), folder, tmp_path / "out", context=8)


def test_the_tokenizer_of_the_baked_folder_is_the_bases(make_lm, tmp_path):
    """Re-hosted, the model type changes, and with it the class that transformers takes."""
    lm = make_lm("qwen2")
    folder = write_model(lm, tmp_path / "base")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "LlamaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    report = bake(random_steer(lm), folder, tmp_path / "out")
    assert report.warnings == ()
    old, new = (load_model(f).tokenizer for f in (folder, tmp_path / "out"))
    text = "The 2nd café: isn't it 100% ok?\n\n"
    assert new(text).input_ids == old(text).input_ids
    assert new.decode(new(text).input_ids) == old.decode(old(text).input_ids)


def test_the_checkpoint_is_described_as_loaded(base):
    lm, folder = base
    found = open_checkpoint(folder)
    assert (found.layers, found.hidden) == (lm.layers, lm.hidden)
    assert found.fingerprint == lm.fingerprint
