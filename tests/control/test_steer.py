"""Steering: what is edited, by how much, and how it behaves under generation."""

import pytest
import torch

import contrans as ct
from contrans.control.steer import Steer, compose, with_norms
from contrans.models.collect import collect, residual_norms
from contrans.models.edits import Control, NoControl
from contrans.models.loading import wrap
from contrans.models.padding import pad

ROUNDING = 1e-4
"""Logits of tiny models reach 10; cached and full passes sum in another order."""
NEW = 4
"""Tokens generated."""


def batch(lm, texts):
    ids, mask = pad(lm.encode(texts), lm.pad_id, side="left")
    return {"input_ids": ids, "attention_mask": mask}


def generate(lm, texts, **options):
    """Token ids and logits of each step: [batch, new], [batch, new, vocabulary]."""
    inputs = batch(lm, texts)
    out = lm.model.generate(
        **inputs,
        max_new_tokens=NEW,
        do_sample=False,
        pad_token_id=2,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return (
        out.sequences[:, inputs["input_ids"].shape[1] :],
        torch.stack(out.logits, 1),
    )


@torch.no_grad()
def by_hand(lm, text, vector, layer, positions):
    """Greedy decoding of one text, one full forward a token, edited from outside."""
    ids = lm.encode([text])[0]
    prompt, steps = len(ids), []

    def add(_module, args, kwargs):
        index = torch.arange(len(ids))
        chosen = {
            "all": index >= 0,
            "prompt": index < prompt,
            "generated": index >= prompt,
        }[positions]
        push = vector[layer] * chosen[:, None]
        if "hidden_states" in kwargs:
            return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + push}
        return (args[0] + push, *args[1:]), kwargs

    block = lm.blocks[layer + 1]
    handle = block.register_forward_pre_hook(add, with_kwargs=True)
    try:
        for _ in range(NEW):
            steps.append(lm.model(torch.tensor([ids]), use_cache=False).logits[0, -1])
            ids.append(int(steps[-1].argmax()))
    finally:
        handle.remove()
    return torch.tensor(ids[prompt:]), torch.stack(steps)


@pytest.mark.parametrize("positions", ["all", "prompt", "generated"])
def test_cached_equals_uncached_equals_by_hand(lm, make_vector, texts, positions):
    vector, layer = make_vector(lm), 1
    two = [texts[2], texts[7]]  # of unequal length
    with Steer(vector, layers=[layer], positions=positions).on(lm):
        tokens, logits = generate(lm, two, use_cache=True)
        full_tokens, full_logits = generate(lm, two, use_cache=False)
    assert torch.equal(tokens, full_tokens)
    torch.testing.assert_close(logits, full_logits, rtol=ROUNDING, atol=ROUNDING)
    for row, text in enumerate(two):
        hand_tokens, hand_logits = by_hand(lm, text, vector, layer, positions)
        assert torch.equal(tokens[row], hand_tokens)
        torch.testing.assert_close(
            logits[row], hand_logits, rtol=ROUNDING, atol=ROUNDING
        )


def test_generated_leaves_the_first_new_token_alone(llama, make_vector, texts):
    _, plain = generate(llama, texts[:1])
    with Steer(make_vector(llama), positions="generated").on(llama):
        _, edited = generate(llama, texts[:1])
    assert torch.equal(edited[:, 0], plain[:, 0])
    assert (edited[:, 1] - plain[:, 1]).abs().max() > 0.01


@pytest.mark.parametrize("positions", ["all", "prompt", "generated"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_beams_agree_with_and_without_cache(make_lm, make_vector, positions, family):
    lm = make_lm(family)
    two = ["the dog", "a red house in"]
    with Steer(make_vector(lm, length=2.0), positions=positions).on(lm):
        cached, _ = generate(lm, two, num_beams=3, use_cache=True)
        full, _ = generate(lm, two, num_beams=3, use_cache=False)
    assert torch.equal(cached, full)


def test_sampling_is_repeated_by_its_seed(llama, make_vector, texts):
    state = torch.get_rng_state()
    with Steer(make_vector(llama)).on(llama):
        one, same, other = (
            llama.generate(texts[:2], max_new_tokens=8, sample=True, seed=seed)
            for seed in (1, 1, 2)
        )
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_continues_as_its_texts_alone(lm, make_vector, texts):
    chosen = texts[3:7]
    steer = Steer(make_vector(lm), positions="generated", skip_bos=True)
    with steer.on(lm):
        together = lm.generate(chosen, max_new_tokens=NEW)
        alone = [lm.generate(text, max_new_tokens=NEW) for text in chosen]
    assert together == alone


def test_two_generations_in_one_context_do_not_meet(llama, make_vector):
    ids = llama.generate("the dog", max_new_tokens=1)
    with Steer(make_vector(llama), positions="generated").on(llama):
        llama.generate("the dog", max_new_tokens=NEW)
        inside, _ = generate(llama, ["a house"], use_cache=False)
    with Steer(make_vector(llama), positions="generated").on(llama):
        fresh, _ = generate(llama, ["a house"], use_cache=False)
    assert torch.equal(inside, fresh)
    assert isinstance(ids, str)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma3_text"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_skip_bos_edits_all_but_the_first_real_token(
    make_lm, make_vector, family, side
):
    lm = make_lm(family, bos=True)
    vector = make_vector(lm)
    ids, mask = pad(lm.encode(["a red house", "dog"]), lm.pad_id, side=side)
    seen = {}
    with torch.no_grad():
        for name, control in {
            "plain": NoControl(),
            "all": Steer(vector, layers=[1]),
            "skip": Steer(vector, layers=[1], skip_bos=True),
        }.items():
            with control.on(lm):
                out = lm.model(ids, attention_mask=mask, output_hidden_states=True)
            seen[name] = out.hidden_states[2]
    moved = (seen["skip"] - seen["plain"]).norm(dim=-1) > 0.1
    expected = (mask == 1) & (ids != 0)
    assert torch.equal(moved, expected)
    everywhere = (seen["all"] - seen["plain"]).norm(dim=-1) > 0.1
    assert everywhere.all()  # the paper edits every position, BOS included


def test_skip_bos_knows_a_bos_that_the_text_brings(llama, make_vector):
    assert llama.special_affixes == ([], [])  # this tokenizer adds none
    vector = make_vector(llama)
    text = "<s>dog"
    plain = collect(llama, [text], position="all", layers=[1]).values
    with Steer(vector, layers=[1], skip_bos=True).on(llama):
        edited = collect(llama, [text], position="all", layers=[1]).values
    moved = (edited - plain).norm(dim=-1)[:, 0] > 0.1
    assert moved.tolist() == [False, True, True, True]


def test_keep_norm_keeps_norms_and_turns(llama, make_vector, texts):
    plain = collect(llama, texts, layers=[1])
    with Steer(make_vector(llama), layers=[1], keep_norm=True).on(llama):
        edited = collect(llama, texts, layers=[1])
    torch.testing.assert_close(edited.values.norm(dim=-1), plain.values.norm(dim=-1))
    assert (edited.values - plain.values).norm(dim=-1).min() > 0.1


def test_relative_strength_is_a_share_of_the_stream(llama, make_vector, texts):
    norms = residual_norms(llama, texts)
    vector = with_norms(make_vector(llama, length=7.0), norms)
    plain = collect(llama, texts, layers=[1])
    with Steer(vector, layers=[1], strength=0.3, unit="relative").on(llama):
        edited = collect(llama, texts, layers=[1])
    push = (edited.values - plain.values)[:, 0]
    expected = torch.full((len(texts),), 0.3 * norms[1])
    torch.testing.assert_close(push.norm(dim=-1), expected, rtol=1e-4, atol=1e-4)
    assert vector.relative_strength(1) == pytest.approx(7 / norms[1], rel=1e-5)


def test_several_vectors_add_up(llama, make_vector, texts):
    one, two = make_vector(llama, seed=1), make_vector(llama, seed=2)
    results = []
    for control in (
        compose(Steer(one), Steer(two, strength=0.5)),
        Steer(one + 0.5 * two),
    ):
        with control.on(llama):
            results.append(collect(llama, texts).values)
    torch.testing.assert_close(*results, rtol=ROUNDING, atol=ROUNDING)


def test_composed_controls_are_applied_in_order(llama, make_vector, texts):
    long, short = make_vector(llama, length=9.0), make_vector(llama, seed=1)
    keep = Steer(short, layers=[1], keep_norm=True)
    with compose(Steer(long, layers=[1]), keep).on(llama):
        kept_last = collect(llama, texts, layers=[1]).values.norm(dim=-1)
    with Steer(long, layers=[1]).on(llama):
        after_first = collect(llama, texts, layers=[1]).values.norm(dim=-1)
    torch.testing.assert_close(kept_last, after_first)


def test_composed_controls_leave_together_when_one_fails(llama, make_vector, texts):
    before = collect(llama, texts).values
    broken = Steer(make_vector(llama), unit="relative")  # no norms
    with (
        pytest.raises(ValueError, match="residual norms"),
        compose(Steer(make_vector(llama)), broken).on(llama),
    ):
        pass
    assert torch.equal(collect(llama, texts).values, before)


def test_negative_layers_count_from_the_end_of_the_model(llama, make_vector, texts):
    vector = make_vector(llama).select([0, 2])
    with Steer(vector, layers=[-1]).on(llama):
        negative = collect(llama, texts).values
    with Steer(vector, layers=[2]).on(llama):
        plain = collect(llama, texts).values
    assert torch.equal(negative, plain)
    with pytest.raises(KeyError, match="no direction for layer 1"):
        Steer(vector, layers=[-2]).on(llama).__enter__()
    with pytest.raises(ValueError, match="count from the end"):
        Steer(vector, layers=[-1]).pushes()
    assert list(Steer(vector, layers=[-1]).pushes(3)) == [2]


def test_layers_may_come_from_an_iterator_and_be_used_twice(llama, make_vector):
    steer = Steer(make_vector(llama), layers=iter([1]))
    assert list(steer.pushes()) == list(steer.pushes()) == [1]


def test_a_layer_the_vector_lacks(llama, make_vector):
    with pytest.raises(KeyError, match="no direction for layer 7"):
        Steer(make_vector(llama), layers=[7]).on(llama).__enter__()


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_the_model_lacks(llama, make_vector, layer):
    vector = make_vector(llama)
    longer = ct.ConceptVector(torch.ones(9, 32), tuple(range(9)), vector.model)
    with pytest.raises((ValueError, KeyError), match="layer"):
        Steer(longer, layers=[layer]).on(llama).__enter__()


def test_a_vector_for_another_model_says_how_to_transplant(make_lm, llama, make_vector):
    vector = make_vector(make_lm("llama", seed=5))
    with pytest.raises(ValueError, match=r"made for 'tiny-llama'.*transplant"):
        Steer(vector).on(llama).__enter__()
    with Steer(vector, any_model=True).on(llama):
        pass


def test_a_vector_of_another_width_says_how_to_transplant(make_lm, llama, make_vector):
    vector = make_vector(make_lm("llama", hidden_size=48))
    with pytest.raises(ValueError, match=r"width 48.*does not fit.*width 32.*transpl"):
        Steer(vector, any_model=True).on(llama).__enter__()


def test_unknown_options_are_refused(llama, make_vector):
    vector = make_vector(llama)
    with pytest.raises(Exception, match="unit"):
        Steer(vector, unit="percent")
    with pytest.raises(Exception, match="positions"):
        Steer(vector, positions="first")


def test_relative_strength_needs_norms_and_a_direction(llama, make_vector):
    vector = make_vector(llama)
    with pytest.raises(ValueError, match="with_norms"):
        Steer(vector, unit="relative").pushes()
    norms = dict.fromkeys(range(3), 5.0)
    with pytest.raises(ValueError, match="layer 0 is zero"):
        Steer(with_norms(vector * 0.0, norms), unit="relative").pushes()


def test_bfloat16_models_are_steered_in_bfloat16(make_lm, make_vector, texts):
    model = make_lm("llama")
    lm = wrap(model.model.to(torch.bfloat16), model.tokenizer, name="half")
    vector = make_vector(model)
    assert vector.model == lm.fingerprint  # the same weights
    plain = collect(lm, texts, layers=[1]).values
    for keep_norm in (False, True):
        with Steer(vector, layers=[1], keep_norm=keep_norm).on(lm):
            edited = collect(lm, texts, layers=[1]).values
            assert lm.generate(texts[:2], max_new_tokens=3)
        assert torch.equal(edited, edited.to(torch.bfloat16).float())
        if not keep_norm:
            bound = plain.abs().max() / 2**7  # one step of bfloat16
            assert (edited - plain - vector[1]).abs().max() < bound
        else:
            torch.testing.assert_close(
                edited.norm(dim=-1), plain.norm(dim=-1), rtol=2**-8, atol=0
            )


def test_controls_share_one_protocol(llama, make_vector):
    steer = Steer(make_vector(llama))
    for control in (NoControl(), steer, compose(steer)):
        assert isinstance(control, Control)
        with control.on(llama) as inside:
            assert inside is llama


def test_random_and_matched_vectors_have_the_length_asked_for(llama, make_vector):
    from contrans.control.steer import matched_norm, random_like

    vector = make_vector(llama, length=3.0)
    drawn = random_like(vector, seed=1)
    assert torch.equal(drawn.directions, random_like(vector, seed=1).directions)
    assert not torch.equal(drawn.directions, random_like(vector, seed=2).directions)
    matched = matched_norm(5 * drawn, vector)
    for layer in vector.layers:
        assert drawn.norm(layer) == pytest.approx(vector.norm(layer), rel=1e-5)
        assert matched.norm(layer) == pytest.approx(vector.norm(layer), rel=1e-5)
    assert not matched_norm(0 * vector, vector).directions.any()


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -float("inf")])
def test_a_strength_is_a_number(llama, make_vector, strength):
    with pytest.raises(ValueError, match="no finite number"):
        Steer(make_vector(llama), strength=strength)


@pytest.mark.parametrize("strength", [1e300, -1e39])
def test_what_float32_cannot_hold_is_refused(llama, make_vector, strength):
    with pytest.raises(ValueError, match="choose a smaller one"):
        Steer(make_vector(llama), strength=strength).pushes()
