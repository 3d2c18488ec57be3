"""Tasks of lm-evaluation-harness through contrans give the numbers of its own model."""

import copy
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
sys.path.insert(0, str(Path(__file__).parents[1]))
from eval_models import EXACT, one_by_one
from harness import (
    answers,
    choices_task,
    generate_task,
    rolling_task,
    run,
    write_task,
)
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

from contrans.control.steer import Steer, compose
from contrans.core.artifacts import save
from contrans.evaluation.lm_eval import HarnessLM
from contrans.models.edits import NoControl
from contrans.models.lm import LM

pytestmark = pytest.mark.filterwarnings("ignore")
NEXT_DOOR = Path(__file__).parents[3] / "shared" / "data"
DATA = Path(os.environ.get("CONTRANS_DATA", NEXT_DOOR))


@dataclass
class Instead:
    """A control that hands back another model."""

    other: LM

    def on(self, _lm):
        return nullcontext(self.other)


def test_a_control_that_swaps_the_model_is_refused(llama, gpt2):
    with pytest.raises(ValueError, match="puts another model"):
        HarnessLM(llama, Instead(gpt2))


FAMILIES = ["llama", "gpt2", "gemma2"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def harness_lm(lm, **options) -> HFLM:
    """The harness's own model around the same weights."""
    return HFLM(
        pretrained=lm.model,
        tokenizer=copy.deepcopy(lm.tokenizer),
        max_length=lm.context,
        **{"batch_size": 3, **options},
    )


@pytest.fixture
def tasks(tmp_path) -> tuple[Path, list[str]]:
    """One task of every kind."""
    folder = tmp_path / "tasks"
    rows = [
        {"prompt": "You lost.", "choices": [" no", " sad", " glad"], "answer": 1},
        {"prompt": "It rains. ", "choices": [" wet", " dry"], "answer": 0},
        {"prompt": "", "choices": ["up", "down"], "answer": 0},
    ]
    long = "the dog saw a red house in the rain and went home "
    names = [
        choices_task(folder, "own_choices", rows),
        rolling_task(folder, "own_rolling", ["a", "the red house", long * 7]),
        generate_task(folder, "own_generate", ["The dog", "x", "A long way home"]),
    ]
    return folder, names


def same(found, expected, names) -> None:
    choices, rolling, generated = names
    for (one, a), (other, b) in zip(
        answers(found, choices), answers(expected, choices), strict=True
    ):
        assert one == pytest.approx(other, abs=EXACT)
        assert a == b
    one, other = answers(found, rolling), answers(expected, rolling)
    assert one == pytest.approx(other, abs=5 * EXACT)  # float32 sums of 400 tokens
    assert one[:2] == pytest.approx(other[:2], abs=EXACT)
    assert answers(found, generated) == answers(expected, generated)
    for name in names:
        for metric, value in expected["results"][name].items():
            if isinstance(value, float):
                assert found["results"][name][metric] == pytest.approx(value, rel=EXACT)


@pytest.mark.parametrize("bos", [False, True])
def test_three_kinds_of_tasks_equal_its_own_model(tasks, make_lm, bos):
    folder, names = tasks
    lm = make_lm("llama", bos=bos)
    found = run(HarnessLM(lm), folder, names)
    assert set(found["results"]) == set(names)
    same(found, run(harness_lm(lm), folder, names), names)


@pytest.mark.parametrize("family", FAMILIES)
def test_steered_equals_its_own_model_inside_our_context(
    tasks, make_lm, make_vector, family
):
    folder, names = tasks
    lm = make_lm(family)
    control = compose(
        Steer(make_vector(lm), layers=[1], strength=0.7),
        Steer(make_vector(lm, seed=1), layers=[-1], strength=-0.5),
    )
    found = run(HarnessLM(lm, control), folder, names)
    with control.on(lm):
        expected = run(harness_lm(lm), folder, names)
    same(found, expected, names)
    plain = run(HarnessLM(lm), folder, names)
    assert answers(plain, names[0]) != answers(found, names[0])


def test_a_token_that_only_its_last_place_predicts(llama, make_vector):
    """Rows of one token more than the context, against a model read token by token."""
    control = Steer(make_vector(llama), layers=[1])
    ids = torch.randint(3, 250, (llama.context + 1,)).tolist()
    rows = [(None, ids[:1], ids[1:]), (None, [7, *ids[:-4]], ids[-4:])]
    found = HarnessLM(llama, control)._loglikelihood_tokens(rows, disable_tqdm=True)
    with control.on(llama):
        expected = [sum(one_by_one(llama, ids[:-4], ids[-4:]))]
        whole = llama.model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
    expected.insert(0, float(whole.gather(-1, torch.tensor(ids[1:])[:, None]).sum()))
    assert [score for score, _ in found] == pytest.approx(expected, abs=2 * EXACT)
    with pytest.raises(ValueError, match="does not fit the context of 128"):
        HarnessLM(llama)._loglikelihood_tokens([(None, [1], ids)], disable_tqdm=True)


def test_by_name_with_a_vector_of_a_file(tmp_path, llama, make_vector):
    folder = tmp_path / "model"
    llama.model.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    save(
        make_vector(llama, provenance={"strength": 0.5}),
        tmp_path / "vector.safetensors",
    )
    request = [Instance("loglikelihood", {}, ("The dog", " went home"), 0)]

    def answer(arguments: str) -> float:
        made = get_model("contrans").create_from_arg_string(
            f"pretrained={folder},steer={tmp_path},dtype=float32{arguments}",
            {"batch_size": 2, "max_batch_size": None, "device": "cuda:0"},
        )
        return made.loglikelihood(request, disable_tqdm=True)[0][0]

    def expected(**options) -> float:
        steered = HarnessLM(llama, Steer(make_vector(llama), **options))
        return steered.loglikelihood(request, disable_tqdm=True)[0][0]

    assert answer("") == pytest.approx(expected(strength=0.5), abs=EXACT)
    assert answer(",strength=2,layers=0+2") == pytest.approx(
        expected(strength=2.0, layers=[0, 2]), abs=EXACT
    )
    assert answer(",layers=1") == pytest.approx(
        expected(strength=0.5, layers=[1]), abs=EXACT
    )
    with pytest.raises(ValueError, match=r"cannot read layers '0-x'; write them like"):
        answer(",layers=0-x")
    with pytest.raises(ValueError, match="unit=relative needs a strength"):
        answer(",unit=relative")


def test_refuses_what_does_not_fit_and_leaves_the_tokenizer_alone(make_lm, make_vector):
    lm, other = make_lm("llama"), make_lm("llama", seed=1)
    with pytest.raises(ValueError, match="transplant"):
        HarnessLM(lm, Steer(make_vector(other)))
    with pytest.raises(ValueError, match="both a control and steer="):
        HarnessLM(lm, NoControl(), steer="v.safetensors")
    before = len(lm.tokenizer), lm.tokenizer.pad_token
    made = HarnessLM(lm, Steer(make_vector(lm), layers=[1]))
    assert (len(lm.tokenizer), lm.tokenizer.pad_token) == before
    info = made.get_model_info()
    assert info["model_fingerprint"] == lm.fingerprint
    assert info["control"].endswith("x 1 (raw) at layers (1,), all tokens")


@pytest.mark.skipif(
    not (DATA / "truthfulqa").is_dir(), reason="no TruthfulQA in the shared data"
)
def test_truthfulqa_mc1_as_the_harness_asks_it(tmp_path, make_lm, make_vector):
    """Its own task file, with the published questions in place of the hub's."""
    import lm_eval
    import yaml

    source = Path(lm_eval.__file__).parent / "tasks/truthfulqa/truthfulqa_mc1.yaml"
    config = yaml.safe_load(source.read_text())
    questions = json.loads((DATA / "truthfulqa/mc_task.json").read_text())[:3]
    rows = [
        {
            "question": q["question"],
            "mc1_targets": {"choices": list(q["mc1_targets"])},
        }
        for q in questions
    ]
    lm = make_lm("llama", max_position_embeddings=2048)
    folder = tmp_path / "tasks"
    kept = {
        k: config[k] for k in config if k.startswith("doc_to") or k == "metric_list"
    }
    name = write_task(folder, "mc1", rows, output_type="multiple_choice", **kept)
    for control in (NoControl(), Steer(make_vector(lm), layers=[1], strength=0.5)):
        found = run(HarnessLM(lm, control), folder, [name])
        with control.on(lm):
            expected = run(harness_lm(lm), folder, [name])
        ours, theirs = answers(found, name), answers(expected, name)
        assert len(ours) == sum(len(q["mc1_targets"]) for q in questions)
        for (one, a), (other, b) in zip(ours, theirs, strict=True):
            assert one == pytest.approx(other, abs=EXACT)
            assert a == b
