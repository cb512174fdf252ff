"""Asks giskard: its scan with the detectors made for a defect, as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import _quiet  # noqa: F401
import giskard
import numpy as np
import pandas as pd
from _cases import Answer, Ask, System, answer_all
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROW = "row"  # where a system is known by its answers alone, the number of the row is what looks them up
Scores = Callable[[pd.DataFrame], np.ndarray]


def scanned(system: System, frame: pd.DataFrame, scores: Scores, detector: str) -> Iterator[Answer]:
    """An alarm where the scan reports an issue."""
    labels = system.arrays["test_labels"]
    features, classes = list(frame.columns), np.unique(labels).tolist()
    table = frame.assign(**{ROW: np.arange(len(frame)), "label": labels})
    categories = [name for name in features if frame[name].dtype == object]
    model = giskard.Model(
        scores, "classification", name="planted", feature_names=[*features, ROW], classification_labels=classes
    )
    data = giskard.Dataset(table, target="label", cat_columns=categories)
    found = giskard.scan(model, data, features=features, only=[detector], verbose=False, raise_exceptions=True)
    yield Answer(f"scan, {detector}: any issue", len(found.issues), "high", found.has_issues())


def looked_up(system: System) -> Scores:
    """Scores by the number of the row: those known, or 0 and 1 where only decisions are."""
    said = system.arrays["test_predictions"]
    known = system.arrays.get("test_scores", np.eye(int(said.max()) + 1)[said])
    return lambda frame: known[frame[ROW].to_numpy().astype(int)]


def features(system: System) -> pd.DataFrame:
    """Test features as columns with names."""
    values = system.arrays["test_features"]
    return pd.DataFrame(values, columns=[f"f{i}" for i in range(values.shape[1])])


def by_group(system: System) -> Iterator[Answer]:
    """Performance of the groups of sensitive attributes."""
    frame = pd.DataFrame({name: column.astype(object) for name, column in system.attributes().items()})
    return scanned(system, frame, looked_up(system), "performance_bias")


def trained(model: RandomForestClassifier | object, detector: str, system: System) -> Iterator[Answer]:
    """A model trained anew on the training rows."""
    model.fit(system.arrays["train_features"], system.arrays["train_labels"])  # type: ignore[attr-defined]
    frame = features(system)
    names = list(frame.columns)
    return scanned(system, frame, lambda rows: model.predict_proba(rows[names].to_numpy()), detector)  # type: ignore[attr-defined]


def telling(system: System) -> Iterator[Answer]:
    """A logistic regression that has the column among its features."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    return trained(model, "spurious_correlation", system)


def shortcut(system: System) -> Iterator[Answer]:
    """The forest of the planted defect."""
    model = RandomForestClassifier(10, max_features=None, random_state=system.seed)
    return trained(model, "numerical_perturbation", system)


ASKS: dict[str, Ask] = {
    "women": by_group,
    "sites": by_group,
    "telling": telling,
    "weak": lambda system: scanned(system, features(system), looked_up(system), "performance_bias"),
    "sure": lambda system: scanned(system, features(system), looked_up(system), "overconfidence"),
    "forest": shortcut,
}

if __name__ == "__main__":
    answer_all("giskard", "giskard", ASKS)
