"""Every verb, given what it cannot use: one clear message, exit 1 or 2, nothing lost."""

import json
import sys
import time
from pathlib import Path

import torch
from typer.testing import CliRunner

from contrans.cli import app
from contrans.core.artifacts import read_header, save
from contrans.core.types import ConceptVector
from contrans.library import Library
from tests.bad_inputs import make

BAD = "BAD"
PAIRS = (
    ["collect", "zoo/small", "--pairs", BAD, "-o", "new.safetensors"],
    ["concepts", "add", BAD, "--name", "mine"],
    ["transplant", "zoo/small", "zoo/large", "--pairs", BAD, "-o", "new"],
)
VECTORS = (
    ["show", BAD],
    ["concept", BAD, "-o", "new.safetensors"],
    ["export", BAD, "--gguf", "new.gguf"],
    ["concepts", "add", BAD, "--name", "mine"],
    ["transplant", BAD, "good.safetensors", "-o", "new.safetensors"],
)
SUITES = (["check", BAD], ["recipe", "run", "table1", "--models", BAD, "-o", "new"])
OPTIONS = (
    ["collect", "zoo/small", "--pairs", "anger", "--seed", str(10**40), "-o", "new"],
    ["collect", "zoo/small", "--pairs", "anger", "--layers", "1-x", "-o", "new"],
    *(
        ["export", "good.safetensors", "--strength", strength, target, f"new{suffix}"]
        for strength in ("nan", "inf", "1e300", "-inf")
        for target, suffix in (
            ("--gguf", ".gguf"),
            ("--steering-vectors", ".pt"),
            ("--repeng", ".gguf"),
            ("--lm-eval", ".pt"),
        )
    ),
)


def inputs(root: Path) -> list[tuple[str, list[str]]]:
    """A label and a command line for each bad input; files are made in a folder."""
    good = ConceptVector(torch.ones(1, 4), layers=(1,), model="f", name="tiny")
    save(good, root / "good.safetensors")
    header = read_header(root / "good.safetensors")
    whole = (root / "good.safetensors").read_bytes()
    found = []
    for files, verbs in (
        (make.pairs_files(), PAIRS),
        (make.artefacts(header, whole), VECTORS),
        (make.yaml_files(), SUITES),
    ):
        for i, (name, raw) in enumerate(files):
            path = root / "bad" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(raw)
            for verb in {i % len(verbs), (i + 1) % len(verbs)}:  # each verb, each kind
                words = [str(path) if word == BAD else word for word in verbs[verb]]
                found.append((f"{words[0]} {name}", words))
    return found + [(" ".join(words)[:60], words) for words in OPTIONS]


def test_every_bad_input_gives_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTRANS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONTRANS_LIBRARY", str(tmp_path / "library"))
    monkeypatch.delenv("CONTRANS_DEBUG", raising=False)
    given = inputs(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    wrong, start = [], time.monotonic()
    for label, words in given:
        ran = CliRunner().invoke(app, words)
        said = ran.stderr
        fine = (
            ran.exit_code in (1, 2)
            and isinstance(ran.exception, SystemExit)
            and 20 < len(said) < 1500
            and "Traceback" not in said
        )
        if not fine:
            wrong.append(f"{label}: {ran.exit_code} {ran.exception!r} {said[:300]}")
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    left = {path.name for path in after - before if path.parent.name != "library"}
    seconds = time.monotonic() - start
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(given)} bad inputs, {len(given) - len(wrong)} with one clear "
            f"message, {seconds:.0f} s\n"
        )
    assert not wrong, "\n".join(wrong)
    assert not left
    assert before <= after
    assert len(given) >= 250


def test_a_library_of_a_stranger_gives_messages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTRANS_LIBRARY", str(tmp_path / "mine"))
    theirs = tmp_path / "theirs"
    Library(theirs).add("anger", name="mood")
    index, record = theirs / "contrans.json", theirs / "concepts" / "mood" / "1.json"
    good = json.loads(record.read_text())
    cases = [(index, b"[" * make.DEEP), (index, b'{"format": 1e400}')]
    for value in make.ODD.values():
        cases.append((record, json.dumps(value).encode()))
        for field in good:
            cases.append((record, json.dumps({**good, field: value}).encode()))
        for field in good["about"]:
            about = {**good["about"], field: value}
            cases.append((record, json.dumps({**good, "about": about}).encode()))
    refused = 0
    for path, raw in cases:
        whole = path.read_bytes()
        path.write_bytes(raw)
        for words in (["pull", str(theirs)], ["list", "--library", str(theirs)]):
            ran = CliRunner().invoke(app, ["concepts", *words])
            assert ran.exception is None or isinstance(ran.exception, SystemExit), raw
            assert ran.exit_code in (0, 1)
            refused += ran.exit_code
        path.write_bytes(whole)
    assert refused > len(cases) / 2
    with capsys.disabled():
        sys.stdout.write(f"\n{len(cases)} hostile records and indexes, no traceback\n")
