"""Directions moved without a map: the same numbers as the map, and as float64."""

import pytest
import torch

from contrans.core.types import HiddenStates
from contrans.vectors.gram import gram, minimum_norm
from contrans.vectors.maps import Fits, fit_linear_map
from contrans.vectors.ridge import RIDGE_GRID, Factor, move_directions

DOUBLE = 1e-6
"""Against float64, relative; measured at 1e-7 (the rounding of the result)."""


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def streams(n, source, target, layers=1, seed=0):
    """States with a shared latent, a steep spectrum and one massive coordinate."""
    latent = normal(n, 40, seed=seed) * torch.logspace(1.5, -1, 40)
    x = latent @ normal(40, source, seed=seed + 1) + 0.05 * normal(n, source, seed=2)
    x[:, 3] += 300
    ys = [
        latent @ normal(40, target, seed=seed + 5 + i) + (0.1 + i) * normal(n, target)
        for i in range(layers)
    ]
    return x, torch.stack(ys, 1)


def textbook_leave_one_out(x, y, strengths):
    """Every strength by its whole residual (H4), from the singular values of X."""
    x, y, n = x.double() - x.double().mean(0), y.double() - y.double().mean(0), len(x)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    u, s = u[:, s > 1e-10 * s[0]], s[s > 1e-10 * s[0]]
    found = []
    for strength in strengths:
        gain = s**2 / (s**2 + strength)
        residual = y - u @ (gain[:, None] * (u.mT @ y))
        free = 1 - 1 / n - (u**2 * gain).sum(1)
        found.append(((residual / free[:, None]) ** 2).mean())
    return torch.stack(found)


def relative(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def test_gram_holds_the_products():
    x = normal(30, 50)
    expected = x.double() @ x.double().mT
    assert torch.allclose(gram(x).tril(), expected.tril())


@pytest.mark.parametrize(("n", "d"), [(60, 90), (90, 60), (60, 60)])
def test_minimum_norm_is_the_pseudo_inverse(n, d):
    x, y = streams(n, d, 30)
    v = normal(3, d, seed=9)
    expected = v.double() @ torch.linalg.pinv(x.double()) @ y[:, 0].double()
    assert relative(minimum_norm(v, x, y[:, 0]), expected) < DOUBLE


def test_minimum_norm_with_repeated_texts_falls_back():
    x, y = streams(40, 90, 30)
    x, y = torch.cat([x, x[:4]]), torch.cat([y, y[:4]])[:, 0]
    v = normal(2, 90, seed=9)
    expected = v.double() @ torch.linalg.pinv(x.double()) @ y.double()
    assert relative(minimum_norm(v, x, y), expected) < DOUBLE


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4])
@pytest.mark.parametrize("seed", range(4))
def test_minimum_norm_where_the_source_sees_two_texts_as_one(noise, seed):
    x, y = normal(60, 128, seed=seed), normal(60, 30, seed=seed + 50)
    x[7] = x[3] + noise * normal(1, 128, seed=9)[0]
    v = normal(1, 128, seed=99)
    u, s, vt = torch.linalg.svd(x.double(), full_matrices=False)
    s_inverse = torch.where(s > 1e-7 * s[0], 1 / s, 0.0)
    expected = v.double() @ vt.mT @ (s_inverse[:, None] * (u.mT @ y.double()))
    assert relative(minimum_norm(v, x, y), expected) < 1e-5


def test_leave_one_out_where_one_direction_is_all():
    line = torch.linspace(-1, 1, 10)[:, None] ** 3
    x = (line @ normal(1, 20)).double()
    q = Factor.of(x).q
    eye = torch.eye(q.shape[1], dtype=torch.float64)
    torch.testing.assert_close(q.mT @ q, eye, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("n", "d"), [(60, 90), (150, 60)])
def test_leave_one_out_is_that_of_linear_map(n, d):
    x, y = streams(n, d, 30)
    x, y = x.double(), y[:, 0].double()
    factor = Factor.of(x)
    strengths = factor.grid
    expected = textbook_leave_one_out(x, y, strengths)
    found = factor.leave_one_out(y, strengths)
    assert torch.allclose(found, expected, rtol=1e-6)
    single = factor.leave_one_out(y.float(), strengths)
    assert torch.allclose(single, expected, rtol=1e-3)


@pytest.mark.parametrize(("n", "d"), [(60, 90), (150, 60)])
@pytest.mark.parametrize("noise", [0, 1, 2])
def test_the_chosen_strength_is_the_best_of_the_grid(n, d, noise):
    x, y = streams(n, d, 80, layers=3)
    factor = Factor.of(x)
    choice = factor.choose(y[:, noise])
    errors = factor.leave_one_out(y[:, noise].double(), factor.grid)
    assert choice.error == pytest.approx(float(errors.min()), rel=1e-3)
    assert len(choice.tried) < len(RIDGE_GRID) / 2


def test_generalised_is_near_leave_one_out():
    x, y = streams(120, 90, 40, layers=3)
    factor = Factor.of(x)
    for layer in range(3):
        y_here = y[:, layer]
        chosen = factor.choose(y_here, "generalised").strength
        best = factor.choose(y_here)
        error = factor.leave_one_out(y_here, torch.tensor([chosen]).double())
        assert float(error) < 1.02 * best.error


@pytest.mark.parametrize(("n", "d"), [(60, 90), (150, 60)])
def test_moved_directions_are_those_of_the_fitted_map(n, d):
    x, y = streams(n, d, 30, layers=2)
    source = HiddenStates(x[:, None], (4,), "a")
    target = HiddenStates(y, (7, 9), "b")
    vectors = {name: normal(d, seed=i) for i, name in enumerate(("anger", "fear"))}
    found = move_directions(
        vectors, source, target, source_layer=4, target_layers=(7, 9)
    )
    for layer, (choice, moved) in found.items():
        link = fit_linear_map(
            source,
            target,
            source_layer=4,
            target_layer=layer,
            ridge=choice.strength / n,
            holdout=0.0,
        )
        chosen = fit_linear_map(
            source, target, source_layer=4, target_layer=layer, holdout=0.0
        )
        assert chosen.report.loo_error == pytest.approx(choice.error, rel=1e-3)
        for name, v in vectors.items():
            assert relative(moved[name], link.directions(v)) < DOUBLE


def test_errors_say_what_to_do():
    x, y = streams(40, 30, 20)
    with pytest.raises(ValueError, match="unknown criterion 'aic'"):
        Factor.of(x).choose(y[:, 0], "aic")
    with pytest.raises(ValueError, match="40 source rows but 39 target rows"):
        move_directions(
            {"a": x[0]},
            HiddenStates(x[:, None], (0,), "a"),
            HiddenStates(y[:39], (0,), "b"),
            source_layer=0,
            target_layers=(0,),
        )


def test_a_minimum_at_the_end_of_the_grid_is_reached():
    """Where the target is noise the strongest ridge is best, next to a known one."""
    for seed in range(40):
        drawn = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(40, d, generator=drawn) for d in (60, 200))
        choice = Factor.of(x).choose(y)
        assert choice.tried[choice.strength] == min(choice.tried.values())


@pytest.mark.parametrize(("n", "d"), [(90, 120), (400, 60)])
@pytest.mark.parametrize("noise", [0.1, 1.0, 30.0])
def test_a_fitted_map_is_that_of_the_whole_grid_by_singular_values(n, d, noise):
    """What `fit_linear_map` did before it used the solver: SVD, all strengths."""
    x, y = streams(n, d, 80)
    x, y = x.double(), (y[:, 0] + noise * normal(n, 80, seed=4)).float().double()
    xc, yc = x - x.mean(0), y - y.mean(0)
    u, s, vh = torch.linalg.svd(xc, full_matrices=False)
    u, s, vh = u[:, : min(n - 1, d)], s[: min(n - 1, d)], vh[: min(n - 1, d)]
    strengths = RIDGE_GRID * (s**2).mean()
    errors = textbook_leave_one_out(x, y, strengths)
    best = int(errors.argmin())
    weights = s / (s**2 + strengths[best])
    expected = vh.mT @ (weights[:, None] * (u.mT @ yc))
    source = HiddenStates(x.float()[:, None], (0,), "a")
    target = HiddenStates(y.float()[:, None], (0,), "b")
    link = fit_linear_map(source, target, source_layer=0, target_layer=0, holdout=0.0)
    assert link.report.ridge == pytest.approx(float(strengths[best]) / n, rel=1e-6)
    assert link.report.loo_error == pytest.approx(float(errors[best]), rel=1e-6)
    assert relative(link.matrix(), expected) < DOUBLE


def test_maps_that_share_a_factorisation_are_those_fitted_alone(monkeypatch):
    """Also after a source layer was forgotten; one factorisation a source layer."""
    x = normal(80, 3, 20)
    y = normal(80, 2, 15, seed=1) + x[:, :2, :15]
    source, target = HiddenStates(x, (0, 1, 2), "a"), HiddenStates(y, (5, 6), "b")
    made, of = [], Factor.of

    def counted(*args, **options):
        made.append(1)
        return of(*args, **options)

    monkeypatch.setattr(Factor, "of", counted)
    fits = Fits(source, target, holdout=0.25, seed=2)
    wanted = [
        (s, t, shuffle) for s in range(3) for t in (5, 6) for shuffle in (None, 1)
    ]
    found = [fits.map(s, t, shuffle=shuffle) for s, t, shuffle in wanted]
    assert len(made) == 3
    found.append(fits.map(0, 5))
    for (s, t, shuffle), link in zip([*wanted, (0, 5, None)], found, strict=True):
        alone = fit_linear_map(
            source,
            target,
            source_layer=s,
            target_layer=t,
            holdout=0.25,
            seed=2,
            shuffle=shuffle,
        )
        assert torch.equal(link.matrix(), alone.matrix())
        assert torch.equal(link.bias, alone.bias)
        assert link.report == alone.report
        assert link.provenance == alone.provenance
