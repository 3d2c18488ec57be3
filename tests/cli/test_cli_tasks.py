"""`contrans eval --task`, the baselines on the command line, and the paper's grid."""

import json
from pathlib import Path

import pytest

from contrans.cli.ls import NAMED
from contrans.evaluation.registry import TASKS
from contrans.experiments.transplant.settings import Settings

QUESTION = {
    "question": "Is it good?",
    "mc1_targets": {"Yes.": 1, "No.": 0},
    "mc2_targets": {"Yes.": 1, "It is.": 1, "No.": 0},
}


@pytest.fixture
def questions(tmp_path) -> str:
    file = tmp_path / "mc_task.json"
    file.write_text(json.dumps([QUESTION, QUESTION | {"question": "Is it bad?"}]))
    return str(file)


@pytest.fixture
def small(make_lm, tmp_path) -> list[str]:
    """An expert and an anti-expert of the source's vocabulary."""
    found = []
    for seed in (1, 2):
        lm, folder = make_lm("llama", seed=seed), tmp_path / f"small-{seed}"
        lm.model.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)
        found.append(str(folder))
    return found


def test_eval_of_a_published_task_beside_baselines(ok, models, small, questions):
    asked = ["eval", models["source"], "--task", "truthfulqa_mc1", "--data", questions]
    rows = [
        "--expert",
        small[0],
        "--anti-expert",
        small[1],
        "--instruction",
        "Be kind.",
    ]
    more = ["--aligned", small[0], "--set", "form=inst", "-o", "r.json", "--json"]
    found = json.loads(ok(*asked, *rows, *more).stdout)
    assert len(found["rows"]) == 4
    base, proxy, words, aligned = found["rows"]
    assert base["metric"] == "MC1 accuracy"
    assert base["chance"] == 0.5
    assert proxy["control"].startswith("proxy-tuning")
    margins = {row["control"]: row["extra"]["margin"] for row in found["rows"]}
    assert len(set(margins.values())) == 4
    assert all(row["difference"] for row in (proxy, words, aligned))
    assert "truthfulqa_mc1: prompt form: inst" in found["notes"]
    assert json.loads(Path("r.json").read_text()) == found


def test_perplexity_of_a_text_file(ok, models, texts):
    asked = ["eval", models["source"], "--task", "perplexity", "--data", texts]
    row = json.loads(ok(*asked, "--limit", "5", "--set", "per=word", "--json").stdout)
    assert row["rows"][0]["metric"] == "nats per word"
    assert row["rows"][0]["n"] == 5


def test_mistakes_are_told(fails, models, questions):
    ask = ["eval", models["source"]]
    assert "--concept NAME or --task NAME" in fails(*ask, code=2)
    assert "1 --task and 0 --data" in fails(*ask, "--task", "toxigen", code=2)
    task = [*ask, "--task", "truthfulqa_mc1", "--data", questions]
    assert "none of the tasks (truthfulqa_mc1)" in fails(*task, "--set", "x=1")
    assert "write KEY=VALUE" in fails(*task, "--set", "form")
    assert "both --expert" in fails(*task, "--expert", models["source"])
    other = [*ask, "--task", "truthfulqa", "--data", questions]
    assert "did you mean 'truthfulqa_mc" in fails(*other)


def test_generate_with_proxy_tuning(ok, models, small):
    ask = ["generate", models["source"], "Hi", "--max-new-tokens", "4", "--compare"]
    rows = ["--expert", small[0], "--anti-expert", small[1], "--json"]
    (found,) = json.loads(ok(*ask, *rows).stdout)
    assert found["before"] != found["after"]


def test_tasks_are_listed_as_they_are():
    assert set(NAMED) == set(TASKS)


def test_transplant_with_the_papers_grid_and_words(ok, main_job):
    job = [part if part != "2" else "auto" for part in main_job]
    more = [
        "--grid",
        "paper",
        "--baselines",
        "inst-align",
        "--budget",
        "1000",
        "--json",
    ]
    found = json.loads(ok(*job, *more).stdout)
    tried = [point["raw"] for point in found["layers"]["tried"]]
    assert tried == [0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5]
    row = found["rows"][-1]
    assert (row["name"], row["kind"], row["raw"]) == ("Inst-Align", "reference", None)
    assert row["difference"] is not None


def test_baselines_that_cannot_be_made_are_refused():
    def settings(**given) -> Settings:
        return Settings(source="a", target="b", concept="c", **given)

    assert settings(baselines="all").baseline_names() == ["inst-align"]
    both = settings(baselines="all", map_source="d", aligned_target="e")
    assert both.baseline_names() == ["align-training", "inst-align", "proxy"]
    with pytest.raises(ValueError, match="'proxy' needs --map-source"):
        settings(baselines="proxy").check()
    with pytest.raises(KeyError, match="did you mean 'proxy'"):
        settings(baselines="proxi").check()
    with pytest.raises(ValueError, match="unknown grid"):
        settings(grid="papers").check()
