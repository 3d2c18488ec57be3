"""Strengths given as doses, in nats per token, from every verb that takes a vector."""

import json
import re
from pathlib import Path

import pytest

from contrans import Steer, collect_pairs, data, load_model, mean_difference
from contrans.control.steer import with_norms
from contrans.core import artifacts
from contrans.evaluation.dose import doses, neutral_texts
from contrans.export.open_vector import read_vector

KL = 0.3


@pytest.fixture
def anger(monkeypatch, tmp_path):
    """The own vector of zoo/large, and the strength at which it has the dose."""
    monkeypatch.chdir(tmp_path)
    lm = load_model("zoo/large")
    vector = mean_difference(collect_pairs(lm, data.pack("anger"))).select([3])
    vector = with_norms(vector, dict.fromkeys(range(lm.layers), 10.0))
    artifacts.save(vector, "v.safetensors")
    return lm, vector


def test_every_verb_finds_the_strength_that_has_the_dose(ok, anger):
    lm, vector = anger
    use = ["--steer", "v.safetensors", "--kl", str(KL)]
    made = ok("generate", "zoo/large", "You lost", *use, "--max-new-tokens", "2")
    told = re.search(
        r"v: ([\d.]+) ± [\d.]+ nats per token \(95th\s+percentile [\d.]+\) on\s+neutral "
        r"text at\s+strength\s+([\d.]+), relative",
        made.stderr,
    )
    assert told is not None, made.stderr
    assert float(told[1]) == pytest.approx(KL, rel=0.03)
    raw = float(told[2])
    [dose] = doses(lm, neutral_texts(), [Steer(vector, strength=raw)])
    assert dose.kl == pytest.approx(KL, rel=0.035)

    asked = ["eval", "zoo/large", "--concept", "anger", "--limit", "2", *use, "--json"]
    rows = json.loads(ok(*asked).stdout)["rows"]
    assert f"v x {raw:g}" in {row["control"] for row in rows}

    both = ["none", "v.safetensors", "--model", "zoo/large", "--concept", "anger"]
    asked = ["compare", *both, "--limit", "2", "--perplexity", "none", "--kl", str(KL)]
    assert "B = v at 0.3 nats" in ok(*asked).stdout

    ok(
        "export",
        "v.safetensors",
        "--kl",
        KL,
        "--model",
        "zoo/large",
        "--gguf",
        "v.gguf",
    )
    scaled, _ = read_vector(Path("v.gguf"))
    assert scaled.norm(3) / vector.norm(3) == pytest.approx(raw, rel=1e-3)


@pytest.mark.usefixtures("anger")
def test_doses_that_make_no_sense_are_refused(fails):
    use = ["generate", "zoo/large", "You lost", "--steer", "v.safetensors"]
    assert "leave out --strength" in fails(*use, "--kl", "0.3", "--strength", "1")
    assert "2 doses for 1 vectors" in fails(*use, "--kl", "0.3", "--kl", "1")
    assert "give one above 0" in fails(*use, "--kl", "-0.3")
    out = ["--gguf", "v.gguf"]
    assert "name it with --bake or --model" in fails(
        "export", "v.safetensors", "--kl", "0.3", *out
    )
