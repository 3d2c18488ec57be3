"""Every recipe runs whole on the embedded models; resuming; errors of a user."""

import csv
import io
import json
from pathlib import Path

import pytest

from contrans.core.cache import Cache
from contrans.evaluation.tasks import choices
from contrans.experiments.cached import Stages
from contrans.experiments.paper import RECIPES
from contrans.experiments.paper.concept_tasks import emotion, fairness, honesty
from contrans.experiments.paper.plan import load_plan
from contrans.experiments.paper.run import run_recipes
from contrans.experiments.paper.table8 import lens
from contrans.experiments.paper.transplants import Route, best, controls
from contrans.experiments.paper.workbench import Lab
from contrans.models import zoo
from contrans.models.lm import LM
from contrans.report.sheet import claims_of
from tests.recipe_plans import quick_plan

pytestmark = pytest.mark.skipif(not zoo.names(), reason="weights are not trained yet")
LIMIT = 3
SHARED = Path(__file__).parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data here")
NO_CLAIM_NUMBERS = "cannot be tested here"


@pytest.fixture(scope="module")
def cache(shared_folder) -> Cache:
    return Cache(shared_folder / "recipes")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return load_plan(quick_plan(tmp_path_factory.mktemp("plan")))


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_writes_its_folder(name, quick, cache, tmp_path):
    [done] = run_recipes([name], quick, Stages(cache), out=tmp_path, limit=LIMIT)
    for ending in ("md", "csv", "tex", "json", "png"):
        found = [
            *tmp_path.glob(f"{name}.{ending}"),
            *tmp_path.glob(f"{name}-*.{ending}"),
        ]
        assert found, ending
        assert all(path.stat().st_size > 100 for path in found)
    page = (tmp_path / f"{name}.md").read_text()
    assert page.startswith(f"# {RECIPES[name].paper}: ")
    assert "limited to 3 items: a trial, not a result" in page
    claims = claims_of(done.results)
    assert claims
    for claim in claims:
        if claim.estimate is None:
            assert NO_CLAIM_NUMBERS in claim.how
        else:
            assert claim.estimate.low <= claim.estimate.value <= claim.estimate.high
            assert claim.estimate.n >= 2
    assert f"[{RECIPES[name].paper}]({name}.md)" in (tmp_path / "README.md").read_text()


def test_an_effect_table_holds_every_baseline_and_the_strongest_controls(
    quick, cache, tmp_path
):
    run_recipes(["table1"], quick, Stages(cache), out=tmp_path, limit=LIMIT)
    rows = _rows(tmp_path / "table1.csv")
    large = {row["method"] for row in rows if row["target"] == "large"}
    assert {
        "no edit",
        "Align-Training",
        "Self-Align",
        "Inst-Align",
        "EFT / proxy-tuning",
        "ConTrans",
        "ridge map (ours)",
        "random vector, equal norm",
        "map on shuffled pairs, equal norm",
    } == large
    medium = {row["method"] for row in rows if row["target"] == "medium"}
    assert large - medium == {"Align-Training", "Self-Align"}


def test_a_second_run_measures_nothing_again(quick, cache, tmp_path, monkeypatch):
    run_recipes(["table4"], quick, Stages(cache), out=tmp_path / "a", limit=LIMIT)

    def refuse(*_args, **_options):
        raise AssertionError("measured again")

    monkeypatch.setattr(choices.ChoicesTask, "measure", refuse)
    run_recipes(["table4"], quick, Stages(cache), out=tmp_path / "b", limit=LIMIT)
    one, two = ((tmp_path / d / "table4.csv").read_text() for d in "ab")
    assert one == two


def test_resuming_keeps_results_of_this_plan_only(quick, cache, tmp_path, monkeypatch):
    stages = Stages(cache)
    run_recipes(["figure8"], quick, stages, out=tmp_path, limit=LIMIT)
    with pytest.raises(FileExistsError, match=r"already holds figure8.*--resume"):
        run_recipes(["figure8"], quick, stages, out=tmp_path, limit=LIMIT)
    other = quick.model_copy(update={"title": "another"})
    [done] = run_recipes(
        ["figure8"], other, stages, out=tmp_path, limit=LIMIT, resume=True
    )
    assert not done.resumed
    monkeypatch.setattr(LM, "encode", None)  # nothing may be read again
    [done] = run_recipes(
        ["figure8"], other, stages, out=tmp_path, limit=LIMIT, resume=True
    )
    assert done.resumed
    assert json.loads((tmp_path / "figure8.json").read_text()) == done.results


def test_all_says_what_a_plan_cannot_run(quick, cache, tmp_path):
    poor = quick.model_copy(update={"sizes": None})
    done = run_recipes(
        ["figure4", "figure7"], poor, Stages(cache), out=tmp_path, limit=LIMIT
    )
    assert [bool(entry.why_not) for entry in done] == [True, False]
    assert "figure4 reads sizes" in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match="figure4 reads sizes"):
        run_recipes(["figure4"], poor, Stages(cache), limit=LIMIT)


def test_a_hub_model_out_of_reach_is_named(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="no model 'meta-llama/Llama-2-7b-hf'"):
        run_recipes(["table1"], load_plan("paper"), Stages(cache), limit=LIMIT)


def test_published_numbers_stand_beside_ours_where_a_plan_compares(
    quick, cache, tmp_path
):
    series = quick.series[0]
    target = series.targets[-1].model_copy(update={"published": "L2-70B"})
    plan = quick.model_copy(
        update={
            "compare": True,
            "series": (series.model_copy(update={"targets": (target,)}),),
        }
    )
    run_recipes(["table1"], plan, Stages(cache), out=tmp_path, limit=LIMIT)
    rows = _rows(tmp_path / "table1.csv")
    published = {row["method"]: row["published (%)"] for row in rows}
    assert published["ConTrans"] == "33.9"
    assert published["ridge map (ours)"] == ""


@real_data
def test_a_plan_may_take_the_papers_own_data(quick, cache, tmp_path):
    truth, toxigen = SHARED / "truthfulqa", SHARED / "toxigen"
    data = quick.data.model_copy(
        update={
            "honesty": f"truthfulqa:{truth / 'mc_task.json'}",
            "fairness": f"toxigen:{toxigen / 'prompts'}",
            "labelled": str(toxigen / "annotated_train.csv.gz"),
        }
    )
    plan = quick.model_copy(update={"data": data})
    subject = fairness(plan, 20)
    assert len(subject.refine) + len(subject.validate) == 40
    assert len(subject.validate_task.texts) == len(subject.test_task.texts) == 20
    assert set(subject.validate_task.texts).isdisjoint(subject.test_task.texts)
    questions = honesty(plan, None)
    parts = (questions.refine.positive, questions.validate_task, questions.test_task)
    sizes = [len(parts[0]), *(len(task.texts) for task in parts[1:])]
    assert sum(sizes) == 817
    run_recipes(["table4"], plan, Stages(cache), out=tmp_path, limit=2)
    page = (tmp_path / "table4.md").read_text()
    assert "MC1 accuracy" in page
    assert "prompt form: plain" in page


def test_controls_have_the_length_of_the_transplant(quick, cache):
    lab = Lab(quick, Stages(cache), limit=8)
    subject = emotion(quick, "fear", 8)
    assert quick.emotions is not None
    route = Route(quick.emotions.weak, quick.emotions.targets[0].model)
    planted = best(lab, route, subject)
    layer = planted.layers[1]
    for draws in controls(lab, route, subject, planted).values():
        assert len(draws) == 3
        for steer in draws:
            assert steer.strength == planted.raw
            assert steer.vector.norm(layer) == pytest.approx(
                planted.vector.norm(layer), rel=1e-5
            )


def test_the_choice_stays_within_the_budget_where_it_can(quick, cache):
    lab = Lab(quick, Stages(cache), limit=8)
    subject = emotion(quick, "anger", 8)
    assert quick.emotions is not None
    target = quick.emotions.targets[0].model
    planted = best(lab, Route(quick.emotions.weak, target), subject)
    texts, task = lab.fluent_validate, subject.validate_task
    base = lab.measure(target, task, texts=texts)
    found = lab.measure(target, task, planted.steer(), texts=texts)
    gentlest = min(quick.choice.grid)
    within = found.perplexity <= subject.budget * base.perplexity
    assert within or planted.relative == pytest.approx(gentlest)
    assert set(lab.fluent_validate).isdisjoint(lab.fluent_test)


def test_the_lens_is_the_models_own_head(quick, cache):
    lab = Lab(quick, Stages(cache))
    assert quick.emotions is not None
    model = quick.emotions.weak
    lm, texts = lab.lm(model), ["The town of Dalia lies by the", "Nobody saw"]
    last = lab.stages.states(lm, texts, [lm.layers - 1], "last").at(lm.layers - 1)
    for text, row in zip(texts, lens(lm, last), strict=True):
        ids = lm.encode([text])
        logits = lm.model(input_ids=_tensor(ids)).logits[0, -1]
        assert (row - logits.softmax(-1)).abs().max() < 1e-4


def _rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def _tensor(ids):
    import torch

    return torch.tensor(ids)
