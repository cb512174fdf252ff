"""Relative flatness of one layer of a subject: in closed form where that holds, else by the curvature in its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch

from assessor.contract import Cell, NotApplicable, Subject, Table, Task, progress, spread
from assessor_checks import _flatness as flatness
from assessor_checks._flatness import Loss, MaxFlatness
from assessor_checks._intervals import CONFIDENCE, Estimate, bootstrap_mean
from assessor_checks._layers import BATCH, Activations, Site, choose_site, find_sites, refuse_unsteady, saturated_rows
from assessor_checks._losses import per_sample_loss
from assessor_checks.generalization._curvature import Budget, Problem, layer_curvature, layer_scale

Way = Literal["neuron", "none"]
_WIDE = 2**22  # entries of a head beyond which a GPU multiplies in float32: float64 is slow on many


class LayerFlatness(NamedTuple):
    """What was measured about one layer.

    Attributes:
        name: The layer.
        shape: Outputs d and inputs m of its weight.
        way: The normalisation of `kappa`.
        kappa: (k,) relative flatness of each sample, or block of samples, by that normalisation.
        other: (n,) the same by the other normalisation; None where it was not measured.
        blocks: Whether `kappa` is by blocks of samples.
        error: Standard error of the mean that comes from random directions; None where kappa is exact.
        products: Hessian-vector products a row; 0 for the closed form.
        neurons: sum_s ||w_s||^2 Tr(H_ss), or None.
        maximum: sum_s ||w_s||^2 lambda_max(H_ss), or None.
        weight: (d, m) weight as measured, for what a penalty adds.
        other_weight: (d, m) weight by the other normalisation.
        constant: Features that are constant over the data.
        saturated: Rows whose largest probability is exactly 1; 0 where it was not looked for.
        predicted: (n,) predicted class index; None unless the layer gives the logits of a classifier.
        losses: (n,) losses of these rows, where the layer gives the logits; else None.
        closed: The loss of the closed form, or None.
        frozen: Whether the layer was left alone in training.
    """

    name: str
    shape: tuple[int, int]
    way: Way
    kappa: np.ndarray
    other: np.ndarray | None
    blocks: bool
    error: float | None
    products: int
    neurons: float | None
    maximum: MaxFlatness | None
    weight: torch.Tensor
    other_weight: torch.Tensor
    constant: int
    saturated: int
    predicted: np.ndarray | None
    losses: np.ndarray | None
    closed: Loss | None
    frozen: bool

    def interval(self, seed: int) -> Estimate | None:
        """The mean over samples; BCa bootstrap over them, and the directions' error where that lies outside it.

        None for a single sample.
        """
        if len(self.kappa) < 2:
            return None
        found = bootstrap_mean(self.kappa, seed)
        if not self.blocks or self.error is None:
            return found
        from scipy.special import ndtri

        more = float(ndtri((1 + CONFIDENCE) / 2)) * self.error
        low, high = (float(np.hypot(end - found.value, more)) for end in (found.low, found.high))
        return Estimate(found.value, found.value - low, found.value + high)


def problem_of(subject: Subject, split: str, label_smoothing: float = 0.0, rows: np.ndarray | None = None) -> Problem:
    """The subject's loss on a split, or on some of its rows, as something to differentiate.

    Losses are taken in float64 from the logits, so that they keep their curvature where a class dominates.
    """
    if rows is None:
        inputs, labels = subject.tensors(split)
    else:
        labels = labels_of(subject, split)
        index = torch.from_numpy(rows).to(labels.device)
        inputs, labels = subject.inputs(split)[index], labels[index]

    return Problem(subject.module, inputs, labels, loss_of(subject, label_smoothing))


def loss_of(subject: Subject, label_smoothing: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Function inputs (n, ...), labels (n,) -> (n,) float64 losses."""

    def losses(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        outputs = subject.logits(x).double()
        return per_sample_loss(subject.task, outputs, y, label_smoothing=label_smoothing)

    return losses


def labels_of(subject: Subject, split: str) -> torch.Tensor:
    """(n,) labels on the device, as `Subject.tensors` gives them."""
    labels = torch.from_numpy(subject.splits[split].labels).to(subject.device)
    if not labels.is_floating_point():
        return labels
    dtypes = [parameter.dtype for parameter in subject.module.parameters() if parameter.is_floating_point()]
    return labels.to(dtypes[0] if dtypes else torch.float32)


def sites_of(subject: Subject, split: str) -> dict[str, Site]:
    """All layers of the subject that can be measured, in the order they run.

    Raises:
        NotApplicable: A part of the module stays in train mode, or there are no rows.
    """
    inputs = subject.inputs(split)
    if not len(inputs):
        raise NotApplicable("there are no rows to run the model on")
    refuse_unsteady(subject.module, inputs)
    row = inputs[:1]
    return find_sites(subject.module, row, subject.logits)


def closed_loss(task: Task, outputs: int) -> Loss:
    """The loss whose Hessian in the logits is known in closed form."""
    if not task.is_classification:
        return Loss.SQUARED
    return Loss.SIGMOID if outputs == 1 else Loss.SOFTMAX


def measure_layer(
    subject: Subject,
    wanted: str | None,
    split: str,
    way: Way,
    budget: Budget,
    label_smoothing: float = 0.0,
) -> LayerFlatness:
    """Relative flatness of a layer on a split: the last linear layer in closed form, any other by its curvature.

    Args:
        subject: Holds the module and the data.
        wanted: The layer's name; None for the last linear layer.
        split: The data.
        way: Normalisation of the primary value.
        budget: What another layer may cost.
        label_smoothing: Of the training loss; does not matter to the last layer.

    Returns:
        The measurement.

    Raises:
        NotApplicable: There is no such layer, or it cannot be measured; the message says why.
    """
    inputs, labels = subject.inputs(split), labels_of(subject, split)
    last: Activations | None = None
    try:
        found = Activations(subject.module, inputs)
        if wanted in {None, found.name} and found.gives_the_output():
            last = found
    except NotApplicable as reason:
        if wanted is None:
            names = ", ".join(sites_of(subject, split)) if len(inputs) else ""
            raise NotApplicable(f"{reason}; or name another layer: {names}" if names else str(reason)) from reason
    if last is not None:
        return measure_last(subject.task, last, labels, way, split, label_smoothing, maximum=budget.maximum)
    assert wanted is not None
    site = choose_site(sites_of(subject, split), wanted)
    return measure_site(site, problem_of(subject, split, label_smoothing), way, budget)


def measure_last(
    task: Task,
    activations: Activations,
    labels: torch.Tensor,
    way: Way,
    split: str,
    label_smoothing: float = 0.0,
    *,
    maximum: bool = True,
) -> LayerFlatness:
    """The last linear layer in closed form, streamed: one pass for the spread of features, one for the values.

    Raises:
        NotApplicable: Features or logits are not finite, or all features constant where they must be normalised.
    """
    loss = closed_loss(task, len(activations.weight))
    seen = _First.look(activations, split, labels, loss, label_smoothing)
    scale = None if seen.constant == activations.weight.shape[1] else seen.scale
    if scale is None and way == "neuron":
        raise NotApplicable(_constant(activations.name, activations.n))
    ways = {"none": _Way(activations, None), "neuron": _Way(activations, scale)}
    chosen, other = ways[way], "none" if way == "neuron" else "neuron"
    names = [way] if other == "neuron" and scale is None else [way, other]
    scales = torch.stack([ways[name].scale for name in names])
    of = flatness.trace_function(loss, activations.weight, scales=scales, accumulate=chosen.accumulate)
    values = torch.empty(activations.n, len(names), dtype=torch.float64, device=scales.device)
    neurons, start = torch.zeros(len(activations.weight), dtype=torch.float64, device=scales.device), 0
    for features, logits in activations:
        for phi, z in flatness.in_chunks(features, logits):
            found = of(phi, z)
            values[start : start + len(phi)] = found.values
            start += len(phi)
            neurons += found.diagonal().mT @ found.norms[:, 0]
    kappa = values.cpu().numpy()
    return LayerFlatness(
        name=activations.name,
        shape=(len(activations.weight), activations.weight.shape[1]),
        way=way,
        kappa=kappa[:, 0],
        other=kappa[:, 1] if len(names) > 1 else None,
        blocks=False,
        error=None,
        products=0,
        neurons=float(neurons @ chosen.weight.double().square().sum(dim=1)) / activations.n,
        maximum=flatness.max_flatness(loss, chosen, chosen.weight) if maximum and activations.whole else None,
        weight=chosen.weight,
        other_weight=ways[other].weight,
        constant=seen.constant,
        saturated=seen.saturated,
        predicted=seen.predicted,
        losses=seen.losses,
        closed=loss,
        frozen=not activations.layer.weight.requires_grad,
    )


def _constant(name: str, rows: int) -> str:
    return (
        f"every feature of layer '{name}' is constant over these {rows} rows, so that none can be normalised; "
        "give more rows, or set normalise: none"
    )


def measure_site(site: Site, problem: Problem, way: Way, budget: Budget) -> LayerFlatness:
    """Any layer, by the curvature of the loss in its output.

    Raises:
        NotApplicable: The loss or its curvature is not finite on some row.
    """
    scale = layer_scale(site, problem) if way == "neuron" else None
    if scale is not None and not scale.any():
        raise NotApplicable(_constant(site.name, len(problem.labels)))
    found = layer_curvature(site, problem, scale=scale, budget=budget)
    kappa = found.kappa.cpu().numpy()
    if bad := int((~np.isfinite(kappa)).sum()):
        raise NotApplicable(
            f"layer '{site.name}': the curvature of the loss is not finite for {bad} of {len(kappa)} samples"
        )
    weight = site.weight.detach().flatten(1)
    if scale is not None and len(scale) == 1 and weight.shape[1] == scale.shape[1]:
        weight = weight * scale.to(weight.dtype)
    return LayerFlatness(
        name=site.name,
        shape=site.shape,
        way=way,
        kappa=kappa,
        other=None,
        blocks=found.blocks,
        error=found.error,
        products=found.products,
        neurons=None if found.neurons is None else float(found.neurons.sum()),
        maximum=None if found.maximum is None else MaxFlatness(found.maximum, 0.0),
        weight=weight,
        other_weight=site.weight.detach().flatten(1),
        constant=0 if scale is None else int((scale == 0).sum()),
        saturated=0,
        predicted=None,
        losses=None,
        closed=None,
        frozen=site.frozen,
    )


class _First(NamedTuple):
    """What the first pass over features and logits tells."""

    scale: torch.Tensor
    constant: int
    saturated: int
    predicted: np.ndarray | None
    losses: np.ndarray

    @classmethod
    def look(
        cls, activations: Activations, split: str, labels: torch.Tensor, loss: Loss, label_smoothing: float
    ) -> _First:
        moments: flatness.Moments | None = None
        bad, classes, start = torch.zeros((), dtype=torch.long, device=labels.device), loss is not Loss.SQUARED, 0
        saturated = 0
        losses = torch.empty(activations.n, dtype=torch.float64, device=labels.device)
        predicted = torch.zeros(activations.n if classes else 0, dtype=torch.long, device=labels.device)
        for phi, z in activations:
            moments = flatness.Moments(phi) if moments is None else moments
            moments.add(phi)
            bad += (~torch.isfinite(z.abs().amax(dim=1))).sum()
            rows = slice(start, start + len(z))
            start += len(z)
            losses[rows] = flatness.per_sample_loss(loss, z, labels[rows], label_smoothing=label_smoothing)
            if classes:
                saturated += saturated_rows(z)
                predicted[rows] = z[:, 0] > 0 if z.shape[1] == 1 else z.argmax(dim=1)
        assert moments is not None
        if not moments.finite:
            lost = sum(int((~torch.isfinite(phi)).any(dim=1).sum()) for phi, _ in activations)
            raise NotApplicable(
                f"the last layer's features are not finite for {lost} of {activations.n} rows of {split}"
            )
        if bad:
            raise NotApplicable(f"the last layer's logits are not finite for {bad} of {activations.n} rows of {split}")
        scale = moments.scale()
        index = predicted.cpu().numpy() if classes else None
        return cls(scale, int((scale == 0).sum()), saturated, index, losses.cpu().numpy())


class _Way:
    """Features and weight of the last layer by one normalisation, as a stream."""

    def __init__(self, activations: Activations, scale: torch.Tensor | None) -> None:
        self._activations = activations
        weight = activations.weight
        self.scale = torch.ones(weight.shape[1], dtype=torch.float64, device=weight.device) if scale is None else scale
        self._inverse = None if scale is None else flatness.inverse_scale(scale).to(weight.dtype)
        self.weight = weight * self.scale.to(weight.dtype)
        large = weight.is_cuda and weight.numel() > _WIDE
        self.accumulate = torch.float32 if large else torch.float64

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for phi, z in self._activations:
            yield phi if self._inverse is None else phi * self._inverse, z


def training_losses(subject: Subject, label_smoothing: float) -> np.ndarray:
    """(n,) losses on the train split, in float64."""
    inputs, labels, losses = subject.inputs("train"), labels_of(subject, "train"), loss_of(subject, label_smoothing)
    starts = range(0, len(labels), BATCH)
    with torch.no_grad():
        parts = [losses(inputs[start : start + BATCH], labels[start : start + BATCH]) for start in starts]
    found: np.ndarray = torch.cat(parts).cpu().numpy()
    return found


def layer_table(
    subject: Subject, split: str, normalise: Way, label_smoothing: float, *, most: int, budget: Budget
) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """Every layer on the same rows, and what could not be measured.

    Args:
        subject: A PyTorch module.
        split: Data whose curvature is measured.
        normalise: "neuron" or "none".
        label_smoothing: In training.
        most: Rows at most, drawn by the seed; 0 for no table.
        budget: Products and directions; no maximum is computed.

    Returns:
        A table where there are two layers or more, and a sentence on each layer that could not be measured.
    """
    sites = sites_of(subject, split) if most else {}
    if len(sites) < 2:
        return (), ()
    n = subject.splits[split].n
    rows = np.sort(np.random.default_rng(budget.seed).permutation(n)[:most])
    work = partial(_row, subject, split, normalise, label_smoothing, rows, budget._replace(maximum=False))
    found = spread(work, list(sites))
    cells = tuple(one for one in found if not isinstance(one, str))
    lost = tuple(one for one in found if isinstance(one, str))
    columns = ("layer", "weights", "rows", "relative flatness", "low", "high", "error of the estimate")
    table = Table(name="by_layer", title="Relative flatness by layer", columns=columns, rows=cells)
    return (table,), lost


def _row(
    subject: Subject,
    split: str,
    normalise: Way,
    label_smoothing: float,
    rows: np.ndarray,
    budget: Budget,
    name: str,
) -> tuple[Cell, ...] | str:
    """A layer's row of the table, or why it could not be measured."""
    sites = sites_of(subject, split)
    progress(f"relative flatness of layer {name}", list(sites).index(name), len(sites))
    try:
        layer = measure_site(sites[name], problem_of(subject, split, label_smoothing, rows), normalise, budget)
    except (NotApplicable, RuntimeError) as fault:  # an operation of the model has no second derivative
        return f"Layer '{name}' could not be measured: {fault}"
    estimate = layer.interval(budget.seed)
    low, high = (None, None) if estimate is None else (estimate.low, estimate.high)
    return name, f"{layer.shape[0]} x {layer.shape[1]}", len(rows), float(layer.kappa.mean()), low, high, layer.error
