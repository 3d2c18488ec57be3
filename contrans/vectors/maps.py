"""Reformulate: a linear map between two residual streams, fitted on paired states.

Every method ends in the same form, two thin factors: `F = left @ right`. A spectral
method scales the left singular directions `U` of the source states `X = U S V^T`:

    F = V diag(gain / s) U^T Y,     gain = s^2 / (s^2 + n lam)        (H3)

with gain 1 for the paper's minimum norm (A3) and gain in {0, 1} for low rank.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contrans.core.registry import unknown
from contrans.core.seeds import generator
from contrans.core.types import FitReport, HiddenStates, LinearMap, Site
from contrans.vectors.ridge import RIDGE_GRID, Factor, check_paired
from contrans.vectors.sinks import sinks

PEAK = (0.7, 1.4)
"""Range of n / d_source in which an unregularised fit collapses (H.2)."""
REMEMBERED = 2
"""Source layers whose factorisation is kept: candidates come as blocks s and s + 1."""


@dataclass(frozen=True, slots=True)
class _Solution:
    """What a method found, before it is dressed as a `LinearMap`."""

    left: Float[Tensor, "source rank"]
    right: Float[Tensor, "rank target"]
    gain: Float[Tensor, " rank"]
    basis: Float[Tensor, "source rank"]
    centred: bool = True
    ridge: float = 0.0
    loo_error: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """Which rows a map is fitted on, which judge it, and which take no part."""

    train: Tensor
    test: Tensor
    left_out: tuple[int, ...]

    @staticmethod
    def of(sinks: Bool[Tensor, " n"], holdout: float, seed: int) -> "_Split":
        """Hold out a share of the rows that are no sinks."""
        kept = (~sinks).nonzero()[:, 0]
        order = kept[torch.randperm(len(kept), generator=generator(seed))]
        n_test = int(holdout * len(kept))
        test, train = order[:n_test].sort().values, order[n_test:].sort().values
        return _Split(train, test, tuple(sinks.nonzero()[:, 0].tolist()))


class _Source:
    """The source states of one layer, each decomposition made when first needed."""

    def __init__(self, states: Tensor, split: "_Split") -> None:
        self.split = split
        self.x, self.held_out = states[split.train], states[split.test]
        self.mean = self.x.mean(0)

    @cached_property
    def factor(self) -> Factor:
        """By the Gram matrix: for ridge."""
        return Factor.of(self.x)

    @cached_property
    def exact(self) -> Factor:
        """By singular values: where none may be lost."""
        return Factor.of(self.x, exact=True)

    @cached_property
    def uncentred(self) -> Factor:
        """The same of the states as they are: for the paper."""
        return Factor.of(self.x, exact=True, centre=False)

    @cached_property
    def left(self) -> Tensor:
        """V of `factor`."""
        return self.factor.right_vectors()

    @cached_property
    def effective_rank(self) -> float:
        """How many directions of the source count."""
        return effective_rank(self.x - self.mean)


def effective_rank(x: Float[Tensor, "n source"]) -> float:
    """Participation ratio of the squared singular values: how many directions count."""
    gram = x @ x.mT if x.shape[0] < x.shape[1] else x.mT @ x
    return float(gram.trace() ** 2 / (gram**2).sum())


def _contrans(source: _Source, y: Tensor, **_: Any) -> _Solution:
    """The paper, exactly (A3): minimum norm, no centring, no ridge.

    The paper has no cut-off. Singular values at the rounding level of float64 are zero
    here (texts that occur twice make them), as in the pseudo-inverse that A3 is.
    """
    factor = source.uncentred
    left, right = factor.right_vectors(), (factor.q / factor.s).mT @ y
    return _Solution(left, right, torch.ones_like(factor.s), left, centred=False)


def _ridge(source: _Source, y: Tensor, *, ridge: float | None, **_: Any) -> _Solution:
    """Affine ridge (H1), its strength by closed-form leave-one-out (H4)."""
    n, factor, left = len(y), source.factor, source.left
    if ridge is None:
        strength = factor.choose(y.float()).strength
    else:
        strength = ridge * n
        if strength < factor.unit * float(RIDGE_GRID[0]):
            factor = source.exact
            left = factor.right_vectors()
    gain = factor.gain(strength)
    found = factor.solve(y, gain)
    return _Solution(
        left, found.right, gain, left, ridge=strength / n, loo_error=found.error
    )


def _low_rank(source: _Source, y: Tensor, *, rank: int | None, **_: Any) -> _Solution:
    """Principal-component regression: the strongest source directions only.

    Without a rank, keeps singular values above 1e-3 of the largest (H.2).
    """
    factor = source.exact
    if rank is None:
        rank = int((factor.s > 1e-3 * factor.s[0]).sum())
    left = factor.right_vectors()[:, :rank]
    right = (factor.q / factor.s)[:, :rank].mT @ (y - y.mean(0))
    return _Solution(left, right, torch.ones_like(factor.s[:rank]), left)


def _procrustes(source: _Source, y: Tensor, **_: Any) -> _Solution:
    """Scaled rotation (H5): keeps angles between directions."""
    x, y = source.x - source.mean, y - y.mean(0)
    p, d, qh = torch.linalg.svd(x.mT @ y, full_matrices=False)
    keep = d > torch.finfo(d.dtype).eps * max(x.shape[1], y.shape[1]) * d[0]
    p, d, qh = p[:, keep], d[keep], qh[keep]
    scale = d.sum() / ((x @ p) ** 2).sum()
    return _Solution(p, scale * qh, torch.ones_like(d), p)


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


class Fits:
    """The maps between two models, with what they share made once.

    One factorisation of a source layer serves every target layer, every ridge strength
    and every shuffled control: ask for maps in the order of their source layers.
    """

    def __init__(
        self,
        source: HiddenStates,
        target: HiddenStates,
        *,
        holdout: float = 0.2,
        seed: int = 0,
        keep_sinks: bool = False,
    ) -> None:
        """Take the states; nothing is fitted yet.

        Args:
            source: states of some texts in the source model.
            target: states of the same texts, in the same order, in the target model.
            holdout: share of the texts kept out of the fit, for the report.
            seed: chooses the held-out texts.
            keep_sinks: fit on attention sinks and massive activations, too.

        Raises:
            ValueError: when the rows do not pair up, or for a share out of range.
        """
        if not 0 <= holdout < 1:
            raise ValueError(
                f"holdout {holdout} is no share of the texts to keep out; use 0 to 0.9"
            )
        check_paired(source, target)
        self.source, self.target = source, target
        self.holdout, self.seed, self.keep_sinks = holdout, seed, keep_sinks
        self._sources: dict[tuple[int, tuple[int, ...]], _Source] = {}

    def _side(self, layer: int, target_layer: int) -> _Source:
        """The source states of a layer without rows that are sinks on either side.

        The few asked for last are remembered; target layers with the same sinks, mostly
        none, share one.
        """
        x = _finite(self.source, layer)
        found = sinks(self.source, layer) | sinks(self.target, target_layer)
        split = _Split.of(found & (not self.keep_sinks), self.holdout, self.seed)
        if len(split.train) < 3:
            raise ValueError(
                f"{len(x)} texts are too few to fit a map (holdout {self.holdout}); use "
                "a few hundred at least, better more than the source width "
                f"({x.shape[1]})"
            )
        key = (layer, split.left_out)
        if key not in self._sources:
            while len(self._sources) >= REMEMBERED:
                del self._sources[next(iter(self._sources))]
            _check_varied(x[split.train], self.source, layer)
            self._sources[key] = _Source(x, split)
        return self._sources[key]

    def map(
        self,
        source_layer: int,
        target_layer: int,
        *,
        method: str = "ridge",
        ridge: float | None = None,
        rank: int | None = None,
        shuffle: int | None = None,
    ) -> LinearMap:
        """One map (A2); see `fit_linear_map` for the arguments and errors.

        Args:
            source_layer: block of the source.
            target_layer: block of the target.
            method: of fitting the map, see `fit_linear_map`.
            ridge: None chooses by leave-one-out.
            rank: of low_rank.
            shuffle: a seed that shuffles the pairing, for a control; None keeps it.

        Raises:
            KeyError: for an unknown method; the message suggests near names.
            ValueError: see `fit_linear_map`.
        """
        if method not in METHODS:
            raise unknown("map method", method, METHODS)
        _check_options(ridge, rank)
        source, target = self.source, self.target
        y = _finite(target, target_layer)
        side = self._side(source_layer, target_layer)
        train = pairing = side.split.train
        _check_varied(y[train], target, target_layer)
        if shuffle is not None:
            pairing = train[torch.randperm(len(train), generator=generator(shuffle))]
        solution = METHODS[method](side, y[pairing], ridge=ridge, rank=rank)
        bias = torch.zeros_like(y[0])
        if solution.centred:
            bias = y[train].mean(0) - (side.mean @ solution.left) @ solution.right
        guess = (side.held_out @ solution.left) @ solution.right + bias
        report = _report(side, y[side.split.test], guess, solution, method)
        if source.provenance.get("data") != target.provenance.get("data"):
            note = (
                "the states of source and target come from different texts, by their "
                "digests; row i of both must be the same text"
            )
            report = replace(report, warnings=(*report.warnings, note))
        return LinearMap(
            solution.left.contiguous(),  # float64: 1 / s enlarges float32's rounding
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
                "holdout": self.holdout,
                "shuffle": shuffle,
                "seed": self.seed,
                "keep_sinks": self.keep_sinks,
            },
        )


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
    keep_sinks: bool = False,
) -> LinearMap:
    """Fit a map from one layer of the source to one layer of the target (A2).

    For maps between several layers of the same models use `Fits`. Rows that are
    attention sinks or massive activations at either layer (`contrans.vectors.sinks`) take no
    part, neither in the fit nor in its report, which names them.

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
        keep_sinks: fit on attention sinks and massive activations, too.

    Raises:
        KeyError: for an unknown method or a layer that was not collected.
        ValueError: when the rows do not pair up, are too few, all equal or not finite,
            or an option is out of range.
    """
    fits = Fits(source, target, holdout=holdout, seed=seed, keep_sinks=keep_sinks)
    return fits.map(
        source_layer,
        target_layer,
        method=method,
        ridge=ridge,
        rank=rank,
        shuffle=shuffle,
    )


def _check_options(ridge: float | None, rank: int | None) -> None:
    if ridge is not None and ridge < 0:
        raise ValueError(f"ridge {ridge} is negative; use 0 or more, or None to choose")
    if rank is not None and rank < 1:
        raise ValueError(f"rank {rank} is too small; use 1 or more, or None to choose")


def _finite(states: HiddenStates, layer: int) -> Float[Tensor, "n hidden"]:
    """The states of a layer, in float64."""
    values, name = states.at(layer).double(), states.name
    if not torch.isfinite(values).all():
        raise ValueError(
            f"NaN or infinite states of {name!r} at layer {layer}; collect them again "
            "with the model in bfloat16 or float32"
        )
    return values


def _check_varied(values: Tensor, states: HiddenStates, layer: int) -> None:
    if (values == values[:1]).all():
        raise ValueError(
            f"all {len(values)} states of {states.name!r} at layer {layer} are equal, "
            "so there is nothing to fit; use texts that differ in their last word"
        )


def _report(
    side: _Source, truth: Tensor, guess: Tensor, solution: _Solution, method: str
) -> FitReport:
    n, width = side.x.shape
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
    enough = len(truth) >= 2
    half = len(truth) // 2
    first, second = slice(0, half), slice(half, 2 * half)
    return FitReport(
        n=n,
        n_test=len(truth),
        r2=r_squared(truth, guess) if enough else None,
        r2_differences=r_squared_raw(
            truth[first] - truth[second], guess[first] - guess[second]
        )
        if enough
        else None,
        effective_rank=side.effective_rank,
        rank=solution.left.shape[1],
        ridge=solution.ridge,
        loo_error=solution.loo_error,
        warnings=tuple(notes),
        left_out=side.split.left_out,
    )


def r_squared_raw(truth: Tensor, guess: Tensor) -> float:
    """1 - squared error / squared length: for differences, whose mean means nothing."""
    return float(1 - ((truth - guess) ** 2).sum() / (truth**2).sum())
