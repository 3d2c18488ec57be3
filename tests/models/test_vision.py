"""Models that also see images: their text path is loaded, collected and steered."""

import pytest
import torch
import transformers
from transformers import T5Config, T5ForConditionalGeneration

from contrans.control.steer import Steer
from contrans.export.checkpoint.bake import bake
from contrans.models.anatomy import UnsupportedModelError
from contrans.models.collect import collect
from contrans.models.loading import load_model
from contrans.models.padding import pad

TEXT = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
SIGHT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 28,
    "patch_size": 14,
}
ROPE = {"type": "mrope", "rope_type": "default", "mrope_section": [1, 1, 2]}
QWEN = {
    "image_token_id": 290,
    "video_token_id": 291,
    "vision_start_token_id": 292,
    "vision_end_token_id": 293,
}
KINDS = {
    "Gemma3": ("gemma3_text", "siglip_vision_model", {"head_dim": 8}, {}, {}),
    "Llava": ("llama", "clip_vision_model", {}, {}, {"image_token_index": 290}),
    "Mistral3": ("mistral", "pixtral", {"head_dim": 8}, {}, {"image_token_index": 290}),
    "SmolVLM": ("llama", "smolvlm_vision", {}, {}, {"image_token_id": 290}),
    "Qwen2VL": (
        None,
        None,
        {"rope_scaling": ROPE},
        {"depth": 2, "embed_dim": 32, "num_heads": 4},
        QWEN,
    ),
}


@pytest.fixture(params=KINDS)
def folder(request, llama, tmp_path):
    """A tiny random checkpoint with its tokenizer."""
    text, sight, more, seen, options = KINDS[request.param]
    config = getattr(transformers, f"{request.param}Config")(
        text_config={**TEXT, **more, **({"model_type": text} if text else {})},
        vision_config={**SIGHT, "model_type": sight}
        if sight
        else {**seen, "hidden_size": 32},
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        name = f"{request.param}ForConditionalGeneration"
        model = getattr(transformers, name)(config)
    model.save_pretrained(tmp_path / "model")
    llama.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_text_is_read_steered_and_not_baked(folder, texts, make_vector, tmp_path):
    lm = load_model(folder, dtype="float32")
    assert (lm.layers, lm.hidden) == (3, 32)
    states = collect(lm, texts[:3])
    rows = lm.encode(texts[:3])
    for i, row in enumerate(rows):  # each by itself, without contrans
        ids, mask = pad([row], 0, side="right")
        with torch.no_grad():
            seen = lm.model(ids, attention_mask=mask, output_hidden_states=True)
        for layer in (0, 1):
            torch.testing.assert_close(
                states.at(layer)[i], seen.hidden_states[layer + 1][0, -1]
            )
    vector = make_vector(lm)
    with Steer(vector, layers=[1]).on(lm):
        moved = collect(lm, texts[:3])
    torch.testing.assert_close(
        moved.at(1) - states.at(1),
        vector.directions[1].expand(3, -1),
        atol=1e-4,
        rtol=1e-4,
    )
    both = lm.generate(texts[:2], max_new_tokens=3)
    assert both == [lm.generate(text, max_new_tokens=3) for text in texts[:2]]
    with pytest.raises(UnsupportedModelError, match=r"beside a vision|normalises what"):
        bake(Steer(vector), folder, tmp_path / "out")


def test_what_writes_no_text_from_left_to_right_is_refused_shortly(llama, tmp_path):
    config = T5Config(vocab_size=300, d_model=16, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    llama.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        UnsupportedModelError, match="'t5', which does not write"
    ) as said:
        load_model(tmp_path)
    assert len(str(said.value)) < 300


def test_an_adapter_alone_is_named(llama, make_vector, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    for use in (
        lambda: load_model(tmp_path),
        lambda: bake(Steer(make_vector(llama)), tmp_path, tmp_path / "out"),
    ):
        with pytest.raises(
            UnsupportedModelError, match=r"adapter alone .* merge it into"
        ):
            use()
