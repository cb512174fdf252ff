"""Asks AI Verify: its robustness toolbox and fairness metrics for classification, as shipped, which do not judge."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import _quiet  # noqa: F401
import aiverify_fairness_metrics_toolbox_for_classification.algo_init as fairness
import aiverify_robustness_toolbox.algo_init as robustness
import numpy as np
import pandas as pd
from _cases import ROBUST, Answer, Ask, System, answer_all
from aiverify_test_engine.plugins.enums.model_type import ModelType
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

LABEL, DECISION = "label", "decision"


def results_of(module: Any, model: Any, frame: pd.DataFrame, more: Mapping[str, Any]) -> dict[str, Any]:
    """Results of a plugin on a model and a table with its labels, by way of files as its command line does it.

    Args:
        module: The plugin's.
        model: An estimator.
        frame: Features and labels.
        more: Arguments of the plugin.

    Returns:
        What it writes.

    Raises:
        SystemExit: It failed.
    """
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as silence:
        data, file = Path(folder) / "data.sav", Path(folder) / "model.sav"
        data.write_bytes(pickle.dumps(frame))
        file.write_bytes(pickle.dumps(model))
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
                run = module.AlgoInit(
                    False, "", data, file, data, LABEL, ModelType.CLASSIFICATION, {"file_name_label": "", **more}
                )
                run.run()
            found: dict[str, Any] = json.loads(Path("output/results.json").read_text("utf-8"))["output"]
        finally:
            os.chdir(before)
    return found


def perturbed(model: Any, test: np.ndarray, system: System) -> float:
    """Accuracy on the rows it perturbed; NaN where it fails, as it does where that accuracy is 0."""
    frame = pd.DataFrame(test, columns=[f"f{i}" for i in range(test.shape[1])])
    np.random.seed(system.seed)
    labelled = frame.assign(**{LABEL: system.arrays["test_labels"]})
    try:
        found = results_of(robustness, model, labelled, {"annotated_ground_truth_path": ""})
    except SystemExit:
        return float("nan")
    return float(found["results"]["perturbed_performance"])


def shortcut(system: System) -> Iterator[Answer]:
    """The forest of the planted defect, trained anew; its features are in standard deviations."""
    forest = RandomForestClassifier(10, max_features=None, random_state=system.seed)
    forest.fit(system.arrays["train_features"], system.arrays["train_labels"])
    value = perturbed(forest, system.arrays["test_features"], system)
    yield Answer("robustness toolbox, accuracy on perturbed rows: no radius, no verdict", value, "low")


def robust(system: System) -> Iterator[Answer]:
    """The forest of 100 trees, on features as they are and on features in standard deviations."""
    train, test = system.arrays["train_features"], system.arrays["test_features"]
    for unit, words in ((np.ones(train.shape[1]), "as they are"), (train.std(axis=0), "in standard deviations")):
        forest = RandomForestClassifier(100, random_state=0).fit(train / unit, system.arrays["train_labels"])
        value = perturbed(forest, test / unit, system)
        yield Answer(f"accuracy on perturbed rows, no radius; features {words}", value, "low")


def group_metrics(system: System, said: np.ndarray, attribute: str) -> dict[str, dict[str, float]]:
    """Its metrics of the favourable class by name and group, for a model that repeats known decisions."""
    codes = np.unique(system.attributes()[attribute], return_inverse=True)[1]
    frame = pd.DataFrame({attribute: codes, DECISION: said})
    model = DecisionTreeClassifier(random_state=0).fit(frame.to_numpy(), said)
    labelled = frame.assign(**{LABEL: system.arrays["test_labels"]})
    found = results_of(fairness, model, labelled, {"sensitive_feature": [attribute], "annotated_labels_path": ""})
    favourable = found["results"][found["output_classes"].index(1)]
    return {name: {str(one["group"]): one["metric"] for one in groups} for name, groups in favourable.items()}


def parity(system: System, said: np.ndarray) -> Iterator[Answer]:
    """The disparate impact that is farthest from 1."""
    found = [group_metrics(system, said, name)["Disparate Impact"] for name in system.attributes()]
    ratio = min(min(value, 1 / value) for groups in found for value in groups.values())
    yield Answer("fairness metrics toolbox, Disparate Impact: no verdict", ratio, "low")


def odds(system: System) -> Iterator[Answer]:
    """The largest difference between what it calls the true positive rates of sites."""
    found = group_metrics(system, system.arrays["test_predictions"], "site")["True Positive Rate"]
    yield Answer(
        "fairness metrics toolbox, True Positive Rate, largest difference: no verdict",
        max(found.values()) - min(found.values()),
        "high",
    )


ASKS: dict[str, Ask] = {
    "women": lambda system: parity(system, system.arrays["test_predictions"]),
    "sites": odds,
    "turned": lambda system: parity(system, system.arrays["test_labels"]),
    "forest": shortcut,
    ROBUST: robust,
}

if __name__ == "__main__":
    answer_all("AI Verify", "aiverify-test-engine", ASKS)
