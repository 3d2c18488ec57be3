"""measure(): one record, kept by piece and control, under keys that know their code."""

import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from contrans.control.steer import Steer
from contrans.core import cache as cache_module
from contrans.core.cache import SCHEMAS, Cache, cache_key
from contrans.data.concept import Item
from contrans.data.truthfulqa import TruthQuestion
from contrans.evaluation import ChoicesTask, Measurement, evaluate, perplexity
from contrans.evaluation.measure import continuations, is_known, measure, steps
from contrans.evaluation.task import joined
from contrans.evaluation.tasks import choices, perplexity as perplexity_task, truthfulqa
from contrans.evaluation.tasks.perplexity import PerplexityTask
from contrans.evaluation.tasks.truthfulqa import TruthfulQATask
from contrans.experiments.cached import Stages
from contrans.models import logits
from contrans.models.edits import NoControl

EXACT = 1e-4
"""Sums of float32 log-probabilities in different batches."""
TEXTS = ["the dog saw a red house", "it was a long day", "nobody came in the rain"]
CHOICES = ChoicesTask(
    tuple(
        Item(str(i), f"Number {i}: the dog saw", (" a house", " rain", f" {i}"), i % 3)
        for i in range(5)
    )
)
TRUTH = TruthfulQATask(
    tuple(
        TruthQuestion(
            f"What is {i}?",
            (("a number", True), ("rain " * 24, False)),
            (("a number", True), ("a sign", True), ("rain", False)),
        )
        for i in range(5)
    ),
    primer="",
)
PLAIN = PerplexityTask(("the day was long", "a", "rain fell on the red house", "no"))


def stages_of(llama, gpt2, cache):
    """Every stage of the main job, as (name, what runs it)."""
    stages, layers = Stages(cache), [0, 1]
    x, y = (stages.states(lm, TEXTS * 3, layers, "") for lm in (llama, gpt2))
    return {
        "collect": lambda: stages.states(llama, TEXTS, layers, ""),
        "norms": lambda: stages.norms(llama, TEXTS),
        "map": lambda: stages.link(x, y, (0, 1), "ridge", seed=0),
        "measure": lambda: measure(CHOICES, llama, [NoControl()], cache=cache),
        "perplexity": lambda: measure(None, llama, [NoControl()], TEXTS, cache=cache),
        "generate": lambda: continuations(llama, TEXTS, NoControl(), 3, cache=cache),
    }


@pytest.mark.parametrize("stage", SCHEMAS)
def test_another_version_of_a_stage_misses(stage, llama, gpt2, tmp_path, monkeypatch):
    cache = Cache(tmp_path)

    def kept() -> None:
        cache.json(cache_key(stage, lm=llama, n=1), lambda: 1)

    run = stages_of(llama, gpt2, cache).get(stage, kept)
    run()
    before = cache.misses
    run()
    assert cache.misses == before
    monkeypatch.setitem(SCHEMAS, stage, SCHEMAS[stage] + 1)
    run()
    assert cache.misses > before


def test_a_stage_needs_a_version():
    with pytest.raises(KeyError, match="'colect' has no schema version"):
        cache_key("colect")


@pytest.mark.parametrize("what", ["contrans", "libraries"])
def test_other_releases_start_anew(what, llama, tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    measure(CHOICES, llama, [NoControl()], TEXTS, cache=cache)
    monkeypatch.setattr(
        cache_module,
        *{
            "contrans": ("__version__", "9.9.9"),
            "libraries": ("_libraries", lambda: {"transformers": "9.9.9"}),
        }[what],
    )
    measure(CHOICES, llama, [NoControl()], TEXTS, cache=cache)
    assert (cache.hits, cache.misses) == (0, 4)


TASK = """
from dataclasses import dataclass
import numpy as np
from contrans.evaluation import Measurement

@dataclass(frozen=True)
class Constant:
    value: float
    name: str = "constant"
    metric: str = "value"
    chance: None = None
    higher_is_better: bool = True
    texts: tuple = ()

    def measure(self, lm):
        return Measurement(np.full(3, SCALE * self.value))
"""


def test_a_task_whose_code_changed_is_measured_anew(llama, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    cache, values = Cache(tmp_path / "kept"), []
    for scale in ("1", "1", "2.5"):
        (tmp_path / "someones_task.py").write_text(TASK.replace("SCALE", scale))
        sys.modules.pop("someones_task", None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        task = importlib.import_module("someones_task").Constant(2.0)
        sys.dont_write_bytecode = before
        values.append(measure(task, llama, [NoControl()], cache=cache)[0].mean)
    assert values == [2.0, 2.0, 5.0]
    assert (cache.hits, cache.misses) == (1, 2)
    measure(replace(task, name="other"), llama, [NoControl()], cache=cache)
    assert cache.hits == 2  # a name changes no number


class Nameless:
    """A task of which nothing tells what it asks."""

    name, metric, chance, higher_is_better, texts = "n", "m", None, True, ()

    def measure(self, lm):
        del lm
        return Measurement(np.random.default_rng().random(2))


def test_what_cannot_say_what_it_is_is_measured_every_time(llama, tmp_path):
    cache = Cache(tmp_path)
    one, two = (measure(Nameless(), llama, [NoControl()], cache=cache)[0] for _ in "ab")
    assert (one.values != two.values).any()
    assert not is_known(Nameless(), llama, NoControl(), (), cache)
    assert (cache.hits, cache.misses) == (0, 0)


@pytest.mark.parametrize(
    ("task", "module", "size"),
    [(CHOICES, choices, 2), (TRUTH, truthfulqa, 2), (PLAIN, perplexity_task, 3)],
    ids=["choices", "truthfulqa", "perplexity"],
)
def test_pieces_make_the_whole(task, module, size, llama, monkeypatch):
    whole = task.measure(llama)
    monkeypatch.setattr(module, "PIECE", size)
    assert steps(task) > 1
    [found] = measure(task, llama, [NoControl()])
    np.testing.assert_allclose(found.values, whole.values, atol=EXACT)
    assert found.notes == whole.notes
    assert found.metric == task.metric
    assert list(found.extra) == list(whole.extra)
    for name, numbers in whole.extra.items():
        np.testing.assert_allclose(found.extra[name], numbers, rtol=EXACT, atol=EXACT)


def test_counts_in_notes_add_up():
    one, two = (
        Measurement(np.zeros(2), notes=(f"{n} of 4 answers are long", "form: chat"))
        for n in (1, 3)
    )
    assert joined([one, two]).notes == ("4 of 8 answers are long", "form: chat")


def test_an_interrupted_evaluation_goes_on(llama, make_vector, tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "PIECE", 2)
    controls = {
        "base": NoControl(),
        "steer": Steer(make_vector(llama)),
        "prompt": Steer(make_vector(llama), positions="prompt"),  # shares no blocks
    }
    expected = evaluate(llama, CHOICES, controls, perplexity_texts=TEXTS)
    score, ran, limit = choices.score_continuations_under, [], 0

    def until(*args):
        if len(ran) == limit:
            raise KeyboardInterrupt
        ran.append(1)
        return score(*args)

    monkeypatch.setattr(choices, "score_continuations_under", until)
    options = {"perplexity_texts": TEXTS, "cache": Cache(tmp_path)}
    for limit in (1, 2, 4):  # what was finished before is not done again
        with pytest.raises(KeyboardInterrupt):
            evaluate(llama, CHOICES, controls, **options)
        assert len(ran) == limit
    limit = 99
    found = evaluate(llama, CHOICES, controls, **options)
    assert len(ran) == 6  # three pieces, two passes each
    assert [row.score.value for row in found.rows] == pytest.approx(
        [row.score.value for row in expected.rows], abs=EXACT
    )
    limit = 0
    again = evaluate(llama, CHOICES, controls, **options)
    assert again.to_json() == found.to_json()


def test_strengths_in_one_pass_share_their_lower_blocks(
    llama, make_vector, tmp_path, monkeypatch
):
    # the counter is a hook of a stranger, under which nothing would be shared
    monkeypatch.setattr(logits, "reads_in_pieces", lambda _lm: True)
    monkeypatch.setattr(logits, "splits", lambda _lm: False)  # one batch, no tree
    vector, ran = make_vector(llama), [0]
    steers = [Steer(vector, layers=[1], strength=s) for s in (0.5, 1.0, 2.0)]

    def count(*_) -> None:
        ran[0] += 1

    first = llama.blocks[0].self_attn.q_proj
    hook = first.register_forward_hook(count)
    try:
        measure(CHOICES, llama, steers[:1], TEXTS)
        once, ran[0] = ran[0], 0
        cache = Cache(tmp_path)
        found = measure(CHOICES, llama, steers, TEXTS, cache=cache)
        assert ran[0] == once
        again = measure(CHOICES, llama, steers[1:], TEXTS, cache=cache)
        assert ran[0] == once
    finally:
        hook.remove()
    assert [m.as_json() for m in again] == [m.as_json() for m in found[1:]]
    for steer, one in zip(steers, found, strict=True):
        with steer.on(llama):
            alone, cost = CHOICES.measure(llama), perplexity(llama, TEXTS)
        np.testing.assert_allclose(
            one.extra["margin"], alone.extra["margin"], atol=EXACT
        )
        assert one.perplexity == pytest.approx(cost.value, rel=1e-5)
        assert one.perplexity_stderr == pytest.approx(cost.stderr, rel=1e-4)
    assert not torch.equal(*(torch.tensor(m.extra["margin"]) for m in found[:2]))


def test_one_text_has_an_error_over_its_windows(llama):
    long = " ".join(TEXTS * 30)
    [found] = measure(None, llama, [NoControl()], [long])
    assert len(found.losses) > 1
    assert found.perplexity == pytest.approx(perplexity(llama, [long]).value)
    assert found.perplexity_stderr > 0
    [found] = measure(None, llama, [NoControl()], [*TEXTS, "x"])
    assert len(found.losses) == 4


def test_a_vector_of_another_model_is_refused_also_where_its_numbers_are_known(
    llama, make_vector, tmp_path
):
    cache, other = Cache(tmp_path), replace(make_vector(llama), model="other")
    measure(CHOICES, llama, [Steer(other, any_model=True)], cache=cache)
    with pytest.raises(ValueError, match="was made for"):
        measure(CHOICES, llama, [Steer(other)], cache=cache)
