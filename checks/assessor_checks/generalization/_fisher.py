"""Linear Fisher information of activations about one parameter: how finely a linear reading of them can tell it.

J(theta) = (d mu / d theta)^T Sigma^-1 (d mu / d theta), with mu and Sigma the mean and the covariance of the
activations at theta over repeated noisy inputs. It is a lower bound of the full Fisher information and equals it for
Gaussian noise whose covariance does not change with theta. Followed through the layers of a network in Weimar,
Rachbauer, Starshynov, Faccio, Adilova, Bouchet, Rotter 2025, "Fisher information flow in artificial neural networks"
(arXiv 2509.02407).

The plain estimate is biased upwards, by more than its own value where repeats are few; the correction is that of
Kanitscheider, Coen-Cagli, Kohn, Pouget 2015, "Measuring Fisher Information Accurately in Correlated Neural
Populations" (PLoS Comput Biol 11(6): e1004218), equation 2, here for any stencil of values and any numbers of repeats.

Rows are (K, d) float32 or float64 tensors on CPU; everything is computed there in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from assessor_checks._intervals import Estimate
from assessor_checks.generalization._jackknife import ratio
from assessor_checks.generalization._signal_designs import Design, Plan, Stencil

LEAST_LEARNED = 40  # repeats of a value for a learned reading
SPARE = 1.5  # degrees of freedom of the covariance for each direction, at least
RIDGES = (1e-3, 0.1, 10.0)  # strengths, in units of the mean variance, whose readings are tried together
_NULL = 1e-10  # variance, in units of a number's whole spread, below which a direction counts as without noise
_SIGNAL = 1e-3  # change of the mean, in units of the whole spread, that counts as a signal there
_WIDTH, _OUTPUTS, _STEPS, _RATE, _DECAY = 64, 8, 300, 3e-3, 1e-4  # of the learned reading

Groups = Sequence[torch.Tensor]
Reading = Callable[[torch.Tensor], torch.Tensor]


class NoiseFreeSignal(Exception):  # noqa: N818 - not an error: what was found
    """The mean changes with the parameter in a direction in which nothing else varies: J has no finite estimate."""


def folds_of(groups: Groups, folds: int) -> list[torch.Tensor]:
    """(K,) fold of every row of every group: rows are in random order already."""
    return [torch.arange(len(group)) % folds for group in groups]


def information(
    groups: Groups, weights: Sequence[float], fold_of: Sequence[torch.Tensor] | None = None, folds: int = 0
) -> torch.Tensor:
    """J from all rows, and with each fold of rows left out: corrected for the noise of means and covariance.

    With D = sum_g c_g m_g of the groups' means, S their pooled covariance with nu = sum_g (K_g - 1) degrees of
    freedom and N its rank,

        J = D^T S^-1 D (nu - N - 1) / nu - N sum_g c_g^2 / K_g,

    which has no bias for Gaussian rows of one covariance. For two values a distance s apart with K repeats each it is
    (2K - N - 3) / (2K - 2) D^T S^-1 D - 2 N / (K s^2): Kanitscheider et al. 2015, equation 2. It can fall below 0.

    Args:
        groups: Rows (K_g, d) of some values of the parameter.
        weights: c_g, of a derivative.
        fold_of: (K_g,) fold of every row; None without folds.
        folds: Number of folds.

    Returns:
        (1 + folds,) float64.

    Raises:
        NoiseFreeSignal: D leaves the span of S.
        ValueError: nu is at most N + 1.
    """
    c = torch.tensor(weights, dtype=torch.float64)
    scaled, null = _scaled(groups)
    fold_of = fold_of or folds_of(groups, 1)
    width = scaled[0].shape[1]
    derivative, covariance = c.new_zeros(1 + folds, width), c.new_zeros(1 + folds, width, width)
    counts = c.new_zeros(len(groups), 1 + folds)
    for index, (rows, fold) in enumerate(zip(scaled, fold_of, strict=True)):
        counts[index], mean, scatter = _moments(rows, fold, folds)
        derivative += c[index] * mean
        covariance += scatter
    dof = (counts - 1).sum(dim=0)
    covariance /= dof[:, None, None]
    squares, rank = _quadratic(covariance, derivative, null, float(c.abs().sum()) / 2)
    if bool((dof <= rank + 1).any()):
        raise ValueError(f"{int(dof.min())} degrees of freedom for {int(rank.max())} directions")
    return squares * (dof - rank - 1) / dof - rank * (c.square()[:, None] / counts).sum(dim=0)


def whitened(groups: Groups) -> list[torch.Tensor]:
    """The same rows without empty directions: (K_g, r), pooled covariance within groups the identity.

    Args:
        groups: Rows (K_g, d) of all values.

    Returns:
        Coordinates in float64; r is 0 where nothing varies.

    Raises:
        NoiseFreeSignal: The mean changes in a direction in which nothing varies within a group.
    """
    scaled, null = _scaled(groups)
    means = torch.stack([rows.mean(dim=0) for rows in scaled])
    centred = torch.cat([rows - mean for rows, mean in zip(scaled, means, strict=True)])
    values, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(centred) - len(groups)))
    kept = values > null
    off = (means - means.mean(dim=0)) @ vectors[:, ~kept]
    if bool((off.abs() > _SIGNAL).any()) and int(kept.sum()) < len(centred) - len(groups):
        raise NoiseFreeSignal
    basis = vectors[:, kept] / values[kept].sqrt()
    return [rows @ basis for rows in scaled]


def held_out_information(groups: Groups, plan: Plan) -> torch.Tensor:
    """A lower bound of J where repeats are too few for the whole of it: linear readings learned on other rows.

    Readings (S + ridge)^-1 D of several strengths, for the stencil's values and for all of them, are fitted to one half
    of the rows, and J of what they give is estimated on the other half, without bias for Gaussian rows; then the halves
    change places. No linear reading has more linear information than its input.

    Args:
        groups: Rows (K_g, d) of all values.
        plan: Slopes and folds; the readings stay as they are when a fold is left out.

    Returns:
        (T, 1 + folds) float64.

    Raises:
        NoiseFreeSignal: As `information`.
    """
    fold_of = folds_of(groups, plan.folds)
    total = torch.zeros(len(plan.local), 1 + plan.folds, dtype=torch.float64)
    for half in (0, 1):
        learn = [rows[fold % 2 == half] for rows, fold in zip(groups, fold_of, strict=True)]
        judge = [rows[fold % 2 != half] for rows, fold in zip(groups, fold_of, strict=True)]
        rest = [fold[fold % 2 != half] for fold in fold_of]
        common = ridge_readings(learn, plan.whole.weights)
        for index, stencil in enumerate(plan.local):
            own = ridge_readings([learn[g] for g in stencil.groups], stencil.weights)
            reading = torch.cat([common, own], dim=1)
            read = [judge[g].double() @ reading for g in stencil.groups]
            total[index] += information(read, stencil.weights, [rest[g] for g in stencil.groups], plan.folds)
    return total / 2


def ridge_readings(groups: Groups, weights: Sequence[float]) -> torch.Tensor:
    """(d, m) readings (S + ridge)^-1 D, one a strength of RIDGES; numbers that do not vary get none of the weight."""
    means = [rows.double().mean(dim=0) for rows in groups]
    x = torch.cat([rows.double() - mean for rows, mean in zip(groups, means, strict=True)])
    spread = x.square().mean(dim=0).sqrt()
    inverse = torch.where(spread > 0, 1 / spread, torch.zeros_like(spread))
    x = x * inverse / math.sqrt(max(1, len(x) - len(groups)))
    d = sum(c * mean for c, mean in zip(weights, means, strict=True)) * inverse
    wide = x.shape[1] > len(x)
    gram = x @ x.T if wide else x.T @ x
    seen = x @ d if wide else d
    found = []
    for strength in RIDGES:
        level = strength * float(gram.diagonal().sum()) / max(1, int((spread > 0).sum())) or 1.0
        solved = torch.linalg.solve(gram + level * torch.eye(len(gram), dtype=gram.dtype), seen)
        direction = (d - x.T @ solved) if wide else solved
        found.append(direction / direction.norm().clamp_min(1e-300))
    return torch.stack(found, dim=1) * inverse[:, None]


def learned_reading(groups: Groups, plan: Plan, seed: int) -> Reading:
    """A small non-linear reading of rows, trained so that its linear information is as great as possible.

    The way of Weimar et al. 2025 to come closer to the full Fisher information. It is a function of its input, so
    that on rows it has not seen its linear information is a lower bound of the input's full information. It starts
    from linear readings; a quarter of the rows says when to stop.

    Args:
        groups: Rows (K_g, d) of all values, for training only; LEAST_LEARNED / 2 or more of each.
        plan: Slopes.
        seed: Seed of the initial weights.

    Returns:
        Maps rows (K, d) to (K, 8) float64.
    """
    everything = torch.cat(list(groups)).double()
    mean, spread = everything.mean(dim=0), everything.std(dim=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    rows = [(group.double() - mean) / spread for group in groups]
    learn = [group[torch.arange(len(group)) % 4 != 3] for group in rows]
    weights = _first_weights(learn, plan, seed)

    def read(x: torch.Tensor) -> torch.Tensor:
        hidden, bias, out, straight = weights
        return torch.tanh(x @ hidden + bias) @ out + x @ straight

    objective = _Objective.over([len(group) for group in learn], plan)
    moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
    best, kept = -math.inf, [weight.detach().clone() for weight in weights]
    for step in range(_STEPS + 1):
        if step % 20 == 0:
            with torch.no_grad():
                judged = [read(group[3::4]) for group in rows]
            score = float(np.mean(_over(judged, plan.local, folds_of(judged, 1), 0)))
            if score > best:
                best, kept = score, [weight.detach().clone() for weight in weights]
        with torch.enable_grad():
            gradients = torch.autograd.grad(objective.loss(read(torch.cat(learn))), weights)
        with torch.no_grad():
            for weight, gradient, (first, second) in zip(weights, gradients, moments, strict=True):
                _adam(weight, gradient + _DECAY * weight, first, second, step + 1)
    weights = kept
    return lambda x: read((x.double() - mean) / spread)


def _adam(weight: torch.Tensor, gradient: torch.Tensor, first: torch.Tensor, second: torch.Tensor, step: int) -> None:
    """One step in place (Kingma and Ba 2015, algorithm 1); torch.optim takes seconds to load."""
    first.lerp_(gradient, 0.1)
    second.lerp_(gradient.square(), 0.001)
    size = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
    weight.sub_(_RATE * first / (1 - 0.9**step) / size)


def _first_weights(groups: Groups, plan: Plan, seed: int) -> list[torch.Tensor]:
    """Of the hidden layer, its bias, what is read off it, and what is read straight off the rows."""
    draw = torch.Generator().manual_seed(seed)
    width = groups[0].shape[1]
    sizes = ((width, _WIDTH), (1, _WIDTH), (_WIDTH, _OUTPUTS), (width, _OUTPUTS))
    weights = [torch.randn(size, generator=draw, dtype=torch.float64) / math.sqrt(size[0]) for size in sizes]
    linear = ridge_readings(groups, plan.whole.weights)
    weights[2] *= 0.1
    weights[3][:, : len(RIDGES)] = linear / linear.norm(dim=0).clamp_min(1e-300)
    return [weight.requires_grad_() for weight in weights]


class _Objective(NamedTuple):
    """Minus the mean logarithm of the plain J over the stencils, differentiable in the readings."""

    member: torch.Tensor  # (n,) group of each row
    averaging: torch.Tensor  # (G, n)
    derive: torch.Tensor  # (T, G) weights of the slopes
    pooled: torch.Tensor  # (T, G) weights of the covariances

    @classmethod
    def over(cls, sizes: Sequence[int], plan: Plan) -> _Objective:
        member = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        averaging = torch.nn.functional.one_hot(member, len(sizes)).T.double()
        derive = torch.zeros(len(plan.local), len(sizes), dtype=torch.float64)
        pooled = torch.zeros_like(derive)
        for index, stencil in enumerate(plan.local):
            pooled[index, list(stencil.groups)] = 1 / len(stencil.groups)
            derive[index, list(stencil.groups)] = torch.tensor(stencil.weights, dtype=torch.float64)
        return cls(member, averaging / averaging.sum(dim=1, keepdim=True), derive, pooled)

    def loss(self, z: torch.Tensor) -> torch.Tensor:
        means = self.averaging @ z
        centred = z - means[self.member]
        scatter = torch.einsum("gn,ni,nj->gij", self.averaging, centred, centred)
        covariance = torch.einsum("tg,gij->tij", self.pooled, scatter)
        level = 1e-3 * covariance.diagonal(dim1=1, dim2=2).mean(dim=1)
        solid = covariance + level[:, None, None] * torch.eye(z.shape[1], dtype=z.dtype)
        slope = (self.derive @ means)[:, :, None]
        gained: torch.Tensor = (slope * torch.linalg.solve(solid, slope)).sum(dim=(1, 2))
        return -(gained + 1e-300).log().mean()


def error_ratio(
    errors: np.ndarray, theta: np.ndarray, fold: np.ndarray, centres: Sequence[float], values: np.ndarray
) -> np.ndarray:
    """Mean of squared error times information: at least 1 for any unbiased estimate (Cramer 1946, Rao 1945).

    On the rows an estimator was trained on, less than 1 shows that it has learned their noise, which is where Weimar
    et al. 2025 stop training.

    Args:
        errors: (n,) estimate minus parameter.
        theta: (n,) the parameter at each row; J is interpolated between the centres.
        fold: (n,) fold of each row.
        centres: (T,) where J is known, ascending.
        values: (T, 1 + folds) J.

    Returns:
        (1 + folds,) from all rows, then with each fold left out of rows and J.
    """
    found = []
    for index, column in enumerate(values.T):
        kept = fold != index - 1
        found.append((np.interp(theta[kept], centres, column) * errors[kept] ** 2).mean())
    return np.array(found)


def biased_error_ratio(
    errors: np.ndarray,
    theta: np.ndarray,
    fold: np.ndarray,
    outputs: Groups,
    design: Design,
    plan: Plan,
    values: np.ndarray,
) -> Estimate | None:
    """The same for an estimator of bias b: mean of (error^2 - b^2) J over the mean of (1 + b')^2, at least 1.

    This is the bound error^2 >= b^2 + (1 + b')^2 / J (Kay 1993, "Fundamentals of Statistical Signal Processing:
    Estimation Theory", appendix 3B) without a division by an estimate of J. Bias and slope 1 + b' come from rows the
    estimator was not trained on, without what noise adds to their squares. On those rows themselves the bound says no
    more than J(output) <= J(input).

    Args:
        errors: (n,) estimate minus parameter.
        theta: (n,) the parameter at each row.
        fold: (n,) fold of each row.
        outputs: Estimates (K_g, 1) by value of the parameter.
        design: The values.
        plan: Slopes.
        values: (T, 1 + folds) J of the input by stencil.

    Returns:
        Ratio with Fieller's interval; None where the slope cannot be told from 0.
    """
    folds, at = values.shape[1] - 1, design.theta
    parts = [_moments(rows.double(), own, folds) for rows, own in zip(outputs, folds_of(outputs, folds), strict=True)]
    count, mean, scatter = (np.array([part[k].numpy().reshape(1 + folds) for part in parts]) for k in range(3))
    noise = scatter / (count - 1) / count
    bias2 = (mean - at[:, None]) ** 2 - noise
    chosen = np.zeros((len(plan.local), len(at)))
    for index, stencil in enumerate(plan.local):
        chosen[index, list(stencil.groups)] = stencil.weights
    slope2 = (chosen @ mean) ** 2 - chosen**2 @ noise
    centres = [stencil.at for stencil in plan.local]
    above, below = [], []
    for index in range(1 + folds):
        kept = theta[fold != index - 1]
        excess = errors[fold != index - 1] ** 2 - np.interp(kept, at, bias2[:, index])
        above.append((excess * np.interp(kept, centres, values[:, index])).mean())
        below.append(np.interp(kept, centres, slope2[:, index]).mean())
    return ratio(np.array(above), np.array(below))


class Read(NamedTuple):
    """Linear Fisher information of one layer.

    Attributes:
        rank: Directions in which the activations vary; None where they were not counted.
        bounded: Whether only a lower bound of the linear information could be estimated: too few repeats.
        values: (T, 1 + folds) J by stencil: from all rows, then with each fold left out.
    """

    rank: int | None
    bounded: bool
    values: np.ndarray


def read_layer(groups: Groups, plan: Plan, most: int) -> Read:
    """J of a layer at every stencil, whole where repeats suffice and otherwise bounded from below.

    Whole: at most `most` numbers a row, and SPARE degrees of freedom or more for each direction in which they vary.

    Args:
        groups: Rows (K_g, p) of all values.
        plan: Slopes and folds.
        most: Numbers a row up to which the whole covariance is used.

    Returns:
        The information.

    Raises:
        NoiseFreeSignal: The activations change with the parameter where nothing else varies.
    """
    rank = None
    if groups[0].shape[1] <= most:
        rows = whitened(groups)
        rank = rows[0].shape[1]
        if SPARE * rank <= min(sum(len(groups[g]) - 1 for g in stencil.groups) for stencil in plan.local):
            values = _over(rows, plan.local, folds_of(rows, plan.folds), plan.folds)
            return Read(rank, bounded=False, values=values)
    return Read(rank, bounded=True, values=held_out_information(groups, plan).numpy())


def read_learned(groups: Groups, plan: Plan, seed: int) -> np.ndarray:
    """A lower bound of the full information at every stencil: a learned reading, judged on rows it has not seen.

    Args:
        groups: Rows (K_g, p) of all values.
        plan: Slopes and folds: the even folds are learned from, the odd ones judged on.
        seed: Seed of the training.

    Returns:
        (T, 1 + folds / 2) J from all rows judged on, then with each of their folds left out.

    Raises:
        NoiseFreeSignal: The reading changes with the parameter where nothing else varies.
    """
    fold_of = folds_of(groups, plan.folds)
    reading = learned_reading([rows[f % 2 == 0] for rows, f in zip(groups, fold_of, strict=True)], plan, seed)
    judged = [reading(rows[f % 2 == 1]) for rows, f in zip(groups, fold_of, strict=True)]
    return _over(judged, plan.local, [f[f % 2 == 1] // 2 for f in fold_of], plan.folds // 2)


def _over(groups: Groups, local: Sequence[Stencil], fold_of: Sequence[torch.Tensor], folds: int) -> np.ndarray:
    """(T, 1 + folds) J by stencil."""
    found = [
        information([groups[g] for g in s.groups], s.weights, [fold_of[g] for g in s.groups], folds) for s in local
    ]
    return torch.stack(found).numpy()


def _scaled(groups: Groups) -> tuple[list[torch.Tensor], float]:
    """Rows in units of each number's whole spread, constant numbers left out, and the variance that counts as none."""
    fine = torch.finfo(groups[0].dtype).eps
    everything = torch.cat(list(groups)).double()
    size, centre = everything.square().mean(dim=0).sqrt(), everything.mean(dim=0)
    spread = (everything - centre).square().mean(dim=0).sqrt()
    kept = spread > 8 * fine * size
    rounding = float((size[kept] / spread[kept]).square().mean()) if bool(kept.any()) else 0.0
    return [((rows.double() - centre) / spread)[:, kept] for rows in groups], max(_NULL, 100 * fine**2 * rounding)


def _moments(rows: torch.Tensor, fold: torch.Tensor, folds: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count (f,), mean (f, d) and scatter (f, d, d) of all rows, then without each fold; f = 1 + folds."""
    n, mean = len(rows), rows.mean(dim=0)
    x = rows - mean
    parts = [x[fold == index] for index in range(folds)]
    left = torch.tensor([n, *(n - len(part) for part in parts)], dtype=torch.float64)
    gone = torch.stack([torch.zeros_like(mean), *(part.sum(dim=0) for part in parts)])
    scatter = x.new_empty(1 + folds, x.shape[1], x.shape[1])
    torch.mm(x.T, x, out=scatter[0])
    for index, part in enumerate(parts, start=1):  # in place: at a thousand numbers a copy of these is 0.2 GB
        torch.addmm(scatter[0], part.T, part, alpha=-1, out=scatter[index])
        scatter[index].addr_(gone[index], gone[index], alpha=-1 / float(left[index]))
    return left, mean - gone / left[:, None], scatter


def _quadratic(
    covariance: torch.Tensor, derivative: torch.Tensor, null: float, step: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(f,) D^T S^+ D and the rank of S, directions of a variance below `null` left out."""
    width = derivative.shape[1]
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if width == 0:
        return derivative.new_zeros(len(derivative)), derivative.new_zeros(len(derivative))
    solid = (failed == 0) & (factor.diagonal(dim1=1, dim2=2).amin(dim=1).square() > null)
    squares = torch.full((len(derivative),), torch.nan, dtype=torch.float64)
    rank = torch.full_like(squares, width)
    solved = torch.linalg.solve_triangular(factor[solid], derivative[solid][:, :, None], upper=False)
    squares[solid] = solved.square().sum(dim=(1, 2))
    for index in torch.nonzero(~solid).flatten().tolist():
        values, vectors = torch.linalg.eigh(covariance[index])
        along, kept = vectors.T @ derivative[index], values > null
        if bool((along[~kept].abs() > _SIGNAL * step).any()):
            raise NoiseFreeSignal
        squares[index], rank[index] = (along[kept].square() / values[kept]).sum(), kept.sum()
    return squares, rank
