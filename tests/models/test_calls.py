"""Which tokens of a call are what: right under every way of generating, else an error."""

import logging
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
import torch
import transformers
from transformers import DynamicCache, StaticCache

from contrans.control.steer import Steer
from contrans.models.calls import cache_made, cached_tokens, watching, with_cache
from contrans.models.hooks import edit_residual, read_residual
from contrans.models.padding import pad
from contrans.models.scoring import score_continuations

ROUNDING = 1e-4
"""Logits of tiny models reach 10; cached and full passes sum in another order."""
LAYER = 1
NEW = 5
PROMPTS = ["a red house stood", "the dog"]  # of unequal length: the second is padded
MODES = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 1.5, "top_k": 0},
    "no cache": {"use_cache": False},
    "static": {"cache_implementation": "static"},
    "chunks": {"prefill_chunk_size": 5},
    "static chunks": {"cache_implementation": "static", "prefill_chunk_size": 5},
    "offloaded": {"cache_implementation": "offloaded"},
}
NEEDS = {"offloaded": "copies through a GPU stream"}


def prompts_for(mode):
    """Transformers 4 itself reads padded prompts wrongly in chunks."""
    old = transformers.__version__.startswith("4.")
    return PROMPTS[:1] if old and "chunks" in mode else PROMPTS


def generate(lm, prompts, **options):
    ids, mask = pad(lm.encode(prompts), lm.pad_id, side="left")
    options = {"do_sample": False, "max_new_tokens": NEW, "pad_token_id": 2} | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = lm.model.generate(
            input_ids=ids,
            attention_mask=mask,
            output_logits=True,
            return_dict_in_generate=True,
            **options,
        )
    return out, ids.shape[1], mask


@torch.no_grad()
def by_hand(lm, row, prompt, push, positions, *, skip_bos=False):
    """Logits of one text in one full forward, edited from outside by token index."""

    def add(_module, args, options):
        index = torch.arange(len(row))
        chosen = {
            "all": index >= 0,
            "prompt": index < prompt,
            "generated": index >= prompt,
        }[positions]
        if skip_bos:
            chosen = chosen & (index > 0)
        moved = push * chosen[:, None]
        if "hidden_states" in options:
            return args, {**options, "hidden_states": options["hidden_states"] + moved}
        return (args[0] + moved, *args[1:]), options

    handle = lm.blocks[LAYER + 1].register_forward_pre_hook(add, with_kwargs=True)
    try:
        return lm.model(torch.tensor([row]), use_cache=False).logits[0]
    finally:
        handle.remove()


def check(lm, steer, prompts, options, positions, skip_bos=False):
    """What was written, and its logits, are those of full forwards edited by hand."""
    with steer.on(lm):
        out, _, mask = generate(lm, prompts, **options)
    for i, sequence in enumerate(out.sequences):
        real = torch.cat([mask[i].bool(), torch.ones(NEW, dtype=torch.bool)])
        row = sequence[real].tolist()
        prompt = len(row) - NEW
        full = by_hand(
            lm, row, prompt, steer.vector[LAYER], positions, skip_bos=skip_bos
        )
        found = torch.stack([step[i] for step in out.logits])
        torch.testing.assert_close(
            found, full[prompt - 1 : -1], rtol=ROUNDING, atol=ROUNDING
        )


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("positions", ["all", "prompt", "generated"])
def test_every_way_of_generating_edits_the_tokens_it_should(
    llama_bos, make_vector, mode, positions
):
    if mode in NEEDS and not torch.cuda.is_available():
        pytest.skip(f"{mode} {NEEDS[mode]}")
    for skip_bos in (False, True):
        steer = Steer(
            make_vector(llama_bos),
            layers=[LAYER],
            positions=positions,
            skip_bos=skip_bos,
        )
        check(llama_bos, steer, prompts_for(mode), MODES[mode], positions, skip_bos)


@pytest.mark.parametrize("mode", ["static", "chunks"])
def test_every_family_edits_generated_tokens(lm, make_vector, mode):
    if mode == "static" and not getattr(lm.model, "_can_compile_fullgraph", True):
        pytest.skip(f"{lm.name} takes no static cache in this transformers")
    steer = Steer(make_vector(lm), layers=[LAYER], positions="generated")
    check(lm, steer, prompts_for(mode), MODES[mode], "generated")


@pytest.mark.parametrize("positions", ["prompt", "generated"])
@pytest.mark.parametrize("options", [{}, {"use_cache": False}], ids=["cache", "none"])
def test_beams_score_what_the_edited_model_would(
    llama_bos, make_vector, positions, options
):
    lm = llama_bos
    vector = make_vector(lm, length=2.0)
    steer = Steer(vector, layers=[LAYER], positions=positions, skip_bos=True)
    with steer.on(lm):
        out, _, mask = generate(
            lm,
            PROMPTS,
            num_beams=4,
            num_return_sequences=2,
            output_scores=True,
            **options,
        )
    for i, sequence in enumerate(out.sequences):
        real = torch.cat([mask[i // 2].bool(), torch.ones(NEW, dtype=torch.bool)])
        row = sequence[real].tolist()
        prompt = len(row) - NEW
        logits = by_hand(lm, row, prompt, vector[LAYER], positions, skip_bos=True)
        logs = logits[prompt - 1 : -1].log_softmax(-1)
        score = logs[torch.arange(NEW), torch.tensor(row[prompt:])].sum() / NEW
        assert float(out.sequences_scores[i]) == pytest.approx(
            float(score), abs=ROUNDING
        )


@contextmanager
def edited_columns(lm, **options):
    """Which tokens of every call are edited: their states become zero, and are read."""
    seen = []
    with (
        edit_residual(lm, {LAYER: torch.zeros_like}, **options),
        read_residual(lm, [LAYER], lambda _, h: seen.append((h == 0).all(-1))),
    ):
        yield seen


@pytest.mark.parametrize("kind", ["lookup", "assistant", "itself"])
@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_assisted_generation_knows_its_prompt(
    llama, make_lm, make_vector, positions, kind
):
    steer = Steer(make_vector(llama), layers=[LAYER], positions=positions)
    options = {
        "lookup": {"prompt_lookup_num_tokens": 2, "eos_token_id": 2},
        "assistant": {"assistant_model": make_lm("llama", seed=3).model},
        "itself": {"assistant_model": llama.model},
    }[kind]
    check(llama, steer, ["the dog the dog the dog"], options, positions)


@pytest.mark.parametrize("positions", ["prompt", "generated"])
@pytest.mark.parametrize("made", ["dynamic", "static"])
def test_a_given_cache_is_continued(llama, positions, made):
    ids = torch.tensor(llama.encode(["a red house stood"]))
    options = {"max_cache_len": 64, "config": llama.model.config}
    cache = StaticCache(**options) if made == "static" else DynamicCache()
    with torch.no_grad():
        llama.model(ids[:, :6], use_cache=True, **with_cache(llama.model, cache))
    assert cached_tokens(cache) == 6
    with edited_columns(llama, positions=positions) as seen:
        llama.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=3,
            do_sample=False,
            pad_token_id=2,
            **with_cache(llama.model, cache),
        )
    found = torch.cat(seen, dim=1)[0].tolist()
    rest = ids.shape[1] - 6
    assert found[:rest] == [positions == "prompt"] * rest
    assert found[rest:] == [positions == "generated"] * 2


def quantised():
    for backend, package in (("quanto", "optimum.quanto"), ("hqq", "hqq")):
        try:
            if find_spec(package) is not None:
                return {"backend": backend}
        except ModuleNotFoundError:
            continue
    import transformers.cache_utils as caches

    return {"backend": "fp8"} if hasattr(caches, "Fp8QuantizedLayer") else None


@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_a_quantised_cache(llama_bos, positions):
    config = quantised()
    if config is None:
        pytest.skip("a quantised cache needs optimum-quanto or hqq here")
    options = {"cache_implementation": "quantized", "cache_config": config}
    with edited_columns(llama_bos, positions=positions, skip_bos=True) as seen:
        _, width, mask = generate(llama_bos, PROMPTS, **options)
    found = torch.cat(seen, dim=1)[:, : width + NEW - 1]
    real = torch.cat([mask, torch.ones(2, NEW - 1)], dim=1).bool()
    first = torch.nn.functional.one_hot(mask.argmax(1), width + NEW - 1).bool()
    generated = torch.arange(width + NEW - 1) >= width
    inside = generated if positions == "generated" else ~generated
    assert torch.equal(found, real & ~first & inside)


def test_prompt_and_generated_edits_are_all_edits(lm, make_vector):
    vector = make_vector(lm)
    with Steer(vector, layers=[LAYER]).on(lm):
        whole, _, _ = generate(lm, PROMPTS)
    with (
        Steer(vector, layers=[LAYER], positions="prompt").on(lm),
        Steer(vector, layers=[LAYER], positions="generated").on(lm),
    ):
        parts, _, _ = generate(lm, PROMPTS)
    assert torch.equal(whole.sequences, parts.sequences)
    torch.testing.assert_close(
        torch.stack(whole.logits), torch.stack(parts.logits), rtol=1e-4, atol=1e-4
    )


# Calls by hand


def test_a_loop_by_hand_with_a_cache_is_a_generation(llama):
    ids = torch.tensor(llama.encode(["the dog saw"]))
    with edited_columns(llama, positions="generated") as seen:
        out = llama.model(ids, use_cache=True)
        for _ in range(2):
            given = with_cache(llama.model, cache_made(out))
            out = llama.model(torch.tensor([[7]]), use_cache=True, **given)
    assert torch.cat(seen, dim=1)[0].tolist() == [False] * ids.shape[1] + [True] * 2


def test_a_text_that_extends_the_one_before_is_no_generation(llama, make_vector):
    """A text that happens to be the last one and a token more is read, not written."""
    rows = [[5, 6, 7], [5, 6, 7, 8], [5, 6, 7, 8, 9]]
    items = [(row[:-1], row[-1:]) for row in rows]
    plain = score_continuations(llama, items, tokens_per_batch=1).total
    with Steer(make_vector(llama), positions="generated").on(llama):
        found = score_continuations(llama, items, tokens_per_batch=1).total
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_several_tokens_after_a_cache_are_refused(llama, positions):

    def given():
        out = llama.model(torch.tensor([[5, 6, 7]]), use_cache=True)
        return with_cache(llama.model, cache_made(out))

    with (
        edit_residual(llama, {1: lambda h: h}, positions=positions),
        pytest.raises(ValueError, match=r"2 tokens after 3 in its cache.*generate\(\)"),
    ):
        llama.model(torch.tensor([[8, 9]]), **given())
    with edit_residual(llama, {1: lambda h: h}, skip_bos=True):
        llama.model(torch.tensor([[8, 9]]), **given())  # that much is known


def test_a_mask_that_misses_the_cache_is_refused(llama):
    cache = cache_made(llama.model(torch.tensor([[5, 6, 7]]), use_cache=True))
    with (
        edit_residual(llama, {1: lambda h: h}, positions="generated"),
        pytest.raises(ValueError, match=r"covers 1 tokens.*1 after 3.*mask of all 4"),
    ):
        llama.model(
            torch.tensor([[8]]),
            attention_mask=torch.ones(1, 1),
            **with_cache(llama.model, cache),
        )


def test_a_mask_for_attention_alone_is_refused(llama):
    mask = torch.zeros(1, 1, 3, 3)
    with (
        edit_residual(llama, {1: lambda h: h}, positions="prompt"),
        pytest.raises(ValueError, match="which tokens are padding cannot be known"),
    ):
        llama.model(torch.tensor([[5, 6, 7]]), attention_mask=mask)


def test_embeddings_do_not_tell_a_bos(llama_bos):
    embeds = llama_bos.model.get_input_embeddings()(torch.tensor([[0, 5, 6]]))
    with (
        edit_residual(llama_bos, {1: lambda h: h}, skip_bos=True),
        pytest.raises(ValueError, match="pass input_ids, or leave skip_bos out"),
    ):
        llama_bos.model(inputs_embeds=embeds)
    with edited_columns(llama_bos, positions="prompt") as seen:
        llama_bos.model(inputs_embeds=embeds)
    assert seen[0].tolist() == [[True] * 3]


def test_embeddings_may_be_the_prompt_of_a_generation(llama):
    embeds = llama.model.get_input_embeddings()(torch.tensor([[5, 6, 7]]))
    with edited_columns(llama, positions="generated") as seen:
        llama.model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(1, 3),
            max_new_tokens=3,
            do_sample=False,
            pad_token_id=2,
        )
    assert torch.cat(seen, dim=1)[0].tolist() == [False] * 3 + [True] * 2


def test_positions_that_begin_again_begin_a_text(llama_bos):
    """Several texts in a row, told apart by their position ids."""
    with edited_columns(llama_bos, skip_bos=True) as seen:
        llama_bos.model(
            torch.tensor([[0, 5, 6, 0, 7, 0]]),
            position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]),
        )
    assert seen[0].tolist() == [[False, True, True, False, True, True]]


def test_a_cache_that_does_not_tell_its_length_is_refused(llama):
    with pytest.raises(ValueError, match="object does not say how many tokens"):
        cached_tokens(object())
    assert cached_tokens(None) == 0
    old = ((torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8)),)
    assert cached_tokens(old) == 5
    assert with_cache(llama.model, None) == {}


def test_inputs_by_place_are_read_too(llama_bos):
    ids, mask = pad(llama_bos.encode(["a dog", "the"]), llama_bos.pad_id, side="left")
    with edited_columns(llama_bos, positions="prompt", skip_bos=True) as seen:
        llama_bos.model(ids, mask)
    assert torch.equal(seen[0], (mask == 1) & (ids != 0))


def test_watching_ends_without_a_trace_in_any_order(llama):
    before = dict(vars(llama.model))
    one, two = watching(llama), watching(llama)
    calls = one.__enter__()
    assert two.__enter__() is calls
    one.__exit__(None, None, None)
    llama.model(torch.tensor([[5, 6]]))
    assert calls.call.columns == 2
    two.__exit__(None, None, None)
    assert vars(llama.model) == before
    assert not any(m._forward_pre_hooks for m in llama.model.modules())


def test_no_forward_of_ours_uses_a_name_that_goes_away(llama, make_lm, make_vector):
    """Deprecations of transformers are logged once; none is."""
    from contrans.control.methods import ProxyTuning

    heard = []
    logging.Logger.warning_once.cache_clear()  # type: ignore[attr-defined]
    library = logging.getLogger("transformers")
    handler = logging.Handler()
    handler.emit = heard.append
    library.addHandler(handler)
    try:
        items = [([5, 6, 7, 8, 9, 10, k], [11, 12]) for k in range(8)]
        score_continuations(llama, items)
        with Steer(make_vector(llama), positions="generated").on(llama):
            llama.generate(PROMPTS, max_new_tokens=3)
        small = make_lm("llama", seed=1), make_lm("llama", seed=2)
        with ProxyTuning(*small).on(llama):
            llama.generate(PROMPTS, max_new_tokens=3, beams=2)
    finally:
        library.removeHandler(handler)
    assert not [r for r in heard if "deprecat" in r.getMessage().lower()]
