"""Models: anatomy, fingerprints, tokens, loading, and where the weights are."""

import json

import pytest
import torch
import transformers

from contrans.control.steer import Steer
from contrans.models.anatomy import UnsupportedModelError, find_blocks
from contrans.models.collect import collect
from contrans.models.loading import load_model, wrap
from contrans.models.padding import pad, token_batches


@pytest.fixture
def folder(make_lm, tmp_path):
    """A checkpoint as a user has it: weights and tokenizer in a folder."""
    lm = make_lm("llama")
    lm.model.save_pretrained(tmp_path / "tiny")
    lm.tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def biogpt():
    """A family that is not in the table."""
    config = transformers.BioGptConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BioGptForCausalLM(config).eval()


def test_anatomy_of_every_family(lm):
    assert lm.layers == 3
    assert lm.hidden == 32
    assert lm.context == 128
    assert lm.dtype == torch.float32
    assert lm.layer(-1) == 2
    with pytest.raises(ValueError, match="3 blocks; choose between 0 and 2"):
        lm.layer(-4)


def test_an_unknown_architecture_names_candidates_and_the_way_out(biogpt, llama):
    with pytest.raises(UnsupportedModelError, match="biogpt") as error:
        wrap(biogpt, llama.tokenizer)
    assert "blocks='biogpt.layers'" in str(error.value)
    assert "--blocks" in str(error.value)


def test_named_blocks_make_an_unknown_architecture_work(biogpt, llama, texts):
    lm = wrap(biogpt, llama.tokenizer, name="bio", blocks="biogpt.layers")
    states = collect(lm, texts[:3])
    ids, mask = pad(lm.encode(texts[:3]), 0, side="right")
    with torch.no_grad():
        recorded = biogpt(ids, attention_mask=mask, output_hidden_states=True)
    last = mask.sum(1) - 1
    torch.testing.assert_close(
        states.at(0), recorded.hidden_states[1][torch.arange(3), last]
    )


@pytest.mark.parametrize("path", ["model.layer", "model.norm", "model"])
def test_a_wrong_path_of_blocks_names_the_right_one(llama, path):
    with pytest.raises(UnsupportedModelError, match=r"model\.layers") as error:
        find_blocks(llama.model, path)
    assert repr(path) in str(error.value)


def test_fingerprint_knows_weights_not_precision(make_lm, llama):
    same, other = make_lm("llama"), make_lm("llama", seed=1)
    assert same.fingerprint == llama.fingerprint != other.fingerprint
    half = wrap(make_lm("llama").model.to(torch.bfloat16), llama.tokenizer)
    assert half.fingerprint == llama.fingerprint
    with torch.no_grad():
        other = make_lm("llama")
        for weight in other.model.parameters():
            weight.mul_(1.05)  # as a fine-tuned copy
    assert other.fingerprint != llama.fingerprint


def test_tokenizer_hash_knows_bos(llama, llama_bos, unpadded):
    hashes = {lm.tokenizer_hash for lm in (llama, llama_bos, unpadded)}
    assert len(hashes) == 3


def test_special_tokens_are_found_also_when_a_letter_is_unknown(
    llama, llama_bos, unpadded
):
    assert llama_bos.special_affixes == ([0], [])
    assert llama.special_affixes == ([], [])
    assert unpadded.special_affixes == ([], [])


def test_encode_puts_bos_once(llama_bos):
    plain, templated = llama_bos.encode(["dog", "<s>dog"])
    assert plain == templated
    assert plain[0] == 0
    assert 0 not in plain[1:]
    assert llama_bos.encode(["dog"], special=False) == [plain[1:]]


def test_long_texts_lose_their_beginning_never_their_bos(llama_bos):
    text = "a" * 500 + "z"
    for given in (text, "<s>" + text):
        (ids,) = llama_bos.encode([given])
        assert len(ids) == llama_bos.context
        assert ids[0] == 0
        assert ids[-1] == llama_bos.encode(["z"])[0][-1]
    (ids,) = llama_bos.encode([text], room=28)
    assert len(ids) == 100


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
def test_generation_stays_inside_the_context(make_lm, family):
    lm = make_lm(family)
    long = "ab" * 200
    assert isinstance(lm.generate(long, max_new_tokens=4), str)
    assert isinstance(lm.generate("ab", max_new_tokens=500), str)


def test_generate_answers_in_the_form_it_was_asked(llama):
    one = llama.generate("a dog", max_new_tokens=3)
    assert llama.generate(["a dog"], max_new_tokens=3) == [one]


def test_tokenizer_without_any_special_token_generates(unpadded):
    both = unpadded.generate(["a dog", "rain in a house"], max_new_tokens=3)
    alone = unpadded.generate("a dog", max_new_tokens=3)
    assert both[0] == alone
    assert unpadded.pad_id == 0


def test_batches_respect_the_budget_and_lose_no_row():
    rows = [[1] * n for n in (9, 1, 4, 4, 30, 2)]
    batches = list(token_batches(rows, 12))
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    for batch in batches:
        widest = max(len(rows[i]) for i in batch)
        assert len(batch) == 1 or widest * len(batch) <= 12


def test_load_from_a_folder(folder, llama):
    lm = load_model(folder, dtype="float32")
    assert lm.fingerprint == llama.fingerprint
    assert lm.tokenizer_hash == llama.tokenizer_hash
    assert load_model(str(folder), dtype="bf16").dtype == torch.bfloat16


def test_unknown_names_say_what_to_try(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (tmp_path / "nowhere", "nobody/nothing-such"):
        with pytest.raises(FileNotFoundError, match="Check the spelling"):
            load_model(name)


def test_unknown_dtype_lists_the_known(folder):
    with pytest.raises(ValueError, match="choose auto, float32, bfloat16 or float16"):
        load_model(folder, dtype="float99")


def test_unknown_architecture_from_a_folder(biogpt, llama, tmp_path):
    biogpt.save_pretrained(tmp_path)
    llama.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "biogpt"
    with pytest.raises(UnsupportedModelError, match=r"blocks='biogpt.layers'"):
        load_model(tmp_path)
    assert load_model(tmp_path, blocks="biogpt.layers").layers == 3


def test_device_map_is_respected(folder, llama, texts):
    lm = load_model(folder, dtype="float32", device_map={"": "cpu"})
    assert lm.device == torch.device("cpu")
    assert torch.equal(collect(lm, texts).values, collect(llama, texts).values)


def test_offloaded_models_are_read_and_steered(make_lm, llama, make_vector, texts):
    accelerate = pytest.importorskip("accelerate")
    model = accelerate.cpu_offload(make_lm("llama").model, torch.device("cpu"))
    lm = wrap(model, llama.tokenizer, name="offloaded")
    assert next(model.parameters()).device.type == "meta"
    assert lm.device.type == "cpu"
    assert lm.fingerprint == llama.fingerprint  # the weights are elsewhere, not gone
    vector = make_vector(llama)
    with Steer(vector).on(lm), Steer(vector).on(llama):
        torch.testing.assert_close(
            collect(lm, texts).values, collect(llama, texts).values
        )
        assert lm.generate("a dog", max_new_tokens=3) == llama.generate(
            "a dog", max_new_tokens=3
        )


def test_split_models_are_read_and_steered(make_lm, llama, make_vector, texts):
    accelerate = pytest.importorskip("accelerate")
    model = make_lm("llama").model
    pieces = dict.fromkeys(
        ("model.embed_tokens", "model.layers.0", "model.rotary_emb"), "cpu"
    ) | dict.fromkeys(
        ("model.layers.1", "model.layers.2", "model.norm", "lm_head"), "cpu"
    )
    model = accelerate.dispatch_model(model, pieces, force_hooks=True)
    lm = wrap(model, llama.tokenizer, name="split")
    with Steer(make_vector(llama)).on(lm), Steer(make_vector(llama)).on(llama):
        assert torch.equal(collect(lm, texts).values, collect(llama, texts).values)


@pytest.mark.gpu
def test_mixed_devices(make_lm, llama, make_vector, texts):
    accelerate = pytest.importorskip("accelerate")
    model = make_lm("llama").model
    pieces = dict.fromkeys(("model.embed_tokens", "model.rotary_emb"), "cpu")
    pieces |= {f"model.layers.{i}": 0 if i else "cpu" for i in range(3)}
    pieces |= {"model.norm": 0, "lm_head": 0}
    lm = wrap(accelerate.dispatch_model(model, pieces), llama.tokenizer)
    with Steer(make_vector(llama), positions="prompt", skip_bos=True).on(lm):
        edited = collect(lm, texts).values
        assert lm.generate(texts[:2], max_new_tokens=3)
    with Steer(make_vector(llama)).on(llama):
        torch.testing.assert_close(
            edited, collect(llama, texts).values, rtol=1e-3, atol=1e-3
        )
