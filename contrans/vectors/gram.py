"""The paper's map for a few directions, without ever forming it.

With fewer texts than the source is wide, `v X^+ Y` (A3, A4) is `a Y` with
`X X^T a = X v`: one Gram matrix, which `solver` also needs for many maps at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

COLUMNS = 512
"""Columns multiplied in float64 at a time."""
_SOLVED = 1e-9
"""Relative residual up to which a Cholesky solution is taken."""
_INDEPENDENT = 1e-9
"""Smallest over largest squared pivot from which texts count as independent: below, the
residual stays small whatever the part that it cannot see."""


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


def gram(x: Float[Tensor, "n width"]) -> Float[Tensor, "n n"]:
    """`X X^T` in float64; on a CPU only the lower triangle holds it, in half the time."""
    wide = x.double()
    return wide @ wide.mT if wide.device.type != "cpu" else lower_products(wide)


def _gram_times(g: Float[Tensor, "n n"], a: Tensor) -> Tensor:
    """What `gram` made, times some columns."""
    if g.device.type != "cpu":
        return g @ a
    return g @ a + g.mT @ a - g.diagonal()[:, None] * a


def _cholesky(
    g: Float[Tensor, "n n"],
) -> tuple[Float[Tensor, " n"], Callable[[Tensor], Tensor]]:
    """The pivots of what `gram` made, all zero if it is singular, and what solves with it."""
    if g.device.type != "cpu":
        factor, failed = torch.linalg.cholesky_ex(g)
        pivots = factor.diagonal() * (1 - failed)
        return pivots, lambda right: torch.cholesky_solve(right, factor)
    from scipy.linalg import get_lapack_funcs

    factorise, solve = get_lapack_funcs(("potrf", "potrs"), dtype=np.float64)
    upper, failed = factorise(g.numpy().T, clean=False)  # half of torch's time
    pivots = torch.from_numpy(upper.diagonal().copy()) * (not failed)
    return pivots, lambda right: torch.from_numpy(solve(upper, right.numpy())[0])


def lower_products(z: Float[Tensor, "rows n"]) -> Float[Tensor, "rows rows"]:
    """The lower triangle of `Z Z^T`, by BLAS on a CPU; zeros above it."""
    from scipy.linalg import blas

    name = "dsyrk" if z.dtype == torch.float64 else "ssyrk"
    upper = getattr(blas, name)(1.0, z.contiguous().numpy().T, trans=1)
    return torch.from_numpy(upper.T)


def times(
    a: Float[Tensor, "vectors n"], y: Float[Tensor, "n target"]
) -> Float[Tensor, "vectors target"]:
    """`a Y` in float64, some columns at a time so that they stay in the cache."""
    parts = [(a @ part.double()).float() for part in y.split(COLUMNS, dim=1)]
    return torch.cat(parts, dim=1)


def minimum_norm(
    v: Float[Tensor, "vectors source"],
    x: Float[Tensor, "n source"],
    y: Float[Tensor, "n target"],
) -> Float[Tensor, "vectors target"]:
    """Move directions by the paper's map (A3, A4) without ever forming it.

    With fewer texts than the source is wide, `v X^+ Y` is `a Y` with `X X^T a = X v`: a
    Gram matrix, its Cholesky factor in float64 and one step of refinement. Where that
    is not accurate enough (texts that occur twice, or more texts than the width), the
    singular value decomposition is used.

    Args:
        v: directions of the source.
        x: states of some texts in the source model.
        y: states of the same texts in the target model.
    """
    x = x.double()
    if len(x) <= x.shape[1]:
        right, g = x @ v.double().mT, gram(x)
        pivots, solve = _cholesky(g)
        if bool(pivots.min() ** 2 > _INDEPENDENT * pivots.max() ** 2):
            a = solve(right)
            a += solve(right - _gram_times(g, a))
            miss = (right - _gram_times(g, a)).norm(dim=0)
            miss /= right.norm(dim=0).clamp_min(1e-300)
            if bool((miss < _SOLVED).all()) and bool(torch.isfinite(a).all()):
                return times(a.mT, y)
    spectrum = Spectrum.of(x)
    a = spectrum.u @ ((spectrum.v.mT @ v.double().mT) / spectrum.s[:, None])
    return times(a.mT, y)
