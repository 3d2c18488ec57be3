"""Every architecture: a process without contrans says what the hooked model says."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from baking import logits, random_steer, strangers, write_model

from contrans.export.checkpoint.bake import bake

CLOSE = 1e-4
"""Logits reach 20 in float32; a bias and a hook add in another order."""
FAR = 0.1
"""An edit in the wrong place moves logits by more than this."""

ROWS: dict[str, tuple[str, dict, str, str]] = {
    # row: family, changes to its config, slot, architecture written
    "llama": ("llama", {}, "mlp.down_proj", "llama"),
    "llama with biases": (
        "llama",
        {"mlp_bias": True, "attention_bias": True},
        "mlp.down_proj",
        "llama",
    ),
    "gpt2": ("gpt2", {}, "mlp.c_proj", "gpt2"),
    "gpt_bigcode": ("gpt_bigcode", {}, "mlp.c_proj", "gpt_bigcode"),
    "gpt_neo": ("gpt_neo", {}, "mlp.c_proj", "gpt_neo"),
    "gpt_neox parallel": (
        "gpt_neox",
        {"use_parallel_residual": True},
        "mlp.dense_4h_to_h",
        "gpt_neox",
    ),
    "gpt_neox in turn": (
        "gpt_neox",
        {"use_parallel_residual": False},
        "mlp.dense_4h_to_h",
        "gpt_neox",
    ),
    "opt, norm before": ("opt", {}, "fc2", "opt"),
    "opt without biases": ("opt", {"enable_bias": False}, "fc2", "opt"),
    "opt, norm after": ("opt_norm_after", {}, "final_layer_norm", "opt"),
    "gptj": ("gptj", {}, "mlp.fc_out", "gptj"),
    "phi": ("phi", {}, "mlp.fc2", "phi"),
    "bloom": ("bloom", {}, "mlp.dense_4h_to_h", "bloom"),
    "starcoder2": ("starcoder2", {}, "mlp.c_proj", "starcoder2"),
    "starcoder2 without biases": (
        "starcoder2",
        {"use_bias": False},
        "mlp.c_proj",
        "starcoder2",
    ),
    "granite": ("granite", {}, "mlp.down_proj", "granite"),
    "mistral, no window": (
        "mistral",
        {"sliding_window": None},
        "mlp.down_proj",
        "llama",
    ),
    "mistral, wide window": (
        "mistral",
        {"sliding_window": 128},
        "mlp.down_proj",
        "llama",
    ),
    "mistral, scaled rotation": (
        "mistral",
        {
            "sliding_window": None,
            "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            "rope_theta": 5e3,
        },
        "mlp.down_proj",
        "llama",
    ),
    "qwen2": ("qwen2", {}, "mlp.down_proj", "llama"),
    "qwen2, own sizes": (
        "qwen2",
        {"rms_norm_eps": 1e-3, "tie_word_embeddings": True, "num_key_value_heads": 1},
        "mlp.down_proj",
        "llama",
    ),
    "phi3": ("phi3", {}, "mlp.down_proj", "llama"),
}


@pytest.fixture(scope="module")
def baked(tmp_path_factory, make_lm):
    """All rows baked, and what the hooked models say; loaded by a stranger at once."""
    root = tmp_path_factory.mktemp("families")
    found = {}
    for number, (row, (family, changes, _, _)) in enumerate(ROWS.items()):
        lm = make_lm(family, **changes)
        base = write_model(lm, root / f"base-{number}")
        control = random_steer(lm)
        report = bake(control, base, root / f"baked-{number}")
        found[row] = {
            "report": report,
            "folder": Path(report.folder),
            "base": base,
            "hooked": logits(lm, control),
            "plain": logits(lm),
            "fingerprint": lm.fingerprint,
        }
    said = strangers([one["folder"] for one in found.values()], root)
    for one in found.values():
        one["stranger"] = said[str(one["folder"])]
        one["again"] = said[f"{one['folder']}-again"]
    return found


@pytest.mark.parametrize("row", ROWS)
def test_a_stranger_says_what_the_hooked_model_says(baked, row):
    one = baked[row]
    torch.testing.assert_close(one["stranger"], one["hooked"], atol=CLOSE, rtol=CLOSE)
    assert (one["hooked"] - one["plain"]).abs().max() > FAR  # the edit does something


@pytest.mark.parametrize("row", ROWS)
def test_saving_and_loading_again_changes_nothing(baked, row):
    assert torch.equal(baked[row]["stranger"], baked[row]["again"])


@pytest.mark.parametrize("row", ROWS)
def test_the_edit_is_where_the_table_says(baked, row):
    one = baked[row]
    _, _, slot, architecture = ROWS[row]
    assert one["report"].slot == f"{slot}.bias"
    assert one["report"].architecture == architecture
    written = json.loads((one["folder"] / "config.json").read_text())
    assert written["model_type"] == architecture
    if slot == "mlp.down_proj":
        assert written["mlp_bias"] is True  # or vLLM drops the biases in silence


@pytest.mark.parametrize("row", ROWS)
def test_the_fingerprint_on_disk_is_that_of_the_loaded_model(baked, row):
    assert baked[row]["report"].fingerprint == baked[row]["fingerprint"]


@pytest.mark.parametrize("row", ROWS)
def test_every_other_number_is_as_before(baked, row):
    old = load_file(baked[row]["base"] / "model.safetensors")
    new = load_file(baked[row]["folder"] / "model.safetensors")
    slot = f"{ROWS[row][2]}.bias"
    for name, value in new.items():
        if name.endswith(slot):
            continue
        if name in old:
            assert torch.equal(value, old[name]), name
        elif name.endswith(".bias"):
            assert not value.any(), name
        else:  # a part of what Phi-3 fuses
            assert row == "phi3"
            fused = [v for k, v in old.items() if k[:16] == name[:16] and "_proj" in k]
            rows = {tuple(r.tolist()) for f in fused for r in f}
            assert {tuple(r.tolist()) for r in value} <= rows
    assert set(old) - set(new) == {k for k in old if row == "phi3" and _fused(k)}


def _fused(name: str) -> bool:
    return "qkv_proj" in name or "gate_up_proj" in name


def test_all_biases_of_a_gated_mlp_are_written(baked):
    with safe_open(baked["llama"]["folder"] / "model.safetensors", "pt") as file:
        names = set(file.keys())
    for layer in range(3):
        for part in ("gate_proj", "up_proj", "down_proj"):
            assert f"model.layers.{layer}.mlp.{part}.bias" in names


def test_biases_that_exist_are_added_to(baked):
    one = baked["gpt2"]
    name = "transformer.h.1.mlp.c_proj.bias"
    old = load_file(one["base"] / "model.safetensors")[name]
    new = load_file(one["folder"] / "model.safetensors")[name]
    assert old.abs().max() > 0
    length = one["report"].lengths[1]
    torch.testing.assert_close((new - old).norm().item(), length, rtol=1e-5, atol=0)


def rewritten(one, root, change):
    """A baked folder whose tensors are changed by hand."""
    tensors = change(load_file(one["folder"] / "model.safetensors"))
    folder = root / "wrong"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes((one["folder"] / "config.json").read_bytes())
    return folder


def moved(tensors, base, here, there, factor=1.0):
    """The edit taken out of one module and put into another."""
    old = load_file(base / "model.safetensors")
    for name in [n for n in tensors if n.endswith(f"{here}.bias")]:
        before = old.get(name, torch.zeros_like(tensors[name]))
        push = tensors[name] - before
        tensors[name] = before.clone()
        other = name.replace(here, there)
        tensors[other] = tensors[other] + factor * push
    return tensors


@pytest.mark.parametrize(
    ("row", "here", "there", "factor"),
    [
        ("opt, norm after", "final_layer_norm", "fc2", 1.0),
        ("granite", "mlp.down_proj", "mlp.down_proj", 0.3),
        ("qwen2", "mlp.down_proj", "self_attn.o_proj", 1.0),
    ],
)
def test_the_wrong_places_are_wrong(baked, tmp_path, row, here, there, factor):
    """Before a norm, without the residual multiplier, before the MLP: all differ."""
    one = baked[row]
    folder = rewritten(
        one, tmp_path, lambda t: moved(t, one["base"], here, there, factor)
    )
    said = strangers([folder], tmp_path)[str(folder)]
    assert (said - one["hooked"]).abs().max() > FAR


def test_without_the_switch_the_edit_is_lost_in_silence(baked, tmp_path):
    """Why config.json must say so: transformers, too, drops biases it does not expect."""
    one = baked["llama"]
    folder = rewritten(one, tmp_path, lambda t: t)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "mlp_bias": False}))
    said = strangers([folder], tmp_path)[str(folder)]
    torch.testing.assert_close(said, one["plain"], atol=CLOSE, rtol=CLOSE)
