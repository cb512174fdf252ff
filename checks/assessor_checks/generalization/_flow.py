"""Layer by layer, what linear readings tell of the design's parameter, and where the most of it is lost."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from assessor.contract import NotApplicable, Subject
from assessor_checks._intervals import Estimate
from assessor_checks.generalization import _activations, _jackknife
from assessor_checks.generalization import _fisher as fisher
from assessor_checks.generalization._activations import Layer
from assessor_checks.generalization._fisher import Read
from assessor_checks.generalization._signal_designs import Design, Plan


class Row(NamedTuple):
    """A layer and what was read there.

    Attributes:
        layer: Its activations.
        read: Linear information; None where the parameter shows without any noise.
        learned: (T, 1 + folds / 2) information of a learned reading, or None.
    """

    layer: Layer
    read: Read | None
    learned: np.ndarray | None

    @property
    def mean(self) -> np.ndarray:
        """(1 + folds,) information, mean over the values."""
        assert self.read is not None
        found: np.ndarray = self.read.values.mean(axis=0)
        return found


class Loss(NamedTuple):
    """Information lost between two layers, as share of the input's."""

    share: Estimate
    before: str
    after: str


def layers_of(subject: Subject, design: Design) -> tuple[list[Layer], tuple[str, ...]]:
    """Recorded layers whose numbers are finite, and the names of the others.

    Args:
        subject: A PyTorch module with a design split.
        design: Which rows repeat which value.

    Returns:
        The layers, input first and output last, and the names of those left out.

    Raises:
        NotApplicable: The inputs carry no noise, the module changes its answers, or input or output is not finite.
    """
    inputs, _ = subject.tensors("design")
    if not inputs.is_floating_point():
        raise NotApplicable(f"the inputs are of type {inputs.dtype}, wanted floating-point numbers with noise")
    unsteady = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)
    for name, part in subject.module.named_modules():
        if part.training and isinstance(part, unsteady):
            raise NotApplicable(f"layer '{name}' is in train mode, so that the same input gives other activations")
    layers, left_out = _activations.record(subject.module, inputs, design)
    bad = {layer.name: sum(int((~rows.isfinite()).any(dim=1).sum()) for rows in layer.groups) for layer in layers}
    for layer in (layers[0], layers[-1]):
        if bad[layer.name]:
            raise NotApplicable(
                f"the numbers at '{layer.name}' are not finite for {bad[layer.name]} rows of the design split"
            )
    return [each for each in layers if not bad[each.name]], (*left_out, *(name for name in bad if bad[name]))


def row_of(layer: Layer, plan: Plan, *, most: int, tighten: bool, seed: int) -> Row:
    """What linear readings tell at a layer, and with `tighten` what a learned one does.

    Args:
        layer: Its activations.
        plan: Where slopes are taken, and folds.
        most: Numbers of a layer that is measured whole.
        tighten: Whether to train a reading too.
        seed: Of its training.

    Returns:
        The readings.
    """
    try:
        read = fisher.read_layer(layer.groups, plan, most)
    except fisher.NoiseFreeSignal:
        return Row(layer, None, None)
    if not tighten or layer.width > most:
        return Row(layer, read, None)
    try:
        return Row(layer, read, fisher.read_learned(layer.groups, plan, seed))
    except fisher.NoiseFreeSignal:
        return Row(layer, read, None)


def shares(rows: list[Row]) -> tuple[Estimate, Loss | None]:
    """The output's share of the input's information, and the largest loss on the way.

    Args:
        rows: Input first, output last.

    Returns:
        Both; no loss without two layers that were measured whole.

    Raises:
        NotApplicable: Input or output carry no noise, or the input tells nothing of the parameter.
    """
    first, last = rows[0], rows[-1]
    for row in (first, last):
        if row.read is None:
            raise NotApplicable(
                f"at '{row.layer.name}' the parameter changes numbers that carry no noise, so that the information "
                "has no finite value; the design split needs repeats with independent noise"
            )
    share = _jackknife.ratio(last.mean, first.mean)
    if share is None:
        found = _jackknife.jackknife(first.mean)
        raise NotApplicable(
            f"the input's linear information about the parameter cannot be told from 0 ({found.value:.3g}, interval "
            f"{found.low:.3g} to {found.high:.3g}); give more repeats or values further apart"
        )
    return share, _largest_loss([row for row in rows if row.read is not None])


def _largest_loss(rows: list[Row]) -> Loss | None:
    """Between two layers measured whole, against the most that is found later; None without two of them."""
    best = [max(rows[index:], key=lambda row: float(row.mean[0])) for index in range(len(rows))]
    whole = [index for index, row in enumerate(rows) if row.read is not None and not row.read.bounded]
    steps = list(pairwise(whole))
    if not steps:
        return None
    a, b = max(steps, key=lambda step: float(best[step[0]].mean[0] - best[step[1]].mean[0]))
    share = _jackknife.ratio(best[a].mean - best[b].mean, rows[0].mean)
    return None if share is None else Loss(share, rows[a].layer.name, rows[b].layer.name)
