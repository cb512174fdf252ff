"""Largest eigenvalues of weighted second moments of features, streamed over rows and batched over classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch

DIRECT = 128  # eigenproblems up to this size are solved whole: there Lanczos gains nothing (measured)
LANCZOS_STEPS = 300
LANCZOS_TOLERANCE = 1e-10  # bound on the eigenvalue's relative error at which Lanczos stops
_CHECK_EVERY = 5  # Lanczos steps between tests of convergence, each of which waits for the device
_BASIS = 2**25  # float64 entries of a Lanczos basis or of stacked (m, m) matrices held at once
_ENTRIES = {"cpu": 2**18}  # float64 entries a chunk of rows may take; on a CPU it should stay in the cache
_ENTRIES_DEVICE = 2**24
_ROWS = 64  # rows of a chunk at least: fewer would read the weights more often than they are worth

Curvature = Callable[[torch.Tensor], torch.Tensor]
Chunks = Iterable[tuple[torch.Tensor, torch.Tensor]]


class Top(NamedTuple):
    """(k,) float64 largest eigenvalues, and how far each may lie below the exact one."""

    values: torch.Tensor
    errors: torch.Tensor


def top_eigenvalues(chunks: Chunks, curvature: Curvature) -> Top:
    """Largest eigenvalue of H_s = mean_i c_is phi_i phi_i^T for each of k classes, never formed for large m.

    Whole eigenproblems where min(n, m) <= 128, of the (m, m) moments or of an (n, n) matrix with the same non-zero
    spectrum; beyond that Lanczos with full reorthogonalisation on all classes at once. The curvatures may be negative.

    Args:
        chunks: Features (rows, m), the phi_i, and (rows, ...) what the curvature depends on; read once a Lanczos step.
        curvature: The latter to c (rows, k), float64.

    Returns:
        Eigenvalues; 0 where H_s is singular and has no positive one.
    """
    few: list[tuple[torch.Tensor, torch.Tensor]] = []
    n = m = k = 0
    for phi, outputs in chunks:
        if n <= DIRECT:
            few.append((phi, outputs))
        n, m = n + len(phi), phi.shape[1]
        k = k or curvature(outputs[:1]).shape[1]
    if n <= min(m, DIRECT):
        return _top_by_rows(torch.cat([phi for phi, _ in few]), torch.cat([curvature(z) for _, z in few]))
    del few
    size, solve = (m, _top_by_moment) if m <= DIRECT else (LANCZOS_STEPS, _top_by_lanczos)
    blocks = torch.arange(k).split(max(1, _BASIS // (size * m)))
    parts = [solve(chunks, _columns(curvature, block), len(block), n, m) for block in blocks]
    return Top(torch.cat([top.values for top in parts]), torch.cat([top.errors for top in parts]))


def _top_by_rows(features: torch.Tensor, curvature: torch.Tensor) -> Top:
    """For n <= m: with Phi^T = Q R the non-zero spectrum of Phi^T C Phi / n is that of R C R^T / n, (n, n) a class."""
    n, m = features.shape
    r = torch.linalg.qr(features.double().mT, mode="r").R
    parts = curvature.mT.split(max(1, _BASIS // (n * n)))
    top = torch.cat([_largest((r * part[:, None, :]) @ r.mT / n) for part in parts])
    top = top.clamp_min(0.0) if n < m else top
    return Top(top, torch.zeros_like(top))


def _top_by_moment(chunks: Chunks, curvature: Curvature, classes: int, n: int, m: int) -> Top:
    """Small m: the (m, m) moment of each class, rows streamed."""
    moment: torch.Tensor | None = None
    for phi, c in _cut(chunks, curvature, classes * m):
        part = (phi.mT * c.mT[:, None, :]) @ phi
        moment = part if moment is None else moment.add_(part)
    assert moment is not None
    top = _largest(moment / n)
    return Top(top, torch.zeros_like(top))


def _largest(matrices: torch.Tensor) -> torch.Tensor:
    values: torch.Tensor = torch.linalg.eigvalsh(matrices)
    return values[:, -1]


def _top_by_lanczos(chunks: Chunks, curvature: Curvature, classes: int, n: int, m: int) -> Top:
    """Large m: Lanczos on all classes at once, each with its own basis; rows streamed at every step."""

    def apply(v: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(v)
        for phi, c in _cut(chunks, curvature, classes):
            out += (phi @ v.mT * c).mT @ phi
        return out / n

    device = next(iter(chunks))[0].device
    start = torch.randn(classes, m, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    top = _lanczos(apply, start.to(device), steps=min(m, n + 1, LANCZOS_STEPS))
    return Top(top.values.clamp_min(0.0), top.errors) if n < m else top


def _lanczos(apply: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, *, steps: int) -> Top:
    """Largest eigenvalues of k symmetric operators, with residual bounds; `apply` on (k, m)."""
    k, m = start.shape
    basis = start.new_zeros(k, steps, m)
    tridiagonal = start.new_zeros(k, steps, steps)
    q = start / start.norm(dim=1, keepdim=True)
    top = error = scale = start.new_zeros(k)
    for j in range(steps):
        basis[:, j] = q
        r = apply(q)
        tridiagonal[:, j, j] = alpha = torch.linalg.vecdot(q, r)
        scale = torch.maximum(scale, alpha.abs())
        for _ in range(2):  # twice is enough (Kahan): the basis stays orthogonal to rounding
            known = basis[:, : j + 1]
            r = r - ((known @ r[:, :, None]).mT @ known)[:, 0]
        beta = r.norm(dim=1)
        if j % _CHECK_EVERY == _CHECK_EVERY - 1 or j + 1 == steps:
            values, vectors = torch.linalg.eigh(tridiagonal[:, : j + 1, : j + 1])
            top, residual = values[:, -1], beta * vectors[:, -1, -1].abs()
            gap = top - values[:, -2] - residual if j else top - top
            error = torch.where(gap > residual, residual.square() / gap.clamp_min(1e-300), residual)
            if j + 1 == steps or bool((error <= LANCZOS_TOLERANCE * top.abs()).all()):
                break
        beta = torch.where(beta > 1e-14 * scale, beta, 0.0)  # an invariant subspace: this class has its answer
        q = torch.where(beta[:, None] > 0, r / beta[:, None].clamp_min(1e-300), 0.0)
        tridiagonal[:, j, j + 1] = tridiagonal[:, j + 1, j] = beta
    return Top(top, error)


def _cut(chunks: Chunks, curvature: Curvature, width: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Float64 features and curvatures, as many rows at a time as fit the cache."""
    for features, outputs in chunks:
        rows = chunk_rows_for(features, None, max(width, outputs[0].numel()))
        for phi, z in zip(features.split(rows), outputs.split(rows), strict=True):
            yield phi.double(), curvature(z)


def chunk_rows_for(features: torch.Tensor, chunk_rows: int | None, classes: int = 1) -> int:
    entries = _ENTRIES.get(features.device.type, _ENTRIES_DEVICE)
    return chunk_rows or max(_ROWS, entries // max(features.shape[1], classes))


def _columns(curvature: Curvature, block: torch.Tensor) -> Curvature:
    return lambda outputs: curvature(outputs)[:, block]
