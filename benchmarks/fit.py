"""Fit: one concept by minimum norm; 12 concepts to 40 target layers by ridge."""

from functools import partial

import numpy as np
import torch
from common import Ratio, Report, arguments, race, ratio, show

from contrans.vectors.gram import minimum_norm
from contrans.vectors.ridge import Factor

CONCEPTS, LAYERS = 12, 40


def streams(n: int, source: int, target: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States with a shared latent, a power-law spectrum and noise, float32."""
    drawn = torch.Generator().manual_seed(0)
    rank = min(512, n)
    scale = torch.arange(1, rank + 1) ** -0.5
    latent = torch.randn(n, rank, generator=drawn) * scale

    def stream(width: int) -> torch.Tensor:
        clean = latent @ torch.randn(rank, width, generator=drawn)
        return clean + 0.05 * clean.std() * torch.randn(n, width, generator=drawn)

    return stream(source), stream(target)


def published(v: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The published route: SVD of the source, then the dense map (A3, A4)."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    w = y.T @ u @ np.diag(1 / s) @ vt
    return v @ w.T


def by_lstsq(v: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The dense map by `torch.linalg.lstsq`, as it comes."""
    return v @ torch.linalg.lstsq(x, y).solution


def one(options) -> Report:
    n, a, b = (400, 1024, 1280) if options.quick else (1600, 4096, 5120)
    x, y = streams(n, a, b)
    v = torch.randn(1, a, generator=torch.Generator().manual_seed(1))
    arrays = [t.numpy() for t in (v, x, y)]
    q, r = torch.linalg.qr(x.double().mT)
    inner = torch.linalg.solve_triangular(r, q.mT @ v.double().mT, upper=True)
    truth = inner.mT @ y.double()

    def error(found) -> str:
        gap = torch.as_tensor(found).double() - truth
        return f"{float(gap.norm() / truth.norm()):.1e}"

    checks = {
        "contrans, relative error": error(minimum_norm(v, x, y)),
        "published, relative error": error(published(*arrays)),
        "torch.linalg.lstsq, relative error": error(by_lstsq(v, x, y)),
    }
    methods = {
        "contrans": partial(minimum_norm, v, x, y),
        "published": partial(published, *arrays),
        "torch.linalg.lstsq": partial(by_lstsq, v, x, y),
        "Gram matrix alone, float32": lambda: x @ x.mT,
    }
    times = race(methods, options)
    ratios = [
        Ratio("published / contrans", ratio(times, "published", "contrans"), 15),
        Ratio("lstsq / contrans", ratio(times, "torch.linalg.lstsq", "contrans")),
        Ratio(
            "contrans / Gram matrix",
            ratio(times, "contrans", "Gram matrix alone, float32"),
            2.5,
            at_least=False,
        ),
    ]
    return Report("fit, one concept", f"n = {n}, {a} to {b}", times, ratios, checks)


def many(options) -> Report:
    n, a, b = (400, 1024, 1280) if options.quick else (1600, 4096, 5120)
    x, y = streams(n, a, b)
    vectors = torch.randn(CONCEPTS, a, generator=torch.Generator().manual_seed(1))
    factor = Factor.of(x)

    def layer(by: str) -> torch.Tensor:
        return factor.directions(vectors, y, factor.choose(y, by).strength)

    arrays = [t.numpy() for t in (vectors[:1], x, y)]
    times = race(
        {
            "factorisation": lambda: Factor.of(x),
            "one layer, leave-one-out": partial(layer, "leave-one-out"),
            "one layer, generalised": partial(layer, "generalised"),
            "published, one pair": partial(published, *arrays),
        },
        options,
    )
    whole = {
        by: [
            first + LAYERS * each
            for first, each in zip(times["factorisation"], times[name], strict=True)
        ]
        for by, name in (
            ("leave-one-out", "one layer, leave-one-out"),
            ("generalised", "one layer, generalised"),
        )
    }
    whole["published"] = [
        CONCEPTS * LAYERS * each for each in times["published, one pair"]
    ]
    choice = factor.choose(y)
    exact = factor.leave_one_out(y.double(), factor.grid)
    xc, yc = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    eye = torch.eye(n, dtype=torch.float64)
    dual = torch.linalg.solve(
        xc @ xc.mT + choice.strength * eye, xc @ vectors.double().mT
    )
    truth = dual.mT @ yc
    gap = layer("leave-one-out").double() - truth
    checks = {
        "moved vectors, relative error to float64": f"{gap.norm() / truth.norm():.1e}",
        "strength is the best of the grid": bool(
            choice.strength == float(factor.grid[exact.argmin()])
        ),
        "leave-one-out error, relative": f"{choice.error / float(exact.min()) - 1:.1e}",
    }
    ratios = [
        Ratio(
            "published / leave-one-out", ratio(whole, "published", "leave-one-out"), 40
        ),
        Ratio("published / generalised", ratio(whole, "published", "generalised"), 220),
    ]
    on = (
        f"n = {n}, {a} to {b}; {CONCEPTS} concepts x {LAYERS} target layers from one "
        "source layer, one of them timed and multiplied"
    )
    return Report("fit, many", on, times, ratios, checks)


def main(options) -> list[Report]:
    return [one(options), many(options)]


if __name__ == "__main__":
    chosen = arguments(__doc__ or "")
    show(main(chosen), chosen)
