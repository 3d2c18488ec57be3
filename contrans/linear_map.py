"""Reformulate: a linear map between two residual streams, fitted on paired states.

Every method ends in the same form, two thin factors: `F = left @ right`. A spectral
method scales the left singular directions `U` of the source states `X = U S V^T`:

    F = V diag(gain / s) U^T Y,     gain = s^2 / (s^2 + n lam)        (H3)

with gain 1 for the paper's minimum norm (A3) and gain in {0, 1} for low rank.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from contrans.registry import unknown
from contrans.seeds import generator
from contrans.types import FitReport, HiddenStates, LinearMap, Site

RIDGE_GRID = torch.logspace(-8, 2, 41, dtype=torch.float64)
"""Ridge strengths tried, as multiples of the mean squared singular value."""
PEAK = (0.7, 1.4)
"""Range of n / d_source in which an unregularised fit collapses (H.2)."""


@dataclass(frozen=True, slots=True)
class _Solution:
    """What a method found, before it is dressed as a `LinearMap`."""

    left: Float[Tensor, "source rank"]
    right: Float[Tensor, "rank target"]
    gain: Float[Tensor, " rank"]
    basis: Float[Tensor, "source rank"]
    centred: bool
    ridge: float = 0.0
    loo_error: float | None = None


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Thin singular value decomposition of source states, cut at rounding level."""

    u: Float[Tensor, "n rank"]
    s: Float[Tensor, " rank"]
    v: Float[Tensor, "source rank"]

    @staticmethod
    def of(x: Float[Tensor, "n source"]) -> "Spectrum":
        """Decompose, and drop singular values at rounding level, as `pinv` does."""
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        keep = s > torch.finfo(x.dtype).eps * max(x.shape) * s[0]
        return Spectrum(u[:, keep], s[keep], vh[keep].mT)


def effective_rank(x: Float[Tensor, "n source"]) -> float:
    """Participation ratio of the squared singular values: how many directions count."""
    gram = x @ x.mT if x.shape[0] < x.shape[1] else x.mT @ x
    return float(gram.trace() ** 2 / (gram**2).sum())


def leave_one_out(
    spectrum: Spectrum,
    y: Float[Tensor, "n target"],
    strengths: Float[Tensor, " grid"],
) -> Float[Tensor, " grid"]:
    """Mean squared leave-one-out error of centred ridge for each `n lam` (H4).

    Closed form: residual i divided by `1 - h_ii`; the `1/n` in `h_ii` belongs to the
    mean that centring removed.
    """
    n = len(y)
    uy = spectrum.u.mT @ y
    errors = []
    for strength in strengths:
        gain = spectrum.s**2 / (spectrum.s**2 + strength)
        residual = y - spectrum.u @ (gain[:, None] * uy)
        leverage = 1 / n + (spectrum.u**2 * gain).sum(1)
        free = (1 - leverage).clamp_min(1e-12)
        errors.append(((residual / free[:, None]) ** 2).mean())
    return torch.stack(errors)


def _spectral(
    spectrum: Spectrum, y: Tensor, gain: Tensor, *, centred: bool, **found: Any
) -> _Solution:
    right = (gain / spectrum.s)[:, None] * (spectrum.u.mT @ y)
    return _Solution(spectrum.v, right, gain, spectrum.v, centred, **found)


def _contrans(x: Tensor, y: Tensor, **_: Any) -> _Solution:
    """The paper, exactly (A3): minimum norm, no centring, no ridge.

    The paper has no cut-off. Singular values at the rounding level of float64 are zero
    here (texts that occur twice make them), as in the pseudo-inverse that A3 is.
    """
    spectrum = Spectrum.of(x)
    return _spectral(spectrum, y, torch.ones_like(spectrum.s), centred=False)


def _ridge(x: Tensor, y: Tensor, *, ridge: float | None, **_: Any) -> _Solution:
    """Affine ridge (H1), its strength by closed-form leave-one-out (H4)."""
    spectrum = Spectrum.of(x)
    n, unit = len(x), (spectrum.s**2).mean()
    if ridge is None:
        grid = RIDGE_GRID * unit
        errors = leave_one_out(spectrum, y, grid)
        best = int(errors.argmin())
        strength, error = grid[best], float(errors[best])
    else:
        strength = torch.tensor(ridge * n, dtype=x.dtype)
        error = float(leave_one_out(spectrum, y, strength[None])[0])
    gain = spectrum.s**2 / (spectrum.s**2 + strength)
    return _spectral(
        spectrum, y, gain, centred=True, ridge=float(strength) / n, loo_error=error
    )


def _low_rank(x: Tensor, y: Tensor, *, rank: int | None, **_: Any) -> _Solution:
    """Principal-component regression: the strongest source directions only.

    Without a rank, keeps singular values above 1e-3 of the largest (H.2).
    """
    spectrum = Spectrum.of(x)
    if rank is None:
        rank = int((spectrum.s > 1e-3 * spectrum.s[0]).sum())
    cut = Spectrum(spectrum.u[:, :rank], spectrum.s[:rank], spectrum.v[:, :rank])
    return _spectral(cut, y, torch.ones_like(cut.s), centred=True)


def _procrustes(x: Tensor, y: Tensor, **_: Any) -> _Solution:
    """Scaled rotation (H5): keeps angles between directions."""
    p, d, qh = torch.linalg.svd(x.mT @ y, full_matrices=False)
    keep = d > torch.finfo(d.dtype).eps * max(x.shape[1], y.shape[1]) * d[0]
    p, d, qh = p[:, keep], d[keep], qh[keep]
    scale = d.sum() / ((x @ p) ** 2).sum()
    return _Solution(p, scale * qh, torch.ones_like(d), p, True)


METHODS: dict[str, Callable[..., _Solution]] = {
    "contrans": _contrans,
    "ridge": _ridge,
    "procrustes": _procrustes,
    "low_rank": _low_rank,
}


def r_squared(truth: Tensor, guess: Tensor) -> float:
    """1 - squared error / squared deviation from the mean, over all coordinates."""
    total = ((truth - truth.mean(0)) ** 2).sum()
    return float(1 - ((truth - guess) ** 2).sum() / total)


def fit_linear_map(
    source: HiddenStates,
    target: HiddenStates,
    *,
    source_layer: int,
    target_layer: int,
    method: str = "ridge",
    ridge: float | None = None,
    rank: int | None = None,
    holdout: float = 0.2,
    shuffle: int | None = None,
    seed: int = 0,
) -> LinearMap:
    """Fit a map from one layer of the source to one layer of the target (A2).

    Args:
        source: states of some texts in the source model.
        target: states of the same texts, in the same order, in the target model.
        source_layer: block to map from.
        target_layer: block to map to.
        method: "ridge" (affine, the default), "contrans" (the paper, exactly),
            "procrustes" or "low_rank".
        ridge: ridge strength per row (H1); None chooses by leave-one-out (H4).
        rank: for "low_rank"; None keeps singular values above 1e-3 of the largest.
        holdout: share of the texts kept out of the fit, for the report.
        shuffle: a seed to break the pairing before fitting: the control whose map
            knows both streams but not which state belongs to which.
        seed: chooses the held-out texts.

    Raises:
        KeyError: for an unknown method or a layer that was not collected.
        ValueError: when the rows do not pair up, are too few, all equal or not finite,
            or an option is out of range.
    """
    if method not in METHODS:
        raise unknown("map method", method, METHODS)
    _check_options(ridge, rank, holdout)
    if len(source) != len(target):
        raise ValueError(
            f"{len(source)} source rows but {len(target)} target rows; collect both "
            "models on the same texts, in the same order"
        )
    x = source.at(source_layer).double()
    y = target.at(target_layer).double()
    _check_states(x, source.name, source_layer)
    _check_states(y, target.name, target_layer)
    order = torch.randperm(len(x), generator=generator(seed))
    n_test = int(holdout * len(x))
    test, train = order[:n_test].sort().values, order[n_test:].sort().values
    if len(train) < 3:
        raise ValueError(
            f"{len(x)} texts are too few to fit a map (holdout {holdout}); use a few "
            "hundred at least, better more than the source width "
            f"({source.hidden})"
        )
    pairing = train
    if shuffle is not None:
        pairing = train[torch.randperm(len(train), generator=generator(shuffle))]
    solution, mean_x, mean_y = _solve(method, x[train], y[pairing], ridge, rank)
    bias = mean_y - (mean_x @ solution.left) @ solution.right
    guess = (x[test] @ solution.left) @ solution.right + bias
    report = _report(x, y, train, test, guess, solution, method)
    if source.provenance.get("data") != target.provenance.get("data"):
        note = (
            "the states of source and target come from different texts, by their "
            "digests; row i of both must be the same text"
        )
        report = replace(report, warnings=(*report.warnings, note))
    return LinearMap(
        solution.left.contiguous(),  # float64: 1 / s enlarges the rounding of float32
        solution.right.contiguous(),
        bias,
        source=Site(source.model, source_layer, source.name),
        target=Site(target.model, target_layer, target.name),
        method=method,
        report=report,
        spectrum=solution.gain.float(),
        basis=solution.basis.float().contiguous(),
        provenance={
            "data": source.provenance.get("data"),
            "source": dict(source.provenance),
            "target": dict(target.provenance),
            "method": f"map/{method}",
            "ridge": solution.ridge,
            "rank": rank,
            "holdout": holdout,
            "shuffle": shuffle,
            "seed": seed,
        },
    )


def _check_options(ridge: float | None, rank: int | None, holdout: float) -> None:
    if ridge is not None and ridge < 0:
        raise ValueError(f"ridge {ridge} is negative; use 0 or more, or None to choose")
    if rank is not None and rank < 1:
        raise ValueError(f"rank {rank} is too small; use 1 or more, or None to choose")
    if not 0 <= holdout < 1:
        raise ValueError(
            f"holdout {holdout} is no share of the texts to keep out; use 0 to 0.9"
        )


def _check_states(states: Tensor, name: str, layer: int) -> None:
    if not torch.isfinite(states).all():
        raise ValueError(
            f"NaN or infinite states of {name!r} at layer {layer}; collect them again "
            "with the model in bfloat16 or float32"
        )
    if len(states) and (states == states[:1]).all():
        raise ValueError(
            f"all {len(states)} states of {name!r} at layer {layer} are equal, so "
            "there is nothing to fit; use texts that differ in their last word"
        )


def _solve(
    method: str, x: Tensor, y: Tensor, ridge: float | None, rank: int | None
) -> tuple[_Solution, Tensor, Tensor]:
    """Centre where the method wants it, then solve in float64."""
    zero_x, zero_y = torch.zeros_like(x[0]), torch.zeros_like(y[0])
    if method == "contrans":
        return _contrans(x, y), zero_x, zero_y
    mean_x, mean_y = x.mean(0), y.mean(0)
    found = METHODS[method](x - mean_x, y - mean_y, ridge=ridge, rank=rank)
    return found, mean_x, mean_y


def _report(
    x: Tensor,
    y: Tensor,
    train: Tensor,
    test: Tensor,
    guess: Tensor,
    solution: _Solution,
    method: str,
) -> FitReport:
    n, width = len(train), x.shape[1]
    notes = []
    ratio = n / width
    if method in ("contrans", "low_rank") and PEAK[0] < ratio < PEAK[1]:
        notes.append(
            f"n / source width = {n} / {width} = {ratio:.2f}: near 1 the unregularised "
            "fit collapses (its direction is noise and its length explodes); use more "
            "texts, or method 'ridge'"
        )
    elif ratio < 1:
        notes.append(
            f"fewer texts ({n}) than the source is wide ({width}): the parts of a "
            "concept outside their span are dropped; see the coverage"
        )
    enough = len(test) >= 2
    half = len(test) // 2
    first, second = slice(0, half), slice(half, 2 * half)
    return FitReport(
        n=n,
        n_test=len(test),
        r2=r_squared(y[test], guess) if enough else None,
        r2_differences=r_squared_raw(
            y[test][first] - y[test][second], guess[first] - guess[second]
        )
        if enough
        else None,
        effective_rank=effective_rank(x[train] - x[train].mean(0)),
        rank=solution.left.shape[1],
        ridge=solution.ridge,
        loo_error=solution.loo_error,
        warnings=tuple(notes),
    )


def r_squared_raw(truth: Tensor, guess: Tensor) -> float:
    """1 - squared error / squared length: for differences, whose mean means nothing."""
    return float(1 - ((truth - guess) ** 2).sum() / (truth**2).sum())
