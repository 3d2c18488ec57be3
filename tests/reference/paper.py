"""The paper's equations (A1) to (A4), transcribed one to one in numpy float64.

They are the yardstick for `method="contrans"`: nothing here is shared with the package.
"""

import numpy as np


def refine(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """(A1): v = (1 / N) sum_i (h_pos_i - h_neg_i)."""
    total = np.zeros(positive.shape[1])
    for plus, minus in zip(positive, negative, strict=True):
        total += plus.astype(np.float64) - minus.astype(np.float64)
    return total / len(positive)


def reformulate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(A3): X = U S V^T, F = V S^{-1} U^T Y; the minimum-norm solution of (A2)."""
    u, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    return vt.T @ np.diag(1 / s) @ u.T @ y.astype(np.float64)


def transplant(v: np.ndarray, f: np.ndarray) -> np.ndarray:
    """(A4): v_hat = v F."""
    return v.astype(np.float64) @ f
