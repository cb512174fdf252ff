"""Asks AI Fairness 360, which reports and does not judge: the fair ranges are those that its web demo shows."""

from __future__ import annotations

from collections.abc import Iterator

import _quiet  # noqa: F401
import numpy as np
import pandas as pd
from _cases import Answer, Ask, System, answer_all
from aif360.datasets import BinaryLabelDataset
from aif360.metrics import BinaryLabelDatasetMetric, ClassificationMetric

ABOUT = "the range its demo calls fair"


def pairs(system: System) -> Iterator[tuple[np.ndarray, str]]:
    """Each group against the rest, as 1 and 0; of two groups one."""
    for name, column in system.attributes().items():
        groups = np.unique(column)
        for group in groups[:1] if len(groups) == 2 else groups:
            yield (column == group).astype(float), f"{name} {group}"


def dataset(group: np.ndarray, labels: np.ndarray) -> BinaryLabelDataset:
    """A table of a group and its labels."""
    frame = pd.DataFrame({"group": group, "label": labels.astype(float)})
    return BinaryLabelDataset(df=frame, label_names=["label"], protected_attribute_names=["group"])


SIDES = {"unprivileged_groups": [{"group": 1}], "privileged_groups": [{"group": 0}]}


def parity(labels: np.ndarray, system: System) -> Iterator[Answer]:
    """Disparate impact and statistical parity difference of the worst pair."""
    found = [BinaryLabelDatasetMetric(dataset(group, labels), **SIDES) for group, _ in pairs(system)]
    ratio = min(min(one.disparate_impact(), 1 / one.disparate_impact()) for one in found)
    yield Answer(f"disparate_impact outside 0.8 to 1.25, {ABOUT}", ratio, "low", ratio < 0.8)
    gap = max(abs(one.statistical_parity_difference()) for one in found)
    yield Answer(f"statistical_parity_difference outside -0.1 to 0.1, {ABOUT}", gap, "high", gap > 0.1)


def odds(system: System) -> Iterator[Answer]:
    """Equal opportunity difference of each site against the rest."""
    labels, said = system.arrays["test_labels"], system.arrays["test_predictions"]
    found = [ClassificationMetric(dataset(group, labels), dataset(group, said), **SIDES) for group, _ in pairs(system)]
    gap = max(abs(one.equal_opportunity_difference()) for one in found)
    yield Answer(
        f"equal_opportunity_difference outside -0.1 to 0.1, {ABOUT}; a site against the rest", gap, "high", gap > 0.1
    )
    gap = max(abs(one.average_odds_difference()) for one in found)
    yield Answer(
        f"average_odds_difference outside -0.1 to 0.1, {ABOUT}; a site against the rest", gap, "high", gap > 0.1
    )


def consistent(system: System) -> Iterator[Answer]:
    """Share of agreement with the five nearest rows."""
    features, said = system.arrays["test_features"], system.arrays["test_predictions"]
    frame = pd.DataFrame(features / features.std(axis=0), columns=[f"f{i}" for i in range(features.shape[1])])
    frame = frame.assign(group=0.0, label=said.astype(float))
    data = BinaryLabelDataset(df=frame, label_names=["label"], protected_attribute_names=["group"])
    value = float(BinaryLabelDatasetMetric(data).consistency()[0])
    yield Answer("consistency, five neighbours: no range is given", value, "low")


ASKS: dict[str, Ask] = {
    "women": lambda system: parity(system.arrays["test_predictions"], system),
    "sites": odds,
    "turned": lambda system: parity(system.arrays["test_labels"], system),
    "moody": consistent,
}

if __name__ == "__main__":
    answer_all("AIF360", "aif360", ASKS)
