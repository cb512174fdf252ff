"""The loss whose surface is measured: cross-entropy for classification, half the squared error for regression."""

from __future__ import annotations

import torch

from assessor.contract import Task


def per_sample_loss(task: Task, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of every sample, differentiable in `outputs`, in their dtype.

    Args:
        task: What the model does.
        outputs: As `Subject.logits` gives them: (n, C) logits, or (n,) values for regression.
        labels: (n,) class indices, or targets for regression.

    Returns:
        (n,) cross-entropy in nats, or ||z - y||^2 / 2 in squared units of the target.

    >>> per_sample_loss(Task.REGRESSION, torch.tensor([3.0]), torch.tensor([1.0])).item()
    2.0
    """
    if task.is_classification:
        return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")
    return (outputs - labels).square() / 2
