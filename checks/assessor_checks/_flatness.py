"""Relative flatness of a last linear layer in closed form, per sample.

Source: Petzka, Kamp, Adilova, Sminchisescu, Boley, NeurIPS 2021, "Relative Flatness and Generalization"
(arXiv 2001.00939), their definition of relative flatness. For a layer z = W phi + b with W (d, m), empirical
loss E(W) and the (m, m) blocks [H_st]_uv = d2E / dW_su dW_tv of its Hessian:

    trace    kappa     = sum_{s,t} <w_s, w_t> Tr(H_st)
    maximum  kappa_max = sum_s ||w_s||^2 lambda_max(H_ss)         (the authors' code: diagonal blocks only)

Low means flat. With Hz_i (d, d) the Hessian of sample i's loss in its pre-activation z_i, H_st is the mean of
(Hz_i)_st phi_i phi_i^T, hence kappa = mean_i kappa_i with kappa_i = ||phi_i||^2 Tr(W^T Hz_i W). The (dm, dm)
Hessian is never formed. The bias b is not part of W. Labels do not enter. Both measures are in the unit of the loss.

Features are (n, m), weight (d, m), logits (n, d); any floating dtype, on any one device. Sums are float64 unless said
otherwise, rows and classes are streamed, so memory beyond the inputs does not grow with n or d but for the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

import torch

from assessor_checks._spectrum import Chunks, chunk_rows_for, top_eigenvalues

_PAIRWISE = 256  # classes up to which all pairwise distances cost less than one product with W
_WEIGHTS = 2**25  # entries of W held in a wider dtype at once

Diagonal = Callable[[], torch.Tensor]
Spread = Callable[[torch.Tensor], tuple[torch.Tensor, Diagonal]]
PerSample = Callable[[torch.Tensor, torch.Tensor], "Traces"]


class Loss(StrEnum):
    """Loss as a function of the pre-activations z: what fixes Hz."""

    SOFTMAX = "softmax cross-entropy"
    SIGMOID = "sigmoid cross-entropy"
    SQUARED = "half the squared error"


class MaxFlatness(NamedTuple):
    """kappa_max with `error`: how far it may lie below the exact value, in the same unit."""

    value: float
    error: float


def per_sample_trace(
    loss: Loss, features: torch.Tensor, weight: torch.Tensor, logits: torch.Tensor, *, chunk_rows: int | None = None
) -> torch.Tensor:
    """kappa_i of every sample; their mean is the layer's relative flatness.

    Args:
        loss: Which loss; fixes Hz.
        features: (n, m) inputs of the layer.
        weight: (d, m) weights of the layer; d = 1 for a sigmoid.
        logits: (n, d) pre-activations.
        chunk_rows: Rows worked on at once; None chooses by device. Changes no number but for rounding.

    Returns:
        (n,) float64, each at least 0.

    >>> kappa = per_sample_trace(Loss.SOFTMAX, torch.ones(1, 1), torch.tensor([[0.0], [2.0]]), torch.zeros(1, 2))
    >>> kappa.item()  # variance of 0 and 2, each with probability 1/2
    1.0
    """
    of = trace_function(loss, weight)
    return torch.cat([of(phi, z).values[:, 0] for phi, z in in_chunks(features, logits, chunk_rows)])


def in_chunks(features: torch.Tensor, logits: torch.Tensor, chunk_rows: int | None = None) -> Chunks:
    """Features and logits, as many rows at a time as fit the cache."""
    rows = chunk_rows_for(features, chunk_rows, logits.shape[1])
    return zip(features.split(rows), logits.split(rows), strict=True)


class Traces(NamedTuple):
    """What one look at some rows gives.

    Attributes:
        values: (rows, k) float64 kappa_i by each of k scalings of the features.
        norms: (rows, k) float64 ||phi_i||^2.
        diagonal: Gives the (rows, d) float64 diagonal of Hz, when asked.
    """

    values: torch.Tensor
    norms: torch.Tensor
    diagonal: Callable[[], torch.Tensor]


def trace_function(
    loss: Loss,
    weight: torch.Tensor,
    *,
    scales: torch.Tensor | None = None,
    accumulate: torch.dtype = torch.float64,
) -> PerSample:
    """Function (features (rows, m), logits (rows, d)) -> kappa_i of a layer by k scalings, for streams of rows.

    - softmax cross-entropy, Hz = diag(p) - p p^T: kappa_i = ||phi_i||^2 Var_{p_i}(w), the variance of the class
      weights under the predicted distribution. (Targets that sum to 1, label smoothing included, have the same Hz.)
      Written as sum_s p_s ||w_s||^2 - ||sum_s p_s w_s||^2 it cancels where one class dominates. Used instead, both
      without cancellation at p = 1 - 1e-12:
      up to 256 classes and d <= m: Var = 1/2 sum_st p_s p_t ||w_s - w_t||^2, a sum of terms none of which is
      negative, with the distances taken from differences; relative error a few roundings. Cost n d^2.
      Else centred at the predicted class c, Var = M - ||r||^2 with M = sum_s p_s ||w_s - w_c||^2 and
      r = sum_s p_s (w_s - w_c). By Cauchy-Schwarz ||r||^2 <= (1 - p_c) M, so Var >= M / d and no more than a
      factor d of precision is lost. Cost n d m, one forward pass of the layer; W is widened in blocks of classes.
    - one output z with a sigmoid, Hz = p (1 - p): kappa_i = ||phi_i||^2 ||w||^2 p_i (1 - p_i). Equal to the softmax
      over the two logits (0, z), whose first weight vector is 0.
    - half the squared error, Hz = I: kappa_i = ||phi_i||^2 ||W||_F^2; the paper's link to ridge regression.

    Args:
        loss: Which loss; fixes Hz.
        weight: (d, m) weights of the layer; d = 1 for a sigmoid.
        scales: (k, m) what features are divided and columns of W multiplied by, 0 leaving a feature out; None: as is.
        accumulate: Dtype of products and sums. float32 for large heads on devices where float64 is slow: relative
            error about 1e-6 of a class's distance, tested to 1e-4.

    Returns:
        The function; its values are float64, at least 0, in the loss's unit.
    """
    if scales is None:
        scales = torch.ones(1, weight.shape[1], dtype=torch.float64, device=weight.device)
    inverse = inverse_scale(scales).square().mT
    spread = _spread(loss, [weight * scale.to(weight.dtype) for scale in scales], accumulate)

    def traces(phi: torch.Tensor, z: torch.Tensor) -> Traces:
        norms = phi.double().square() @ inverse
        values, diagonal = spread(z)
        return Traces(norms * values, norms, diagonal)

    return traces


def _spread(loss: Loss, weights: list[torch.Tensor], accumulate: torch.dtype) -> Spread:
    """Function logits (rows, d) -> (rows, k) float64 Tr(W^T Hz W) for each of k weights, and the diagonal of Hz."""
    if loss is Loss.SOFTMAX:
        variances = [_variance(weight, accumulate) for weight in weights]

        def softmax(z: torch.Tensor) -> tuple[torch.Tensor, Diagonal]:
            p = z.to(accumulate).softmax(dim=1)
            values = torch.stack([variance(p) for variance in variances], dim=1).double()
            return values, lambda: _softmax_diagonal(p.double())

        return softmax
    squares = torch.stack([weight.double().square().sum() for weight in weights])
    curvature = _curvature_of(loss)

    def other(z: torch.Tensor) -> tuple[torch.Tensor, Diagonal]:
        return curvature(z[:, :1]) * squares, lambda: curvature(z)

    return other


def _variance(weight: torch.Tensor, accumulate: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """Function p (rows, d) -> (rows,) variance of the class weights, by the cheaper of both ways."""
    if len(weight) <= min(weight.shape[1], _PAIRWISE):
        return _variance_pairwise(weight.to(accumulate))
    return _variance_centred(weight, accumulate)


def per_sample_loss(
    loss: Loss, logits: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """(n,) float64 loss of every sample whose Hessian the functions above take.

    Args:
        loss: Which loss.
        logits: (n, d), d = 1 for a sigmoid or squared error.
        labels: (n,) class index, or target for squared error.
        label_smoothing: Share of every class's target that is spread over all classes.

    Returns:
        In nats, or in squared units of the target.
    """
    z = logits.double()
    if loss is Loss.SQUARED:
        return (z[:, 0] - labels.double()).square() / 2
    if loss is Loss.SIGMOID:
        z = torch.cat([torch.zeros_like(z), z], dim=1)
    return torch.nn.functional.cross_entropy(z, labels, reduction="none", label_smoothing=label_smoothing)


def neuron_traces(loss: Loss, chunks: Chunks, weight: torch.Tensor) -> torch.Tensor:
    """(d,) float64 ||w_s||^2 Tr(H_ss) of every neuron, Tr(H_ss) = mean_i (Hz_i)_ss ||phi_i||^2.

    The per-neuron form of Petzka, Adilova, Kamp, Sminchisescu 2019 (arXiv 1912.00058), without division by m; their
    layer value is the sum or the maximum over neurons. Unlike kappa it leaves the blocks between neurons out.

    Args:
        loss: Which loss.
        chunks: Features (rows, m) and logits (rows, d).
        weight: (d, m).

    Returns:
        In the loss's unit.
    """
    total, n, curvature = torch.zeros(len(weight), dtype=torch.float64, device=weight.device), 0, _curvature_of(loss)
    for phi, z in chunks:
        total += curvature(z).mT @ phi.double().square().sum(dim=1)
        n += len(phi)
    return total / n * weight.double().square().sum(dim=1)


def max_flatness(loss: Loss, chunks: Chunks, weight: torch.Tensor) -> MaxFlatness:
    """kappa_max = sum_s ||w_s||^2 lambda_max(H_ss), H_ss = mean_i (Hz_i)_ss phi_i phi_i^T.

    (Hz)_ss is p_s (1 - p_s) for a softmax, p (1 - p) for a sigmoid, 1 for half the squared error.

    min(n, m) <= 128: all eigenvalues of H_ss, or of an (n, n) matrix with the same spectrum, whichever is
    smaller. Else Lanczos with full reorthogonalisation for all classes at once, H_ss applied and never formed:
    two products of the layer's size a step, against m / 2 forward passes to form it. With rho the residual of the
    Ritz pair and g its distance to the next one, the value is at most rho^2 / g (where g > 2 rho, else rho) too small;
    it stops where that is 1e-10 of the value in every class, or after 300 steps. The bound holds unless the fixed
    random start is orthogonal to the top eigenvector, which has probability 0.

    Args:
        loss: Which loss.
        chunks: Features (rows, m) and logits (rows, d), read once a step.
        weight: (d, m).

    Returns:
        Value and error bound, in the loss's unit.
    """
    norms = weight.double().square().sum(dim=1)
    if loss is Loss.SQUARED:  # one problem for all outputs
        norms, curvature = norms.sum()[None], _curvature_of(loss)
        top = top_eigenvalues(chunks, lambda z: curvature(z[:, :1]))
    else:
        top = top_eigenvalues(chunks, _curvature_of(loss))
    return MaxFlatness(float(norms @ top.values.clamp_min(0.0)), float(norms @ top.errors))


def weight_decay_trace(weight: torch.Tensor, alpha: float) -> float:
    """What a penalty alpha ||W||_F^2 in the loss adds to kappa: its H_st is 2 alpha I_m for s = t, else 0.

    Hence 2 alpha m sum_s ||w_s||^2. (The authors' code adds 2 alpha sum_s ||w_s||^2, which is the term of
    kappa_max, or of kappa with traces divided by m.) PyTorch's `weight_decay` is 2 alpha.
    """
    return 2 * alpha * weight.shape[1] * float(weight.double().square().sum())


def weight_decay_max(weight: torch.Tensor, alpha: float) -> float:
    """What a penalty alpha ||W||_F^2 in the loss adds to kappa_max: 2 alpha sum_s ||w_s||^2."""
    return 2 * alpha * float(weight.double().square().sum())


def normalise_neurons(features: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features divided by their standard deviation over the data, columns of W multiplied by it.

    As the authors measure it. Afterwards kappa does not change when each feature is rescaled by a factor of its own
    and W undoes that; without it only a factor common to all features cancels. A feature that is constant over the
    data (a dead unit, for instance) is left out, with its column: together they act as a bias, which is not part of W,
    and kept they would change kappa under a rescaling that changes no output. The authors' code does so too, since it
    multiplies that column by its standard deviation 0.

    Args:
        features: (n, m).
        weight: (d, m).

    Returns:
        Features (n, m) and weight (d, m), in their own dtypes, constant features and their columns 0.
    """
    scale = feature_scale([features])
    return features * inverse_scale(scale).to(features.dtype), weight * scale.to(weight.dtype)


def inverse_scale(scale: torch.Tensor) -> torch.Tensor:
    """1 / scale, and 0 for features of scale 0, which are left out."""
    return torch.where(scale > 0, 1 / scale, 0.0)


def feature_scale(chunks: Iterable[torch.Tensor]) -> torch.Tensor:
    """(m,) float64 standard deviation of each feature over all rows (divisor n), exactly 0 where it is constant.

    One pass; means and squares of chunks are merged after Chan, Golub and LeVeque 1983, which does not cancel.

    Args:
        chunks: Features (rows, m), at least one row in all.
    """
    found: Moments | None = None
    for chunk in chunks:
        found = Moments(chunk) if found is None else found
        found.add(chunk)
    assert found is not None
    return found.scale()


class Moments:
    """Running mean and spread of features, chunk by chunk."""

    def __init__(self, like: torch.Tensor) -> None:
        """Start empty, for features like these (rows, m)."""
        self._first = like[0].clone()
        self._mean = torch.zeros(like.shape[1], dtype=torch.float64, device=like.device)
        self._squares = torch.zeros_like(self._mean)
        self._constant = torch.ones_like(self._mean, dtype=torch.bool)
        self._n = 0

    def add(self, features: torch.Tensor) -> None:
        """Count rows (rows, m) in."""
        for chunk in features.split(chunk_rows_for(features, None)):
            rows = len(chunk)
            wide = chunk.double()  # a copy unless the features are float64 already: not centred in place
            mean = wide.mean(dim=0)
            variance = (wide - mean).square_().mean(dim=0)
            shift, total = mean - self._mean, self._n + rows
            self._squares += variance * rows + shift.square() * (self._n * rows / total)
            self._mean += shift * (rows / total)
            near = variance <= 1e-20 * mean.square()  # all that may be constant: to be looked at exactly
            self._constant &= near
            self._constant[near] &= (chunk[:, near] == self._first[near]).all(dim=0)
            self._n = total

    @property
    def finite(self) -> bool:
        """Whether all features so far are finite."""
        return bool(torch.isfinite(self._squares).all())

    def scale(self) -> torch.Tensor:
        """(m,) standard deviations of all rows so far."""
        return torch.where(self._constant, 0.0, (self._squares / self._n).sqrt())


def _variance_pairwise(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Function p (rows, d) -> 1/2 sum_st p_s p_t ||w_s - w_t||^2."""
    half, above = weight.new_zeros(len(weight), len(weight)), torch.ones(len(weight), len(weight)).triu(1).bool()
    half[above.to(weight.device)] = torch.pdist(weight).square() / 2
    half += half.mT.clone()
    return lambda p: torch.linalg.vecdot(p @ half, p)


def _variance_centred(
    weight: torch.Tensor, accumulate: torch.dtype = torch.float64
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Function p (rows, d) -> sum_s p_s ||w_s - w_c||^2 - ||sum_s p_s (w_s - w_c)||^2, c the most probable class.

    The weights' common mean is taken out first: it changes nothing and would only cost digits. Of a head that is too
    large to be copied it is left in.
    """
    small = weight.numel() <= _WEIGHTS
    mean = weight.double().mean(dim=0).to(accumulate) if small else weight.new_zeros(weight.shape[1]).to(accumulate)
    whole = [weight.to(accumulate) - mean] if small else None

    def centred() -> Iterator[torch.Tensor]:
        yield from whole or (block.to(accumulate) for block in _blocks(weight))

    squares = torch.cat([block.square().sum(dim=1) for block in centred()])

    def variance(p: torch.Tensor) -> torch.Tensor:
        top = p.argmax(dim=1)
        rest = p.scatter(1, top[:, None], 0.0)  # the predicted class has distance 0: its 1 - eps never enters
        mass, centre = rest.sum(dim=1), weight[top].to(accumulate) - mean
        drift = -mass[:, None] * centre
        start = 0
        for block in centred():
            drift = drift + rest[:, start : start + len(block)] @ block
            start += len(block)
        second = rest @ squares - mass * squares[top] - 2 * torch.linalg.vecdot(drift, centre)
        found: torch.Tensor = (second - drift.square().sum(dim=1)).clamp_min(0.0)
        return found

    return variance


def _blocks(weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Rows of W in blocks of bounded size."""
    found: tuple[torch.Tensor, ...] = weight.split(max(1, _WEIGHTS // weight.shape[1]))
    return found


def _curvature_of(loss: Loss) -> Callable[[torch.Tensor], torch.Tensor]:
    """Function logits (rows, d) -> (rows, d) float64 diagonal of Hz."""
    if loss is Loss.SQUARED:
        return lambda z: torch.ones_like(z, dtype=torch.float64)
    return _softmax_curvature if loss is Loss.SOFTMAX else _sigmoid_curvature


def _softmax_curvature(logits: torch.Tensor) -> torch.Tensor:
    """Float64 p (1 - p); 1 - p of the most probable class is the sum of the others, which does not cancel."""
    return _softmax_diagonal(logits.double().softmax(dim=1))


def _softmax_diagonal(p: torch.Tensor) -> torch.Tensor:
    top = p.argmax(dim=1, keepdim=True)
    rest = p.scatter(1, top, 0.0).sum(dim=1, keepdim=True)
    return p * (1 - p).scatter(1, top, rest)


def _sigmoid_curvature(logits: torch.Tensor) -> torch.Tensor:
    return logits.double().sigmoid() * (-logits.double()).sigmoid()
