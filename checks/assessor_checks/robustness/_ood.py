"""Scores that may tell rows from outside the field of use, and rows made to lie outside.

Every score is high for rows that look foreign. Those of the model's probabilities need nothing else; energy needs
logits; distances at the last layer's features need a PyTorch module and training rows, those at the inputs only the
latter and are no score of the model: they show what a simple monitor of the inputs would find.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy.special import entr

from assessor.contract import Need, NotApplicable, Subject
from assessor_checks._inputs import chosen_rows

if TYPE_CHECKING:
    import torch

REFERENCE = 5000  # training rows that distances are measured to, at most
_REFERENCE_ENTRIES = 2**26  # values of them, at most
STRETCH = 3.0  # times as far from the mean are stretched rows
_RIDGE = 1e-6  # of the mean variance, added to the covariance so that it can be inverted
_ENTRIES = 2**23  # distances held at once

Made = Literal["shuffled", "gaussian", "uniform", "stretched"]
Score = Literal["max_probability", "entropy", "energy", "mahalanobis", "knn_features", "knn_inputs"]
Scores = Callable[[np.ndarray], dict[str, np.ndarray]]


def made_rows(kind: Made, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many rows as given that lie outside their distribution, of the same dtype.

    Args:
        kind: "shuffled": every feature's values dealt out anew among the rows, so that single features look usual and
            their combinations do not. "gaussian": independent normal values of the features' means and standard
            deviations. "uniform": independent values between the features' least and greatest. "stretched": rows
            three times as far from the mean.
        rows: (n, ...) complete rows.
        rng: All randomness.

    Returns:
        (n, ...) made rows.
    """
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    if kind == "shuffled":
        made = rng.permuted(flat, axis=0)
    elif kind == "gaussian":
        made = rng.normal(flat.mean(axis=0), flat.std(axis=0), size=flat.shape)
    elif kind == "uniform":
        made = rng.uniform(flat.min(axis=0), flat.max(axis=0), size=flat.shape)
    else:
        made = flat.mean(axis=0) + STRETCH * (flat - flat.mean(axis=0))
    return made.reshape(rows.shape).astype(rows.dtype)


def complete(rows: np.ndarray) -> np.ndarray:
    """Those of the rows (n, ...) that have no missing or infinite value."""
    found: np.ndarray = rows[np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)]
    return found


def given_rows(subject: Subject, like: np.ndarray, most: int, seed: int) -> np.ndarray | None:
    """Complete rows of the split "ood", at most so many, in the dtype of `like`; None where there are none.

    Raises:
        NotApplicable: They do not have the shape of `like`.
    """
    split = subject.splits.get("ood")
    if split is None or split.features is None:
        return None
    if split.features.shape[1:] != like.shape[1:]:
        raise NotApplicable(
            f"rows from outside have the shape {split.features.shape[1:]}, wanted {like.shape[1:]} as the test rows"
        )
    rows = complete(split.features.astype(like.dtype))
    found: np.ndarray = rows[chosen_rows(len(rows), most, seed)]
    return found


def twins(subject: Subject, rows: np.ndarray) -> float:
    """Share of the rows that the train or the test split holds as well, value for value."""
    known: set[bytes] = set()
    for name in ("train", "test"):
        split = subject.splits.get(name)
        if split is not None and split.features is not None:
            known.update(_digest(row.astype(rows.dtype)) for row in split.features)
    return sum(_digest(row) in known for row in rows) / len(rows)


def _digest(row: np.ndarray) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def training_rows(subject: Subject, dtype: np.dtype[np.generic], seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Complete training rows and their labels, no more than distances are measured to; None where there are none."""
    train = subject.splits.get("train")
    if train is None or train.features is None:
        return None
    rows = train.features
    whole = np.flatnonzero(np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))
    most = int(np.clip(_REFERENCE_ENTRIES // max(1, rows[0].size), 1, REFERENCE)) if len(rows) else 0
    chosen = whole[chosen_rows(len(whole), most, seed)]
    return (rows[chosen].astype(dtype), train.labels[chosen]) if len(chosen) else None


def finite(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores by name, of those rows only all of whose scores are finite."""
    fine = np.isfinite(np.stack(list(scores.values()))).all(axis=0)
    return {name: values[fine] for name, values in scores.items()}


def of_probabilities(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of class probabilities (n, C).

    "max_probability": minus the largest (Hendrycks and Gimpel 2017, arXiv 1610.02136); "entropy" in nats.

    >>> of_probabilities(np.array([[0.5, 0.5]]))["entropy"].round(4)
    array([0.6931])
    """
    return {"max_probability": -probabilities.max(axis=1), "entropy": entr(probabilities).sum(axis=1)}


def of_logits(logits: np.ndarray) -> dict[str, np.ndarray]:
    """Energy of logits (n, C): minus their logsumexp (Liu et al. 2020, arXiv 2010.03759, equation 4).

    Nothing where the first logit is always 0, as for a model of two classes with one output: its energy then only
    tells the classes apart.

    >>> of_logits(np.array([[1.0, 1.0]]))["energy"].round(4)
    array([-1.6931])
    """
    if logits.shape[1] == 2 and not logits[:, 0].any():
        return {}
    most = logits.max(axis=1, keepdims=True)
    return {"energy": -(most[:, 0] + np.log(np.exp(logits - most).sum(axis=1)))}


class Gaussians(NamedTuple):
    """Class means (C, m) and the inverse (m, m) of the covariance they share."""

    means: np.ndarray
    precision: np.ndarray

    @staticmethod
    def fitted(features: np.ndarray, labels: np.ndarray) -> Gaussians:
        """Of features (n, m) with class labels (n,) (Lee et al. 2018, arXiv 1807.03888, equation 1)."""
        present, which = np.unique(labels, return_inverse=True)
        means = np.stack([features[which == place].mean(axis=0) for place in range(len(present))])
        left = features - means[which]
        shared = left.T @ left / len(features)
        ridge = _RIDGE * (float(np.trace(shared)) / len(shared) or 1.0)
        return Gaussians(means, np.linalg.inv(shared + ridge * np.eye(len(shared))))

    def distance(self, features: np.ndarray) -> np.ndarray:
        """(n,) squared Mahalanobis distance of features (n, m) to the nearest mean (equation 2)."""
        found = np.full(len(features), np.inf)
        for mean in self.means:
            left = features - mean
            found = np.minimum(found, ((left @ self.precision) * left).sum(axis=1))
        return found


def neighbour_distance(rows: np.ndarray, reference: np.ndarray, k: int) -> np.ndarray:
    """(n,) Euclidean distance of rows (n, m) to their k-th nearest of the reference rows (r, m), k at most r."""
    norms, size = (reference**2).sum(axis=1), max(1, _ENTRIES // len(reference))
    parts = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        squares = (some**2).sum(axis=1)[:, None] + norms - 2 * some @ reference.T
        parts.append(np.partition(squares, k - 1, axis=1)[:, k - 1])
    found: np.ndarray = np.sqrt(np.maximum(np.concatenate(parts), 0.0))
    return found


def scorer(subject: Subject, reference: tuple[np.ndarray, np.ndarray] | None, k: int) -> tuple[Scores, bool]:
    """What gives all scores that this subject has.

    Args:
        subject: A classifier that gives probabilities for new inputs.
        reference: Complete training rows (r, ...) and their labels (r,); None: no distances.
        k: The neighbour whose distance counts.

    Returns:
        A function of rows (n, ...), and whether the last layer's features could be had.
    """
    parts: list[Scores] = [lambda rows: of_probabilities(subject.query_scores(rows))]
    deep = False
    if Need.GRADIENTS in subject.offers:
        parts.append(lambda rows: of_logits(_logits(subject, rows)))
        if reference is not None:
            try:
                parts.append(_at_features(subject, *reference, k))
                deep = True
            except NotApplicable:  # told by `deep`
                pass
    if reference is not None:
        parts.append(_at_inputs(reference[0], k))

    def scores(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values for part in parts for name, values in part(rows).items()}

    return scores, deep


def _at_inputs(reference: np.ndarray, k: int) -> Scores:
    """Distance to the k-th nearest training row, features divided by their standard deviations."""
    flat = reference.reshape(len(reference), -1).astype(np.float64)
    spread = flat.std(axis=0)
    weight = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)
    near = (flat - flat.mean(axis=0)) * weight

    def scores(rows: np.ndarray) -> dict[str, np.ndarray]:
        scaled = (rows.reshape(len(rows), -1).astype(np.float64) - flat.mean(axis=0)) * weight
        return {"knn_inputs": neighbour_distance(scaled, near, k)}

    return scores


def _at_features(subject: Subject, rows: np.ndarray, labels: np.ndarray, k: int) -> Scores:
    """Distances at the features of the last linear layer; of neighbours after division by their length.

    The latter as in Sun et al. 2022, arXiv 2204.06507, equation 3.
    """
    from assessor_checks.robustness._masking import refuse_batch_statistics

    refuse_batch_statistics(subject.module)
    known = _features(subject, rows)
    gaussians, directions = Gaussians.fitted(known, labels), _directions(known)

    def scores(new: np.ndarray) -> dict[str, np.ndarray]:
        features = _features(subject, new)
        return {
            "mahalanobis": gaussians.distance(features),
            "knn_features": neighbour_distance(_directions(features), directions, k),
        }

    return scores


def _directions(features: np.ndarray) -> np.ndarray:
    found: np.ndarray = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-300)
    return found


def _features(subject: Subject, rows: np.ndarray) -> np.ndarray:
    from assessor.contract import in_batches
    from assessor_checks._layers import BATCH, last_linear

    def features(x: torch.Tensor) -> torch.Tensor:
        return last_linear(subject.module, x).features

    found: np.ndarray = in_batches(features, _tensor(subject, rows), size=BATCH, work="forward").double().cpu().numpy()
    return found


def _logits(subject: Subject, rows: np.ndarray) -> np.ndarray:
    import torch

    from assessor.contract import in_batches

    with torch.no_grad():
        found: np.ndarray = (
            in_batches(subject.logits, _tensor(subject, rows), size=4096, work="forward").double().cpu().numpy()
        )
    return found


def _tensor(subject: Subject, rows: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(rows)).to(subject.tensors("test")[0])
