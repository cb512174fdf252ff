"""Lanczos 1950 with full reorthogonalisation: outer eigenvalues and spectral density of a symmetric matrix by products.

Density: stochastic Lanczos quadrature (Ghorbani, Krishnan, Xiao 2019, arXiv 1901.10159, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

Products = Callable[[torch.Tensor], torch.Tensor]


class Krylov(NamedTuple):
    """What Lanczos found from k starts in at most s steps.

    Attributes:
        diagonal: (k, s) float64, the alphas.
        off: (k, s) float64, the betas; off[:, j] couples steps j and j + 1.
        steps: (k,) steps after which the space was exhausted, or s.
        basis: (k, s, P) orthonormal rows, zero after `steps`.
    """

    diagonal: torch.Tensor
    off: torch.Tensor
    steps: tuple[int, ...]
    basis: torch.Tensor


def lanczos(apply: Products, start: torch.Tensor, steps: int, *, tolerance: float = 0.0) -> Krylov:
    """Lanczos with full reorthogonalisation on a symmetric operator, from several starts at once.

    Args:
        apply: (k, P) to (k, P), symmetric; may be indefinite.
        start: (k, P), none zero.
        steps: Most steps.
        tolerance: Stops once every start's largest Ritz value has a residual of at most this share of it.

    Returns:
        Tridiagonal matrices and bases.
    """
    k, size = start.shape
    steps = min(steps, size)
    basis = start.new_zeros(k, steps, size)
    diagonal, off = torch.zeros(2, k, steps, dtype=torch.float64, device=start.device)
    q = start / start.norm(dim=1, keepdim=True)
    scale = diagonal.new_zeros(k)
    tiny = 10 * torch.finfo(start.dtype).eps
    found = Krylov(diagonal, off, (0,) * k, basis)
    for j in range(steps):
        basis[:, j] = q
        r = apply(q)
        diagonal[:, j] = torch.linalg.vecdot(q.double(), r.double())
        known = basis[:, : j + 1]
        for _ in range(2):  # twice is enough (Kahan): the basis stays orthogonal to rounding
            r = r - ((known @ r[:, :, None]).mT @ known)[:, 0]
        beta = r.norm(dim=1).double()
        scale = torch.maximum(scale, diagonal[:, j].abs() + beta)
        off[:, j] = beta = torch.where(beta > tiny * scale, beta, 0.0)
        alive = ((off[:, :j] > 0).cumprod(dim=1).sum(dim=1) + 1).tolist()
        found = Krylov(diagonal[:, : j + 1], off[:, : j + 1], tuple(alive), known)
        if not bool(beta.any()) or (tolerance and _converged(found, tolerance)):
            break
        q = torch.where(beta[:, None] > 0, r / beta[:, None].clamp_min(1e-300), 0.0).to(start)
    return found


def _converged(krylov: Krylov, tolerance: float) -> bool:
    tops = (top_ritz(krylov, start) for start in range(len(krylov.steps)))
    return all(residual <= tolerance * abs(value) for value, residual in tops)


def top_ritz(krylov: Krylov, start: int) -> tuple[float, float]:
    """Largest Ritz value of one start, never above the largest eigenvalue, and its residual: one lies within it."""
    values, vectors = ritz(krylov, start)
    return float(values[-1]), float(krylov.off[start, len(values) - 1] * vectors[-1, -1].abs())


def ritz(krylov: Krylov, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ritz values (j,) ascending of one start and their vectors (j, j) in its basis, one a column."""
    steps = krylov.steps[start]
    off = krylov.off[start, : steps - 1]
    found: tuple[torch.Tensor, torch.Tensor] = torch.linalg.eigh(
        krylov.diagonal[start, :steps].diag() + off.diag(1) + off.diag(-1)
    )
    return found


def quadrature(krylov: Krylov) -> list[tuple[np.ndarray, np.ndarray]]:
    """Nodes and weights of the Gauss quadrature of each start's spectral measure (Golub and Welsch 1969)."""
    found = (ritz(krylov, start) for start in range(len(krylov.steps)))
    return [(values.cpu().numpy(), vectors[0].square().cpu().numpy()) for values, vectors in found]


def density(
    measures: Sequence[tuple[np.ndarray, np.ndarray]], *, points: int, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of spectral measures, smoothed with a normal curve.

    Args:
        measures: Nodes and weights of each start; the weights of a start sum to 1.
        points: Points of the curve.
        width: Standard deviation of the normal curve, as a share of the range of all nodes.

    Returns:
        (points,) eigenvalues and the density at each; the curve encloses area 1 within its ends' tails.
    """
    nodes = np.concatenate([found for found, _ in measures])
    weights = np.concatenate([found for _, found in measures]) / len(measures)
    low, high = nodes.min(), nodes.max()
    sigma = width * ((high - low) or abs(high) or 1.0)
    grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
    bumps = np.exp(-(((grid[:, None] - nodes) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
    return grid, bumps @ weights
