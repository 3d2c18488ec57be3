"""The dose of an edit in nats, and the strength that has a given one."""

import numpy as np
import pytest
import torch

from contrans import Steer, collect_pairs, data, load_model, mean_difference
from contrans.control.steer import random_like
from contrans.evaluation import dose as module
from contrans.evaluation.dose import (
    OutOfReach,
    doses,
    strength_for,
    strengths_for,
    windows_of,
)
from contrans.models.edits import NoControl

CORPUS = data.load_corpus().texts
TEXTS, OTHERS = list(CORPUS[::40]), list(CORPUS[20::40])


@pytest.fixture(scope="module")
def lm():
    return load_model("zoo/large")


@pytest.fixture(scope="module")
def vector(lm):
    pairs = data.pack("anger")
    return mean_difference(collect_pairs(lm, pairs)).select([3])


def by_hand(lm, control) -> np.ndarray:
    rows, wanted = windows_of(lm, TEXTS)
    found = []
    for ids, columns in zip(rows, wanted, strict=True):
        with torch.no_grad():
            before = lm.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            with control.on(lm):
                after = lm.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        kl = (before.exp() * (before - after)).sum(-1)
        found += [float(kl[c]) for c in columns]
    return np.array(found)


@pytest.mark.parametrize("positions", ["all", "generated"])
def test_the_dose_is_the_mean_divergence(lm, vector, positions):
    control = Steer(vector, strength=2.0, positions=positions)
    wanted = by_hand(lm, control)
    none, found = doses(lm, TEXTS, [NoControl(), control])
    assert none.kl == 0.0
    assert found.kl == pytest.approx(wanted.mean(), rel=1e-4, abs=1e-9)
    assert found.p95 == pytest.approx(np.quantile(wanted, 0.95), rel=1e-3, abs=1e-9)
    assert found.tokens == len(wanted) >= 300


@pytest.mark.parametrize(
    ("name", "kl", "start"),
    [
        ("zoo/small", 0.02, 300.0),
        ("zoo/small", 1.0, 1.0),
        ("zoo/large", 0.3, 1e-3),
        ("zoo/large", 0.3, 300.0),
    ],
)
def test_the_strength_that_was_found_has_the_dose(name, kl, start):
    lm = load_model(name)
    pairs = data.pack("anger")
    vector = random_like(mean_difference(collect_pairs(lm, pairs)).select([1]))

    def control(strength: float) -> Steer:
        return Steer(vector, strength=strength)

    strength, dose = strength_for(lm, TEXTS, control, kl, start=start)
    assert dose.kl == pytest.approx(kl, rel=0.03)
    other = doses(lm, OTHERS, [control(strength)])[0]
    assert abs(other.kl - dose.kl) < 4 * np.hypot(other.stderr, dose.stderr)
    assert dose.stderr < 0.2 * kl


def test_several_doses_share_their_probes(lm, vector, monkeypatch):
    asked = []

    def counted(lm, texts, controls):
        asked.append(len(controls))
        return doses(lm, texts, controls)

    monkeypatch.setattr(module, "doses", counted)
    kls = [0.02, 0.05, 0.1, 0.2, 0.3, 0.45]

    def control(strength: float) -> Steer:
        return Steer(vector, strength=strength)

    found = strengths_for(lm, TEXTS, control, kls, tolerance=0.1)
    assert [dose.kl for _, dose in found] == pytest.approx(kls, rel=0.1)
    assert [s for s, _ in found] == sorted(s for s, _ in found)
    assert len(asked) <= 4
    assert sum(asked) <= 16
    for strength, dose in found:
        [again] = doses(lm, TEXTS, [control(strength)])
        assert again.kl == pytest.approx(dose.kl, rel=1e-4)


def test_doses_that_do_not_exist_are_refused(lm, vector):
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="nats per token is none"):
            strength_for(lm, TEXTS, lambda s: Steer(vector, strength=s), wrong)
    nothing = 0.0 * vector
    with pytest.raises(OutOfReach, match="the most was 0"):
        strength_for(lm, TEXTS, lambda s: Steer(nothing, strength=s), 0.1)
    with pytest.raises(OutOfReach, match="ask for less"):
        strength_for(lm, TEXTS, lambda s: Steer(vector, strength=s), 1e6)
    with pytest.raises(ValueError, match="three tokens"):
        doses(lm, ["a"], [NoControl()])
