"""Many maps at once: one factorisation of the source states serves them all.

To move a few directions a map is never written down. With centred states X, Y and the
eigendecomposition `X X^T = Q diag(s^2) Q^T` (in the width where that is smaller, the
same from `X^T X`), a direction v moves by ridge as

    v F = (v X^T) Q diag(1 / (s^2 + n lam)) Q^T Y                          (H1)

so concepts, ridge strengths and target layers share Q. The exact leave-one-out error
needs, for each strength, the row lengths of `R = E + Q D Z` with `Z = Q^T Y`,
`D = n lam / (s^2 + n lam)` and E what Q does not reach (H4):

    |R_i|^2 = |E_i|^2 + 2 (Q D)_i . (E Z^T)_i + (Q D)_i (Z Z^T) (Q D)_i^T

one product of the size of Q instead of one of the size of Y.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from contrans.linear_map import RIDGE_GRID, Spectrum
from contrans.seeds import generator
from contrans.types import HiddenStates

CRITERIA = ("leave-one-out", "generalised")
SKETCH = 64
"""Random directions of the target that stand for all of them when a grid is scanned."""
_CUT = 1e-12
"""Eigenvalues of a Gram matrix below this share of the largest are rounding."""
_SOLVED = 1e-9
"""Relative residual up to which a Cholesky solution is taken."""


def gram(x: Float[Tensor, "n width"]) -> Float[Tensor, "n n"]:
    """`X X^T` in float64; on a CPU only the lower triangle holds it, in half the time."""
    wide = x.double()
    if wide.device.type != "cpu":
        return wide @ wide.mT
    from scipy.linalg.blas import dsyrk

    upper = dsyrk(1.0, wide.contiguous().numpy().T, trans=1)
    return torch.from_numpy(upper.T)


def minimum_norm(
    v: Float[Tensor, "vectors source"],
    x: Float[Tensor, "n source"],
    y: Float[Tensor, "n target"],
) -> Float[Tensor, "vectors target"]:
    """Move directions by the paper's map (A3, A4) without ever forming it.

    With fewer texts than the source is wide, `v X^+ Y` is `a Y` with `X X^T a = X v`: a
    Gram matrix, its Cholesky factor in float64 and one step of refinement. Where that
    is not accurate enough (texts that occur twice, or more texts than the width), the
    singular value decomposition of `linear_map` is used.

    Args:
        v: directions of the source.
        x: states of some texts in the source model.
        y: states of the same texts in the target model.
    """
    right = x.double() @ v.double().mT
    if len(x) <= x.shape[1]:
        g = gram(x)
        factor, failed = torch.linalg.cholesky_ex(g)
        if not failed:
            full = g.tril() + g.tril(-1).mT if x.device.type == "cpu" else g
            a = torch.cholesky_solve(right, factor)
            a += torch.cholesky_solve(right - full @ a, factor)
            miss = (right - full @ a).norm(dim=0) / right.norm(dim=0).clamp_min(1e-300)
            if bool((miss < _SOLVED).all()) and bool(torch.isfinite(a).all()):
                return (a.mT @ y.double()).float()
    spectrum = Spectrum.of(x.double())
    a = spectrum.u @ ((spectrum.v.mT @ v.double().mT) / spectrum.s[:, None])
    return (a.mT @ y.double()).float()


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A ridge strength for one target, and the error that chose it."""

    strength: float
    """`n lam`, as in `X X^T + n lam I`."""
    error: float
    """Mean squared error per coordinate: exact leave-one-out, or generalised."""
    tried: dict[float, float]
    """Strengths whose error was computed, and the errors."""


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """The centred source states of one layer, decomposed once."""

    x: Float[Tensor, "n source"]
    """Centred states, float64."""
    q: Float[Tensor, "n rank"]
    """Orthonormal, float64."""
    squares: Float[Tensor, " rank"]
    """Squared singular values."""

    @staticmethod
    def of(x: Float[Tensor, "n source"]) -> "Factor":
        """Decompose source states.

        Centring leaves the constant vector with eigenvalue zero, which ruins the
        leave-one-out error at small strengths: it is moved away and dropped.
        """
        n, width = x.shape
        centred = x.double() - x.double().mean(0)
        if n <= width:
            g = gram(centred)
            away = g.diagonal().sum() / n
            squares, q = torch.linalg.eigh(g + away, UPLO="L")
            constant = q.sum(0).abs().argmax()
            keep = torch.arange(n, device=x.device) != constant
            squares, q = squares[keep], q[:, keep]
            q = q - q.mean(0)
        else:
            squares, v = torch.linalg.eigh(centred.mT @ centred)
            q = (centred @ v) / squares.clamp_min(1e-300).sqrt()
        keep = squares > _CUT * squares.max()
        return Factor(centred, q[:, keep].contiguous(), squares[keep])

    @property
    def grid(self) -> Float[Tensor, " grid"]:
        """Strengths tried: `RIDGE_GRID` times the mean squared singular value."""
        return (RIDGE_GRID * self.squares.mean().cpu()).to(self.q.device)

    def choose(self, y: Float[Tensor, "n target"], by: str = "leave-one-out") -> Choice:
        """The ridge strength for one target layer, from the grid.

        Leave-one-out: the grid is scanned on random projections of the target, which
        keep the shape of the curve; from the best point on, exact errors lead to the
        nearest minimum of the exact curve. Generalised cross-validation replaces every
        leverage by their mean: several times cheaper, and an approximation.

        Args:
            y: target states of the same texts.
            by: "leave-one-out" or "generalised".

        Raises:
            ValueError: for another criterion.
        """
        if by not in CRITERIA:
            raise ValueError(f"unknown criterion {by!r}; choose one of {CRITERIA}")
        fit = _Target.of(self, y)
        if by == "generalised":
            errors = fit.generalised(self.grid)
            best = int(errors.argmin())
            tried = dict(zip(self.grid.tolist(), errors.tolist(), strict=True))
            return Choice(float(self.grid[best]), float(errors[best]), tried)
        place = int(fit.sketched(self.grid).argmin())
        exact: dict[int, float] = {}

        def error(i: int) -> float:
            if i not in exact:
                exact[i] = float(fit.leave_one_out(self.grid[i : i + 1])[0])
            return exact[i]

        while True:
            near = [i for i in (place - 1, place, place + 1) if 0 <= i < len(self.grid)]
            best = min(near, key=error)
            if best == place:
                break
            place = best
        tried = {float(self.grid[i]): value for i, value in sorted(exact.items())}
        return Choice(float(self.grid[place]), exact[place], tried)

    def leave_one_out(
        self, y: Float[Tensor, "n target"], strengths: Float[Tensor, " grid"]
    ) -> Float[Tensor, " grid"]:
        """Exact leave-one-out error for each `n lam` (H4)."""
        return _Target.of(self, y).leave_one_out(strengths)

    def directions(
        self,
        v: Float[Tensor, "vectors source"],
        y: Float[Tensor, "n target"],
        strength: float,
    ) -> Float[Tensor, "vectors target"]:
        """Directions moved by ridge of strength `n lam` (H1), without the map."""
        inner = (v.double() @ self.x.mT) @ self.q
        a = (inner / (self.squares + strength)) @ self.q.mT
        return (a @ y.double()).float()  # rows of `a` sum to zero: Y needs no centring


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """What one target layer has to do with a factor."""

    factor: Factor
    width: int
    q: Tensor
    """In the precision of the products."""
    z: Tensor
    """`Q^T Y`."""
    rest: Tensor | None
    """What Q does not reach of Y; None where it reaches everything."""

    @staticmethod
    def of(factor: Factor, y: Tensor) -> "_Target":
        centred = y - y.double().mean(0).to(y.dtype)
        q = factor.q.to(y.dtype)
        z = q.mT @ centred
        whole = q.shape[1] >= len(y) - 1
        return _Target(factor, y.shape[1], q, z, None if whole else centred - q @ z)

    def _shrunk(self, strength: Tensor) -> tuple[Tensor, Tensor]:
        """`D` in the precision of the products, and `1 - h_ii` of every text."""
        gain = self.factor.squares / (self.factor.squares + strength)
        leverage = 1 / len(self.q) + (self.factor.q**2) @ gain
        free = (1 - leverage).clamp_min(1e-12)
        return (strength / (self.factor.squares + strength)).to(self.q.dtype), free

    def leave_one_out(self, strengths: Tensor) -> Tensor:
        """Mean squared error over texts and coordinates, exact."""
        s = self.z @ self.z.mT
        cross = None if self.rest is None else self.rest @ self.z.mT
        outside = 0.0 if self.rest is None else self.rest.double().pow(2).sum(1)
        errors = []
        for strength in strengths:
            shrink, free = self._shrunk(strength)
            qd = self.q * shrink
            lengths = ((qd @ s) * qd).double().sum(1) + outside
            if cross is not None:
                lengths = lengths + 2 * (qd * cross).double().sum(1)
            errors.append((lengths / free**2).sum() / (len(self.q) * self.width))
        return torch.stack(errors)

    def sketched(self, strengths: Tensor) -> Tensor:
        """The same on random projections of the target: an estimate of the curve."""
        drawn = torch.randn(self.width, SKETCH, generator=generator(0))
        drawn = drawn.to(self.q.device, self.q.dtype) / SKETCH**0.5
        z = self.z @ drawn
        rest = 0.0 if self.rest is None else self.rest @ drawn
        errors = []
        for strength in strengths:
            shrink, free = self._shrunk(strength)
            residual = (self.q * shrink) @ z + rest
            lengths = residual.double().pow(2).sum(1)
            errors.append((lengths / free**2).sum() / (len(self.q) * self.width))
        return torch.stack(errors)

    def generalised(self, strengths: Tensor) -> Tensor:
        """Generalised cross-validation: the mean leverage stands for each."""
        energy = self.z.double().pow(2).sum(1)
        outside = 0.0 if self.rest is None else self.rest.double().pow(2).sum()
        squares, n = self.factor.squares, len(self.q)
        errors = []
        for strength in strengths:
            shrink = strength / (squares + strength)
            free = 1 - (1 + (squares / (squares + strength)).sum()) / n
            total = (shrink**2 * energy).sum() + outside
            errors.append(total / (n * self.width) / free.clamp_min(1e-12) ** 2)
        return torch.stack(errors)


def move_directions(
    vectors: Mapping[str, Float[Tensor, " source"]],
    source: HiddenStates,
    target: HiddenStates,
    *,
    source_layer: int,
    target_layers: Iterable[int],
    by: str = "leave-one-out",
) -> dict[int, tuple[Choice, dict[str, Float[Tensor, " target"]]]]:
    """Move several directions to several target layers, each by its own best ridge.

    The source is factorised once. The numbers are those of a map fitted on all texts
    (`fit_linear_map(..., holdout=0)`) for each pair of layers.

    Args:
        vectors: directions of the source at `source_layer`, by name.
        source: states of some texts in the source model.
        target: states of the same texts in the target model.
        source_layer: block to map from.
        target_layers: blocks to map to.
        by: how the ridge strength is chosen, see `Factor.choose`.

    Returns:
        For each target layer, the ridge that was chosen and the moved directions.

    Raises:
        ValueError: when the rows do not pair up.
    """
    if len(source) != len(target):
        raise ValueError(
            f"{len(source)} source rows but {len(target)} target rows; collect both "
            "models on the same texts, in the same order"
        )
    factor = Factor.of(source.at(source_layer))
    stacked = torch.stack(list(vectors.values()))
    found = {}
    for layer in target_layers:
        y = target.at(layer)
        choice = factor.choose(y, by)
        moved = factor.directions(stacked, y, choice.strength)
        found[layer] = (choice, dict(zip(vectors, moved, strict=True)))
    return found
