"""Hessian of a model's mean loss in its parameters: products, trace, outer eigenvalues, spectral density.

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
- Eigenvalues: Lanczos 1950 with full reorthogonalisation; residuals ||H u - theta u|| are computed, not estimated.
- Density: stochastic Lanczos quadrature (Ghorbani, Krishnan, Xiao 2019, arXiv 1901.10159, section 2).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit
from torch.nn.attention import SDPBackend, sdpa_kernel

from assessor.contract import NotApplicable, Subject, Task, progress
from assessor_checks._inputs import chosen_rows
from assessor_checks._losses import per_sample_loss

GROUPS = 10  # random groups of rows whose spread shows the sampling of rows
_TOGETHER = 32  # most products at once
_CHUNK_BYTES = {"cpu": 2**24}  # what a chunk's graph, and products at once, may keep; on a CPU it fits the cache
_CHUNK_BYTES_DEVICE = 2**28
_TOGETHER_BYTES_DEVICE = 2**31
KEPT_BYTES = 2**31  # what all kept graphs together may keep
_LEAST_ROWS = 4  # rows of a chunk, however large
SKEWED = 1e-2  # relative asymmetry above which second derivatives are wrong rather than rounded
_CHECKED, _DIRECTIONS = 32, 4  # rows and directions that show it
_BASIS = 2**28  # entries of directions or of Lanczos bases held at once

PerSample = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Products = Callable[[torch.Tensor], torch.Tensor]


class _Outputs(torch.nn.Module):
    """The subject's logits as a module, so that its parameters can be replaced for one call."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.model = subject.module
        self._logits = subject.logits

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._logits(inputs)


class Landscape:
    """The mean loss over some rows as a function of a module's parameters, given as one flat vector.

    The module itself is never changed: parameters are replaced for the length of a call, buffers stay.

    Attributes:
        weights: (P,) the module's own parameters, detached.
        names: Their names, in the vector's order.
        inputs: (n, ...).
        labels: (n,).
    """

    def __init__(
        self,
        module: torch.nn.Module,
        loss: PerSample,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        *,
        names: tuple[str, ...] | None = None,
    ) -> None:
        """Take the parameters named, or all trainable ones.

        Args:
            module: In eval mode.
            loss: Outputs and labels to (n,) losses, differentiable in the outputs.
            inputs: (n, ...) on the module's device.
            labels: (n,).
            names: Parameters to move; None takes all trainable floating-point ones.

        Raises:
            NotApplicable: There are no such parameters, or too coarse a number format.
        """
        found = _parameters(module, names)
        self.module, self.loss, self.inputs, self.labels = module, loss, inputs, labels
        self.names = tuple(found)
        self._shapes = [(parameter.shape, parameter.dtype) for parameter in found.values()]
        self._sizes = [parameter.numel() for parameter in found.values()]
        self.weights = torch.cat([parameter.detach().flatten() for parameter in found.values()])

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def parameters(self) -> int:
        """P, the number of parameters."""
        return len(self.weights)

    def named(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """A flat vector (P,) as the module's parameters by name."""
        pieces = zip(self.names, self._shapes, weights.split(self._sizes), strict=True)
        return {name: piece.view(shape).to(dtype) for name, (shape, dtype), piece in pieces}

    def outputs(self, weights: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The module's outputs with other parameters (P,), differentiable in them."""
        found: torch.Tensor = torch.func.functional_call(self.module, self.named(weights), (inputs,))
        return found

    def row_losses(self, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(rows,) losses with other parameters (P,), differentiable in them."""
        return self.loss(self.outputs(weights, inputs), labels)

    @torch.no_grad()
    def losses(self, weights: torch.Tensor) -> torch.Tensor:
        """(n,) float64 loss of every row with parameters (P,)."""
        rows = self.chunk_rows
        chunks = zip(self.inputs.split(rows), self.labels.split(rows), strict=True)
        return torch.cat([self.row_losses(weights, x, y).double() for x, y in chunks])

    def gradient(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss (float64 scalar) and its gradient (P,) at other parameters."""
        total = torch.zeros((), dtype=torch.float64, device=weights.device)
        gradient = torch.zeros_like(weights)
        at = weights.detach().requires_grad_(True)
        for x, y in zip(self.inputs.split(self.chunk_rows), self.labels.split(self.chunk_rows), strict=True):
            with torch.enable_grad():
                loss = self.row_losses(at, x, y).sum()
                gradient += torch.autograd.grad(loss, at)[0]
            total += loss.detach()
        return total / self.n, gradient / self.n

    def slope(self, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(P,) gradient of the mean loss over these rows, itself differentiable in `weights`.

        Raises:
            NotApplicable: The loss cannot be differentiated.
        """
        with torch.enable_grad(), twice_differentiable(self.module), _differentiation():
            loss = self.row_losses(weights, inputs, labels).mean()
            return torch.autograd.grad(loss, weights, create_graph=True)[0]

    @property
    def chunk_rows(self) -> int:
        """Rows worked on at once, so that what a backward pass keeps of them stays small."""
        budget = _CHUNK_BYTES.get(self.weights.device.type, _CHUNK_BYTES_DEVICE)
        return max(_LEAST_ROWS, budget // self.row_bytes)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes that the graph of `slope` keeps for each row: four rows' less two rows' (one is a special case)."""
        return max(1, (self._kept_bytes(4) - self._kept_bytes(2)) // 2)

    def _kept_bytes(self, rows: int) -> int:
        at = self.weights.clone().requires_grad_(True)
        seen: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        x = self.inputs[:1].expand(rows, *self.inputs.shape[1:]).contiguous()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self.slope(at, x, self.labels[:1].expand(rows))
        return sum(seen.values())


def landscape(subject: Subject, split: str, most: int, seed: int) -> Landscape:
    """The loss of a subject over at most `most` rows of a split, chosen by the seed.

    Raises:
        NotApplicable: No rows, no finite outputs, or layers that make a row's loss depend on chance or other rows.
    """
    require_deterministic(subject.module)
    everything, targets = subject.tensors(split)
    if not len(targets):
        raise NotApplicable(f"the {split} split has no rows")
    rows = torch.from_numpy(chosen_rows(len(targets), most, seed)).to(everything.device)
    found = Landscape(_Outputs(subject), exact_loss(subject.task), everything[rows], targets[rows])
    losses = found.losses(found.weights)
    if bad := int((~losses.isfinite()).sum()):
        raise NotApplicable(f"the model's loss is not finite for {bad} of {found.n} rows of the {split} split")
    return found


def exact_loss(task: Task) -> PerSample:
    """The task's loss, in float64 from outputs of any precision.

    Where the model is certain, 1 - p is lost in float32, and with it the gradient and the curvature.
    """
    return lambda outputs, labels: per_sample_loss(task, outputs.double(), labels)


def require_deterministic(module: torch.nn.Module) -> None:
    """Refuse a module whose loss is no mean of one number a row.

    Raises:
        NotApplicable: A dropout or normalisation layer is in train mode or uses the statistics of the batch.
    """
    norms = torch.nn.modules.batchnorm._BatchNorm
    for name, layer in module.named_modules():
        if layer.training and isinstance(layer, norms | torch.nn.modules.dropout._DropoutNd):
            raise NotApplicable(f"layer '{name}' is in train mode; the model must be in eval mode")
        if isinstance(layer, norms) and layer.running_mean is None:
            raise NotApplicable(f"layer '{name}' normalises by the batch it is given, so that no row has its own loss")


def _parameters(module: torch.nn.Module, names: tuple[str, ...] | None) -> Mapping[str, torch.Tensor]:
    """Those named, or all that are trainable; where none is marked so (a frozen copy), all."""
    every = {name: p for name, p in module.named_parameters() if p.is_floating_point()}
    if names is None:
        found = {name: p for name, p in every.items() if p.requires_grad} or every
    else:
        if missing := [name for name in names if name not in every]:
            raise NotApplicable(f"parameter '{missing[0]}': the model has no floating-point parameter of this name")
        found = {name: every[name] for name in names}
    if not found:
        raise NotApplicable("the model has no floating-point parameters")
    coarse = sorted({str(p.dtype) for p in found.values() if p.element_size() < 4})
    if coarse:
        raise NotApplicable(f"the parameters are {coarse[0]}; curvature needs at least torch.float32")
    return found


@contextmanager
def _differentiation() -> Iterator[None]:
    """Turns what torch says of a model it cannot differentiate into the outcome's sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as fault:
        raise NotApplicable(f"the model's loss cannot be differentiated: {str(fault).splitlines()[0]}") from fault


@contextmanager
def twice_differentiable(module: torch.nn.Module) -> Iterator[None]:
    """Kernels that can be differentiated twice and in forward mode: attention, encoders and recurrent layers."""
    fast = torch.backends.mha.get_fastpath_enabled()
    recurrent = any(isinstance(layer, torch.nn.RNNBase) for layer in module.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


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
        budget = _CHUNK_BYTES.get(device.type, _TOGETHER_BYTES_DEVICE)
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
        with _differentiation():
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
    image = Hessian(some)(directions).double()
    crossed = directions.double() @ image.mT
    size = float(image.norm()) * math.sqrt(_DIRECTIONS - 1)
    return float((crossed - crossed.mT).norm()) / size if size else 0.0


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


def quadrature(krylov: Krylov) -> list[tuple[np.ndarray, np.ndarray]]:
    """Nodes and weights of the Gauss quadrature of each start's spectral measure (Golub and Welsch 1969)."""
    found = (ritz(krylov, start) for start in range(len(krylov.steps)))
    return [(values.cpu().numpy(), vectors[0].square().cpu().numpy()) for values, vectors in found]


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
