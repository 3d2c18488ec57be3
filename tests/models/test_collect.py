"""Collecting: the right layer, whatever the padding, the batch and the family."""

import shutil

import pytest
import torch

import contrans as ct
from contrans.core import artifacts
from contrans.models.collect import collect, collect_pairs, residual_norms
from contrans.models.loading import wrap
from contrans.models.padding import pad

ROUNDING = 1e-5
"""Batches of other shapes sum in another order: fp32 rounding over a few blocks."""


def assert_same_states(found, expected, tolerance=ROUNDING):
    """Equal up to rounding, measured against the length of each state."""
    error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert error.max() < tolerance


def inputs_of(lm, texts, side):
    ids, mask = pad(lm.encode(texts), lm.pad_id, side=side)
    return {"input_ids": ids, "attention_mask": mask}


def final_norm(lm):
    """The norm between the last block and the head; None for OPT with norms after."""
    for path in (
        "model.norm",
        "transformer.ln_f",
        "gpt_neox.final_layer_norm",
        "model.decoder.final_layer_norm",
    ):
        try:
            found = lm.model.get_submodule(path)
        except AttributeError:
            continue
        if found is not None:
            return found
    return None


@torch.no_grad()
def test_layer_is_the_next_hidden_state_and_the_last_lacks_the_final_norm(lm):
    text = "the dog saw a house"
    ours = collect(lm, [text])
    theirs = lm.model(**inputs_of(lm, [text], "right"), output_hidden_states=True)
    assert len(theirs.hidden_states) == lm.layers + 1
    for layer in range(lm.layers - 1):
        assert_same_states(ours.at(layer)[0], theirs.hidden_states[layer + 1][0, -1])
    last, recorded = ours.at(lm.layers - 1)[0], theirs.hidden_states[-1][0, -1]
    norm = final_norm(lm)
    if norm is None:
        assert_same_states(last, recorded)
    else:
        assert (last - recorded).abs().max() > 0.1
        assert_same_states(norm(last), recorded)


@torch.no_grad()
def test_left_and_right_padding_read_the_same(lm, texts):
    texts = texts[:6]
    ours = collect(lm, texts)  # padded on the right
    left = inputs_of(lm, texts, "left")
    # OPT counts positions from the mask itself
    position_ids = (left["attention_mask"].cumsum(1) - 1).clamp_min(0)
    extra = {} if "opt" in lm.name else {"position_ids": position_ids}
    states = lm.model(**left, **extra, output_hidden_states=True).hidden_states
    for layer in range(lm.layers - 1):
        torch.testing.assert_close(ours.at(layer), states[layer + 1][:, -1])


@pytest.mark.parametrize("position", ["last", "mean", "all"])
def test_batch_of_one_equals_batch_of_many(lm, texts, position):
    texts = texts[2:11]
    one = collect(lm, texts, position=position, tokens_per_batch=1)
    many = collect(lm, texts, position=position, tokens_per_batch=100_000)
    assert one.counts == many.counts
    assert_same_states(one.values, many.values)


def test_early_stop_reads_what_the_full_pass_reads(lm, texts):
    full = collect(lm, texts)
    for layer in range(lm.layers):
        stopped = collect(lm, texts, layers=[layer])
        assert stopped.layers == (layer,)
        assert_same_states(stopped.at(layer), full.at(layer))


def test_early_stop_runs_no_later_block_and_no_head(make_lm):
    lm = make_lm("llama")
    ran = []
    for layer, block in enumerate(lm.blocks):
        block.register_forward_pre_hook(lambda *_, layer=layer: ran.append(layer))
    lm.model.lm_head.register_forward_pre_hook(lambda *_: ran.append("head"))
    collect(lm, ["a dog"], layers=[1])
    assert ran == [0, 1]


def test_early_stop_leaves_the_model_clean_when_it_records_by_default(make_lm):
    lm = make_lm("llama")
    lm.model.config.output_hidden_states = True
    before = [vars(block).get("forward") for block in lm.blocks]
    collect(lm, ["a dog"], layers=[0])
    assert [vars(block).get("forward") for block in lm.blocks] == before


def test_positions_agree_with_each_other(llama_bos, texts):
    every = collect(llama_bos, texts, position="all")
    mean = collect(llama_bos, texts, position="mean")
    last = collect(llama_bos, texts, position="last")
    parts = every.values.split(every.counts)
    assert every.counts == tuple(len(text) for text in texts)  # bytes; no BOS
    assert_same_states(torch.stack([p[-1] for p in parts]), last.values)
    torch.testing.assert_close(torch.stack([p.mean(0) for p in parts]), mean.values)


def test_rows_keep_the_order_of_texts(llama, texts):
    both = collect(llama, texts)
    for row, text in enumerate(texts):
        alone = collect(llama, [text])
        torch.testing.assert_close(both.values[row], alone.values[0])


def test_negative_layers_count_from_the_end(llama):
    states = collect(llama, ["a dog"], layers=[-1, 0])
    assert states.layers == (0, 2)


def test_layer_out_of_range_names_the_range(llama):
    with pytest.raises(ValueError, match="3 blocks; choose between 0 and 2"):
        collect(llama, ["a dog"], layers=[3])
    with pytest.raises(ValueError, match="no layers to collect from"):
        collect(llama, ["a dog"], layers=[])


def test_pairs_keep_their_sides(llama):
    pairs = ct.PromptPairs(("a red dog", "rain"), ("a cat", "sun in rain"), "colour")
    states = collect_pairs(llama, pairs)
    for side in ("positive", "negative"):
        alone = collect(llama, getattr(pairs, side))
        assert_same_states(getattr(states, side).values, alone.values)
    assert states.concept == "colour"
    assert len(states) == 2


def test_pairs_refuse_all_tokens(llama):
    pairs = ct.PromptPairs(("a",), ("b",))
    with pytest.raises(ValueError, match="one state a text"):
        collect_pairs(llama, pairs, position="all")


def test_residual_norms_leave_out_bos(llama_bos, texts):
    norms = residual_norms(llama_bos, texts, layers=[1])
    lengths = [
        float(
            collect(llama_bos, [text[: i + 1]], layers=[1]).values.norm()
        )  # one token a byte: prefixes end in every token
        for text in texts[:3]
        for i in range(len(text))
    ]
    few = residual_norms(llama_bos, texts[:3], layers=[1])
    assert set(norms) == {1}
    assert few[1] == pytest.approx(sum(lengths) / len(lengths), rel=1e-4)


def test_progress_reaches_the_total(llama, texts):
    seen = []
    collect(
        llama,
        texts,
        tokens_per_batch=60,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(texts), len(texts))
    assert len(seen) > 2


def test_provenance_tells_model_data_and_tokenizer(llama):
    states = collect(llama, ["a dog"])
    assert states.model == states.provenance["fingerprint"] == llama.fingerprint
    assert states.provenance["tokenizer"] == llama.tokenizer_hash
    other = collect(llama, ["a cat"])
    assert states.provenance["data"] != other.provenance["data"]


@pytest.mark.parametrize(
    ("given", "message"), [([], "no texts"), (["a", ""], "text 1 has no tokens")]
)
def test_missing_texts_are_refused(llama, given, message):
    with pytest.raises(ValueError, match=message):
        collect(llama, given)


def test_nan_in_states_names_layer_and_text(make_lm):
    lm = make_lm("llama")
    with torch.no_grad():  # "z" alone breaks block 1 on
        lm.model.get_input_embeddings().weight[lm.encode(["z"])[0][0]] = float("nan")
    with pytest.raises(ValueError, match=r"layer 0 for text 1 \('a z'\)") as error:
        collect(lm, ["a dog", "a z"])
    assert "bfloat16" in str(error.value)


def test_tokenizer_without_pad_token(unpadded, texts):
    one = collect(unpadded, texts, tokens_per_batch=1)
    many = collect(unpadded, texts, tokens_per_batch=10_000)
    assert_same_states(one.values, many.values)
    assert unpadded.tokenizer.pad_token is None  # the user's tokenizer is left alone


def test_tokenizer_that_pads_on_the_right(make_lm, texts):
    lm = make_lm("gpt2")
    before = collect(lm, texts).values
    continued = lm.generate(texts[:3], max_new_tokens=4)
    lm.tokenizer.padding_side = "right"
    try:
        assert torch.equal(collect(lm, texts).values, before)
        assert lm.generate(texts[:3], max_new_tokens=4) == continued
        assert lm.tokenizer.padding_side == "right"
    finally:
        lm.tokenizer.padding_side = "left"


def test_bfloat16_states_come_as_float32_and_close(make_lm, texts):
    lm = make_lm("llama")
    exact = collect(lm, texts).values
    half = wrap(lm.model.to(torch.bfloat16), lm.tokenizer, name="half")
    states = collect(half, texts)
    assert states.values.dtype == torch.float32
    assert states.provenance["dtype"] == "bfloat16"
    error = (states.values - exact).norm() / exact.norm()
    assert error < 0.03  # 8 bits of mantissa, a few blocks


# Beyond memory, and compiled


@pytest.mark.parametrize("position", ["last", "mean", "all"])
def test_states_on_disk_are_the_states_in_memory(llama, texts, tmp_path, position):
    path = tmp_path / "states.safetensors"
    plain = collect(llama, texts, position=position)
    found = collect(llama, texts, position=position, out=path)
    assert torch.equal(found.values, plain.values)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    read = artifacts.load(path)
    assert torch.equal(read.values, plain.values)
    assert (read.layers, read.counts, dict(read.provenance)) == (
        plain.layers,
        plain.counts,
        dict(plain.provenance),
    )
    with pytest.raises(FileExistsError, match="is not overwritten"):
        collect(llama, texts, position=position, out=path)
    collect(llama, texts[:3], position=position, out=path, force=True)
    assert torch.equal(found.values, plain.values)


def test_a_failed_collection_leaves_no_file(make_lm, texts, tmp_path):
    lm = make_lm("llama")
    with torch.no_grad():
        next(lm.blocks[1].parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite state"):
        collect(lm, texts, out=tmp_path / "states.safetensors")
    assert not list(tmp_path.iterdir())


def test_compiled_blocks_give_the_same_states(llama, texts, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # no torn leftovers
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    plain = collect(llama, texts, tokens_per_batch=64)
    before = [vars(block).get("forward") for block in llama.blocks]
    found = collect(llama, texts, tokens_per_batch=64, compile=True)
    torch.testing.assert_close(found.values, plain.values, rtol=1e-4, atol=1e-4)
    assert [vars(block).get("forward") for block in llama.blocks] == before
