"""The command line: what the verbs print and write."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from contrans.core import artifacts
from contrans.core.types import ConceptVector, LinearMap, PairedStates
from tests.result_parts import transplant_results


def test_transplant_leaves_a_folder_and_runs_once(
    run, ok, fails, main_job, models, monkeypatch
):
    first = ok(*main_job, "--json")
    results = json.loads(first.stdout)  # and nothing else is there
    assert results == json.loads(Path("out/results.json").read_text())
    names = {path.name for path in Path("out").iterdir()}
    assert {"vector.safetensors", "report.md", "report.html", "results.json"} <= names
    assert artifacts.load("out/vector.safetensors").provenance["strength"] == 2.0

    again = ok(*main_job)
    assert "already done" in again.stderr
    assert results["verdict"] in " ".join(again.stdout.split())
    assert "out/report.html" in again.stdout
    shown = ok("show", "out").stdout
    assert results["verdict"] in " ".join(shown.split())
    assert "vector.safetensors: " in shown

    said = fails(*main_job, "--seed", "1")
    assert "--force" in said
    steer = ["--steer", "out", "--compare", "--max-new-tokens", "2", "--json"]
    assert json.loads(ok("generate", models["target"], "Hi", *steer).stdout)

    monkeypatch.setattr("contrans.experiments.cached.Stages.outcome", _never)
    assert run(*main_job, "--force").exit_code == 1  # it does measure again


def _never(*_args, **_options):
    raise ValueError("measured")


def test_a_finished_job_is_told_without_torch(tmp_path, monkeypatch):
    from contrans.cli.transplant import DEFAULTS, _finished

    command = {"source": "a", "target": "b", **DEFAULTS, "concept": "anger"}
    assert _finished(tmp_path, command) is None
    (tmp_path / "contrans.json").write_text("{}")
    kept = transplant_results(command=command).as_dict()
    (tmp_path / "results.json").write_text(json.dumps(kept))
    assert _finished(tmp_path, command) is None  # the vector is gone
    (tmp_path / "vector.safetensors").touch()
    assert _finished(tmp_path, command) == kept
    monkeypatch.setenv("CONTRANS_ZOO", str(tmp_path))
    assert _finished(tmp_path, command) is None
    monkeypatch.delenv("CONTRANS_ZOO")
    assert _finished(tmp_path, command | {"seed": 1}) is None
    (tmp_path / "anger").touch()  # a file of the user: its content counts
    assert _finished(tmp_path, command) is None


def test_defaults_are_those_of_the_pipeline():
    from dataclasses import asdict

    from contrans.cli.transplant import DEFAULTS
    from contrans.experiments.transplant.settings import Settings

    chosen = asdict(Settings(source="a", target="b", concept="c"))
    assert chosen == DEFAULTS | {"source": "a", "target": "b", "concept": "c"}


def test_stages_write_what_the_library_reads(ok, stages):
    kinds = {
        "pairs": PairedStates,
        "glad": ConceptVector,
        "link": LinearMap,
        "moved": ConceptVector,
    }
    for name, kind in kinds.items():
        assert isinstance(artifacts.load(f"{name}.safetensors"), kind)
    glad, moved = (
        artifacts.load("glad.safetensors"),
        artifacts.load("moved.safetensors"),
    )
    link = artifacts.load("link.safetensors")
    assert moved.layers == (2,)
    assert moved.concept == glad.concept
    assert (moved[2] - link.directions(glad[1])).abs().max() < 1e-6
    assert glad.relative_strength(1) is not None
    assert moved.relative_strength(2) is not None  # norms travelled with the states

    # The files serve generate, eval and show.
    target = stages["target"]
    steer = ["--steer", "moved.safetensors", "--strength", "0.9", "--unit", "relative"]
    short = ["--max-new-tokens", "4"]
    rows = json.loads(
        ok(
            "generate", target, "one", "two", *steer, *short, "--compare", "--json"
        ).stdout
    )
    assert [row["prompt"] for row in rows] == ["one", "two"]
    assert any(row["before"] != row["after"] for row in rows)
    still = ["--steer", "moved.safetensors", "--strength", "0"]
    rows = json.loads(
        ok("generate", target, "one", *still, *short, "--compare", "--json").stdout
    )
    assert rows[0]["before"] == rows[0]["after"]
    shown = ok("show", "moved.safetensors").stdout
    assert "concept-vector" in shown
    assert "transplant/ridge" in shown
    facts = json.loads(ok("show", "link.safetensors", "--json").stdout)
    assert facts["kind"] == "linear-map"
    assert facts["report"]["n"] > 0
    assert "moved.safetensors" in ok("show", ".").stdout


def test_stages_refuse_what_does_not_fit(ok, fails, stages, texts):
    assert "is not overwritten" in fails(
        "concept", "pairs.safetensors", "-o", "glad.safetensors"
    )
    before = Path("glad.safetensors").read_bytes()
    ok("concept", "pairs.safetensors", "-o", "glad.safetensors", "--force")
    assert Path("glad.safetensors").read_bytes() == before
    assert "holds 'paired-states'" in fails(
        "map", "pairs.safetensors", "t.safetensors", "-o", "new.safetensors"
    )
    assert "did you mean" in fails(
        "concept", "pairs.safetensors", "--method", "mena", "-o", "new.safetensors"
    )
    last = ["transplant", "glad.safetensors", "link.safetensors"]
    made = json.loads(ok(*last, "-o", "json.safetensors", "--json").stdout)
    assert made["out"] == "json.safetensors"
    assert made["length"] > 0
    assert "--strength: of no use" in fails(
        *last, "--strength", "2", "-o", "new.safetensors"
    )
    assert "give two models, or a vector and a map" in fails(
        "transplant", "glad.safetensors", stages["target"], "-o", "new.safetensors"
    )
    wrong = ["generate", stages["target"], "x", "--steer"]
    assert "this vector was made for" in fails(*wrong, "glad.safetensors")
    assert "2 strengths for 1 vectors" in fails(
        *wrong, "moved.safetensors", "--strength", "1", "--strength", "2"
    )
    assert "did you mean 'relative'?" in fails(
        *wrong, "moved.safetensors", "--unit", "relativ"
    )
    assert "no direction for layer 0" in fails(
        *wrong, "moved.safetensors", "--layers", "0"
    )
    ok(
        "collect",
        stages["target"],
        "--texts",
        texts,
        "--limit",
        "50",
        "-o",
        "u.safetensors",
    )
    assert "different texts" in fails(
        "map", "s.safetensors", "u.safetensors", "-o", "new.safetensors"
    )
    assert "choose two with --layers" in fails(
        "map", "u.safetensors", "u.safetensors", "-o", "new.safetensors"
    )
    assert not Path("new.safetensors").exists()


def test_generate_reads_prompts_from_stdin(ok, fails, models):
    short = ["--max-new-tokens", "2", "--json"]
    found = json.loads(
        ok("generate", models["source"], *short, input="a\n\nb\n").stdout
    )
    assert [row["prompt"] for row in found] == ["a", "b"]
    assert "stdin holds no prompts" in fails("generate", models["source"], input="\n")


def test_chat_takes_commands(ok, stages):
    said = "hello\n/strength 2\nhello\n/strength x\n/off\nhello\n/nonsense\n/quit\n"
    short = ["--max-new-tokens", "3", "--steer", "moved.safetensors"]
    result = ok("chat", stages["target"], *short, input=said)
    assert result.stdout.count("hello") == 3
    for expected in ("factor 2", "cannot read 'x'", "vectors off", "/strength X"):
        assert expected in result.stderr
    ok("chat", stages["target"], "--max-new-tokens", "2", input="hello\n")  # Ctrl-D


def test_eval_goes_on_where_it_was(ok, stages, pairs, monkeypatch):
    command = ["eval", stages["target"], "--concept", pairs, "--json"]
    first = ok(*command).stdout
    monkeypatch.setattr("contrans.evaluation.measure._asks", lambda *_: _never)
    assert ok(*command).stdout == first


def test_eval_writes_and_shows(ok, fails, stages, pairs):
    steer = ["--steer", "moved.safetensors", "--strength", "2"]
    out = ["-o", "results.json"]
    result = ok("eval", stages["target"], "--concept", pairs, *steer, *out)
    assert "random" in result.stdout  # a narrow cell folds
    written = json.loads(Path("results.json").read_text())
    controls = [row["control"] for row in written["rows"]]
    assert controls == ["no edit", "moved x 2", "random like moved x 2"]
    assert ok("show", "results.json").stdout == result.stdout
    Path("other").mkdir()
    shutil.copy("moved.safetensors", "other/moved.safetensors")
    both = ["--steer", "moved.safetensors", "--steer", "other/moved.safetensors"]
    two = ok("eval", stages["target"], "--concept", pairs, *both, "--json").stdout
    controls = [row["control"] for row in json.loads(two)["rows"]]
    assert len(controls) == len(set(controls)) == 5
    twice = ["--steer", "moved.safetensors"] * 2
    said = fails("eval", stages["target"], "--concept", pairs, *twice)
    assert "is given twice" in said
    said = fails("eval", stages["target"], "--concept", pairs, *out)
    assert "is not overwritten" in said


@pytest.mark.parametrize("kind", ["concepts", "models", "methods", "maps", "tasks"])
def test_ls(ok, kind):
    rows = json.loads(ok("ls", kind, "--json").stdout)
    if kind != "models":
        assert rows
    ok("ls", kind)


def test_ls_tells_the_methods_there_are(ok, fails):
    from contrans.vectors import concepts, maps

    for kind, known in (("methods", concepts.METHODS), ("maps", maps.METHODS)):
        rows = json.loads(ok("ls", kind, "--json").stdout)
        assert {row["name"] for row in rows} == set(known)
    assert "did you mean 'models'?" in fails("ls", "model")


FAKE = {
    "concept": {"name": "anger", "title": "Anger"},
    "source": {"name": "zoo/small-aligned"},
    "target": {"name": "zoo/large"},
    "task": {"metric": "accuracy", "n": 9, "split": "test", "chance": 0.2},
    "rows": [],
    "layers": {"source": 2, "target": 3, "how": "auto"},
    "strength": {"raw": 1.0, "relative": 0.3, "how": "auto"},
    "map": {"method": "ridge", "n": 100},
    "verdict": "Transplanted: yes.",
    "generations": [{"prompt": "I am", "before": " calm", "after": " angry"}],
}
"""Results as far as the terminal shows them."""


def test_demo_is_the_main_job_on_the_zoo(ok, monkeypatch):
    asked = {}

    def run_transplant(source, target, **settings):
        asked.update(settings, source=source, target=target)
        return FAKE

    monkeypatch.setattr(
        "contrans.experiments.transplant.run.run_transplant", run_transplant
    )
    shown = ok("demo").stdout
    for expected in (
        "Transplanted: yes.",
        "Without the edit: calm",
        "With the edit: angry",
    ):
        assert expected in shown
    assert asked["source"] == "zoo/small-aligned"
    assert asked["target"] == "zoo/large"
    assert asked["map_source"] == "zoo/small"
    assert asked["aligned_target"] == "zoo/large-aligned"
    assert asked["concept"] == "anger"
    assert asked["out"] == Path("contrans-demo")
    assert json.loads(ok("demo", "--json").stdout) == FAKE


def test_zoo_train_and_export(ok, fails, monkeypatch):
    monkeypatch.setattr(
        "contrans.models.zoo.train.train",
        lambda out, *, seed, progress: progress(seed, seed) or out,
    )
    result = ok("zoo", "train", "-o", "mine", "--seed", "3")
    assert "CONTRANS_ZOO=mine" in result.stdout
    assert "train: 3 done" in result.stderr
    monkeypatch.setattr("contrans.models.zoo.export", lambda _name, folder: folder)
    assert "from_pretrained('there')" in ok("zoo", "export", "zoo/s", "there").stdout
    monkeypatch.undo()
    monkeypatch.setenv("CONTRANS_ZOO", "empty")
    assert "zoo" in fails("zoo", "export", "zoo/large", "there")


def test_the_command_that_a_report_prints_runs_and_finds_finished_stages(ok, main_job):
    ok(*main_job)
    fenced = Path("out/report.md").read_text().split("```sh\n")[1].split("\n```")[0]
    words = shlex.split(fenced)
    assert words[:2] == ["contrans", "transplant"]
    done = ok(*words[1:], "--json")
    again = json.loads(done.stdout)
    first = json.loads(Path("out/results.json").read_text())
    same = set(first) - {"seconds"}
    assert {k: again[k] for k in same} == {k: first[k] for k in same}
    kept = set(Path("cache").rglob("*.*"))
    ok(*words[1:], "--force")
    assert set(Path("cache").rglob("*.*")) == kept  # nothing was left to compute


def test_a_folder_named_like_the_zoo_is_the_users(ok, models, fails):
    shutil.copytree(models["target"], "zoo/mine")
    shutil.copytree(models["target"], "zoo/large")
    written = [
        ok("generate", name, "Hi", "--max-new-tokens", "2").stdout
        for name in ("zoo/mine", "./zoo/large", models["target"])
    ]
    assert written[0] == written[1] == written[2]
    assert "unknown zoo model 'zoo/yours'" in fails("generate", "zoo/yours", "Hi")
