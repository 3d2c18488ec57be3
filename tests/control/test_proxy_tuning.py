"""Proxy-tuning equals three models run side by side by hand, token by token."""

from copy import deepcopy

import pytest
import torch

from contrans.control.methods import ProxyTuning
from contrans.control.methods.companion import Template
from contrans.control.steer import Steer
from contrans.data.concept import Item
from contrans.evaluation import ChoicesTask, evaluate, perplexity
from contrans.models.calls import cache_made, with_cache
from contrans.models.edits import NoControl
from contrans.models.loading import wrap
from contrans.models.logit_hooks import edit_logits, encode_prompts
from contrans.models.scoring import score_continuations

EXACT = 2e-4
"""Tolerance for logits of float32 forwards in other batches and with a cache."""
PROMPTS = ["The dog saw", "A red house stood in the rain and", "Hi"]
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


_made = {}


@pytest.fixture
def trio(make_lm):
    """Target, expert and anti-expert of one vocabulary, made once."""
    if not _made:
        _made["trio"] = tuple(make_lm("llama", seed=seed) for seed in (0, 1, 2))
    return _made["trio"]


def by_hand(models, prompt, steps, *, strength=1.0, expert_prompt=None, ids=None):
    """Greedy decoding by (A6): three full forwards a token, no cache, no batch."""
    base, expert, _ = models
    rows = [base.encode([prompt])[0] for _ in range(3)]
    if expert_prompt is not None:
        rows[1] = expert.encode([expert_prompt])[0]
    written, gaps = [], []
    with torch.no_grad():
        for step in range(steps):
            z = [
                lm.model(torch.tensor([row])).logits[0, -1].double()
                for lm, row in zip(models, rows, strict=True)
            ]
            mixed = z[0] + strength * (z[1] - z[2])
            token = int(mixed.argmax()) if ids is None else ids[step]
            gaps.append(float(mixed.log_softmax(-1)[token]))
            written.append(token)
            rows = [[*row, token] for row in rows]
    return written, sum(gaps)


def generate_ids(lm, prompts, steps, **options):
    from contrans.models.padding import pad

    ids, mask = pad(lm.encode(prompts), lm.pad_id, side="left")
    out = lm.model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=steps,
        do_sample=False,
        pad_token_id=lm.pad_id,
        **options,
    )
    return out[:, ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"prefill_chunk_size": 3},
        {"prompt_lookup_num_tokens": 2, "eos_token_id": 2},
    ],
    ids=lambda options: next(iter(options), "cache"),
)
def test_generation_equals_the_hand_written_loop(trio, options):
    base, expert, anti = trio
    alone = options.keys() & {"prefill_chunk_size", "prompt_lookup_num_tokens"}
    prompts = PROMPTS[:1] if alone else PROMPTS
    with ProxyTuning(expert, anti, strength=0.7).on(base) as lm:
        written = generate_ids(lm, prompts, 8, **options)
    for prompt, row in zip(prompts, written, strict=True):
        assert row == by_hand(trio, prompt, 8, strength=0.7)[0]
    assert generate_ids(base, prompts, 8) != written


def test_a_batch_equals_one_at_a_time(trio):
    base, expert, anti = trio
    with ProxyTuning(expert, anti).on(base) as lm:
        together = lm.generate(PROMPTS, max_new_tokens=6)
        alone = [lm.generate(prompt, max_new_tokens=6) for prompt in PROMPTS]
    assert together == alone


def test_beams_equal_beams_without_a_cache(trio):
    base, expert, anti = trio
    with ProxyTuning(expert, anti).on(base) as lm:
        kept = generate_ids(lm, PROMPTS, 6, num_beams=3, use_cache=True)
        whole = generate_ids(lm, PROMPTS, 6, num_beams=3, use_cache=False)
    assert kept == whole


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "opt", "gpt_neox"])
def test_other_families(make_lm, family):
    models = tuple(make_lm(family, seed=seed) for seed in (0, 1, 2))
    with ProxyTuning(models[1], models[2]).on(models[0]) as lm:
        written = generate_ids(lm, PROMPTS, 5)
    for prompt, row in zip(PROMPTS, written, strict=True):
        assert row == by_hand(models, prompt, 5)[0]


def test_scores_equal_the_hand_written_loop(trio):
    base, expert, anti = trio
    items = [
        (base.encode([prompt])[0], base.encode([text])[0])
        for prompt in PROMPTS
        for text in (" went home", " in", " a red dog and a dog")
    ]
    with ProxyTuning(expert, anti, strength=0.5).on(base) as lm:
        scores = score_continuations(lm, items)
    for i, (context, rest) in enumerate(items):
        prompt = base.tokenizer.decode(context)
        wanted = by_hand(trio, prompt, len(rest), strength=0.5, ids=rest)[1]
        assert float(scores.total[i]) == pytest.approx(wanted, abs=EXACT * len(rest))


def test_strength_zero_is_bit_identical(trio):
    base, expert, anti = trio
    ids = torch.tensor(base.encode(PROMPTS[:1]))
    before = base.model(ids).logits
    with ProxyTuning(expert, anti, strength=0.0).on(base) as lm:
        assert torch.equal(lm.model(ids).logits, before)
    assert torch.equal(base.model(ids).logits, before)


def test_nothing_is_left_behind_also_after_an_error(trio):
    base, expert, anti = trio
    before = dict(vars(base.model))
    with pytest.raises(ValueError, match="cached"), ProxyTuning(expert, anti).on(base):
        _misuse(base)
    assert vars(base.model) == before
    assert not base.model._forward_hooks
    assert not base.model._forward_pre_hooks


def test_equal_experts_change_nothing_but_rounding(trio, make_lm):
    base, expert, _ = trio
    twin = make_lm("llama", seed=1)
    ids = torch.tensor(base.encode(PROMPTS[1:2]))
    with ProxyTuning(expert, twin, strength=3.0).on(base) as lm:
        assert torch.allclose(lm.model(ids).logits, base.model(ids).logits, atol=1e-5)


def _misuse(lm):
    lm.generate("Hi", max_new_tokens=2)
    first = lm.model(torch.tensor([[5, 6]]), use_cache=True)
    lm.model(torch.tensor([[7]]), **with_cache(lm.model, cache_made(first)))


# The expert's own template


def chatty(lm):
    tokenizer = deepcopy(lm.tokenizer)
    tokenizer.chat_template = CHAT
    return wrap(lm.model, tokenizer, name="chatty")


def test_the_expert_sees_its_own_template_in_generation(trio):
    base, expert, anti = trio
    models = (base, chatty(expert), anti)
    with ProxyTuning(models[1], anti).on(base) as lm:
        written = generate_ids(lm, PROMPTS, 6)
    bare = [by_hand(trio, prompt, 6)[0] for prompt in PROMPTS]
    for prompt, row in zip(PROMPTS, written, strict=True):
        templated = f"<user>{prompt}</user><assistant>"
        assert row == by_hand(models, prompt, 6, expert_prompt=templated)[0]
    assert written != bare
    with ProxyTuning(models[1], anti, template="never").on(base) as lm:
        assert generate_ids(lm, PROMPTS, 6) == bare


def test_the_expert_sees_its_own_template_in_scoring(trio):
    base, expert, anti = trio
    models = (base, chatty(expert), anti)
    rest = base.encode([" went home"])[0]
    with ProxyTuning(models[1], anti, answer_prefix="So:").on(base) as lm:
        rows = encode_prompts(lm, PROMPTS)
        scores = score_continuations(lm, [(row, rest) for row in rows])
    for i, prompt in enumerate(PROMPTS):
        templated = f"<user>{prompt}</user><assistant>So:"
        wanted = by_hand(models, prompt, len(rest), expert_prompt=templated, ids=rest)[
            1
        ]
        assert float(scores.total[i]) == pytest.approx(wanted, abs=EXACT * len(rest))


def test_a_prompt_in_the_template_is_not_wrapped_twice(trio):
    lm = chatty(trio[1])
    template = Template(lm)
    inside = lm.encode(["<user>Hi</user><assistant>"])[0]
    assert template.around(inside) == inside
    assert template.around(lm.encode(["Hi"])[0]) == inside


def test_tasks_announce_their_prompts(trio):
    base, expert, anti = trio
    choices = (" a house", " rain")
    items = (Item("a", "The dog saw", choices, 0), Item("b", "A red", choices, 1))
    results = evaluate(
        base,
        [ChoicesTask(items)],
        {
            "base": NoControl(),
            "chat": ProxyTuning(chatty(expert), anti),
            "bare": ProxyTuning(expert, anti),
        },
        perplexity_texts=PROMPTS[:2],
    )
    rows = {row.control: row for row in results.rows}
    assert rows["chat"].extra["margin"] != rows["bare"].extra["margin"]
    # Plain text is no prompt: no template there.
    assert rows["chat"].perplexity == rows["bare"].perplexity


# Refusals


def test_another_vocabulary_is_refused(trio, unpadded):
    base, expert, _ = trio
    with pytest.raises(ValueError, match=r"token 0 is '<s>' in one and 'a'"):
        ProxyTuning(expert, unpadded).on(base).__enter__()


def test_extra_logits_of_the_expert_are_dropped(make_lm):
    base, anti = make_lm("llama", seed=0), make_lm("llama", seed=2)
    wide = make_lm("llama", seed=1, vocab_size=310)
    with ProxyTuning(wide, anti).on(base) as lm:
        assert lm.model(torch.tensor([[5, 6]])).logits.shape[-1] == 300


def test_a_cache_outside_generate_is_refused(trio):
    base, expert, anti = trio
    first = base.model(torch.tensor([[5, 6]]), use_cache=True)
    with (
        ProxyTuning(expert, anti).on(base) as lm,
        pytest.raises(ValueError, match="2 cached tokens"),
    ):
        lm.model(torch.tensor([[7]]), **with_cache(lm.model, cache_made(first)))


def test_a_model_is_not_its_own_expert(trio):
    base, _, anti = trio
    with pytest.raises(ValueError, match="its own expert"):
        ProxyTuning(base, anti).on(base).__enter__()


def test_it_goes_with_an_edited_stream(trio, make_vector):
    base, expert, anti = trio
    vector = make_vector(base)
    ids = torch.tensor(base.encode(PROMPTS[:1]))
    with Steer(vector).on(base):
        steered = base.model(ids).logits
    with Steer(vector).on(base), ProxyTuning(expert, anti).on(base):
        both = base.model(ids).logits
    gap = expert.model(ids).logits - anti.model(ids).logits
    assert torch.allclose(both, steered + gap, atol=1e-4)


def test_an_edit_of_logits_sees_whole_rows(trio):
    base = trio[0]
    seen = []

    def edit(logits, reading):
        seen.append((logits.shape[1], reading))
        return logits

    with edit_logits(base, edit) as lm:
        plain = lm.generate(PROMPTS, max_new_tokens=3)
    assert plain == base.generate(PROMPTS, max_new_tokens=3)
    rows = base.encode(PROMPTS)
    assert [reading.prompts for _, reading in seen] == [[len(r) for r in rows]] * 3
    for step, (columns, reading) in enumerate(seen):
        assert columns == 1
        assert reading.growing
        assert [
            row[: len(r)] for row, r in zip(reading.rows, rows, strict=True)
        ] == rows
        ends = [[len(r) + step - 1] for r in rows]
        assert reading.wanted.tolist() == ends


def test_perplexity_under_proxy_is_that_of_the_mixture(trio):
    base, expert, anti = trio
    text = "The dog saw a red house"
    ids = base.encode([text])[0]
    with ProxyTuning(expert, anti).on(base) as lm:
        measured = perplexity(lm, [text])
    # without BOS, what follows the very first token is not scored
    wanted = by_hand(trio, text[:2], len(ids) - 2, ids=ids[2:])[1]
    assert measured.value == pytest.approx(
        torch.tensor(-wanted / (len(ids) - 2)).exp().item(), rel=1e-4
    )
