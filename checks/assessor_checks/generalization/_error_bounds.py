"""The squared error of a regression against the Cramer-Rao bound that its inputs' information sets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from assessor.contract import Subject
from assessor_checks._intervals import Estimate
from assessor_checks.generalization import _fisher as fisher
from assessor_checks.generalization import _jackknife
from assessor_checks.generalization._flow import Row
from assessor_checks.generalization._signal_designs import Design, Plan

HOW_BOUND = (
    "mean of squared error times the input's linear information, whose inverse is the Cramer-Rao bound; rows between "
    "the first and the last place of a slope; 95 % jackknife"
)
HOW_BOUND_LEARNED = (
    "mean of squared error times the input's information as a learned reading finds it, whose inverse is the "
    "Cramer-Rao bound; rows between the first and the last place of a slope; 95 % jackknife"
)
HOW_BIASED = (
    "training rows: mean of (squared error - b^2) times the input's information, over the mean of (1 + b')^2, with the "
    "bias b that the model has on the design split; 95 % Fieller from a delete-a-group jackknife"
)
LEAST_ROWS = 40  # training rows whose error is compared with the bound: two a fold


class Ratio(NamedTuple):
    """Error over bound on some rows, and how it was got."""

    name: str
    found: Estimate
    n: int
    how: str


def error_ratios(subject: Subject, design: Design, plan: Plan, rows: list[Row], seed: int) -> list[Ratio]:
    """Squared error against the Cramer-Rao bound of the input, on the design and on the training rows.

    Args:
        subject: A regression whose target is the design's parameter.
        design: Which rows repeat which value.
        plan: Where slopes are taken, and folds.
        rows: Input first, output last.
        seed: Of the folds of the training rows.

    Returns:
        Those for which there are enough rows.
    """
    first, outputs = rows[0], rows[-1].layer.groups
    assert first.read is not None
    learned = first.learned if first.learned is not None and first.learned[:, 0].mean() > first.mean[0] else None
    values, how = (first.read.values, HOW_BOUND) if learned is None else (learned, HOW_BOUND_LEARNED)
    folds, centres = values.shape[1] - 1, [stencil.at for stencil in plan.local]

    def ratio(name: str, errors: np.ndarray, theta: np.ndarray, fold: np.ndarray, where: str) -> Ratio:
        found = _jackknife.jackknife(fisher.error_ratio(errors, theta, fold, centres, values))
        return Ratio(name, found, len(errors), f"{where}; {how}")

    def inside(theta: np.ndarray) -> np.ndarray:
        room = 1e-9 * (design.theta[-1] - design.theta[0])
        found: np.ndarray = (theta >= centres[0] - room) & (theta <= centres[-1] + room)
        return found

    found = []
    theta = np.repeat(design.theta, [len(group) for group in outputs])
    fold = np.concatenate([each.numpy() for each in fisher.folds_of(outputs, plan.folds)])
    errors = np.concatenate([group[:, 0].double().numpy() for group in outputs]) - theta
    used = inside(theta) & ((learned is None) | (fold % 2 == 1))  # learned readings are judged on odd folds
    fold = fold if learned is None else fold // 2
    if used.sum() >= folds:
        found.append(ratio("crb_ratio", errors[used], theta[used], fold[used], "design rows"))
    train = subject.splits.get("train")
    if train is not None and (used := inside(train.labels)).sum() >= LEAST_ROWS:
        errors, theta = (subject.scores("train") - train.labels)[used], train.labels[used]
        fold = np.random.default_rng(seed).permutation(len(theta)) % folds
        found.append(ratio("training_crb_ratio", errors, theta, fold, "training rows"))
        biased = fisher.biased_error_ratio(errors, theta, fold, outputs, design, plan, values)
        if biased is not None:
            found.append(Ratio("training_crb_ratio_biased", biased, len(theta), HOW_BIASED))
    return found


def about_errors(ratios: list[Ratio], *, trained: bool) -> list[str]:
    """What the ratios say of the model.

    Args:
        ratios: Of `error_ratios`.
        trained: Whether the training rows are known.

    Returns:
        Sentences.
    """
    found = {ratio.name: ratio.found for ratio in ratios}
    remarks = [
        "The design's parameter is taken as what the model predicts; if it is another one, set parameter: other. A "
        "model that pulls its answers towards the middle may stay below the bound for unbiased estimates; the bound "
        "for biased ones is met where the output's share of the information is 1."
    ]
    plain, biased = found.get("training_crb_ratio"), found.get("training_crb_ratio_biased")
    if plain is None and trained:
        remarks.append(
            f"Fewer than {LEAST_ROWS} training rows have their target among the inner values of the design, so that "
            "their error is not compared with the bound."
        )
    if plain is None or plain.high >= 1:
        return remarks
    if biased is None:
        remarks.append(
            f"On the training rows the squared error is {plain.value:.2f} of the least that an unbiased estimate can "
            "have. Whether the model has learned the noise of its training data (overfitting) or gives much the same "
            "for every input cannot be told."
        )
    elif biased.high < 1:
        remarks.append(
            f"On the training rows the squared error is {plain.value:.2f} of the least that an unbiased estimate can "
            "have, and below the least with this model's bias too: the model has learned the noise of its training "
            "data (overfitting)."
        )
    else:
        remarks.append(
            f"On the training rows the squared error is {plain.value:.2f} of the least that an unbiased estimate can "
            "have. Its pull towards the middle may explain that, so that it is no sign of overfitting."
        )
    return remarks
