"""The habits of the project: CI, pre-commit and the package say the same."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LINTERS = ("ruff format --check .", "ruff check .", "pyright")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def load(path: str):
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def test_ci_pre_commit_and_the_workflow_run_the_same_linters():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    hooks = [h["entry"] for h in load(".pre-commit-config.yaml")["repos"][0]["hooks"]]
    steps = load(".github/workflows/ci.yml")["jobs"]["lint"]["steps"]
    assert hooks == list(LINTERS)
    assert [s["run"] for s in steps if s.get("run") in LINTERS] == hooks
    assert all(f".venv/bin/{command}" in script for command in LINTERS)


def test_the_matrix_holds_the_versions_that_the_package_names():
    matrix = load(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    named = [c.split(" :: ")[-1] for c in PROJECT["classifiers"] if "3." in c]
    assert matrix["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"
    lowest = next(d for d in PROJECT["dependencies"] if d.startswith("transformers"))
    least = re.search(r">=([0-9.]+)", lowest)
    assert least is not None
    assert matrix["transformers"][0].startswith(least[1])
    assert matrix["transformers"][1] == "newest"


def test_the_workflow_runs_the_tests_as_the_readme_does():
    [command] = re.findall(
        r"python (-m pytest.*)", (ROOT / "README.md").read_text("utf-8")
    )
    steps = load(".github/workflows/ci.yml")["jobs"]["test"]["steps"]
    assert f"python {command}" in [step.get("run") for step in steps]


@pytest.mark.parametrize("form", ["wrong_result", "feature"])
def test_issue_forms_are_forms(form: str):
    found = load(f".github/ISSUE_TEMPLATE/{form}.yml")
    assert {"name", "description", "body"} <= set(found)
    ids = [field["id"] for field in found["body"]]
    assert len(set(ids)) == len(ids)


def test_the_citation_is_of_this_version():
    found = load("CITATION.cff")
    assert str(found["version"]) == PROJECT["version"]
    assert found["license"] == PROJECT["license"]
    assert found["references"][0]["url"] == PROJECT["urls"]["Paper"]


def test_the_modules_that_the_guide_names_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for name in set(re.findall(r"`(contrans(?:\.\w+)+)`", text)):
        import_module(name)
    for path in re.findall(r"`((?:contrans|tests)/[\w/]+\.\w+)`", text):
        assert (ROOT / path).is_file() or "NAME" in path, path
    assert (ROOT / "contrans" / "py.typed").is_file()
