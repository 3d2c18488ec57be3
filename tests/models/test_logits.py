"""Shared prefixes, several controls at once: the same numbers as the plain path."""

import random
import sys
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings, strategies as st

from contrans.control.steer import Steer, compose
from contrans.models import kv_cache, logits as reading, packing
from contrans.models.edits import NoControl
from contrans.models.hooks import edit_residual, reads_in_pieces
from contrans.models.loading import wrap
from contrans.models.prefix_tree import PrefixTree, Span, bins, shared
from contrans.models.scoring import (
    last_token_logits,
    last_token_logits_under,
    score_continuations,
    score_continuations_under,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import FAMILIES, byte_tokenizer, tiny_lm
from eval_models import one_by_one

SAME = 1e-5
"""Sums of float32 log-probabilities; measured at 2e-6 or less in every family."""
OTHERS = {
    "bloom": ("BloomConfig", "BloomForCausalLM", {"n_layer": 3, "n_head": 4}),
    "mpt": (
        "MptConfig",
        "MptForCausalLM",
        {"n_layers": 3, "n_heads": 4, "d_model": 32, "max_seq_len": 128},
    ),
    "falcon": (
        "FalconConfig",
        "FalconForCausalLM",
        {"num_hidden_layers": 3, "num_attention_heads": 4},
    ),
    "gptj": (
        "GPTJConfig",
        "GPTJForCausalLM",
        {"n_layer": 3, "n_head": 4, "n_embd": 32, "rotary_dim": 4, "n_positions": 128},
    ),
}


def other_lm(kind):
    config, model, options = OTHERS[kind]
    sizes = {"vocab_size": 300, "hidden_size": 32} | options
    if "d_model" in options or "n_embd" in options:
        del sizes["hidden_size"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = getattr(transformers, model)(getattr(transformers, config)(**sizes))
        with torch.no_grad():
            for weight in made.parameters():
                weight.normal_(0.0, 0.15 if weight.dim() > 1 else 0.3)
    return wrap(made.eval(), byte_tokenizer(), name=kind)


def branching_items(*, primer=30, questions=4, seed=0):
    """A primer, questions after it, choices after each: three levels of sharing."""
    drawn = random.Random(seed)

    def ids(low, high):
        return [drawn.randrange(3, 250) for _ in range(drawn.randint(low, high))]

    first = ids(primer, primer)
    found = []
    for _ in range(questions):
        context = first + ids(4, 12)
        found += [(context, ids(1, 7)) for _ in range(drawn.randint(2, 5))]
    drawn.shuffle(found)
    return [*found, found[0], (first, found[0][0][primer:][:3])]  # repeated, nested


def test_sharing_changes_nothing_in_any_family(lm, make_vector, monkeypatch):
    monkeypatch.setitem(reading.PACK, "cpu", 24)
    items = branching_items()
    plain = score_continuations(lm, items, share=False)
    for control in (NoControl(), Steer(make_vector(lm), layers=(1,), strength=1.5)):
        with control.on(lm):
            plain = score_continuations(lm, items, share=False)
            found = score_continuations(lm, items)
        assert torch.allclose(found.total, plain.total, atol=SAME, rtol=1e-6)
        assert torch.equal(found.greedy, plain.greedy)
    context, continuation = items[0]
    with control.on(lm):
        expected = sum(one_by_one(lm, context, continuation))
    assert float(found.total[0]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", sorted(OTHERS))
def test_sharing_changes_nothing_in_families_that_only_fork(family):
    lm = other_lm(family)
    items = branching_items()
    found, plain = (score_continuations(lm, items, share=s) for s in (True, False))
    assert torch.allclose(found.total, plain.total, atol=SAME, rtol=1e-6)
    rows = [context + rest for context, rest in items]
    one, two = (dict(last_token_logits(lm, rows, share=s)) for s in (True, False))
    assert all(torch.allclose(one[i], two[i], atol=SAME) for i in one)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_packed_and_forked_agree(family, monkeypatch):
    lm, items = tiny_lm(family), branching_items(seed=3)
    packed = score_continuations(lm, items).total
    monkeypatch.setattr(reading, "packable", lambda *_: False)
    forked = score_continuations(lm, items).total
    assert torch.allclose(packed, forked, atol=SAME, rtol=1e-6)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text"])
def test_a_sliding_window_is_never_packed_past_its_length(family):
    lm = tiny_lm(family)
    assert packing.packable(lm, 15)
    assert not packing.packable(lm, 16)


def test_shared_pieces_run_once(llama, monkeypatch):
    seen = []
    inner = kv_cache.run

    def counting(lm, batch, *args, **options):
        seen.append(batch.ids.numel())
        return inner(lm, batch, *args, **options)

    monkeypatch.setattr(reading, "run", counting)
    monkeypatch.setitem(reading.PACK, "cpu", 24)
    items = branching_items(primer=70, questions=6)
    score_continuations(llama, items)
    whole = sum(len(context) + len(rest) for context, rest in items)
    tree = PrefixTree([context + rest[:-1] for context, rest in items])
    assert sum(seen) < 1.6 * tree.unique < 0.5 * whole


def sweep_controls(lm, make_vector):
    vector = make_vector(lm)
    return [
        NoControl(),
        *(Steer(vector, layers=(1,), strength=s) for s in (0.5, 1.0, 2.0)),
        Steer(vector, layers=(0, 2), strength=1.0),
        Steer(vector, layers=(-1,), strength=1.0, keep_norm=True),
        Steer(vector, strength=0.0),
    ]


@pytest.mark.parametrize("share", [True, False])
def test_several_controls_are_bit_equal_to_one_at_a_time(lm, make_vector, share):
    controls = sweep_controls(lm, make_vector)
    items = branching_items(questions=3)
    rows = [context + rest for context, rest in items]
    before = [dict(vars(block)) for block in lm.blocks]
    found = score_continuations_under(lm, items, controls, share=share)
    logits = {
        (c, r): value
        for c, r, value in last_token_logits_under(lm, rows, controls, share=share)
    }
    for index, control in enumerate(controls):
        with control.on(lm):
            alone = score_continuations(lm, items, share=share)
            single = dict(last_token_logits(lm, rows, share=share))
        assert torch.equal(found[index].total, alone.total)
        assert torch.equal(found[index].greedy, alone.greedy)
        assert all(torch.equal(logits[index, r], single[r]) for r in single)
    assert not torch.allclose(found[1].total, found[0].total, atol=SAME)
    assert reads_in_pieces(lm)
    assert [dict(vars(block)) for block in lm.blocks] == before


@pytest.mark.parametrize("family", sorted(OTHERS))
def test_several_controls_are_bit_equal_in_further_families(family, make_vector):
    lm = other_lm(family)
    items = branching_items(questions=3)
    controls = sweep_controls(lm, make_vector)
    found = score_continuations_under(lm, items, controls)
    for control, here in zip(controls, found, strict=True):
        with control.on(lm):
            assert torch.equal(here.total, score_continuations(lm, items).total)


def test_controls_in_one_batch_equal_one_at_a_time(llama, make_vector, monkeypatch):
    """What accelerators do: the rows of a small batch once for every control."""
    items = branching_items(questions=3)
    controls = sweep_controls(llama, make_vector)
    alone = score_continuations_under(llama, items, controls)
    monkeypatch.setattr(reading, "GROUPED_ON_CPU", True)
    together = score_continuations_under(llama, items, controls)
    for one, two in zip(alone, together, strict=True):
        assert torch.allclose(one.total, two.total, atol=SAME, rtol=1e-6)


def test_few_caches_at_a_time_change_nothing(llama, make_vector, monkeypatch):
    items = branching_items(questions=3)
    controls = sweep_controls(llama, make_vector)
    found = score_continuations_under(llama, items, controls)
    monkeypatch.setattr(reading, "CACHES", 1)
    few = score_continuations_under(llama, items, controls)
    assert all(torch.equal(a.total, b.total) for a, b in zip(found, few, strict=True))


def test_outer_controls_stay_in_force(llama, make_vector):
    items = branching_items(questions=2)
    vector, other = make_vector(llama), make_vector(llama, seed=7)
    inner = Steer(vector, layers=(1,), strength=1.0)
    outer = Steer(other, layers=(0, 2), strength=0.5)
    with outer.on(llama):
        found = score_continuations_under(llama, items, [inner])[0].total
    with compose(outer, inner).on(llama):
        expected = score_continuations(llama, items).total
    assert torch.equal(found, expected)


def whole_text(hidden):
    return hidden + hidden.mean(1, keepdim=True)


def test_edits_that_see_whole_texts_are_not_read_in_pieces(llama):
    items = branching_items(questions=2)
    with edit_residual(llama, {1: whole_text}):
        assert not reads_in_pieces(llama)
        found = score_continuations(llama, items, tokens_per_batch=1).total
        context, continuation = items[0]
        ids = torch.tensor([context + continuation])
        with torch.no_grad():
            logs = llama.model(input_ids=ids).logits[0].log_softmax(-1)
    at = torch.arange(len(context) - 1, ids.shape[1] - 1)
    expected = float(logs[at, ids[0, at + 1]].sum())
    assert float(found[0]) == pytest.approx(expected, abs=1e-4)
    assert reads_in_pieces(llama)


@pytest.mark.parametrize("positions", ["prompt", "generated"])
def test_controls_of_some_positions_are_measured_apart(llama, make_vector, positions):
    items = branching_items(questions=2)
    control = Steer(make_vector(llama), layers=(1,), positions=positions)
    found = score_continuations_under(llama, items, [NoControl(), control])
    with control.on(llama):
        expected = score_continuations(llama, items, share=False).total
    assert torch.equal(found[1].total, expected)


def test_foreign_hooks_are_respected(llama):
    items = branching_items(questions=2)
    plain = score_continuations(llama, items).total
    handle = llama.blocks[1].register_forward_hook(lambda _m, _a, out: out * 1.5)
    try:
        assert not reads_in_pieces(llama)
        found = score_continuations(llama, items).total
        expected = sum(one_by_one(llama, *items[0]))
    finally:
        handle.remove()
    assert float(found[0]) == pytest.approx(expected, abs=1e-4)
    assert not torch.allclose(found, plain, atol=SAME)


class _Breaking:
    """A control that makes the stream NaN."""

    def residual_edits(self, lm):
        del lm
        return {1: lambda hidden: hidden * float("nan")}

    def on(self, lm):
        return edit_residual(lm, self.residual_edits(lm), by_token=True)


def test_a_failing_forward_leaves_the_model_as_it_was(make_lm):
    lm = make_lm("llama")
    controls = [_Breaking()]
    items = branching_items(questions=2)
    with pytest.raises(ValueError, match="NaN or infinite logits"):
        score_continuations_under(lm, items, controls)
    assert reads_in_pieces(lm)
    assert all("forward" not in vars(block) for block in lm.blocks)
    assert not lm.model.get_output_embeddings()._forward_pre_hooks


def test_progress_reaches_the_end(llama, make_vector):
    items = branching_items(questions=2)
    steps = []
    score_continuations_under(
        llama,
        items,
        sweep_controls(llama, make_vector),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1] == (len(items), len(items))
    assert steps == sorted(steps)


# The tree alone


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1),
    st.integers(0, 6),
)
def test_a_tree_holds_every_token_once_behind_its_own_beginning(rows, capacity):
    tree = PrefixTree(rows)
    assert tree.unique == len({tuple(r[: i + 1]) for r in rows for i in range(len(r))})
    stack, covered = [Span(0, len(rows), 0)], [set() for _ in rows]
    while stack:
        span = stack.pop()
        if tree.size(span) > capacity and not tree.is_chain(span):
            until, parts = tree.split(span)
            for i in range(span.low, span.high):
                covered[i] |= set(range(span.depth, min(until, len(tree.rows[i]))))
            assert all(p.high - p.low < span.high - span.low for p in parts)
            stack += parts
            continue
        packed = tree.pack(span)
        seen = packed.seen()
        for i, path in enumerate(packed.paths, span.low):
            wanted = tree.rows[i][span.depth :]
            assert [packed.ids[p] for p in path] == wanted
            for n, p in enumerate(path):
                assert packed.depth[p] == span.depth + n
                assert set(seen[p].nonzero()[0]) == set(path[: n + 1])
            covered[i] |= set(range(span.depth, len(tree.rows[i])))
    for row, found in zip(tree.rows, covered, strict=True):
        assert found == set(range(len(row)))


@given(st.lists(st.integers(1, 12), min_size=1), st.integers(1, 9))
def test_rows_are_filled_and_never_overflow(sizes, capacity):
    tree = PrefixTree([[i] * size for i, size in enumerate(sizes)])
    parts = [tree.pack(Span(i, i + 1, 0)) for i in range(len(sizes))]
    rows = bins(parts, capacity)
    packed = [part for row in rows for part in row]
    assert sorted(map(id, packed)) == sorted(map(id, parts))
    filled = [sum(len(part.ids) for part in row) for row in rows]
    assert all(
        size <= capacity or len(row) == 1
        for size, row in zip(filled, rows, strict=True)
    )
    assert sum(2 * size <= capacity for size in filled) <= 1


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_shared_beginning(left, right):
    n = shared(left, right)
    assert left[:n] == right[:n]
    assert n == min(len(left), len(right)) or left[n] != right[n]


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_length_are_not_cut_in_pieces(make_lm, kind):
    lm = make_lm("llama")
    scaling = {"rope_type": kind, "original_max_position_embeddings": 64}
    name = "rope_parameters" if hasattr(lm.model.config, "rope_parameters") else None
    setattr(lm.model.config, name or "rope_scaling", scaling)
    assert packing.readable(lm, 64)
    assert not packing.readable(lm, 65)


def test_a_model_with_another_kind_of_memory_is_read_whole():
    config = transformers.MambaConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=3, state_size=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.MambaForCausalLM(config).eval()
    lm = wrap(model, byte_tokenizer(), name="mamba", blocks="backbone.layers")
    assert not kv_cache.splits(lm)
    items = branching_items(questions=2)
    found, plain = (score_continuations(lm, items, share=s) for s in (True, False))
    assert torch.equal(found.total, plain.total)
