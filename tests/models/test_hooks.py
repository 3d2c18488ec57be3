"""Hooks: an edit is exactly the edited forward, in every family, and leaves no trace."""

from contextlib import contextmanager

import pytest
import torch

from contrans.control.steer import Steer
from contrans.models.collect import collect
from contrans.models.hooks import (
    edit_residual,
    join_output,
    read_residual,
    run_until,
    split_output,
)
from contrans.models.lm import LM
from contrans.models.padding import pad

ROUNDING = 1e-5
"""The manual forward adds in the same places; only batching may differ."""


def after(lm, layer):
    """The module that takes the output of a block: an independent place to edit."""
    if layer + 1 < lm.layers:
        return lm.blocks[layer + 1]
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
    return lm.model.get_output_embeddings()


@contextmanager
def manually_added(lm, layer, push, keep=None):
    """Add `push` to what the module after block `layer` is given."""

    def hook(_module, args, kwargs):
        name = "hidden_states" if "hidden_states" in kwargs else None
        hidden = kwargs[name] if name else args[0]
        moved = hidden + push if keep is None else hidden + push * keep(hidden)
        if name:
            return args, {**kwargs, name: moved}
        return (moved, *args[1:]), kwargs

    handle = after(lm, layer).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def batch(lm, texts, side="left"):
    ids, mask = pad(lm.encode(texts), lm.pad_id, side=side)
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def logits(lm, texts):
    return lm.model(**batch(lm, texts, "right")).logits


def traces(lm):
    """Everything that hooks and patches leave on a model."""
    return [
        (
            name,
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            "forward" in vars(module),
        )
        for name, module in lm.model.named_modules()
    ]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_edit_equals_manual_forward(lm, make_vector, texts, layer):
    push = make_vector(lm)[layer]
    with edit_residual(lm, {layer: lambda hidden: hidden + push}):
        edited = logits(lm, texts[:4])
    with manually_added(lm, layer, push):
        manual = logits(lm, texts[:4])
    assert (edited - logits(lm, texts[:4])).abs().max() > 0.01
    torch.testing.assert_close(edited, manual, rtol=ROUNDING, atol=ROUNDING)


def test_removal_restores_bit_identical_logits(lm, make_vector, texts):
    before, state = logits(lm, texts[:3]), traces(lm)
    with Steer(make_vector(lm), positions="generated", skip_bos=True).on(lm):
        logits(lm, texts[:3])
    with Steer(make_vector(lm)).on(lm):
        assert not torch.equal(logits(lm, texts[:3]), before)
    assert torch.equal(logits(lm, texts[:3]), before)
    assert traces(lm) == state


def test_strength_zero_is_bit_identical(lm, make_vector, texts):
    with Steer(make_vector(lm), strength=0.0).on(lm):
        inside = logits(lm, texts[:3])
    assert torch.equal(inside, logits(lm, texts[:3]))


def test_adding_and_taking_away_is_the_identity(lm, make_vector, texts):
    vector = make_vector(lm, length=2.0)
    with Steer(vector, layers=[1]).on(lm), Steer(-vector, layers=[1]).on(lm):
        inside = logits(lm, texts[:3])
    torch.testing.assert_close(inside, logits(lm, texts[:3]), rtol=1e-4, atol=1e-4)


def test_recorded_hidden_states_show_the_edit(lm, make_vector, texts):
    push = make_vector(lm)[1]
    inputs = batch(lm, texts[:2], "right")
    with torch.no_grad():
        plain = lm.model(**inputs, output_hidden_states=True).hidden_states
        with edit_residual(lm, {1: lambda hidden: hidden + push}):
            edited = lm.model(**inputs, output_hidden_states=True).hidden_states
        again = lm.model(**inputs, output_hidden_states=True).hidden_states
    assert torch.equal(edited[1], plain[1])
    torch.testing.assert_close(edited[2], plain[2] + push)
    for one, other in zip(plain, again, strict=True):
        assert torch.equal(one, other)


def test_collecting_inside_a_context_shows_the_edit(lm, make_vector, texts):
    plain = collect(lm, texts[:3])
    vector = make_vector(lm)
    with Steer(vector, layers=[1]).on(lm):
        edited = collect(lm, texts[:3])
    assert torch.equal(edited.at(0), plain.at(0))
    torch.testing.assert_close(edited.at(1), plain.at(1) + vector[1])


def test_read_hands_over_every_forward(llama, texts):
    seen = []
    with read_residual(llama, [0, 2], lambda layer, h: seen.append((layer, h.shape))):
        logits(llama, texts[:2])
        logits(llama, texts[:1])
    assert [layer for layer, _ in seen] == [0, 2, 0, 2]
    assert seen[0][1][0] == 2
    assert seen[2][1][0] == 1


@pytest.mark.parametrize(
    "enter",
    [
        lambda lm: read_residual(lm, [0, 2], lambda *_: None),
        lambda lm: edit_residual(
            lm, {0: lambda h: h}, positions="prompt", skip_bos=True
        ),
    ],
    ids=["read", "edit"],
)
def test_no_trace_after_an_exception_inside(llama, enter):
    before = traces(llama)
    inside = []

    def broken():
        inside.append(traces(llama))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), enter(llama):
        broken()
    assert inside != [before]
    assert traces(llama) == before


@pytest.mark.parametrize(
    "enter",
    [
        lambda lm: read_residual(lm, [0, 7], lambda *_: None),
        lambda lm: edit_residual(lm, {0: lambda h: h, 7: lambda h: h}, skip_bos=True),
    ],
    ids=["read", "edit"],
)
def test_no_trace_after_a_failing_set_up(llama, enter):
    before = traces(llama)
    with pytest.raises((ValueError, IndexError)), enter(llama):
        pytest.fail("the context must not be entered")
    assert traces(llama) == before


def test_no_trace_when_an_edit_or_a_sink_fails(llama, texts):
    before = traces(llama)

    def broken(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), edit_residual(llama, {1: broken}):
        logits(llama, texts[:1])
    with pytest.raises(ZeroDivisionError):
        run_until(llama, [1], broken, **batch(llama, texts[:1]))
    assert traces(llama) == before


def test_contexts_may_end_in_any_order(llama, make_vector, texts):
    vector, before, state = make_vector(llama), logits(llama, texts), traces(llama)
    with Steer(vector).on(llama):
        alone = logits(llama, texts)
    outer, inner = Steer(2 * vector).on(llama), Steer(vector).on(llama)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert torch.equal(logits(llama, texts), alone)
    inner.__exit__(None, None, None)
    assert torch.equal(logits(llama, texts), before)
    assert traces(llama) == state


def test_inner_contexts_edit_what_outer_ones_made(llama, texts):
    with (
        edit_residual(llama, {1: lambda h: h + 1}),
        edit_residual(llama, {1: lambda h: 2 * h}),
    ):
        nested = collect(llama, texts[:1], layers=[1])
    plain = collect(llama, texts[:1], layers=[1])
    torch.testing.assert_close(nested.values, 2 * (plain.values + 1))


def test_an_edit_never_changes_its_argument(llama, make_vector):
    hidden = torch.randn(1, 4, llama.hidden)
    kept = hidden.clone()
    steer = Steer(make_vector(llama), layers=[0], positions="prompt", skip_bos=True)

    class Probe(torch.nn.Module):
        def forward(self, _):
            return hidden

    blocks = llama.blocks
    inner, blocks[0] = blocks[0], Probe()
    try:
        with steer.on(llama):
            llama.model(input_ids=torch.tensor([[5, 6, 7, 8]]))
    except TypeError:  # a Probe takes no keywords: call it as the model would
        pass
    finally:
        blocks[0] = inner
    assert torch.equal(hidden, kept)


def test_block_outputs_may_be_tensors_or_tuples():
    hidden = torch.ones(2, 3, 4)
    assert split_output(hidden) == (hidden, None)
    found, rest = split_output((hidden, "cache"))
    assert found is hidden
    assert join_output(found, rest) == (hidden, "cache")
    assert join_output(hidden, None) is hidden


def test_edits_work_on_blocks_that_return_tuples(make_lm, make_vector, texts):
    lm = make_lm("llama")
    vector = make_vector(lm)
    with Steer(vector, layers=[2]).on(lm):
        expected = collect(lm, texts[:2], layers=[2])
    block = lm.blocks[2]
    inner = block.forward
    block.forward = lambda *args, **kwargs: (split_output(inner(*args, **kwargs))[0],)
    with Steer(vector, layers=[2]).on(lm):
        found = collect(lm, texts[:2], layers=[2])
    assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_keeps_gradients(make_lm, make_vector, texts, family):
    lm = make_lm(family, **({"resid_pdrop": 0.0} if family == "gpt2" else {}))
    vector = make_vector(lm)
    inputs = batch(lm, texts[:3], "right")
    for module in lm.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    lm.model.train()

    def gradients() -> list[torch.Tensor]:
        lm.model.zero_grad()
        with Steer(vector, positions="prompt", skip_bos=True).on(lm):
            lm.model(**inputs, use_cache=False).logits.pow(2).mean().backward()
        return [p.grad.clone() for p in lm.model.parameters() if p.grad is not None]

    plain = gradients()
    lm.model.gradient_checkpointing_enable({"use_reentrant": False})
    for one, other in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=ROUNDING, atol=ROUNDING)
    assert isinstance(lm, LM)
