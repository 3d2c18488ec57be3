"""Running the command line in process: tiny models, a user's files, helpers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contrans.cli import app

_saved: dict[str, Path] = {}


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    """Every test has its own working folder, cache, and no debugging."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTRANS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CONTRANS_DEBUG", raising=False)


@pytest.fixture
def models(make_lm, tmp_path_factory) -> dict[str, str]:
    """Two tiny models of different families in folders, made once."""
    if not _saved:
        root = tmp_path_factory.mktemp("models")
        for name, family in (("source", "llama"), ("target", "gpt2")):
            lm = make_lm(family)
            lm.model.save_pretrained(root / name)
            lm.tokenizer.save_pretrained(root / name)
            _saved[name] = root / name
    return {name: str(_saved[name]) for name in ("source", "target")}


@pytest.fixture
def pairs(tmp_path) -> str:
    """A user's file of pairs."""
    file = tmp_path / "pairs.json"
    sides = {
        "pos": [f"Number {i} made me very glad" for i in range(40)],
        "neg": [f"Number {i} made me very sad" for i in range(40)],
    }
    file.write_text(json.dumps(sides))
    return str(file)


@pytest.fixture
def texts(tmp_path) -> str:
    """A user's corpus."""
    file = tmp_path / "texts.txt"
    words = ["the", "dog", "saw", "a", "glad", "red", "house", "and", "sad", "rain"]
    lines = [
        " ".join(words[(i * k) % len(words)] for k in range(1, 4 + i % 9))
        for i in range(1, 90)
    ]
    file.write_text("\n".join(dict.fromkeys(lines)))
    return str(file)


@pytest.fixture
def run() -> Callable:
    """Run a command, whatever comes."""

    def invoke(*args, **options):
        return CliRunner().invoke(app, [str(a) for a in args], **options)

    return invoke


@pytest.fixture
def ok(run) -> Callable:
    """Run a command that must succeed."""

    def invoke(*args, **options):
        result = run(*args, **options)
        assert result.exit_code == 0, result.output
        return result

    return invoke


@pytest.fixture
def fails(run) -> Callable:
    """Run a command that a user got wrong; its one message."""

    def invoke(*args, code: int = 1, **options) -> str:
        result = run(*args, **options)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        assert result.stdout == ""
        if code == 1:
            assert isinstance(result.exception, SystemExit)
            assert result.stderr.startswith(f"contrans {args[0]}: ")
        return result.stderr

    return invoke


@pytest.fixture
def main_job(models, pairs, texts) -> list[str]:
    """The shortest main job there is."""
    job = ["transplant", models["source"], models["target"], "--pairs", pairs]
    return [*job, "--corpus", texts, "--layers", "1:1", "--strength", "2", "-o", "out"]


@pytest.fixture
def stages(ok, models, pairs, texts, tmp_path, tmp_path_factory) -> dict[str, str]:
    """Every file of the two-file form, made once by the commands themselves."""
    if "stages" not in _saved:
        folder = tmp_path_factory.mktemp("stages")
        _make_stages(ok, models, pairs, texts)
        for file in tmp_path.glob("*.safetensors"):
            shutil.copy(file, folder)
        _saved["stages"] = folder
    for file in _saved["stages"].iterdir():
        shutil.copy(file, tmp_path)
    return models


def _make_stages(ok, models, pairs, texts):
    source, target = models["source"], models["target"]
    ok("collect", source, "--pairs", pairs, "-o", "pairs.safetensors")
    held = ["--pairs", pairs, "--split", "validate", "-o", "held.safetensors"]
    ok("collect", source, *held)
    ok("collect", source, "--texts", texts, "--layers", "1", "-o", "s.safetensors")
    ok("collect", target, "--texts", texts, "--layers", "2", "-o", "t.safetensors")
    made = ["concept", "pairs.safetensors", "-o", "glad.safetensors"]
    ok(*made, "--held-out", "held.safetensors")
    ok("map", "s.safetensors", "t.safetensors", "-o", "link.safetensors")
    files = ["glad.safetensors", "link.safetensors"]
    ok("transplant", *files, "-o", "moved.safetensors")
