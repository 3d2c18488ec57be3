"""`contrans lm-eval`: the numbers of the library, in a table and as JSON."""

import json
import sys
from pathlib import Path

import pytest

from contrans.control.steer import Steer
from contrans.core.artifacts import save
from contrans.models.loading import load_model
from contrans.models.scoring import score_continuations

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import rolling_task

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_task_with_and_without_a_vector(ok, fails, models, make_vector, monkeypatch):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)  # slow
    monkeypatch.setenv("HF_DATASETS_CACHE", str(Path("cache").absolute()))
    text = "the dog saw a red house"
    rolling_task(Path("tasks"), "own_rolling", [text])
    lm = load_model(models["source"])
    vector = make_vector(lm)
    save(vector, "vector.safetensors")
    asked = ["--task", "own_rolling", "--include-path", "tasks", "--steer"]
    asked += ["vector.safetensors", "--strength", "2", "--layers", "1", "--compare"]
    done = ok("lm-eval", models["source"], *asked, "--json", "-o", "results.json")
    found = json.loads(done.stdout)
    assert found == json.loads(Path("results.json").read_text())
    ids = lm.encode([text])[0]
    start = lm.tokenizer.bos_token_id
    for label, layers in (("no edit", []), ("vector x 2", [1])):
        with Steer(vector, layers=layers, strength=2.0).on(lm):
            total = float(score_continuations(lm, [([start], ids)]).total[0])
        bits = found[label]["results"]["own_rolling"]["byte_perplexity,none"]
        expected = 2.718281828 ** (-total / len(text.encode()))
        assert bits == pytest.approx(expected, rel=1e-4)
    table = ok("lm-eval", models["source"], *asked).stdout
    assert "vector x 2" in table
    assert "byte_perplexity" in table
    assert "knows no task 'nothing'" in fails(
        "lm-eval", models["source"], "--task", "nothing"
    )
    assert "results.json exists" in fails(
        "lm-eval", models["source"], *asked, "-o", "results.json"
    )
