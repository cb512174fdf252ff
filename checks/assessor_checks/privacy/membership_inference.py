"""Membership inference: can outputs tell which rows the model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Params,
    Result,
    Series,
    Subject,
    Table,
    Task,
)
from assessor_checks._costs import of_train_and_test

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.privacy._membership_attacks import Attack

ENOUGH = 50  # members, and non-members, below which no attack can be told from guessing
PART = 30  # rows of a class on either side from which its own area is given
FALSE_RATES = ((0.01, "tpr_at_1_percent_fpr", "1 %"), (0.001, "tpr_at_0_1_percent_fpr", "0.1 %"))
SHIFTED = 0.52  # inputs that tell the splits apart better than this by the low end of its interval are a shift
LISTED = 10  # most exposed rows that are named
POINTS = 200  # of the curve that is drawn
INFO = CheckInfo(
    id="privacy.membership_inference",
    version="1",
    title="Membership inference attack",
    measures=(
        "An attacker who sees the model's outputs guesses which rows it was trained on: by the likelihood ratio attack "
        "with models trained anew on halves of the training rows, or by each row's loss where that is not possible. "
        "Measured are the area under the attack's ROC curve (0.5 is guessing) and how many training rows it finds "
        "while it takes 1 % or 0.1 % of other rows for training rows."
    ),
    unit="1",
    needs=frozenset({Need.TRAIN, Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "An attack gives a lower bound of the leakage: a stronger one, or one that sees the weights, may find more. "
        "Only differentially private training bounds it from above.",
        "An area near 0.5 is an average: single rows (rare classes, outliers) may be exposed all the same; read the "
        "rates at few false alarms and the table of exposed rows.",
        "Few shadow models make a weak attack; the literature uses 64 to 256.",
        "The loss attack is weak: it finds little but what the generalization gap shows already.",
        "Test rows stand for people who are not in the training data; where they differ from training rows by anything "
        "else, that is mistaken for membership. Audit 'procedure' is free of this: it trains a model of its own on "
        "half of the training rows and judges the way of training instead of this very model.",
        "Barriers around the model, such as query limits or rounded outputs, are not tested.",
    ),
    remedy=(
        "Regularise or stop earlier, drop repeated rows, use fewer parameters or more data; give out decisions instead "
        "of probabilities, or rounded ones; where people must be protected by proof, train with differential privacy "
        "(DP-SGD) and state its epsilon. Then repeat the attack."
    ),
    source=(
        "Carlini, Chien, Nasr, Song, Terzis and Tramer, IEEE S&P 2022, arXiv:2112.03570, algorithm 1 and equation 4; "
        "loss: Yeom, Giacomelli, Fredrikson and Jha 2018, arXiv:1709.01604; difficulty: Watson et al. 2022, "
        "arXiv:2111.08440; shift: Lopez-Paz and Oquab 2017, arXiv:1610.06545"
    ),
    requirements=("DP-R-PD-RI-04", "DP-R-PD-ME-07", "DP-R-PD-ME-09", "DP-R-PD-OA-02"),
    spreads=True,
)


class MembershipInferenceParams(Params):
    """Parameters of privacy.membership_inference."""

    attack: Literal["auto", "lira", "loss"] = Field(
        default="auto", description="Likelihood ratio attack, loss threshold, or the first where it is possible."
    )
    audit: Literal["model", "procedure"] = Field(
        default="model",
        description="What is attacked: this model, with test rows as non-members; or a model trained by the same "
        "procedure on a random half of the training rows, the other half being non-members.",
    )
    shadows: int = Field(
        default=16, ge=4, le=512, multiple_of=2, description="Models trained anew on halves of the training rows."
    )
    max_rows: int = Field(
        default=10_000, ge=100, le=1_000_000, description="Members, and non-members, attacked at most."
    )


def measure(subject: Subject, params: MembershipInferenceParams, seed: int) -> Result:
    """Attack, and how well it does: area, advantage, and hits at few false alarms.

    Args:
        subject: With training and test rows; for the likelihood ratio attack it can be trained anew.
        params: Attack, what is attacked, budget.
        seed: Seed of halves, choice of rows and training.

    Returns:
        Metrics, tables by class and of exposed rows, the ROC curve.

    Raises:
        NotApplicable: Only decisions are known, outputs are not finite, or the model cannot be trained anew as asked.
    """
    from assessor_checks._selective import auroc
    from assessor_checks.privacy import _membership_attacks as attacks

    _refuse(subject, params)
    lira = params.attack == "lira" or (params.attack == "auto" and Need.REFIT in subject.offers)
    if params.audit == "procedure":
        attack = attacks.on_procedure(subject, params.shadows, params.max_rows, seed)
    elif lira:
        attack = attacks.by_likelihood_ratio(subject, params.shadows, params.max_rows, seed)
    else:
        attack = attacks.by_loss(subject, params.max_rows, seed)
    area = auroc(attack.scores[attack.is_member], attack.scores[~attack.is_member])
    shift = None if params.audit == "procedure" else attacks.shift(subject, attack, seed)
    return Result(
        metrics=(*_areas(area, attack, seed, lira=lira), *_rates(attack)),
        series=(_curve(attack),),
        tables=(*_by_class(subject, attack), _exposed(attack)),
        remarks=_remarks(subject, params, attack, shift, lira=lira),
        doubt=_doubt(attack, area, shift),
    )


def _refuse(subject: Subject, params: MembershipInferenceParams) -> None:
    if subject.task.is_classification and Need.PROBABILITIES not in subject.offers:
        raise NotApplicable(
            "the model gives decisions without probabilities; use generalization.gap, whose accuracy gap is what an "
            "attacker gains who takes every rightly classified row for a training row"
        )
    if (params.attack == "lira" or params.audit == "procedure") and Need.REFIT not in subject.offers:
        raise NotApplicable(
            "the likelihood ratio attack needs a way to train the model anew (target.model.train); attack loss does "
            "without"
        )
    if params.attack == "loss" and params.audit == "procedure":
        raise NotApplicable("audit procedure goes with the likelihood ratio attack; leave out attack loss")


def _areas(area: Estimate, attack: Attack, seed: int, *, lira: bool) -> tuple[Metric, ...]:
    from assessor_checks._selective import auroc
    from assessor_checks.privacy._membership import advantage

    members, others = attack.scores[attack.is_member], attack.scores[~attack.is_member]
    n, known = len(members), "95 % DeLong interval on the logit scale"
    chance = "chance that a training row scores higher than another row; 0.5 is guessing"
    best = "share of training rows minus share of other rows above the best threshold of one half, on the other half"
    metrics = [
        _metric("attack_auc", area, n, f"{chance}; {attack.how}; {known}"),
        _metric("attack_advantage", advantage(members, others, seed), n, f"{best}; 0 is guessing; {attack.how}; 95 % "
                "Newcombe interval"),
    ]  # fmt: skip
    if lira:
        plain = auroc(attack.losses[attack.is_member], attack.losses[~attack.is_member])
        metrics.append(_metric("loss_attack_auc", plain, n, f"{chance}; scored by the row's loss alone; {known}"))
    return tuple(metrics)


def _rates(attack: Attack) -> tuple[Metric, ...]:
    """Hits at few false alarms, where there are enough other rows to tell."""
    from assessor_checks.privacy._membership import rate_at

    members, others = attack.scores[attack.is_member], attack.scores[~attack.is_member]
    metrics = []
    for rate, name, words in FALSE_RATES:
        if (found := rate_at(members, others, rate)) is not None:
            how = f"share of training rows found while {words} of {len(others)} other rows are taken for such"
            known = "95 % interval from Clopper-Pearson and the threshold's order statistics"
            metrics.append(_metric(name, found, len(members), f"{how}; {attack.how}; {known}"))
    return tuple(metrics)


def _metric(name: str, found: Estimate, n: int, method: str) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name, value=found.value, low=found.low, high=found.high, confidence=CONFIDENCE, n=n, better=Better.LOWER,
        method=method, primary=name == "attack_auc",
    )  # fmt: skip


def _by_class(subject: Subject, attack: Attack) -> tuple[Table, ...]:
    """The area within each class: rare classes are often remembered better."""
    from assessor_checks._selective import auroc

    if not subject.task.is_classification:
        return ()
    cells = []
    for index, name in enumerate(subject.classes):
        here = attack.labels == index
        members, others = attack.scores[here & attack.is_member], attack.scores[here & ~attack.is_member]
        enough = min(len(members), len(others)) >= PART
        found = tuple(auroc(members, others)) if enough else (None, None, None)
        cells.append((name, len(members), len(others), *found))
    columns = ("class", "training rows", "other rows", "area", "low", "high")
    return (Table(name="classes", title="Area under the attack's curve by class", columns=columns, rows=tuple(cells)),)


def _exposed(attack: Attack) -> Table:
    """Training rows that the attack is surest of, with how many other rows score as high."""
    import numpy as np

    members = np.flatnonzero(attack.is_member)
    first = members[np.argsort(-attack.scores[members], kind="stable")[:LISTED]]
    others = attack.scores[~attack.is_member]
    cells = tuple(
        (int(attack.rows[i]), float(attack.scores[i]), int((others >= attack.scores[i]).sum())) for i in first
    )
    columns = ("row of the train split, from 0", "score", "other rows that score as high")
    return Table(name="exposed", title="Training rows that the attack is surest of", columns=columns, rows=cells)


def _curve(attack: Attack) -> Series:
    import numpy as np

    from assessor_checks.privacy._membership import roc

    false, true = roc(attack.scores[attack.is_member], attack.scores[~attack.is_member])
    least = 1 / (~attack.is_member).sum()
    at = np.concatenate([[0.0], np.geomspace(least, 1, POINTS)])
    columns = {"false": tuple(at.tolist()), "true": tuple(np.interp(at, false, true).tolist())}
    return Series(name="roc", title="Training rows found by other rows wrongly taken for such", columns=columns)


def _doubt(attack: Attack, area: Estimate, shift: Estimate | None) -> str | None:
    members, others = int(attack.is_member.sum()), int((~attack.is_member).sum())
    if min(members, others) < ENOUGH:
        return f"{members} training rows and {others} other rows are too few to judge an attack; {ENOUGH} are needed."
    if shift is not None and shift.low > SHIFTED and area.low <= shift.high:
        return (
            f"Training and test rows differ: without the model a classifier of the inputs tells them apart with an "
            f"area of {shift.value:.3g}, so that the attack may see the difference instead of membership; take audit "
            "procedure."
        )
    return None


def _remarks(
    subject: Subject, params: MembershipInferenceParams, attack: Attack, shift: Estimate | None, *, lira: bool
) -> tuple[str, ...]:
    from assessor_checks.privacy._membership import ENOUGH_ABOVE

    remarks = []
    others = int((~attack.is_member).sum())
    if not lira:
        remarks.append(
            "Only the loss was looked at; the likelihood ratio attack, which finds more, needs a way to train the "
            "model anew (target.model.train)."
            if Need.REFIT not in subject.offers
            else "Only the loss was looked at, as asked; the likelihood ratio attack finds more."
        )
    if attack.copies:
        remarks.append(f"{attack.copies} test rows are copies of training rows and were left out.")
    for rate, _, words in FALSE_RATES:
        if others * rate < ENOUGH_ABOVE:
            remarks.append(
                f"{others} other rows are too few to say what is found at {words} false alarms; "
                f"{round(ENOUGH_ABOVE / rate)} are needed."
            )
    if params.audit == "model" and shift is None:
        remarks.append(
            "The inputs are not known as numbers, so that no shift between training and test was looked for."
        )
    if shift is not None and shift.low > SHIFTED:
        remarks.append(
            f"Without the model a classifier of the inputs tells training from test rows with an area of "
            f"{shift.value:.3g} (99.5 % interval from {shift.low:.3g} to {shift.high:.3g})."
        )
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """The attack's ROC curve on logarithmic axes, as few false alarms matter; dashed is guessing."""
    columns = result.series[0].columns
    false, true = ([float(cell or 0.0) for cell in columns[name]] for name in ("false", "true"))
    least = false[1]
    axes.plot([least, 1], [least, 1], "--", color="0.5", linewidth=1, label="guessing")
    axes.plot(false[1:], [max(cell, least / 10) for cell in true[1:]], color="black", label="attack")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("share of other rows taken for training rows")
    axes.set_ylabel("share of training rows found")
    axes.legend(frameon=False)


def rows(subject: Subject, params: MembershipInferenceParams) -> int | None:
    """Every train and test row once; unknown where models are trained anew."""
    anew = params.audit == "procedure" or (params.attack != "loss" and Need.REFIT in subject.offers)
    return None if anew else of_train_and_test(subject, params)


CHECK = Check(info=INFO, params=MembershipInferenceParams, measure=measure, plot=plot, rows=rows)
