"""Largest eigenvalues of weighted second moments of features, streamed over rows and batched over classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

DIRECT = 128  # eigenproblems up to this size are solved whole: there Lanczos gains nothing (measured)
LANCZOS_STEPS = 300
LANCZOS_TOLERANCE = 1e-10  # bound on the eigenvalue's relative error at which Lanczos stops
_CHECK_EVERY = 5  # Lanczos steps between tests of convergence, each of which waits for the device
_BASIS = 2**25  # float64 entries of a Lanczos basis or of stacked (m, m) matrices held at once
_ENTRIES = {"cpu": 2**18}  # float64 entries a chunk of rows may take; on a CPU it should stay in the cache
_ENTRIES_DEVICE = 2**24

Curvature = Callable[[torch.Tensor], torch.Tensor]


def top_eigenvalues(
    features: torch.Tensor, outputs: torch.Tensor, curvature: Curvature
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest eigenvalue of mean_i c_is phi_i phi_i^T for each of k classes, the matrix never formed for large m.

    Whole eigenproblems up to size 128, of the (m, m) moments or of the (n, n) Gram matrix with the same spectrum;
    beyond that Lanczos with full reorthogonalisation on all classes at once.

    Args:
        features: (n, m), the phi_i.
        outputs: (n, k), what the curvature depends on.
        curvature: outputs (rows, k) to c (rows, k) >= 0.

    Returns:
        (k,) float64 eigenvalues and (k,) bounds on how far each may lie below the exact one.
    """
    n, m = features.shape
    if n <= min(m, DIRECT):
        return _top_by_gram(features, curvature(outputs))
    size, solve = (m, _top_by_moment) if m <= DIRECT else (LANCZOS_STEPS, _top_by_lanczos)
    blocks = torch.arange(outputs.shape[1], device=features.device).split(max(1, _BASIS // (size * m)))
    parts = [solve(features, outputs, _columns(curvature, block), len(block)) for block in blocks]
    return torch.cat([top for top, _ in parts]), torch.cat([error for _, error in parts])


def _top_by_gram(features: torch.Tensor, curvature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For n <= m: the spectrum of sqrt(c_i c_j) <phi_i, phi_j> / n, (n, n) a class."""
    phi, root = features.double(), curvature.sqrt().mT
    gram = phi @ phi.mT / len(phi)
    parts = root.split(max(1, _BASIS // gram.numel()))
    top = torch.cat([_largest(part[:, :, None] * gram * part[:, None, :]) for part in parts])
    return top, torch.zeros_like(top)


def _top_by_moment(
    features: torch.Tensor, outputs: torch.Tensor, curvature: Curvature, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Small m: the (m, m) moment of each class, rows streamed."""
    m = features.shape[1]
    moment = torch.zeros(classes, m, m, dtype=torch.float64, device=features.device)
    for phi, c in _chunks(features, outputs, curvature, classes * m):
        moment += (phi.mT * c.mT[:, None, :]) @ phi
    top = _largest(moment / len(features))
    return top, torch.zeros_like(top)


def _largest(matrices: torch.Tensor) -> torch.Tensor:
    values: torch.Tensor = torch.linalg.eigvalsh(matrices)
    return values[:, -1].clamp_min(0.0)


def _top_by_lanczos(
    features: torch.Tensor, outputs: torch.Tensor, curvature: Curvature, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Large m: Lanczos on all classes at once, each with its own basis; rows streamed at every step."""
    n, m = features.shape

    def apply(v: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(v)
        for phi, c in _chunks(features, outputs, curvature, classes):
            out += (phi @ v.mT * c).mT @ phi
        return out / n

    start = torch.randn(classes, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return _lanczos(apply, start.to(features.device), steps=min(m, n + 1, LANCZOS_STEPS))


def _lanczos(
    apply: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, *, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(k,) largest eigenvalues of k positive semidefinite operators and (k,) residual bounds; `apply` on (k, m)."""
    k, m = start.shape
    basis = start.new_zeros(k, steps, m)
    tridiagonal = start.new_zeros(k, steps, steps)
    q = start / start.norm(dim=1, keepdim=True)
    top = error = scale = start.new_zeros(k)
    for j in range(steps):
        basis[:, j] = q
        r = apply(q)
        tridiagonal[:, j, j] = alpha = torch.linalg.vecdot(q, r)
        scale = torch.maximum(scale, alpha)
        for _ in range(2):  # twice is enough (Kahan): the basis stays orthogonal to rounding
            known = basis[:, : j + 1]
            r = r - ((known @ r[:, :, None]).mT @ known)[:, 0]
        beta = r.norm(dim=1)
        if j % _CHECK_EVERY == _CHECK_EVERY - 1 or j + 1 == steps:
            values, vectors = torch.linalg.eigh(tridiagonal[:, : j + 1, : j + 1])
            top, residual = values[:, -1].clamp_min(0.0), beta * vectors[:, -1, -1].abs()
            gap = top - values[:, -2] - residual if j else top - top
            error = torch.where(gap > residual, residual.square() / gap.clamp_min(1e-300), residual)
            if j + 1 == steps or bool((error <= LANCZOS_TOLERANCE * top).all()):
                break
        beta = torch.where(beta > 1e-14 * scale, beta, 0.0)  # an invariant subspace: this class has its answer
        q = torch.where(beta[:, None] > 0, r / beta[:, None].clamp_min(1e-300), 0.0)
        tridiagonal[:, j, j + 1] = tridiagonal[:, j + 1, j] = beta
    return top, error


def _chunks(
    features: torch.Tensor, outputs: torch.Tensor, curvature: Curvature, width: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Float64 features and curvatures, some rows at a time."""
    rows = chunk_rows_for(features, None, max(width, outputs.shape[1]))
    for phi, z in zip(features.split(rows), outputs.split(rows), strict=True):
        yield phi.double(), curvature(z)


def chunk_rows_for(features: torch.Tensor, chunk_rows: int | None, classes: int = 1) -> int:
    entries = _ENTRIES.get(features.device.type, _ENTRIES_DEVICE)
    return chunk_rows or max(1, entries // max(features.shape[1], classes))


def _columns(curvature: Curvature, block: torch.Tensor) -> Curvature:
    return lambda outputs: curvature(outputs)[:, block]
