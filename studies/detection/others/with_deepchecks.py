"""Asks deepchecks: the check made for each defect, with the conditions and thresholds it comes with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import _quiet  # noqa: F401
import numpy as np
import pandas as pd
from _cases import Answer, Ask, System, answer_all
from deepchecks.tabular import Dataset
from deepchecks.tabular.checks import (
    CalibrationScore,
    ConflictingLabels,
    DataDuplicates,
    FeatureDrift,
    FeatureLabelCorrelation,
    LabelDrift,
    MultivariateDrift,
    PercentOfNulls,
    TrainTestSamplesMix,
    WeakSegmentsPerformance,
)
from deepchecks.tabular.checks.model_evaluation import PerformanceBias


def dataset(system: System, split: str) -> Dataset:
    """Features, or attributes where a system has none, and labels."""
    if f"{split}_features" in system.arrays:
        features = system.arrays[f"{split}_features"]
        frame, categories = pd.DataFrame(features, columns=[f"f{i}" for i in range(features.shape[1])]), []
    else:
        frame = pd.DataFrame(system.attributes())
        categories = list(frame.columns)
    return Dataset(frame, label=pd.Series(system.arrays[f"{split}_labels"], name="label"), cat_features=categories)


def judged(
    rule: str, check: Any, number: Callable[[Any], float], worse: str = "high"
) -> Callable[..., Iterator[Answer]]:
    """A check with its condition: an alarm where a condition does not pass."""

    def answer(*data: Dataset, **more: Any) -> Iterator[Answer]:
        found = check.run(*data, with_display=False, **more)
        yield Answer(rule, number(found.value), worse, not found.passed_conditions())

    return answer


def on_train(rule: str, check: Any, number: Callable[[Any], float]) -> Ask:
    """A check of the training data."""
    answer = judged(rule, check, number)
    return lambda system: answer(dataset(system, "train"))


def on_both(rule: str, check: Any, number: Callable[[Any], float]) -> Ask:
    """A check of training and test data."""
    answer = judged(rule, check, number)
    return lambda system: answer(dataset(system, "train"), dataset(system, "test"))


def biased(system: System) -> Iterator[Answer]:
    """The lowest recall of a group compared with that of all."""
    lowest = min(_lowest(system, name) for name in system.attributes())
    yield Answer("PerformanceBias, recall: its condition has no default threshold", lowest, "low")


def _lowest(system: System, attribute: str) -> float:
    said = system.arrays["test_predictions"]
    found = PerformanceBias(attribute, scorer="recall").run(
        dataset(system, "test"), y_pred=said, y_proba=np.eye(2)[said], with_display=False
    )
    return float(found.value["scores_df"]["_diff"].min())


def weak(system: System) -> Iterator[Answer]:
    """The weakest segment; probabilities are 0 and 1, for only decisions are known."""
    said = system.arrays["test_predictions"]
    check = WeakSegmentsPerformance().add_condition_segments_relative_performance_greater_than()
    rule = "WeakSegmentsPerformance: the weakest segment has less than 80 % of the average score"
    answer = judged(rule, check, lambda value: value["weak_segments_list"].iloc[0, 0], "low")
    return answer(dataset(system, "test"), y_pred=said, y_proba=np.eye(2)[said])


def calibrated(system: System) -> Iterator[Answer]:
    """Mean Brier score over classes."""
    scores, said = system.arrays["test_scores"], system.arrays["test_predictions"]
    found = CalibrationScore().run(dataset(system, "test"), y_pred=said, y_proba=scores, with_display=False)
    yield Answer("CalibrationScore, mean Brier score: no condition", float(np.mean(list(found.value.values()))), "high")


ASKS: dict[str, Ask] = {
    "women": biased,
    "sites": biased,
    "missing": on_train(
        "PercentOfNulls: more than 5 % missing in one column",
        PercentOfNulls().add_condition_percent_of_nulls_not_greater_than(),
        lambda value: value.iloc[:, 0].max(),
    ),
    "copied": on_train(
        "DataDuplicates: more than 5 % of rows",
        DataDuplicates().add_condition_ratio_less_or_equal(),
        lambda value: value,
    ),
    "contradicted": on_train(
        "ConflictingLabels: any",
        ConflictingLabels().add_condition_ratio_of_conflicting_labels_less_or_equal(),
        lambda value: value["percent_of_conflicting_samples"],
    ),
    "seen": on_both(
        "TrainTestSamplesMix: more than 5 % of test rows",
        TrainTestSamplesMix().add_condition_duplicates_ratio_less_or_equal(),
        lambda value: value["ratio"],
    ),
    "telling": on_train(
        "FeatureLabelCorrelation: predictive power score of a column from 0.8",
        FeatureLabelCorrelation().add_condition_feature_pps_less_than(),
        lambda value: max(value.values()),
    ),
    "moved": on_both(
        "FeatureDrift: Kolmogorov-Smirnov of a column from 0.2",
        FeatureDrift().add_condition_drift_score_less_than(),
        lambda value: max(column["Drift score"] for column in value.values()),
    ),
    "mixed": on_both(
        "MultivariateDrift: 2 AUC - 1 of a domain classifier from 0.25",
        MultivariateDrift().add_condition_overall_drift_value_less_than(),
        lambda value: value["domain_classifier_drift_score"],
    ),
    "mix": on_both(
        "LabelDrift: Cramer's V from 0.15",
        LabelDrift().add_condition_drift_score_less_than(),
        lambda value: value["Drift score"],
    ),
    "weak": weak,
    "sure": calibrated,
}

if __name__ == "__main__":
    answer_all("deepchecks", "deepchecks", ASKS)
