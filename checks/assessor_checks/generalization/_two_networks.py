"""A model and its baseline as two ends of a line: checked to fit, on the same rows, renumbered to match."""

from __future__ import annotations

import math

import numpy as np
import torch

from assessor.contract import Need, NotApplicable, Subject, in_batches
from assessor_checks import _inputs, _layers
from assessor_checks import _interpolation as paths
from assessor_checks._interpolation import Ends, Landscape, Pair, State
from assessor_checks.generalization import _permutation as permutation

PROBED = 64  # rows that show whether the baseline's parameters do in the model what they do in the baseline


def pair_of(
    subject: Subject, *, steps: int, most: int, recompute: bool, seed: int
) -> tuple[Pair, Landscape, tuple[str, ...]]:
    """Both networks on the test rows, the loss on the rows that weigh the averages, and remarks.

    Args:
        subject: A PyTorch module with a baseline.
        steps: Of the grid between them.
        most: Rows of a split at most.
        recompute: Whether every network gets batch normalisation statistics of its own.
        seed: Of the rows' choice and the bootstrap.

    Returns:
        The pair, the landscape, remarks.

    Raises:
        NotApplicable: The architectures or what the parameters do differ, or there is nothing to move or to move on.
    """
    module, baseline = subject.module, subject.baseline
    if difference := _layers.same_architecture(module, baseline.module):
        raise NotApplicable(f"the baseline is of another architecture than the model: {difference}")
    test = _some(subject, "test", most, seed)
    train = _some(subject, "train", most, seed) if Need.TRAIN in subject.offers else None
    if not len(test[0]):
        raise NotApplicable("the test split has no rows")
    _layers.refuse_unsteady(module, test[0])
    if not (a := paths.state_of(module)):
        raise NotApplicable("the model has no parameters that could be moved")
    b = {name: value.to(a[name]) for name, value in paths.state_of(baseline.module).items()}
    plain = paths.Landscape(subject, *test)
    _check_same_function(subject, plain, b)
    norms = paths.normalisations(module)
    refresh = train[0] if norms and train and recompute and len(train[0]) > 1 else None
    own = {f"{name}.{held}" for name in norms for held in ("running_mean", "running_var") if refresh is not None}
    names = tuple(name for name in a if name not in own)
    land = paths.Landscape(subject, *test, refresh=refresh)
    pair = paths.Pair(land, a, b, names, np.linspace(0, 1, steps + 1), seed)
    remarks = [f"{pair.n} of {subject.splits['test'].n} test rows; {len(names)} tensors are moved."]
    if norms and refresh is None:
        remarks.append(
            f"The running statistics of {len(norms)} batch normalisation layers are moved like parameters, which "
            "raises the loss between the ends; with a train split they can be recomputed (recompute_batchnorm)."
        )
    elif refresh is not None:
        one, two, three, four = (float(where.at(end).losses.mean()) for where in (land, plain) for end in (a, b))
        remarks.append(
            f"Every network has batch normalisation statistics of its own from {len(refresh)} train rows, the ends "
            f"too: their losses are {one:.4g} and {two:.4g}, as delivered {three:.4g} and {four:.4g}."
        )
    if train is None:
        remarks.append("Without a train split the Fisher weights come from the test rows, which flatters that average.")
    return pair, paths.Landscape(subject, *(train or test), refresh=refresh), tuple(remarks)


def _some(subject: Subject, split: str, most: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = subject.tensors(split)
    rows = torch.from_numpy(_inputs.chosen_rows(len(labels), most, seed)).to(inputs.device)
    return inputs[rows], labels[rows]


def _check_same_function(subject: Subject, land: Landscape, b: State) -> None:
    """The baseline's parameters must do in the model what they do in the baseline."""
    with torch.no_grad():
        theirs = in_batches(subject.baseline.logits, land.inputs[:PROBED], size=PROBED)
    if not bool(theirs.isfinite().all()):
        raise NotApplicable("the baseline's outputs are not finite on the test rows")
    if not land.gives(b, theirs):
        raise NotApplicable(
            "with the baseline's parameters the model does not give the baseline's outputs, so they differ in more "
            "than their parameters"
        )


def renumbered(subject: Subject, pair: Pair) -> tuple[State | None, tuple[str, ...]]:
    """The baseline's state with its hidden units renumbered to match the model's, or None with the reason.

    Args:
        subject: Whose module it is.
        pair: Both networks.

    Returns:
        State or None, and a remark.
    """
    rows = pair.land.inputs[:PROBED]
    try:
        state, moved, units = permutation.aligned(subject.module, pair.a, pair.b, rows, seed=pair.seed)
    except permutation.UnalignableError as reason:
        return None, (str(reason),)
    return state, (f"Alignment renumbered {moved} of {units} hidden units of the baseline.",)


def expansion(subject: Subject, pair: Pair) -> tuple[Ends | None, tuple[str, ...]]:
    """Derivatives at both ends, or None with the reason.

    Args:
        subject: Whose module it is.
        pair: Both networks.

    Returns:
        Derivatives or None, and remarks.
    """
    path = paths.line(pair.a, pair.b, pair.names)
    norms = paths.normalisations(subject.module)
    if any(f"{name}.{held}" in path.start for name in norms for held in ("running_mean", "running_var")):
        return None, ("Slope and curvature at the ends are left out, since running statistics have no gradients.",)
    try:
        ends = pair.land.expansion(path)
    except torch.OutOfMemoryError:
        return None, ("Slope and curvature at the ends are left out: they take more memory than the device has.",)
    except RuntimeError:  # torch's word for operations without a derivative
        return None, ("Slope and curvature at the ends are left out: the model cannot be differentiated twice.",)
    if not all(math.isfinite(value) for value in (*ends.loss, *ends.slope, *ends.curvature)):
        return None, ("Slope and curvature at the ends are left out: they are not finite.",)
    return ends, ()
