"""Asks Fairlearn, which reports and does not judge: group metrics with its bootstrap; the rules on them are ours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from _cases import Answer, Ask, System, answer_all
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_ratio,
    equalized_odds_ratio,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)

DRAWN = 100  # resamples of its bootstrap
FIFTHS = "below 0.8, the four-fifths rule, which its user guide warns of"


def parity(said: np.ndarray, system: System) -> Iterator[Answer]:
    """Selection rates: their ratio and their intervals."""
    labels, columns = system.arrays["test_labels"], system.attributes()
    ratio = min(demographic_parity_ratio(labels, said, sensitive_features=column) for column in columns.values())
    yield Answer(f"demographic_parity_ratio {FIFTHS}", ratio, "low", ratio < 0.8)
    yield _intervals({"selection rate": selection_rate}, said, system)


def odds(system: System) -> Iterator[Answer]:
    """True and false positive rates, likewise."""
    labels, said, column = system.arrays["test_labels"], system.arrays["test_predictions"], system.attributes()["site"]
    ratio = equalized_odds_ratio(labels, said, sensitive_features=column)
    yield Answer(f"equalized_odds_ratio {FIFTHS}", ratio, "low", ratio < 0.8)
    yield _intervals({"true": true_positive_rate, "false": false_positive_rate}, said, system)


def _intervals(metrics: dict[str, object], said: np.ndarray, system: System) -> Answer:
    """The largest difference of groups, and whether the intervals of two groups lie apart."""
    frames = [
        MetricFrame(
            metrics=metrics,
            y_true=system.arrays["test_labels"],
            y_pred=said,
            sensitive_features=column,
            n_boot=DRAWN,
            ci_quantiles=[0.025, 0.975],
            random_state=system.seed,
        )
        for column in system.attributes().values()
    ]
    ends = [frame.by_group_ci for frame in frames]
    apart = any((low.max() > high.min()).any() for low, high in ends)
    largest = max(frame.difference().max() for frame in frames)
    return Answer("MetricFrame: the bootstrap intervals of two groups lie apart, our rule", largest, "high", apart)


ASKS: dict[str, Ask] = {
    "women": lambda system: parity(system.arrays["test_predictions"], system),
    "sites": odds,
    "turned": lambda system: parity(system.arrays["test_labels"], system),
}

if __name__ == "__main__":
    answer_all("Fairlearn", "fairlearn", ASKS)
