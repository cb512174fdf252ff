"""Membership attacks on a subject: which rows are attacked, what is asked of the model, and of models trained anew."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from assessor.contract import NotApplicable, Scores, Subject, kept, progress, spread
from assessor_checks._intervals import Estimate
from assessor_checks._near_duplicates import shared
from assessor_checks._probabilities import improper
from assessor_checks.privacy import _membership

_TARGET = 1_000_000  # added to the seed of the model that is attacked in place of the subject


class Attack(NamedTuple):
    """Rows attacked and what the attack says of them.

    Attributes:
        scores: (n,) higher for likelier members.
        is_member: (n,) whether the model was trained on the row.
        rows: (n,) position in its split: members in train; others in test, or in train where the model attacked was
            trained on half of it.
        labels: (n,) class or value.
        how: The attack in words.
        losses: (n,) what the row's loss alone says, higher for likelier members: of the same class, or the error.
        copies: Test rows left out since they are training rows.
    """

    scores: np.ndarray
    is_member: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    how: str
    losses: np.ndarray
    copies: int = 0


class _Rows(NamedTuple):
    """Rows attacked of one split: positions, labels, features where known."""

    split: str
    rows: np.ndarray
    labels: np.ndarray
    features: np.ndarray | None


def by_loss(subject: Subject, most: int, seed: int) -> Attack:
    """Every row's loss, among rows of its class; for a regression the size of its error.

    Args:
        subject: With train and test rows.
        most: Members, and others, attacked at most.
        seed: Seed of their choice.

    Returns:
        The attack.

    Raises:
        NotApplicable: No rows, or outputs that are no probabilities or not finite.
    """
    *sides, copies = _members_and_others(subject, most, seed)
    labels, outputs = _labels(sides), np.concatenate([_outputs(subject, side) for side in sides])
    losses = _losses(subject, _membership.signal(outputs, labels, _membership.floor_of(outputs, labels)), labels)
    how = "threshold on the loss of each class" if subject.task.is_classification else "threshold on the error"
    return _attack(sides, losses, how, losses, copies)


def by_likelihood_ratio(subject: Subject, shadows: int, most: int, seed: int) -> Attack:
    """Offline LiRA on the subject itself; shadow models are trained on halves of its training rows.

    Every row is compared with as many shadow models that were not trained on it: the half for a member, as many drawn
    at random for another row. With more for one side than for the other its scores would be less spread.

    Args:
        subject: Can be trained anew.
        shadows: Number of shadow models, even.
        most: Members, and others, attacked at most.
        seed: Seed of choice, halves and training.

    Returns:
        The attack.

    Raises:
        NotApplicable: No rows, or outputs that are no probabilities or not finite.
    """
    *sides, copies = _members_and_others(subject, most, seed)
    labels, outputs = _labels(sides), np.concatenate([_outputs(subject, side) for side in sides])
    floor = _membership.floor_of(outputs, labels)
    inside = _membership.halves(subject.splits["train"].n, shadows, np.random.default_rng([seed, 1]))
    drawn = _membership.halves(len(sides[1].rows), shadows, np.random.default_rng([seed, 2]))
    outside = np.concatenate([~inside[:, sides[0].rows], drawn], axis=1)
    signals = _shadow_signals(subject, inside, sides, floor, seed)
    own = _membership.signal(outputs, labels, floor)
    how = f"likelihood ratio attack (offline LiRA), {shadows} shadow models"
    return _attack(sides, _membership.offline(signals, own, outside), how, _losses(subject, own, labels), copies)


def on_procedure(subject: Subject, shadows: int, most: int, seed: int) -> Attack:
    """Online LiRA on a model trained anew on a random half of the training rows; the other half are non-members.

    Members and others come from one source by construction, and every row has shadow models of both kinds.

    Args:
        subject: Can be trained anew.
        shadows: Number of shadow models, even.
        most: Members, and others, attacked at most.
        seed: Seed of choice, halves and training.

    Returns:
        The attack.

    Raises:
        NotApplicable: Fewer than four rows, or outputs that are no probabilities or not finite.
    """
    n, rng = subject.splits["train"].n, np.random.default_rng([seed, 0])
    if n < 4:
        raise NotApplicable(f"{n} training rows cannot be halved for an attack")
    is_member = rng.permutation(n) < n // 2
    sides = [_chosen(subject, "train", np.flatnonzero(part), most, rng) for part in (is_member, ~is_member)]
    target = subject.refit(np.flatnonzero(is_member), seed + _TARGET)
    labels, outputs = _labels(sides), np.concatenate([_asked(subject, target, side) for side in sides])
    floor = _membership.floor_of(outputs, labels)
    inside = _membership.halves(n, shadows, np.random.default_rng([seed, 1]))
    signals = _shadow_signals(subject, inside, sides, floor, seed)
    seen = inside[:, np.concatenate([side.rows for side in sides])]
    own = _membership.signal(outputs, labels, floor)
    how = f"likelihood ratio attack (online LiRA) on a model trained on half of the rows, {shadows} shadow models"
    return _attack(sides, _membership.online(signals, own, seen), how, _losses(subject, own, labels))


def shift(subject: Subject, attack: Attack, seed: int) -> Estimate | None:
    """How well inputs and labels alone, without the model, tell members from others.

    Args:
        subject: What was attacked.
        attack: On its train and test rows.
        seed: Seed of the classifier.

    Returns:
        Area under its ROC curve; None where the inputs are not known as finite numbers.
    """
    parts = []
    for name, rows in (("train", attack.rows[attack.is_member]), ("test", attack.rows[~attack.is_member])):
        features = subject.splits[name].features
        if features is None or features.dtype.kind not in "biuf" or not np.isfinite(features).all():
            return None
        parts.append(features[rows].reshape(len(rows), -1).astype(np.float64))
    labels = attack.labels[:, None]
    if subject.task.is_classification:
        labels = (labels == np.arange(len(subject.classes))).astype(np.float64)
    members, others = (
        np.concatenate([part, labels[side]], axis=1)
        for part, side in zip(parts, (attack.is_member, ~attack.is_member), strict=True)
    )
    return _membership.inputs_alone(members, others, seed)


def _members_and_others(subject: Subject, most: int, seed: int) -> tuple[_Rows, _Rows, int]:
    """Training rows, test rows that are no copies of training rows, and how many were."""
    train, test = subject.splits["train"], subject.splits["test"]
    copied = np.zeros(test.n, dtype=bool)
    if train.features is not None and test.features is not None:
        copied[shared(test.features, train.features).first] = True
    rng = np.random.default_rng([seed, 0])
    if copied.all():
        raise NotApplicable(
            "every test row is a copy of a training row, so that no rows are left that the model has not seen; see "
            "data.leakage"
        )
    members = _chosen(subject, "train", np.arange(train.n), most, rng)
    return members, _chosen(subject, "test", np.flatnonzero(~copied), most, rng), int(copied.sum())


def _chosen(subject: Subject, split: str, rows: np.ndarray, most: int, rng: np.random.Generator) -> _Rows:
    if len(rows) < 2:
        raise NotApplicable(f"the {split} split has {len(rows)} rows that could be attacked, wanted 2 at the least")
    found, rows = subject.splits[split], np.sort(rng.permutation(rows)[:most])
    return _Rows(split, rows, np.asarray(found.labels)[rows], None if found.features is None else found.features[rows])


def _labels(sides: list[_Rows]) -> np.ndarray:
    return np.concatenate([side.labels for side in sides])


def _attack(sides: list[_Rows], scores: np.ndarray, how: str, losses: np.ndarray, copies: int = 0) -> Attack:
    is_member = np.repeat([True, False], [len(side.rows) for side in sides])
    rows = np.concatenate([side.rows for side in sides])
    return Attack(scores, is_member, rows, _labels(sides), how, losses, copies)


def _losses(subject: Subject, signals: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return _membership.ranks_by_class(signals, labels) if subject.task.is_classification else signals


def _outputs(subject: Subject, side: _Rows) -> np.ndarray:
    return _checked(subject, np.asarray(subject.scores(side.split), dtype=np.float64)[side.rows], side.split)


def _asked(subject: Subject, scores: Scores, side: _Rows) -> np.ndarray:
    if side.features is None:
        raise NotApplicable("the features of the rows are not known, so that no other model can be asked about them")
    return _checked(subject, np.asarray(scores(side.features), dtype=np.float64), side.split)


def _checked(subject: Subject, outputs: np.ndarray, split: str) -> np.ndarray:
    n = len(outputs)
    if bad := int((~np.isfinite(outputs.reshape(n, -1))).any(axis=1).sum()):
        raise NotApplicable(
            f"the model, or one trained anew, gives outputs that are not finite for {bad} of {n} rows of the {split} "
            "split"
        )
    if subject.task.is_classification and (bad := int(improper(outputs).sum())):
        raise NotApplicable(
            f"the model, or one trained anew, gives no probabilities that sum to 1 for {bad} of {n} rows of the "
            f"{split} split"
        )
    return outputs


def _shadow_signals(subject: Subject, inside: np.ndarray, sides: list[_Rows], floor: float, seed: int) -> np.ndarray:
    """(K, n) signals of models trained on their halves; each is kept, so that a stopped run goes on."""
    work = partial(_shadow_signal, subject, inside, sides, floor, seed)
    return np.stack(spread(work, range(len(inside))))


def _shadow_signal(
    subject: Subject, inside: np.ndarray, sides: list[_Rows], floor: float, seed: int, number: int
) -> np.ndarray:
    """(n,) signals of one of them."""
    labels = _labels(sides)

    def signals() -> JsonValue:
        scores = subject.refit(np.flatnonzero(inside[number]), seed + number)
        outputs = np.concatenate([_asked(subject, scores, side) for side in sides])
        found: JsonValue = _membership.signal(outputs, labels, floor).tolist()
        return found

    progress("shadow models", number, len(inside))
    key: JsonValue = ["shadow", number, len(inside), seed, *[side.split for side in sides], len(labels)]
    return np.asarray(kept(key, signals), dtype=np.float64)
