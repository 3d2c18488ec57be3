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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from contrans.core.seeds import generator
from contrans.core.types import HiddenStates
from contrans.vectors.gram import Spectrum, gram, lower_products, times
from contrans.vectors.sinks import sinks

RIDGE_GRID = torch.logspace(-8, 2, 41, dtype=torch.float64)
"""Ridge strengths tried, as multiples of the mean squared singular value."""
CRITERIA = ("leave-one-out", "generalised")
SCAN, SKETCH = 64, 256
"""Random directions of the target that stand for all of them: to scan a grid for the
neighbourhood of the best strength, and for generalised cross-validation."""
_CUT = 1e-12
"""Eigenvalues of a Gram matrix below this share of the largest are rounding."""


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
class Solved:
    """A regression on one target: what a map is made of."""

    right: Float[Tensor, "rank target"]
    """`diag(gain / s) Q^T Y`, float64: `F = V right`."""
    error: float
    """Exact leave-one-out mean squared error per coordinate (H4)."""


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """The source states of one layer, decomposed once: `X = Q diag(s) V^T`."""

    x: Float[Tensor, "n source"]
    """Centred states, float64."""
    q: Float[Tensor, "n rank"]
    """Orthonormal, float64."""
    squares: Float[Tensor, " rank"]
    """Squared singular values."""
    known: Float[Tensor, "source rank"] | None
    """V, where the decomposition gave it."""

    @staticmethod
    def of(
        x: Float[Tensor, "n source"], *, exact: bool = False, centre: bool = True
    ) -> "Factor":
        """Decompose source states.

        Centring leaves the constant vector with eigenvalue zero, which ruins the
        leave-one-out error at small strengths: it is moved away and dropped.

        Args:
            x: one row per text.
            exact: decompose X itself, which costs several times more. The Gram matrix
                squares the condition number: singular values below 1e-6 of the largest
                are lost, which a ridge shrinks away but a pseudo-inverse needs.
            centre: take the mean off first.
        """
        n, width = x.shape
        x = x.double()
        centred = x - x.mean(0) if centre else x
        if exact:
            spectrum = Spectrum.of(centred)
            return Factor(centred, spectrum.u, spectrum.s**2, spectrum.v)
        v = None
        if n <= width:
            g = gram(centred)
            away = 2 * g.diagonal().sum() / n  # above every other eigenvalue
            squares, q = torch.linalg.eigh(g + away, UPLO="L")
            constant = q.sum(0).abs().argmax()
            keep = torch.arange(n, device=x.device) != constant
            squares, q = squares[keep], q[:, keep]
            q = q - q.mean(0)
        else:
            squares, v = torch.linalg.eigh(centred.mT @ centred)
            q = (centred @ v) / squares.clamp_min(1e-300).sqrt()
        keep = squares > _CUT * squares.max()
        q, v = q[:, keep].contiguous(), None if v is None else v[:, keep]
        return Factor(centred, q, squares[keep], v)

    @property
    def s(self) -> Float[Tensor, " rank"]:
        """Singular values."""
        return self.squares.sqrt()

    def right_vectors(self) -> Float[Tensor, "source rank"]:
        """V: orthonormal directions of the source."""
        return self.x.mT @ (self.q / self.s) if self.known is None else self.known

    @property
    def unit(self) -> float:
        """The mean squared singular value, over all that states of this shape can have."""
        n, width = self.x.shape
        return float(self.squares.sum()) / min(n - 1, width)

    @property
    def grid(self) -> Float[Tensor, " grid"]:
        """Strengths tried: `RIDGE_GRID` times the mean squared singular value."""
        return (RIDGE_GRID * self.unit).to(self.q.device)

    def gain(self, strength: float) -> Float[Tensor, " rank"]:
        """What ridge of strength `n lam` leaves of each component (H3)."""
        return self.squares / (self.squares + strength)

    def solve(
        self, y: Float[Tensor, "n target"], gain: Float[Tensor, " rank"]
    ) -> Solved:
        """The map to one target layer, and its leave-one-out error, in float64."""
        y = y.double()
        y = y - y.mean(0)
        z = gain[:, None] * (self.q.mT @ y)
        free = 1 - 1 / len(y) - self.q**2 @ gain
        residual = (y - self.q @ z) / free.clamp_min(1e-12)[:, None]
        return Solved(z / self.s[:, None], float(residual.pow(2).mean()))

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
        fit, grid = _Target.of(self, y), self.grid
        if by == "generalised":
            errors = fit.generalised(grid)
            best = int(errors.argmin())
            tried = dict(zip(grid.tolist(), errors.tolist(), strict=True))
            return Choice(float(grid[best]), float(errors[best]), tried)
        errors, place = fit.exactly(), int(fit.sketched(grid).argmin())
        exact: dict[int, float] = {}
        while True:
            near = [i for i in (place - 1, place, place + 1) if 0 <= i < len(grid)]
            new = [i for i in near if i not in exact]
            if new:  # none when the walk has reached the end of the grid
                exact |= dict(zip(new, errors(grid[new]).tolist(), strict=True))
            best = min(near, key=exact.__getitem__)
            if best == place:
                break
            place = best
        tried = {float(grid[i]): value for i, value in sorted(exact.items())}
        return Choice(float(grid[place]), exact[place], tried)

    def leave_one_out(
        self, y: Float[Tensor, "n target"], strengths: Float[Tensor, " grid"]
    ) -> Float[Tensor, " grid"]:
        """Exact leave-one-out error for each `n lam` (H4)."""
        return _Target.of(self, y).exactly()(strengths)

    def directions(
        self,
        v: Float[Tensor, "vectors source"],
        y: Float[Tensor, "n target"],
        strength: float,
    ) -> Float[Tensor, "vectors target"]:
        """Directions moved by ridge of strength `n lam` (H1), without the map.

        Args:
            v: directions in the source.
            y: centred states of the target.
            strength: of the ridge, n times lambda.
        """
        inner = (v.double() @ self.x.mT) @ self.q
        a = (inner / (self.squares + strength)) @ self.q.mT
        return times(a, y)  # rows of `a` sum to zero: Y needs no centring


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """What one target layer has to do with a factor."""

    factor: Factor
    y: Float[Tensor, "n target"]
    """Centred, in the precision of the products."""
    q: Float[Tensor, "n rank"]
    """In that precision, too."""

    @staticmethod
    def of(factor: Factor, y: Tensor) -> "_Target":
        centred = y - y.mean(0, dtype=torch.float64).to(y.dtype)
        return _Target(factor, centred, factor.q.to(y.dtype))

    @property
    def _reached(self) -> bool:
        """Whether Q reaches everything, so that nothing of Y is left outside."""
        return self.q.shape[1] >= len(self.q) - 1

    def _free(self, strengths: Tensor) -> Tensor:
        """`1 - h_ii` of every text (column) for each strength (row)."""
        squares = self.factor.squares
        gains = squares / (squares + strengths[:, None])
        leverage = 1 / len(self.q) + gains @ self.factor.q.mT**2
        return (1 - leverage).clamp_min(1e-12)

    def _shrinks(self, strengths: Tensor) -> Tensor:
        """`D` for each strength, in the precision of the products."""
        squares = self.factor.squares
        return (strengths[:, None] / (squares + strengths[:, None])).to(self.q.dtype)

    def _mean(self, lengths: Tensor, free: Tensor) -> Tensor:
        return (lengths / free**2).sum(-1) / self.y.numel()

    def exactly(self) -> Callable[[Tensor], Tensor]:
        """The exact leave-one-out error as a function of strengths (H4)."""
        z = self.q.mT @ self.y
        s, outside, cross = _products(z), 0.0, None
        if not self._reached:
            rest = self.y - self.q @ z
            outside, cross = rest.pow(2).sum(1, dtype=torch.float64), rest @ z.mT

        def errors(strengths: Tensor) -> Tensor:
            found = []
            free, shrinks = self._free(strengths), self._shrinks(strengths)
            for here, shrink in zip(free, shrinks, strict=True):
                qd = self.q * shrink
                lengths = ((qd @ s) * qd).sum(1, dtype=torch.float64) + outside
                if cross is not None:
                    lengths = lengths + 2 * (qd * cross).sum(1, dtype=torch.float64)
                found.append(self._mean(lengths, here))
            return torch.stack(found)

        return errors

    def _projected(self, width: int) -> Tensor:
        drawn = torch.randn(self.y.shape[1], width, generator=generator(0)) / width**0.5
        return self.y @ drawn.to(self.y.device, self.y.dtype)

    def sketched(self, strengths: Tensor) -> Tensor:
        """That error on random projections of the target: an estimate of the curve."""
        y = self._projected(SCAN)
        z = self.q.mT @ y
        shrunk = self._shrinks(strengths)[..., None] * z
        residual = self.q @ shrunk.movedim(0, 1).flatten(1)
        residual = residual.unflatten(1, (len(strengths), SCAN))
        if not self._reached:
            residual = residual + (y - self.q @ z)[:, None]
        lengths = residual.pow(2).sum(2, dtype=torch.float64).mT
        return self._mean(lengths, self._free(strengths))

    def generalised(self, strengths: Tensor) -> Tensor:
        """Generalised cross-validation: the mean leverage stands for each.

        The energies of the components come from random projections, too.
        """
        y = self._projected(SKETCH)
        energy = (self.q.mT @ y).pow(2).sum(1, dtype=torch.float64)
        whole = y.pow(2).sum(dtype=torch.float64)
        outside = 0.0 if self._reached else (whole - energy.sum()).clamp_min(0)
        squares, n = self.factor.squares, len(self.q)
        gains = squares / (squares + strengths[:, None])
        total = ((1 - gains) ** 2 @ energy) + outside
        free = 1 - (1 + gains.sum(1)) / n
        return total / self.y.numel() / free.clamp_min(1e-12) ** 2


def _products(z: Float[Tensor, "rank target"]) -> Float[Tensor, "rank rank"]:
    """`Z Z^T`, by half of the products where BLAS knows how."""
    if z.device.type != "cpu":
        return z @ z.mT
    lower = lower_products(z)
    return lower + lower.tril(-1).mT


def check_paired(source: HiddenStates, target: HiddenStates) -> int:
    """How many texts both hold.

    Raises:
        ValueError: when the rows do not pair up.
    """
    if len(source) != len(target):
        raise ValueError(
            f"{len(source)} source rows but {len(target)} target rows; collect both "
            "models on the same texts, in the same order"
        )
    return len(source)


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

    The source is factorised once, or once more for each other set of attention sinks
    that a target layer has. The numbers are those of a map fitted on all texts
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
    check_paired(source, target)
    x, odd = source.at(source_layer), sinks(source, source_layer)
    stacked = torch.stack(list(vectors.values()))
    found, factors = {}, dict[bytes, Factor]()
    for layer in target_layers:
        kept = ~(odd | sinks(target, layer))
        key = kept.cpu().numpy().tobytes()
        if key not in factors:
            factors[key] = Factor.of(x[kept])
        factor, y = factors[key], target.at(layer)[kept]
        choice = factor.choose(y, by)
        moved = factor.directions(stacked, y, choice.strength)
        found[layer] = (choice, dict(zip(vectors, moved, strict=True)))
    return found
