"""The steering file of lm-evaluation-harness, read by the harness itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from contrans.control.steer import Steer, compose
from contrans.core.types import ConceptVector
from contrans.data.concept import Item
from contrans.evaluation.tasks.choices import ChoicesTask
from contrans.export.lm_eval import (
    hookpoints,
    read_steering_file,
    write_steering_file,
)
from contrans.models import zoo
from contrans.models.edits import NoControl
from contrans.models.loading import load_model
from contrans.models.scoring import continuation_ids, score_continuations

sys.path.insert(0, str(Path(__file__).parents[1]))
from eval_models import EXACT
from harness import choices_task

ROWS = [
    {
        "prompt": f"Scenario: {scenario}\nThe emotion of the above scenario is",
        "choices": [" happiness", " sadness", " anger", " deep fear"],
        "answer": answer,
    }
    for scenario, answer in (
        ("You lost your keys.", 1),
        ("You won a prize.", 0),
        ("Somebody broke your window.", 2),
    )
]


def zoo_vector(lm) -> ConceptVector:
    drawn = torch.randn(
        lm.layers, lm.hidden, generator=torch.Generator().manual_seed(0)
    )
    return ConceptVector(
        drawn,
        layers=tuple(range(lm.layers)),
        model=lm.fingerprint,
        concept="drawn",
        name=lm.name,
    )


def run_harness(model: str, arguments: str, folder: Path, task: str):
    """`lm_eval run` in a process of its own: (accuracy, log-likelihoods)."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
    }
    out = folder / model
    command = [sys.executable, "-m", "lm_eval", "run", "--model", model]
    command += ["--model_args", arguments, "--tasks", task, "--device", "cpu"]
    command += ["--include_path", str(folder), "--output_path", str(out)]
    command += ["--batch_size", "4", "--log_samples"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(next(out.rglob("results_*.json")).read_text())
    lines = next(out.rglob("samples_*.jsonl")).read_text().splitlines()
    samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
    scores = [float(one[0]) for s in samples for one in s["filtered_resps"]]
    return results["results"][task]["acc,none"], scores


def test_a_run_of_the_harness_agrees_with_our_evaluation(tmp_path):
    """Accuracy and log-likelihoods, steered, of a zoo model in a folder.

    The unsteered run is compared in tests/evaluation/test_lm_eval.py, in this process.
    """
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    lm = load_model("zoo/small")
    folder = tmp_path / "model"
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    task = choices_task(tmp_path, "own_emotions", ROWS)
    items = tuple(
        Item(
            id=str(i),
            prompt=r["prompt"],
            choices=tuple(r["choices"]),
            answer=r["answer"],
        )
        for i, r in enumerate(ROWS)
    )
    asked = [
        (lm.encode([item.prompt])[0], continuation_ids(lm, item.prompt, choice))
        for item in items
        for choice in item.choices
    ]
    steer = Steer(zoo_vector(lm), layers=[1, -1], strength=0.7)
    file = tmp_path / "steer.pt"
    written = write_steering_file(steer, file, model=lm)
    assert written.hookpoints == ("layers.1", f"layers.{lm.layers - 1}")
    arguments = f"pretrained={folder},dtype=float32,steer_path={file}"
    accuracy, scores = run_harness("steered", arguments, tmp_path, task)
    before = score_continuations(lm, asked).total.tolist()
    with steer.on(lm):
        ours = score_continuations(lm, asked).total.tolist()
        measured = ChoicesTask(items).measure(lm).values.mean()
    assert scores == pytest.approx(ours, abs=EXACT)
    assert accuracy == pytest.approx(measured, abs=EXACT)
    assert max(abs(a - b) for a, b in zip(before, ours, strict=True)) > 0.1


@pytest.mark.parametrize(
    ("family", "third"),
    [
        ("llama", "layers.2"),
        ("gemma3_text", "layers.2"),
        ("gpt2", "h.2"),
        ("gpt_neox", "layers.2"),
        ("opt", "decoder.layers.2"),
        ("mixtral", "layers.2"),
    ],
)
def test_its_steered_model_gives_our_logits(
    tmp_path, make_lm, make_vector, family, third
):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    from lm_eval.models.hf_steered import SteeredModel, steer

    lm = make_lm(family)
    assert hookpoints(lm.model)[2] == third
    control = compose(
        Steer(make_vector(lm), layers=[0, -1], strength=0.5),
        Steer(make_vector(lm, seed=1), layers=[-1], strength=-0.25),
    )
    write_steering_file(control, tmp_path / "v.pt", model=lm)
    entries = torch.load(tmp_path / "v.pt", weights_only=True)  # noqa: TID251
    assert list(entries) == [third.replace("2", "0"), third]
    added = {
        point: lambda acts, entry=entry: SteeredModel.add(
            acts, entry["steering_vector"] * entry["steering_coefficient"], None
        )
        for point, entry in entries.items()
        if entry["action"] == "add" and entry["bias"] is None
    }
    ids = torch.tensor(lm.encode(["The meeting was moved again."]))
    with torch.no_grad():
        with steer(lm.model, added):
            theirs = lm.model(input_ids=ids).logits
        with control.on(lm):
            ours = lm.model(input_ids=ids).logits
        back = Steer(read_steering_file(tmp_path / "v.pt", lm=lm))
        with back.on(lm):
            again = lm.model(input_ids=ids).logits
    assert torch.allclose(theirs, ours, atol=1e-5)
    assert torch.allclose(again, ours, atol=1e-5)


def test_the_model_is_looked_up_by_its_name(tmp_path):
    lm = load_model("zoo/small")
    vector = zoo_vector(lm)
    by_name = write_steering_file(vector, tmp_path / "a.pt")
    by_folder = write_steering_file(
        vector, tmp_path / "b.pt", model=zoo.path("zoo/small")
    )
    write_steering_file(vector, tmp_path / "c.pt", model=lm)
    assert by_name.hookpoints == by_folder.hookpoints
    assert f"tokenizer={zoo.tokenizer_path()}" in by_name.command
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "c.pt").read_bytes()
    with pytest.raises(ValueError, match=r"of width 96 \(for 'other'\) does not fit"):
        write_steering_file(
            ConceptVector(torch.ones(1, 96), layers=(1,), model="", name="other"),
            tmp_path / "d.pt",
            model="zoo/large",
        )


def test_errors_name_what_is_wrong(tmp_path, llama, make_vector):
    vector = make_vector(llama)
    for name in ("v.csv", "v", "a,b.pt"):
        with pytest.raises(ValueError, match="would not read"):
            write_steering_file(vector, tmp_path / name, model=llama)
    with pytest.raises(ValueError, match="adds nothing"):
        write_steering_file(Steer(vector, strength=0.0), tmp_path / "v.pt", model=llama)
    with pytest.raises(ValueError, match="keep_norm=True depends on the text"):
        write_steering_file(
            Steer(vector, keep_norm=True), tmp_path / "v.pt", model=llama
        )
    with pytest.raises(FileNotFoundError, match="no model 'tiny-llama', whose config"):
        write_steering_file(vector, tmp_path / "v.pt")
    with pytest.raises(ValueError, match="which model is this for"):
        write_steering_file(NoControl(), tmp_path / "v.pt")
    write_steering_file(vector, tmp_path / "v.pt", model=llama)
    with pytest.raises(FileExistsError, match="not overwritten"):
        write_steering_file(vector, tmp_path / "v.pt", model=llama)
    for point, entry, wrong in (
        (
            "layers.1",
            {"steering_vector": torch.ones(2, 3)},
            "no steering_vector of one",
        ),
        ("layers.1.mlp", {"action": "add"}, "is no vector added to the output"),
        ("layers.1", {"action": "clamp"}, "with action 'clamp'"),
        ("layers.1", {"action": "add", "head_index": 2}, "head_index 2"),
    ):
        entries = {point: {"steering_vector": torch.ones(3), **entry}}
        torch.save(entries, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=wrong):
            read_steering_file(tmp_path / "w.pt")
