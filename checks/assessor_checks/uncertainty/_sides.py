"""Rows of a split with their labels and outputs, as far as they can be judged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from assessor.contract import NotApplicable, Subject
from assessor_checks._probabilities import improper


class Side(NamedTuple):
    """Calibration or judged rows: their split, positions in it, labels and outputs."""

    split: str
    rows: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray

    def at(self, rows: np.ndarray) -> Side:
        """Some of its rows."""
        return Side(self.split, rows, self.labels[rows], self.outputs[rows])


def side_of(subject: Subject, name: str) -> Side:
    """All rows of a split.

    Args:
        subject: Any.
        name: Of the split.

    Returns:
        Its rows.

    Raises:
        NotApplicable: There is no such split or row, or an output or a label that cannot be judged.
    """
    if name not in subject.splits:
        raise NotApplicable(f"needs rows of the {name} split (target.data.{name})")
    labels = np.asarray(subject.splits[name].labels)
    if not (n := len(labels)):
        raise NotApplicable(f"the {name} split has no rows")
    outputs = np.asarray(subject.scores(name), dtype=np.float64)
    if bad := int((~np.isfinite(labels.astype(np.float64))).sum()):
        raise NotApplicable(f"labels are unknown for {bad} of {n} rows of the {name} split")
    if bad := int((~np.isfinite(outputs.reshape(n, -1))).any(axis=1).sum()):
        raise NotApplicable(f"the model's outputs are not finite for {bad} of {n} rows of the {name} split")
    if subject.task.is_classification:
        if bad := int(improper(outputs).sum()):
            raise NotApplicable(
                f"the model's scores are no probabilities that sum to 1 for {bad} of {n} rows of the {name} split"
            )
        labels = labels.astype(np.int64)
        if bad := int(((labels < 0) | (labels >= outputs.shape[1])).sum()):
            raise NotApplicable(f"labels are none of the model's classes for {bad} of {n} rows of the {name} split")
    return Side(name, np.arange(n), labels, outputs)
