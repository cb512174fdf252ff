"""The loss whose surface is measured: cross-entropy for classification, half the squared error for regression."""

from __future__ import annotations

import math

import torch

from assessor.contract import Task


def per_sample_loss(
    task: Task, outputs: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Loss of every sample, differentiable in `outputs`, in their dtype.

    Args:
        task: What the model does.
        outputs: As `Subject.logits` gives them: (n, C) logits, or (n,) values for regression.
        labels: (n,) class indices, or targets for regression.
        label_smoothing: Share of every class's target that is spread over all classes.

    Returns:
        (n,) cross-entropy in nats, or ||z - y||^2 / 2 in squared units of the target.

    >>> per_sample_loss(Task.REGRESSION, torch.tensor([3.0]), torch.tensor([1.0])).item()
    2.0
    """
    if task.is_classification:
        return torch.nn.functional.cross_entropy(outputs, labels, reduction="none", label_smoothing=label_smoothing)
    return (outputs - labels).square() / 2


def least_loss(classes: int, label_smoothing: float) -> float:
    """The least cross-entropy that smoothed labels allow, in nats: the entropy of their distribution.

    >>> least_loss(2, 0.0)
    0.0
    """
    rest = label_smoothing / classes
    shares = (1 - label_smoothing + rest, *(rest,) * (classes - 1))
    return sum(-share * math.log(share) for share in shares if share > 0)
