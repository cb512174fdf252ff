"""Certified accuracy of the smoothed model: what no change within a radius can break, up to a stated error."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Outcomes,
    Params,
    Result,
    Series,
    Subject,
    Task,
    kept,
    progress,
    spread,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from pydantic import JsonValue

    from assessor_checks._inputs import Room

FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the radius: the curve
BLOCK = 512  # rows certified together
INFO = CheckInfo(
    id="robustness.certified_accuracy",
    version="1",
    title="Certified accuracy by randomised smoothing",
    measures=(
        "The share of test rows for which the smoothed model is right and stays so under every change within a "
        "radius. The smoothed model answers with the class that the model gives most often to noisy copies of a row. "
        "The share is a lower bound for the smoothed model, not for the model itself."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "It holds for the smoothed model only. The model itself, used without noise and majority, has no certificate; "
        "see robustness.autoattack or robustness.decision_attack for what breaks it.",
        "Certificates are for changes of Euclidean length within the radius; a change of every feature by a little "
        "can be longer than that.",
        "A row without certificate may still be safe: most models are not trained on noisy data and lose accuracy "
        "under noise.",
        "Each certificate is wrong with a small probability (alpha) that comes from drawing noise; numbers in the "
        "computer are also no real numbers, which an attacker with access to the noise might use.",
    ),
    remedy=(
        "Train on noisy copies with the same noise, choose noise about as large as the radius wanted, and use the "
        "smoothed model itself: majority over noisy copies, and no answer where none has a clear majority."
    ),
    source=(
        "Cohen, Rosenfeld, Kolter: Certified Adversarial Robustness via Randomized Smoothing, ICML 2019, arXiv "
        "1902.02918, theorem 1 and algorithm CERTIFY; stopping early: Voracek 2024, arXiv 2406.17830; bets: "
        "Waudby-Smith and Ramdas 2024, arXiv 2010.09686; interval over rows: Clopper and Pearson 1934"
    ),
    requirements=("RE-R-RO-ME-05", "RE-R-RO-OA"),
    spreads=True,
)


class CertifiedAccuracyParams(Params):
    """Parameters of robustness.certified_accuracy."""

    radius: float = Field(default=0.25, gt=0, description="Euclidean length of a change, in the unit of scale.")
    sigma: float = Field(default=0.25, gt=0, description="Standard deviation of the noise, in the unit of scale.")
    scale: Literal["absolute", "feature_std"] = Field(
        default="feature_std",
        description="Unit of radius and sigma: the features' own, or each feature's standard deviation over the train "
        "split (test split without one); the latter holds columns of at most two values fixed.",
    )
    alpha: float = Field(
        default=0.001, gt=0, le=0.05, description="Probability of a wrong certificate for a row, at most."
    )
    most: int = Field(default=10_000, ge=100, le=10_000_000, description="Noisy copies of a row, at most.")
    selection: int = Field(
        default=100, ge=1, le=100_000, description="Further copies that choose the class to certify."
    )
    frozen: tuple[str, ...] = Field(default=(), description="Columns that cannot change: names or '#3'.")
    max_samples: int = Field(default=500, ge=1, description="Rows used at most, chosen by the seed.")


class _Found(NamedTuple):
    """What was found for n rows.

    Attributes:
        clean: (n,) whether the model itself is right.
        right: (n,) whether the class chosen for certification is the label.
        rung: (n,) number of radii, from the first on, that are certified; of wrong rows the first one counts only.
        copies: (n,) noisy copies used, without those for the choice of the class.
        left_out: Rows with missing values.
        places: (n,) where the rows stand in the split.
    """

    clean: np.ndarray
    right: np.ndarray
    rung: np.ndarray
    copies: np.ndarray
    left_out: int
    places: np.ndarray

    @property
    def certified(self) -> np.ndarray:
        """(n,) whether the row is right and certified at the whole radius."""
        certified: np.ndarray = self.right & (self.rung == len(FRACTIONS))
        return certified


def measure(subject: Subject, params: CertifiedAccuracyParams, seed: int) -> Result:
    """Certified accuracy at the radius, its curve, the smoothed model's own accuracy and how often it abstains.

    Args:
        subject: Any classifier that answers new inputs.
        params: Radius, noise, error probability and budget.
        seed: Seed of the rows' choice and of the noise.

    Returns:
        Metrics and the curve.

    Raises:
        NotApplicable: The inputs cannot be changed, no row is complete, or no number of hits could certify the radius.
    """
    from assessor_checks import _inputs
    from assessor_checks.robustness import _smoothing
    from assessor_checks.robustness._reach import unit_doubt

    radii = params.radius * _radii()
    thresholds = _smoothing.thresholds_of(radii, params.sigma)
    best = _smoothing.most_certifiable(params.most, params.alpha)
    if thresholds[-1] >= best:
        raise NotApplicable(
            f"no row can be certified at radius {params.radius:g} with noise {params.sigma:g}: even if all "
            f"{params.most} noisy copies agree, the class has a probability of at least {best:.6g} for sure, and "
            f"{thresholds[-1]:.6g} is needed; take more noise, more copies or a smaller radius"
        )
    room = _inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=None)
    found = _certified(subject, params, seed, room, thresholds)
    return Result(
        metrics=_metrics(found, params, seed),
        series=(_curve(found, radii, params.alpha),),
        remarks=(*_remarks(subject, found, params), *room.remarks),
        outcomes=Outcomes.of("certified_accuracy", found.certified, subject.splits["test"], found.places),
        doubt=unit_doubt(subject, room.scale, params.radius, params.scale),
    )


def _radii() -> np.ndarray:
    import numpy as np

    return np.array(FRACTIONS)


def _certified(
    subject: Subject, params: CertifiedAccuracyParams, seed: int, room: Room, thresholds: np.ndarray
) -> _Found:
    """Choose each row's class by some noisy copies, then test it with others; blocks are kept for a later run."""
    import numpy as np

    from assessor_checks import _inputs

    features = _inputs.float_features(subject)
    chosen = _inputs.chosen_rows(len(features), params.max_samples, seed)
    x, labels = features[chosen], subject.splits["test"].labels[chosen]
    whole = np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if not whole.any():
        raise NotApplicable(f"every one of {len(x)} test rows has missing values, so none can be certified")
    x, labels = x[whole], labels[whole]
    work = partial(_block, subject, params, seed, params.sigma * room.scale, thresholds)
    parts = spread(
        work, [(start, x[start : start + BLOCK], labels[start : start + BLOCK]) for start in range(0, len(x), BLOCK)]
    )
    right, rung, copies = (np.concatenate([np.array(part[place]) for part in parts]) for place in range(3))
    clean, left_out = subject.query(x) == labels, int((~whole).sum())
    return _Found(clean, right.astype(bool), rung, copies, left_out, chosen[whole])


def _block(
    subject: Subject,
    params: CertifiedAccuracyParams,
    seed: int,
    deviation: np.ndarray,
    thresholds: np.ndarray,
    item: tuple[int, np.ndarray, np.ndarray],
) -> Any:
    """Of some rows, with the number of the first: whether right, the rung reached and the copies asked."""
    import numpy as np

    from assessor_checks.robustness import _smoothing

    start, x, labels = item

    def compute() -> JsonValue:
        stream = int(np.random.SeedSequence([seed, start]).generate_state(1)[0])
        draw = _smoothing.noisy(subject, x, deviation, stream)
        top = _most_frequent(draw(np.arange(len(x)), params.selection), len(subject.classes))
        right = top == labels
        rungs = np.where(right, len(thresholds), 1)
        found = _smoothing.certify(
            draw,
            top,
            rungs,
            thresholds,
            alpha=params.alpha,
            most=params.most,
            told=lambda copies: progress("noisy copies of each row, at most", copies, params.most),
        )
        return [right.tolist(), found.rung.tolist(), found.copies.tolist()]

    return kept(["block", start, seed, params.model_dump(mode="json")], compute)


def _most_frequent(answers: np.ndarray, classes: int) -> np.ndarray:
    """(n,) class that most of the answers (n, m) give, the lower index where two are even."""
    import numpy as np

    counts = np.stack([(answers == index).sum(axis=1) for index in range(classes)], axis=1)
    found: np.ndarray = counts.argmax(axis=1)
    return found


def _metrics(found: _Found, params: CertifiedAccuracyParams, seed: int) -> tuple[Metric, ...]:
    n = len(found.right)
    how = (
        f"noise {params.sigma:g} ({params.scale}), at most {params.most} noisy copies a row, alpha {params.alpha:g} a "
        f"row, seed {seed}; 95 % Clopper-Pearson over rows"
    )
    less = "the low end less alpha for certificates that are wrong"
    certified = f"lower bound for the smoothed model at radius {params.radius:g}; {how}, {less}"
    smoothed = f"answers of the smoothed model that surely are its own and right; {how}, {less}"
    abstained = f"rows whose most frequent class is not surely given to half of the noisy copies; {how}"
    values = (
        ("certified_accuracy", found.certified, Better.HIGHER, certified, params.alpha),
        ("smoothed_accuracy", found.right & (found.rung > 0), Better.HIGHER, smoothed, params.alpha),
        ("abstention_rate", found.rung == 0, Better.LOWER, abstained, 0.0),
        ("clean_accuracy", found.clean, Better.HIGHER, "the model itself, no noise; 95 % Clopper-Pearson", 0.0),
    )
    return tuple(
        _share(name, int(rows.sum()), n, better, method, wrong) for name, rows, better, method, wrong in values
    )


def _share(name: str, count: int, n: int, better: Better, method: str, wrong: float) -> Metric:
    from assessor_checks._intervals import CONFIDENCE, clopper_pearson

    value, low, high = clopper_pearson(count, n)
    return Metric(
        name=name,
        value=value,
        low=max(0.0, low - wrong),
        high=high,
        confidence=CONFIDENCE,
        n=n,
        better=better,
        method=method,
        primary=name == "certified_accuracy",
    )


def _curve(found: _Found, radii: np.ndarray, alpha: float) -> Series:
    from assessor_checks._intervals import clopper_pearson

    counts = [int((found.right & (found.rung > place)).sum()) for place in range(len(radii))]
    estimates = [clopper_pearson(count, len(found.right)) for count in counts]
    columns = {
        "radius": tuple(radii.tolist()),
        "certified_accuracy": tuple(estimate.value for estimate in estimates),
        "low": tuple(max(0.0, estimate.low - alpha) for estimate in estimates),
        "high": tuple(estimate.high for estimate in estimates),
    }
    return Series(name="curve", title="Certified accuracy by radius", columns=columns)


def _remarks(subject: Subject, found: _Found, params: CertifiedAccuracyParams) -> tuple[str, ...]:
    import numpy as np
    from scipy.special import bdtr

    n, certified = len(found.right), int((found.rung > 0).sum())
    mean, spent = found.copies.mean(), int((found.copies == params.most).sum())
    wrong = int((bdtr(np.arange(n), n, params.alpha) < 0.95).sum())  # the least number not exceeded in 95 % of cases
    remarks = [
        "The certificates are for the smoothed model: the majority of the model's answers to noisy copies of a row.",
        f"{n} of {subject.splits['test'].n} test rows. A row needed {mean:.0f} noisy copies on average instead of "
        f"{params.most}; {spent} rows used all of them. {params.selection} further copies chose each row's class.",
        "Radii below the one asked for were given a quarter of the copies at most, so the curve may truly lie higher "
        "there.",
        f"Each row's certificate is wrong with a probability of at most {params.alpha:g}. Of all {certified} rows "
        f"certified at some radius, with 95 % confidence at most {wrong} are certified wrongly.",
    ]
    if found.left_out:
        remarks.append(f"{found.left_out} rows with missing values were left out.")
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Certified accuracy by radius, with its interval."""
    columns = result.series[0].arrays
    axes.fill_between(columns["radius"], columns["low"], columns["high"], color="0.85")
    axes.plot(columns["radius"], columns["certified_accuracy"], "o-", color="black")
    axes.set_ylim(0, 1)
    axes.set_xlabel("radius (Euclidean length of a change)")
    axes.set_ylabel("certified accuracy of the smoothed model")


def rows(subject: Subject, params: CertifiedAccuracyParams) -> int:
    """Every used row once, and all noisy copies; fewer where rows are decided early."""
    return used(subject, "test", params.max_samples) * (1 + params.selection + params.most)


CHECK = Check(info=INFO, params=CertifiedAccuracyParams, measure=measure, plot=plot, rows=rows)
