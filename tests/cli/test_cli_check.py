"""`contrans check` and `contrans compare`: real models, real interruptions."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

SUITE = """
name: tiny
undecided: warn
models: {{target: {target}}}
vectors:
  moved: {{model: target, file: moved.safetensors, strength: {strength}}}
tasks:
  glad: {{concept: {pairs}{prompts}}}
  text: {{perplexity: {texts}}}
checks:
  - {{vector: moved, task: glad, effect: {{min: {least}}}, controls: {{draws: 2, margin: -2}}}}
  - {{vector: moved, task: text, ratio: {{max: 1000}}}}
"""
WAIT = 240
"""Seconds that a busy machine may take to start."""


@pytest.fixture
def suite(stages, pairs, texts, tmp_path):
    """Write a suite on a tiny model."""

    def write(*, strength=2.0, least=-2, prompts="", name="suite.yaml") -> str:
        text = SUITE.format(
            target=stages["target"],
            pairs=pairs,
            texts=texts,
            strength=strength,
            least=least,
            prompts=prompts,
        )
        (tmp_path / name).write_text(text)
        return name

    return write


def test_exit_codes_and_files(run, ok, suite):
    done = ok("check", suite(), "--junit", "j.xml", "--summary", "s.md", "-o", "r.json")
    assert "tiny: passed" in done.stdout
    assert ElementTree.parse("j.xml").getroot().get("failures") == "0"
    found = json.loads(Path("r.json").read_text())
    assert found["ok"] is True
    assert (found["measured"], found["cached"]) == (6, 0)
    unwritable = run("check", suite(), "--summary", "nowhere/s.md")
    assert (unwritable.exit_code, "no folder nowhere" in unwritable.stderr) == (2, True)
    shown = ok("show", "r.json").stdout
    assert done.stdout.strip() in shown
    assert json.loads(ok("show", "r.json", "--json").stdout) == found

    failed = run("check", suite(least=2), "--json", "--summary", "s.md")
    assert failed.exit_code == 1
    found = json.loads(failed.stdout)  # and nothing else is there
    assert [c["status"] for c in found["cases"]].count("fail") == 1
    assert found["measured"] == 0  # the bound changed, not what is measured
    assert Path("s.md").read_text().count("## ") == 2  # appended

    assert run("check", suite(), "--junit", "j.xml").exit_code == 2
    assert ok("check", suite(), "--junit", "j.xml", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("effect", "efect", "line 11, checks[0].efect: unknown field"),
        ("moved.safetensors", "gone.safetensors", "no file gone.safetensors"),
        ("strength: 2.0", "strength: 2.0, layers: 77", "layer 77 does not exist"),
        ("glad: {concept: ", "glad: {concept: gone-", "gone-"),
    ],
)
def test_a_suite_that_cannot_run_exits_2(fails, suite, old, new, said):
    file = Path(suite())
    file.write_text(file.read_text().replace(old, new))
    assert said in fails("check", file, code=2)
    assert "--baseline" in fails("check", file, "--update-baseline", code=2)


def test_baselines_catch_a_regression_and_not_noise(run, ok, suite):
    base = ["--baseline", "b.json"]
    assert run("check", suite(), *base).exit_code == 2  # not there yet
    ok("check", suite(), *base, "--update-baseline")
    again = json.loads(ok("check", suite(), *base, "--json").stdout)
    assert [c["status"] for c in again["cases"]][-2:] == ["pass", "pass"]
    # Other prompts of the same kind are noise.
    drawn = [suite(prompts=f", limit: 6, seed: {s}", name=f"{s}.yaml") for s in (1, 2)]
    ok("check", drawn[0], "--baseline", "c.json", "--update-baseline")
    noise = json.loads(ok("check", drawn[1], "--baseline", "c.json", "--json").stdout)
    assert "not paired" in noise["cases"][-2]["said"]
    # A vector that pushes the other way is no noise. The model is random, so which way
    # is worse is chance: one of the two is.
    failed = []
    for strength in (40.0, -40.0):
        base = ["--baseline", f"{strength}.json"]
        run("check", suite(strength=strength), *base, "--update-baseline")
        done = run("check", suite(strength=-strength), *base, "--json")
        cases = json.loads(done.stdout)["cases"]
        worse = [c["bound"] for c in cases if c["status"] == "fail"]
        assert bool(worse) == (done.exit_code == 1)
        failed += worse
    assert any("baseline" in bound for bound in failed)


def test_the_same_suite_says_the_same(ok, suite, monkeypatch):
    def once(cache):
        monkeypatch.setenv("CONTRANS_CACHE", cache)
        found = json.loads(ok("check", suite(), "--json").stdout)
        return {k: v for k, v in found.items() if k != "seconds"}

    assert once("one") == once("two")


def test_after_a_kill_nothing_is_measured_twice(ok, suite, tmp_path):
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "contrans", "check", suite()]
    env = os.environ | {"CONTRANS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    # Stop before the fourth result is written, as a machine that dies would.
    code = (
        "import os, signal, sys\n"
        "from contrans.core import cache\n"
        "from contrans.cli import main\n"
        "write, n = cache.write_json, [0]\n"
        "def slow(*args, **options):\n"
        "    n[0] += 1\n"
        "    if n[0] == 4:\n"
        "        print('ready', flush=True); signal.pause()\n"
        "    return write(*args, **options)\n"
        "cache.write_json = slow\n"
        "sys.argv = ['contrans', *sys.argv[1:]]\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command[3:]],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    process.send_signal(signal.SIGKILL)
    process.wait(WAIT)
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in cache.glob("*.json")}
    assert len(kept) == 3

    found = json.loads(ok("check", suite(), "--json").stdout)
    assert (found["measured"], found["cached"]) == (3, 3)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    assert len(list(cache.glob("*.json"))) == 6


def test_compare_vectors(ok, fails, stages, pairs, texts):
    base = ["compare", "none", "moved.safetensors", "--model", stages["target"]]
    base += ["--concept", pairs, "--perplexity", texts, "--generations", "2"]
    files = ["-o", "ab.md", "-o", "ab.html", "-o", "ab.json"]
    shown = ok(*base, "--strength", "3", *files).stdout
    assert "A = no edit, B = moved x 3" in shown
    found = json.loads(Path("ab.json").read_text())
    assert [o["task"] for o in found["outcomes"]] == ["pairs", "perplexity"]
    assert (found["measured"], found["cached"]) == (6, 0)
    assert len(found["generations"]) == 2
    assert any(row["a"] != row["b"] for row in found["generations"])
    for outcome in found["outcomes"]:
        assert outcome["verdict"] in ("better", "worse", "no difference")
        assert outcome["said"] in " ".join(shown.split())
        clear = outcome["p"] < 0.05
        assert (outcome["verdict"] != "no difference") == clear
    page = Path("ab.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "://" not in page  # self-contained
    again = json.loads(ok(*base, "--strength", "3", "--json").stdout)
    assert (again["measured"], again["cached"]) == (0, 6)
    assert again["outcomes"] == found["outcomes"]
    assert "is not overwritten" in fails(*base, *files)
    assert "is given twice" in fails(*base, "--concept", pairs)
    assert ok("show", "ab.json").stdout.strip() == shown.strip()


def test_a_thing_is_no_better_than_itself(ok, stages, pairs):
    same = ["moved.safetensors", "moved.safetensors", "--model", stages["target"]]
    found = json.loads(ok("compare", *same, "--concept", pairs, "--json").stdout)
    assert (found["a"], found["b"]) == ("A (moved)", "B (moved)")
    for outcome in found["outcomes"]:
        assert outcome["verdict"] == "no difference"
        assert outcome["detectable"] > 0


def test_a_clear_difference_flips_with_the_sides(ok, stages, pairs, texts):
    sides = ["none", "moved.safetensors"]
    rest = ["--model", stages["target"], "--concept", pairs, "--perplexity", texts]

    def verdict(a, b, strength):
        args = ["compare", a, b, *rest, "--strength", strength, "--json"]
        outcome = json.loads(ok(*args).stdout)["outcomes"][-1]
        return outcome["verdict"], outcome["difference"]["value"], outcome["detectable"]

    there, back = verdict(*sides, "40"), verdict(*sides[::-1], "40")
    assert {there[0], back[0]} == {"worse", "better"}  # which: the model is random
    assert (there[0] == "worse") == (there[1] > 1)
    assert there[1] == pytest.approx(1 / back[1])
    assert there[2] == pytest.approx(back[2])
    assert there[2] > 1


def test_compare_models(ok, models, pairs):
    sides = [models["source"], models["target"]]
    found = json.loads(
        ok("compare", *sides, "--concept", pairs, "--limit", "6", "--json").stdout
    )
    assert [o["n"] for o in found["outcomes"]] == [6, 6]


@pytest.mark.parametrize(
    "args",
    [
        ["compare", "a", "b"],
        ["compare", "a", "b", "--concept", "anger", "-o", "x.pdf"],
        ["compare", "a", "b", "--concept", "anger", "--strength", "2"],
        ["check"],
    ],
)
def test_usage(fails, args):
    assert f"{args[0]} -h' for help" in fails(*args, code=2)


def test_wrong_names_are_told(fails, models):
    base = ["compare", "none", "nothing@1", "--model", models["target"]]
    assert "unknown concept" in fails(*base, "--concept", "angr")
    assert "no vector 'nothing@1'" in fails(*base, "--concept", "anger", "--limit", "2")


def test_the_zoo_suite_runs_offline(ok, run, monkeypatch):
    """A planted concept passes; the same vector without its strength is caught."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = (
        "models: {large: zoo/large}\n"
        "vectors:\n"
        "  anger: {model: large, refine: anger, layers: 4, unit: relative, "
        "strength: 0.45}\n"
        "tasks: {anger: {concept: anger, limit: 30}}\n"
        "checks:\n"
        "  - {vector: anger, task: anger, effect: {min: 0.3}, controls: {draws: 1}}\n"
    )
    Path("zoo.yaml").write_text(text)
    start = time.perf_counter()
    base = ["--baseline", "b.json"]
    found = json.loads(
        ok("check", "zoo.yaml", *base, "--update-baseline", "--json").stdout
    )
    assert [case["status"] for case in found["cases"]] == ["pass", "pass"]
    assert found["seconds"] <= time.perf_counter() - start
    Path("zoo.yaml").write_text(text.replace("0.45", "0.05"))
    planted = run("check", "zoo.yaml", *base, "--json")
    assert planted.exit_code == 1
    cases = {c["bound"]: c["status"] for c in json.loads(planted.stdout)["cases"]}
    assert cases["effect at least 0.3"] == "fail"
    assert cases["no worse than the baseline"] == "fail"
