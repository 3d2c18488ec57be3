"""What a model's own settings of generation may change: where a text ends."""

import json

import pytest

from contrans.evaluation.tasks.toxigen import first_lines
from contrans.models.loading import load_model, wrap

PROMPTS = ["a dog", "rain in a house"]
SETTINGS = {
    "repetition_penalty": 5.0,
    "encoder_repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "min_length": 90,
    "min_new_tokens": 9,
    "max_time": 1e-9,
    "bad_words_ids": [[i] for i in range(3, 250)],
    "suppress_tokens": list(range(3, 250)),
    "begin_suppress_tokens": list(range(3, 250)),
    "forced_eos_token_id": 5,
    "exponential_decay_length_penalty": [1, 9.0],
    "sequence_bias": [[[7], 90.0]],
    "guidance_scale": 3.0,
    "stop_strings": ["e", "a"],
    "return_dict_in_generate": True,
    "num_beams": 3,
    "use_cache": False,
    "renormalize_logits": True,
    "remove_invalid_values": True,
    "output_scores": True,
}
DRAWN = {
    "num_return_sequences": 2,
    "top_k": 1,
    "min_p": 0.99,
    "typical_p": 0.01,
    "epsilon_cutoff": 0.5,
    "eta_cutoff": 0.5,
    "temperature": 9.0,
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_arg_max_is_the_arg_max(make_lm, llama, setting):
    lm = make_lm("llama")
    given = lm.model.generation_config
    setattr(given, setting, SETTINGS[setting])
    assert lm.generate(PROMPTS, max_new_tokens=9) == llama.generate(
        PROMPTS, max_new_tokens=9
    )
    assert lm.model.generation_config is given  # the model stays the user's
    assert getattr(given, setting) == SETTINGS[setting]


@pytest.mark.parametrize("setting", DRAWN)
def test_a_draw_is_a_draw(make_lm, llama, setting):
    lm = make_lm("llama")
    lm.model.generation_config.do_sample = True
    setattr(lm.model.generation_config, setting, DRAWN[setting])
    drawn = {"max_new_tokens": 9, "sample": True, "seed": 3}
    assert lm.generate(PROMPTS, **drawn) == llama.generate(PROMPTS, **drawn)
    assert lm.generate(PROMPTS) == llama.generate(PROMPTS)  # two texts, none drawn


def test_lines_of_toxigen_are_the_arg_max(make_lm, llama):
    lm = make_lm("llama")
    lm.model.generation_config.repetition_penalty = 5.0
    assert first_lines(lm, PROMPTS, max_new_tokens=9) == first_lines(
        llama, PROMPTS, max_new_tokens=9
    )


def test_the_harness_generates_the_same(make_lm, llama):
    harness = pytest.importorskip("contrans.evaluation.lm_eval")
    lm = make_lm("llama")
    lm.model.generation_config.repetition_penalty = 5.0
    ids = lm.tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    one, two = (
        harness.HarnessLM(m)._model_generate(ids, max_length=20, stop=["\0"])
        for m in (lm, llama)
    )
    assert one.tolist() == two.tolist()


def test_tokens_that_end_a_text_hold(make_lm, llama):
    written = llama.generate(PROMPTS[0], max_new_tokens=9)
    first = llama.tokenizer(written[0]).input_ids[-1]
    for ends in (first, [1, first]):
        lm = make_lm("llama")
        lm.model.generation_config.eos_token_id = ends
        shorter = lm.generate(PROMPTS[0], max_new_tokens=9)
        assert len(shorter) == 1 < len(written)
        assert shorter == written[0]


def test_what_is_not_used_is_said_once_and_a_wrong_end_refused(
    make_lm, tmp_path, caplog
):
    lm = make_lm("llama")
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    assert caplog.text == ""  # there is nothing to say of a plain model
    path = tmp_path / "generation_config.json"
    said = {"repetition_penalty": 1.3, "temperature": 0.6, "do_sample": True}
    path.write_text(json.dumps(said))
    load_model(tmp_path).generate(PROMPTS, max_new_tokens=2)
    assert caplog.text.count("own settings of generation (repetition_penalty=1.3)") == 1
    path.write_text('{"eos_token_id": ["</s>"]}')
    with pytest.raises(ValueError, match="names '</s>' as the token that ends"):
        load_model(tmp_path)
    path.write_text("{")
    with pytest.raises(
        ValueError, match=r"generation_config\.json is not readable JSON"
    ):
        load_model(tmp_path)
    lm.model.generation_config.eos_token_id = -1
    with pytest.raises(ValueError, match="names -1"):
        wrap(lm.model, lm.tokenizer)
