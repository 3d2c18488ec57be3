"""Maps: every identity of the specification, and the paper transcribed as yardstick."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from contrans.core.types import HiddenStates
from contrans.vectors.maps import METHODS, effective_rank, fit_linear_map
from contrans.vectors.ridge import Factor

EXACT = 1e-9
"""Two float64 routes to one number, well conditioned."""
SINGLE = 1e-5
"""States and directions leave a map as float32."""

_where = Path(__file__).parents[1] / "reference" / "paper.py"
_spec = importlib.util.spec_from_file_location("paper", _where)
assert _spec is not None
assert _spec.loader is not None
paper = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(paper)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def states(values: Tensor, name: str = "tiny", data: str = "d") -> HiddenStates:
    return HiddenStates(
        values[:, None].float(), (0,), name, name=name, provenance={"data": data}
    )


def fit(x: Tensor, y: Tensor, method: str = "ridge", **options):
    options.setdefault("holdout", 0.0)
    return fit_linear_map(
        states(x, "a"),
        states(y, "b"),
        source_layer=0,
        target_layer=0,
        method=method,
        **options,
    )


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def ill_conditioned(n: int, d: int, condition: float, seed: int = 0) -> Tensor:
    """Float32 states whose singular values fall by `condition`."""
    r = min(n, d)
    u = torch.linalg.qr(normal(n, r, seed=seed)).Q
    v = torch.linalg.qr(normal(d, r, seed=seed + 1)).Q
    s = torch.logspace(3, 3 - np.log10(condition), r, dtype=torch.float64)
    return ((u * s) @ v.mT).float().double()


@pytest.mark.parametrize(("n", "d"), [(40, 64), (64, 64), (200, 64)])
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6])
def test_contrans_is_the_paper(n, d, condition):
    x, y = ill_conditioned(n, d, condition), normal(n, 48, seed=9).float().double()
    link = fit(x, y, "contrans")
    f = paper.reformulate(x.numpy(), y.numpy())
    v = normal(d, seed=5).float()
    expected = torch.from_numpy(paper.transplant(v.numpy(), f))
    assert relative(link.directions(v), expected) < SINGLE
    assert relative(link.states(x[3].float()), torch.from_numpy(x[3].numpy() @ f)) < (
        SINGLE
    )
    assert not link.bias.any()


def test_contrans_is_the_pseudo_inverse_also_with_repeated_texts():
    x, y = normal(30, 50).float().double(), normal(30, 20, seed=1).float().double()
    x, y = torch.cat([x, x[:5]]), torch.cat([y, y[:5]])
    expected = torch.linalg.pinv(x) @ y
    assert relative(fit(x, y, "contrans").matrix(), expected) < EXACT


@pytest.mark.parametrize(("n", "d"), [(30, 50), (80, 50)])
def test_ridge_primal_dual_and_spectral_agree(n, d):
    x, y, lam = normal(n, d).float().double(), normal(n, 20, seed=1).float(), 0.3
    y = y.double()
    xc, yc = x - x.mean(0), y - y.mean(0)
    eye = torch.eye
    primal = torch.linalg.solve(
        xc.mT @ xc + n * lam * eye(d, dtype=x.dtype), xc.mT @ yc
    )
    dual = xc.mT @ torch.linalg.solve(xc @ xc.mT + n * lam * eye(n, dtype=x.dtype), yc)
    link = fit(x, y, ridge=lam)
    assert relative(dual, primal) < EXACT
    assert relative(link.matrix(), primal) < EXACT
    assert relative(link.bias, y.mean(0) - x.mean(0) @ primal) < EXACT
    assert link.report.ridge == pytest.approx(lam)


@pytest.mark.parametrize(("n", "d"), [(30, 50), (80, 50)])
def test_vanishing_ridge_is_centred_least_squares(n, d):
    x, y = normal(n, d).float().double(), normal(n, 20, seed=1).float().double()
    expected = torch.linalg.pinv(x - x.mean(0)) @ (y - y.mean(0))
    assert relative(fit(x, y, ridge=1e-12).matrix(), expected) < 1e-6
    assert relative(fit(x, y, ridge=0.0).matrix(), expected) < EXACT


def test_low_rank_with_full_rank_is_least_squares():
    x, y = normal(80, 30).float().double(), normal(80, 20, seed=1).float().double()
    full = fit(x, y, "low_rank", rank=30)
    assert relative(full.matrix(), fit(x, y, ridge=0.0).matrix()) < EXACT
    assert fit(x, y, "low_rank", rank=7).report.rank == 7
    assert torch.linalg.matrix_rank(fit(x, y, "low_rank", rank=7).matrix()) == 7


@pytest.mark.parametrize("method", ["ridge", "low_rank"])
def test_an_affine_map_is_recovered(method):
    x, a, b = normal(400, 30), normal(30, 20, seed=1), 5 * normal(20, seed=2)
    y = x @ a + b + 1e-3 * normal(400, 20, seed=3)
    link = fit(x, y, method, holdout=0.2)
    assert relative(link.matrix(), a) < 1e-3
    assert relative(link.bias, b) < 1e-3
    assert link.report.r2 == pytest.approx(1, abs=1e-4)
    assert link.report.r2_differences == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("source", "target"), [(20, 32), (20, 20), (32, 20)])
def test_procrustes_recovers_a_planted_rotation(source, target):
    wide = torch.linalg.qr(normal(32, 32, seed=4)).Q
    rotation = wide[:source, :target]
    if source > target:  # states that live where the rotation is one
        x = normal(300, target) @ rotation.mT
        x = normal(300, target) @ torch.linalg.qr(rotation).Q.mT
        rotation = torch.linalg.qr(rotation).Q
    else:
        x = normal(300, source)
        rotation = torch.linalg.qr(rotation.mT).Q.mT
    y = 2.5 * x @ rotation + 3
    link = fit(x, y, "procrustes")
    assert relative(link.matrix(), 2.5 * rotation) < SINGLE
    moved = link.directions(x[0].float())
    assert float(moved.norm() / x[0].norm()) == pytest.approx(2.5, rel=1e-4)


@pytest.mark.parametrize(("n", "d"), [(15, 25), (40, 12)])
def test_leave_one_out_is_brute_force(n, d):
    x, y = normal(n, d), normal(n, 6, seed=1)
    strengths = torch.tensor([0.1, 3.0, 40.0], dtype=x.dtype)
    factor = Factor.of(x)
    closed = factor.leave_one_out(y, strengths)
    solved = [factor.solve(y, factor.gain(float(s))).error for s in strengths]
    assert solved == pytest.approx(closed.tolist(), rel=1e-9)
    for strength, found in zip(strengths, closed, strict=True):
        errors = []
        for i in range(n):
            keep = torch.arange(n) != i
            mx, my = x[keep].mean(0), y[keep].mean(0)
            xc, yc = x[keep] - mx, y[keep] - my
            inner = xc.mT @ xc + strength * torch.eye(d, dtype=x.dtype)
            f = torch.linalg.solve(inner, xc.mT @ yc)
            errors.append((y[i] - my - (x[i] - mx) @ f) ** 2)
        assert float(found) == pytest.approx(float(torch.stack(errors).mean()))


def test_ridge_is_chosen_by_leave_one_out():
    x = normal(60, 50)
    y = x @ normal(50, 20, seed=1) + 3 * normal(60, 20, seed=2)
    chosen = fit(x, y)
    for other in (chosen.report.ridge / 100, chosen.report.ridge * 100):
        assert fit(x, y, ridge=other).report.loo_error > chosen.report.loo_error


def test_effective_rank_is_the_participation_ratio():
    for shape in ((30, 50), (50, 30)):
        x = normal(*shape)
        energy = torch.linalg.svdvals(x) ** 2
        expected = float(energy.sum() ** 2 / (energy**2).sum())
        assert effective_rank(x) == pytest.approx(expected)


def test_minimum_norm_collapses_near_n_equals_d_and_says_so():
    d, truth = 64, normal(64, 48, seed=1)
    found = {}
    for n in (32, 64, 512):
        x = normal(n, d, seed=n)
        y = x @ truth + 5 * normal(n, 48, seed=n + 1)
        link = fit(x, y, "contrans")
        found[n] = relative(link.matrix(), truth)
        collapsed = any("collapses" in note for note in link.report.warnings)
        assert collapsed == (n == 64)
        assert not any("collapses" in note for note in fit(x, y).report.warnings)
    assert found[64] > 2 * found[512]
    assert found[64] > found[32]


def test_shuffling_breaks_the_map():
    x = normal(400, 20)
    y = x @ normal(20, 30, seed=1)
    assert fit(x, y, holdout=0.25).report.r2 > 0.99
    broken = fit(x, y, holdout=0.25, shuffle=0)
    assert broken.report.r2 < 0.2
    assert broken.provenance["shuffle"] == 0
    assert torch.equal(broken.matrix(), fit(x, y, holdout=0.25, shuffle=0).matrix())
    assert relative(fit(x, y, holdout=0.25, shuffle=1).matrix(), broken.matrix()) > 0.1


def test_held_out_texts_do_not_enter_the_fit():
    x, y = normal(50, 10), normal(50, 8, seed=1)
    link = fit(x, y, holdout=0.2, seed=3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3))
    spoiled = y.clone()
    spoiled[order[:10]] += 2  # not so much that it looks like a sink
    assert torch.equal(fit(x, spoiled, holdout=0.2, seed=3).matrix(), link.matrix())
    assert (link.report.n, link.report.n_test) == (40, 10)


_LINKS = {m: fit(normal(60, 12), normal(60, 9, seed=1), m) for m in METHODS}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(METHODS)))
def test_directions_are_differences_of_states(seed, method):
    link = _LINKS[method]
    a, b = normal(2, 12, seed=seed).float()
    difference = link.states(a) - link.states(b)
    torch.testing.assert_close(
        link.directions(a - b), difference, rtol=SINGLE, atol=SINGLE
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-5, 5), st.sampled_from(sorted(METHODS)))
def test_directions_are_linear(seed, factor, method):
    link = _LINKS[method]
    a, b = normal(2, 12, seed=seed).float()
    together = link.directions(a + factor * b)
    apart = link.directions(a) + factor * link.directions(b)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(("n", "source", "target"), [(12, 20, 9), (60, 9, 20)])
def test_shapes_and_basis(method, n, source, target):
    link = fit(normal(n, source), normal(n, target, seed=1), method)
    rank = link.report.rank
    assert link.left.shape == (source, rank)
    assert link.right.shape == (rank, target)
    assert link.basis.shape == (source, len(link.spectrum))
    gram = link.basis.double().mT @ link.basis.double()
    torch.testing.assert_close(gram, torch.eye(len(gram)).double(), atol=1e-6, rtol=0)
    assert float(link.spectrum.min()) >= 0
    assert float(link.spectrum.max()) <= 1 + 1e-6
    assert link.directions(torch.ones(2, 3, source)).shape == (2, 3, target)


def test_errors_say_what_to_do():
    x, y = normal(30, 5), normal(30, 4)
    with pytest.raises(KeyError, match=r"did you mean 'ridge'\?"):
        fit(x, y, "rigde")
    with pytest.raises(ValueError, match="30 source rows but 29 target rows"):
        fit(x, y[:29])
    with pytest.raises(ValueError, match="2 texts are too few"):
        fit(x[:2], y[:2])
    with pytest.raises(ValueError, match="are equal"):
        fit(x[:1].expand(30, 5), y)
    with pytest.raises(ValueError, match="NaN or infinite states of 'a'"):
        fit(x / 0, y)
    for wrong in ({"ridge": -1.0}, {"rank": 0}, {"holdout": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fit(x, y, **wrong)
    with pytest.raises(KeyError, match="no states for layer 7"):
        fit_linear_map(states(x), states(y), source_layer=7, target_layer=0)


def test_warnings_for_few_or_different_texts():
    few = fit(normal(10, 40), normal(10, 6, seed=1))
    assert any("fewer texts (10)" in note for note in few.report.warnings)
    other = fit_linear_map(
        states(normal(60, 5), data="one"),
        states(normal(60, 5, seed=1), data="two"),
        source_layer=0,
        target_layer=0,
    )
    assert any("different texts" in note for note in other.report.warnings)
