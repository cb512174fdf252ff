"""Hessian of a model's mean loss in its parameters: products, trace, outer eigenvalues.

H = (1/n) sum_i d2 l(f(x_i; w), y_i) / dw dw^T, (P, P), is never formed for large P. Where the loss has kinks (ReLU,
max pooling) H is that of the smooth piece around w. Products come from double backward passes (Pearlmutter 1994):
the graph of the first backward pass is kept between products while it fits into memory, so that a product costs one
further backward pass. Rows are streamed in chunks; memory beyond the kept graphs does not grow with n. Forward mode is
not used: its second derivatives are wrong for some layers (PyTorch issues 196699, 196700, 198017).

- Trace: Hutchinson 1989 (tr H = E z^T H z for independent signs z) on what is left of H when some directions U are
  taken out exactly, tr H = tr U^T H U + tr (I - UU^T) H (I - UU^T): Hutch++ (Meyer, Musco, Musco, Woodruff 2021,
  arXiv 2010.09649, section 1.1) with the Krylov space of Lanczos as U (Hallman 2025, arXiv 2512.02316). U does not
  depend on the signs, so the draws are independent and their standard error is honest. XTrace (Epperly, Tropp, Webber
  2024, arXiv 2301.07825) reuses its draws for U: as exact for its number of products, but intervals from its standard
  error covered 87 to 96 % where 95 % were meant, against 91 to 98 % here (three stages of training, 60 products).
- Eigenvalues: Lanczos (`_lanczos.py`); residuals ||H u - theta u|| are computed, not estimated.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from scipy.special import stdtrit

from assessor.contract import progress
from assessor_checks.generalization._lanczos import Krylov, lanczos, ritz
from assessor_checks.generalization._landscape import CHUNK_BYTES, Landscape, differentiation

GROUPS = 10  # random groups of rows whose spread shows the sampling of rows
_TOGETHER = 32  # most products at once
_TOGETHER_BYTES_DEVICE = 2**31
KEPT_BYTES = 2**31  # what all kept graphs together may keep
SKEWED = 1e-2  # relative asymmetry above which second derivatives are wrong rather than rounded
_CHECKED, _DIRECTIONS = 32, 4  # rows and directions that show it
_BASIS = 2**28  # entries of directions or of Lanczos bases held at once


class Hessian:
    """The Hessian of a landscape at its weights as a linear operator on one or several directions.

    Attributes:
        parameters: P.
        dtype: Of the weights.
        shares: (G,) share of the rows in each group.
    """

    def __init__(self, landscape: Landscape, *, groups: int = 1, seed: int = 0, kept_bytes: int = KEPT_BYTES) -> None:
        """Split the rows into groups; nothing is computed yet.

        Args:
            landscape: Loss, rows and weights.
            groups: Random groups of rows, each with its own share of every product; more cost more.
            seed: Seed of the groups.
            kept_bytes: What the graphs kept between products may take; those of further chunks are built anew.
        """
        self.parameters, self.dtype = landscape.parameters, landscape.weights.dtype
        self._landscape = landscape
        self._at = landscape.weights.clone().requires_grad_(True)
        order = torch.randperm(landscape.n, generator=torch.Generator().manual_seed(seed))
        parts = order.tensor_split(min(groups, landscape.n)) if groups > 1 else (torch.arange(landscape.n),)
        device = landscape.weights.device
        self.shares = torch.tensor([len(part) / landscape.n for part in parts], dtype=torch.float64, device=device)
        rows = landscape.chunk_rows
        self._chunks = [(group, chunk.to(device)) for group, part in enumerate(parts) for chunk in _evenly(part, rows)]
        self._graphs: dict[int, torch.Tensor] = {}
        self._room = kept_bytes // landscape.row_bytes  # rows whose graphs are kept
        chunk = max(len(part) for _, part in self._chunks) * landscape.row_bytes
        budget = CHUNK_BYTES.get(device.type, _TOGETHER_BYTES_DEVICE)
        self._together = max(1, min(_TOGETHER, budget // (chunk + self._at.nbytes)))

    def __call__(self, directions: torch.Tensor) -> torch.Tensor:
        """H v for each direction: (k, P) to (k, P)."""
        return self.products(directions)[0]

    def products(self, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """H v (k, P) for directions (k, P), and the quadratic forms v^T H_g v (G, k) in float64 of every group g.

        Raises:
            NotApplicable: The model cannot be differentiated twice.
        """
        found = torch.zeros_like(directions)
        forms = torch.zeros(len(self.shares), len(directions), dtype=torch.float64, device=directions.device)
        width = self._together
        for first in range(0, len(directions), width):
            part = slice(first, first + width)
            some = directions[part]
            for index, (group, rows) in enumerate(self._chunks):
                share = len(rows) / self._landscape.n
                product = self._second(self._graph(index, rows), some)
                found[part].add_(product, alpha=share)
                forms[group, part] += share * torch.linalg.vecdot(some.double(), product.double())
        return found, forms / self.shares[:, None]

    def _graph(self, index: int, rows: torch.Tensor) -> torch.Tensor:
        """The differentiable gradient over a chunk of rows, kept while there is room."""
        if (kept := self._graphs.get(index)) is not None:
            return kept
        land = self._landscape
        slope = land.slope(self._at, land.inputs[rows], land.labels[rows])
        if len(rows) <= self._room:
            self._room -= len(rows)
            self._graphs[index] = slope
        return slope

    def _second(self, slope: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """(k, P) derivatives of <slope, v> at the weights, several at once where that is quicker."""
        if not slope.requires_grad:
            return torch.zeros_like(directions)
        if self._together > 1 and len(directions) > 1:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of kernels that are looped over instead of batched
                    return self._backward(slope, directions, batched=True)
            except RuntimeError:  # a kernel that cannot be batched
                self._together = 1
        with differentiation():
            return torch.stack([self._backward(slope, direction) for direction in directions])

    def _backward(self, slope: torch.Tensor, directions: torch.Tensor, *, batched: bool = False) -> torch.Tensor:
        with torch.enable_grad():
            (found,) = torch.autograd.grad(
                slope, self._at, directions, retain_graph=True, is_grads_batched=batched, allow_unused=True
            )
        return torch.zeros_like(directions) if found is None else found


def _evenly(rows: torch.Tensor, most: int) -> tuple[torch.Tensor, ...]:
    return rows.tensor_split(math.ceil(len(rows) / most))


class Crossed(NamedTuple):
    """A mean over rows and over random draws, with what is known of its error.

    Attributes:
        value: The mean.
        draws_error: Standard error from the random draws; 0 where there were none.
        rows_error: Standard error from the sampling of rows, from the groups' spread; None from one group.
        low: Lower end of the 95 % interval that covers both, None where neither is known.
        high: Upper end.
    """

    value: float
    draws_error: float
    rows_error: float | None
    low: float | None
    high: float | None


def crossed_mean(shares: torch.Tensor, fixed: torch.Tensor, drawn: torch.Tensor) -> Crossed:
    """Mean and t interval of what every group of rows gave in every draw; with quadratic forms the trace of H.

    The error's parts are those of a crossed design, groups by draws. Adding their squares counts the interaction
    twice, so the interval is a little too wide. Degrees of freedom after Satterthwaite 1946.

    Args:
        shares: (G,) share of the rows in each group.
        fixed: (G, a) parts that do not depend on draws, to be added up; for a trace the forms u^T H_g u in
            orthonormal directions u.
        drawn: (G, m) values of each draw; for a trace the forms z^T H_g z, z independent signs projected off all u.
            m = 0 where the u span everything.

    Returns:
        The mean.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> crossed_mean(one, torch.tensor([[2.0, 3.0]], dtype=torch.float64), torch.empty(1, 0))
    Crossed(value=5.0, draws_error=0.0, rows_error=None, low=None, high=None)
    """
    groups, draws = drawn.shape
    by_group = fixed.sum(dim=1) + (drawn.mean(dim=1) if draws else 0.0)
    value = float(shares @ by_group)
    by_draw = float((shares @ drawn).var()) / draws if draws > 1 else 0.0
    by_row = float(by_group.var()) / groups if groups > 1 else 0.0
    errors = (math.sqrt(by_draw), math.sqrt(by_row) if groups > 1 else None)
    if not (draws > 1 or groups > 1):
        return Crossed(value, *errors, None, None)
    if not (total := by_draw + by_row) > 0:
        return Crossed(value, *errors, value, value)
    share = by_draw / total
    spread = (share**2 / (draws - 1) if draws > 1 else 0.0) + ((1 - share) ** 2 / (groups - 1) if groups > 1 else 0.0)
    half = float(stdtrit(1 / spread, 0.975)) * math.sqrt(total)
    return Crossed(value, *errors, *((value - half, value + half) if math.isfinite(half) else (None, None)))


def full_matrix(hessian: Hessian) -> tuple[torch.Tensor, torch.Tensor]:
    """H (P, P) as computed, to rounding symmetric, and the forms (G, P) of every unit vector."""
    return hessian.products(torch.eye(hessian.parameters, dtype=hessian.dtype, device=hessian.shares.device))


def drawn_forms(hessian: Hessian, basis: torch.Tensor, draws: int, generator: torch.Generator) -> torch.Tensor:
    """(G, draws) quadratic forms of every group in random sign vectors, projected off an orthonormal basis (a, P)."""
    found = []
    for start in range(0, draws, block := max(1, min(_TOGETHER, _BASIS // hessian.parameters))):
        shape = (min(block, draws - start), hessian.parameters)
        signs = (2 * torch.randint(2, shape, generator=generator, dtype=torch.int8) - 1).to(basis)
        found.append(hessian.products(signs - (signs @ basis.mT) @ basis)[1])
        progress("random directions", start + len(signs), draws)
    return torch.cat(found, dim=1)


def asymmetry(land: Landscape, *, seed: int = 0) -> float:
    """About ||H - H^T||_F / ||H||_F of the model's second derivatives; far above rounding, they are wrong.

    Some layers' are in PyTorch (weight normalisation's in 2.13). Taken with the loss ||z||^2 / 2 of some rows in place
    of the model's own, which may be too flat to tell error from rounding; the layers' derivatives are the same.
    """

    def loss(z: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return z.reshape(len(z), -1).square().sum(dim=1) / 2

    some = Landscape(land.module, loss, land.inputs[:_CHECKED], land.labels[:_CHECKED], names=land.names)
    shape = (_DIRECTIONS, land.parameters)
    directions = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(land.weights)
    image = some.in_room(lambda: Hessian(some)(directions)).double()
    crossed = directions.double() @ image.mT
    size = float(image.norm()) * math.sqrt(_DIRECTIONS - 1)
    return float((crossed - crossed.mT).norm()) / size if size else 0.0


def krylov_space(
    hessian: Hessian, start: torch.Tensor, steps: int, *, tolerance: float = 0.0
) -> tuple[Krylov, torch.Tensor]:
    """Lanczos on H from starts (k, P), and the forms (G, j) of every group in the first start's j basis vectors."""
    forms: list[torch.Tensor] = []

    def apply(directions: torch.Tensor) -> torch.Tensor:
        image, form = hessian.products(directions)
        forms.append(form[:, 0])
        progress("Lanczos steps", len(forms), steps)
        return image

    found = lanczos(apply, start, steps, tolerance=tolerance)
    return found, torch.stack(forms[: found.steps[0]], dim=1)


class Outer(NamedTuple):
    """Outer eigenvalues of H: the largest ones in descending order, and last the smallest.

    Attributes:
        values: (a,) float64 Rayleigh quotients u^T H u, so never above the largest nor below the smallest eigenvalue.
        residuals: (a,) float64 ||H u - value u||: some eigenvalue lies within this distance of the value.
    """

    values: torch.Tensor
    residuals: torch.Tensor


def outer(hessian: Hessian, krylov: Krylov, top: int) -> Outer:
    """The `top` largest eigenvalues that the first start found, and the smallest one; multiple ones are found once."""
    values, vectors = ritz(krylov, 0)
    chosen = [*range(len(values) - 1, max(-1, len(values) - 1 - top), -1), 0]
    found = vectors[:, chosen].mT.to(krylov.basis) @ krylov.basis[0, : len(values)]
    image = hessian(found).double()
    quotients = torch.linalg.vecdot(found.double(), image) / found.double().square().sum(dim=1)
    return Outer(quotients, (image - quotients[:, None] * found).norm(dim=1))


def outer_of(matrix: torch.Tensor, top: int) -> tuple[torch.Tensor, Outer]:
    """All eigenvalues (P,) ascending of a full H, and the outer ones; residuals from what H lacks of symmetry."""
    values = torch.linalg.eigvalsh((matrix + matrix.mT).double() / 2)
    chosen = torch.cat([values[-top:].flip(0), values[:1]])
    rounding = (matrix - matrix.mT).double().norm() / 2 + torch.finfo(matrix.dtype).eps * values.abs().max()
    return values, Outer(chosen, rounding.expand(len(chosen)))


def together(parameters: int, steps: int) -> int:
    """Starts whose Lanczos bases are held at once."""
    return max(1, min(_TOGETHER, _BASIS // (steps * parameters)))
