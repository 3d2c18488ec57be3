"""The command line: the library of concepts."""

import json
from pathlib import Path

import pytest

from contrans.library import Library

SUBVERBS = ("list", "show", "add", "push", "pull", "diff", "verify", "remove")


@pytest.fixture(autouse=True)
def _library(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRANS_LIBRARY", str(tmp_path / "library"))


@pytest.fixture
def more_pairs(tmp_path) -> str:
    """Another version of the user's pairs."""
    file = tmp_path / "more.json"
    sides = {
        "pos": [f"Number {i} made me very glad" for i in range(42)],
        "neg": [f"Number {i} made me very sad" for i in range(42)],
    }
    file.write_text(json.dumps(sides))
    return str(file)


@pytest.mark.parametrize("verb", SUBVERBS)
def test_every_verb_teaches_by_example(ok, verb):
    shown = ok("concepts", verb, "--help").stdout
    assert f"\n    contrans concepts {verb}" in shown
    assert "--json" in shown


def test_the_library_from_end_to_end(ok, fails, pairs, more_pairs, tmp_path):
    assert "is empty" in ok("concepts", "list").stderr
    assert json.loads(ok("concepts", "list", "--json").stdout) == []
    said = ok("concepts", "add", pairs, "--name", "glad", "--note", "first").stdout
    assert "glad@1: pairs" in said
    assert "--concept glad@1" in said
    said = ok("concepts", "add", pairs, "--name", "glad", "--note", "again").stdout
    assert said.startswith("already there: glad@1")
    assert "do not change" in said
    made = json.loads(
        ok("concepts", "add", more_pairs, "--name", "glad", "--json").stdout
    )
    assert (made["entry"], made["new"]) == ("glad@2", True)
    builtin = ok("concepts", "add", "anger", "--name", "anger")
    assert "means the built-in concept; write anger@1" in builtin.stderr

    newest = ok("concepts", "list").stdout
    assert "glad@2" in newest
    assert "glad@1" not in newest
    assert "glad@1" in ok("concepts", "list", "glad").stdout
    shown = ok("concepts", "show", "glad@1").stdout
    assert "40 pairs" in shown
    assert str(tmp_path / "library" / "objects") in shown
    assert ok("show", "glad@1").stdout == shown
    facts = json.loads(ok("concepts", "show", "glad", "--json").stdout)
    assert Path(facts["where"]["pairs.json"]).is_file()
    difference = ok("concepts", "diff", "glad@1", "glad@2").stdout
    assert "40 pairs in both, 2 added in glad@2, 0 removed" in difference
    found = json.loads(ok("concepts", "diff", "glad@1", "glad", "--json").stdout)
    assert len(found["pairs"]["added"]) == 2

    assert "did you mean 'glad@2'" in fails("concepts", "show", "gald")
    assert "versions there: 1, 2" in fails("concepts", "show", "glad@3")
    assert "no file or folder" in fails("concepts", "add", "gone", "--name", "x")
    assert "no name for a concept" in fails("concepts", "add", pairs, "--name", "A b")
    fails("concepts", "remove", code=2)
    assert "all whole" in ok("concepts", "verify").stdout
    assert ok("concepts", "remove", "glad@1", "--prune").stdout.startswith(
        "removed glad@1\ndeleted 1 files"
    )


def test_sharing(ok, fails, pairs, more_pairs, tmp_path):
    shared, other = str(tmp_path / "shared"), ["--library", str(tmp_path / "bob")]
    assert "no concept library" in fails("concepts", "pull", shared)
    ok("concepts", "add", pairs, "--name", "glad")
    assert "1 pushed to" in ok("concepts", "push", shared).stdout
    ok("concepts", "add", more_pairs, "--name", "glad", *other)
    assert "--renumber" in fails("concepts", "push", shared, *other)
    done = ok("concepts", "pull", shared, "--renumber", *other).stdout
    assert "glad@1 of yours is now glad@2" in done
    moved = json.loads(ok("concepts", "push", shared, "--json", *other).stdout)
    assert moved["new"] == ["glad@2"]
    assert moved["objects"] == 1


def test_damage_is_named_and_the_exit_code_says_so(run, ok, pairs, tmp_path):
    ok("concepts", "add", pairs, "--name", "glad")
    (kept,) = (tmp_path / "library" / "objects").rglob("*.json")
    kept.write_bytes(kept.read_bytes()[:-3])
    result = run("concepts", "verify")
    assert result.exit_code == 1
    assert str(kept) in result.stdout
    assert "needed by glad@1" in result.stdout
    found = json.loads(run("concepts", "verify", "--json").stdout)
    assert found["problems"][0]["entries"] == ["glad@1"]
    said = run("collect", "MODEL", "--pairs", "glad@1", "-o", "x").stderr
    assert "pairs.json of glad@1 is corrupted" in said


def test_a_concept_of_the_library_is_transplanted_and_kept(
    ok, fails, main_job, models, pairs
):
    ok("concepts", "add", pairs, "--name", "glad")
    job = [
        *("transplant", models["source"], models["target"], "--concept", "glad"),
        *main_job[main_job.index("--corpus") :],
    ]
    results = json.loads(ok(*job, "--json").stdout)
    assert results["command"]["concept"] == "glad@1"
    assert results["concept"]["origin"].startswith("library glad@1 ")
    assert "already done" in ok(*job).stderr
    said = ok("concepts", "add", "out", "--name", "moved").stdout
    assert "moved@1: transplant, from glad@1" in said
    shown = ok("concepts", "show", "moved").stdout
    assert results["verdict"] in shown
    assert "└─ glad@1  pairs" in shown

    short = ["--max-new-tokens", "2", "--json"]
    target = models["target"]
    by_name = ok("generate", target, "Hi", "--steer", "moved@1", *short)
    assert (
        by_name.stdout == ok("generate", target, "Hi", "--steer", "out", *short).stdout
    )
    assert "moved@1 holds a transplant" in fails(
        "transplant", "a", "b", "--concept", "moved@1", "-o", "x"
    )
    assert "this needs a vector" in fails("generate", target, "Hi", "--steer", "glad@1")
    wrong = fails("generate", models["source"], "Hi", "--steer", "moved@1")
    assert "transplant" in wrong
    assert "came from glad@1" in fails("concepts", "remove", "glad@1")


@pytest.mark.usefixtures("stages")
def test_the_stages_are_linked_by_their_provenance(ok, pairs):
    for file, name in (
        (pairs, "pairs"),
        ("glad.safetensors", "vector"),
        ("link.safetensors", "map"),
        ("moved.safetensors", "moved"),
    ):
        ok("concepts", "add", file, "--name", name)
    library = Library()
    parents = {e.name: set(e.parents) for e in library.list()}
    ids = {e.name: e.id for e in library.list()}
    assert parents["vector"] == {ids["pairs"]}
    assert parents["moved"] == {ids["vector"], ids["map"]}
    assert parents["map"] == set()
    ok("transplant", "vector@1", "map@1", "-o", "again.safetensors")
    said = ok("concepts", "add", "again.safetensors", "--name", "moved").stdout
    assert said.startswith("already there: moved@1")
