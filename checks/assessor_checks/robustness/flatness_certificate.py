"""Certified robustness from the last layer: what margin and flatness prove, in feature space and for the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

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
    Table,
    Task,
    in_batches,
)
from assessor_checks._costs import of_test

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._inputs import Room
    from assessor_checks._intervals import Estimate
    from assessor_checks.robustness._certificate import Certificate
    from assessor_checks.robustness._lipschitz import Bound

POINTS = 101  # of the plotted curves
ESTIMATED = 32  # rows at which the slope of the features is estimated
INFO = CheckInfo(
    id="robustness.flatness_certificate",
    version="1",
    title="Certified robustness from margin and flatness",
    measures=(
        "The share of test rows that are classified rightly at every point within a given distance, proven and not "
        "tried: from the margin at the last layer and a bound on how far its features move when the inputs do. Beside "
        "it, from the flatness of the loss, a bound that the loss exceeds at no point within that distance."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "A low share does not show a fragile model: the bound is a product over layers and often far too careful for "
        "deep networks. An attack (robustness.pgd_accuracy) bounds the robust accuracy from the other side.",
        "With space: features the distance is one inside the network; it says nothing about inputs and does not "
        "compare models.",
        "A certified row is stable, which helps only where its label is right; nothing is proven about other rows, "
        "larger changes, or changes other than those of single inputs.",
        "Confidence alone makes margin and flatness large: a confidently wrong row is as stable as a right one.",
        "The proof is about exact arithmetic; rounding inside the model (about 1e-7 of its values) is not covered.",
    ),
    remedy=(
        "Train for large margins at small slopes: spectral normalisation or weight decay in every layer, "
        "Lipschitz-margin training, layers of slope one; or certify by randomised smoothing. Then measure again."
    ),
    source=(
        "Margin and Lipschitz bound: Tsuzuku, Sato, Sugiyama 2018, arXiv 1802.04034; flatness: after Walter, Adilova, "
        "Vreeken, Kamp, arXiv 2510.14231, with Bennett 1962 (JASA 57, 33) in place of a remainder term; proof in "
        "docs/flatness-certificate.md"
    ),
    requirements=("RE-R-RO-ME-04",),
)


class FlatnessCertificateParams(Params):
    """Parameters of robustness.flatness_certificate."""

    eps: float = Field(
        default=0.1,
        gt=0,
        description="Distance. space input: length (Euclidean, over all features) of the change of a row, in the unit "
        "that scale names; space features: length of the change at the last layer, relative to that of its features.",
    )
    space: Literal["input", "features"] = Field(
        default="input",
        description="Where the distance is measured: at the model's inputs, which needs a model that is a plain chain "
        "of layers, or at the last layer's features.",
    )
    scale: Literal["absolute", "feature_std"] = Field(
        default="absolute",
        description="Unit of eps at the inputs: the features' own, or each feature's standard deviation over the train "
        "split (test split without one); the latter holds columns of at most two values fixed.",
    )
    frozen: tuple[str, ...] = Field(default=(), description="Columns that cannot change: names or '#3'.")


class _Rows(NamedTuple):
    """What was found for each row, and the layer it was found at.

    Attributes:
        layer: Name of the last linear layer.
        shape: Its outputs and features.
        right: (n,) whether the model's own answer is right.
        terms: Of the loss bound, on the device.
        margin: (n,) radius at the features, by margin.
        flatness: (n,) radius at the features, by flatness.
        factor: (n,) what a distance of 1 means at the features: the bound on how far they move, or their length.
    """

    layer: str
    shape: tuple[int, int]
    right: np.ndarray
    terms: Certificate
    margin: np.ndarray
    flatness: np.ndarray
    factor: np.ndarray

    def loss_within(self, eps: float) -> np.ndarray:
        """(n,) nats that the loss exceeds at no point within eps."""
        import torch

        from assessor_checks.robustness._certificate import loss_bound

        radius = torch.from_numpy(eps * self.factor).to(self.terms.loss.device)
        found: np.ndarray = loss_bound(self.terms, radius).cpu().numpy()
        return found


def measure(subject: Subject, params: FlatnessCertificateParams, seed: int) -> Result:
    """Certified accuracy at a distance, the bound on the loss there, and the radii both certificates give.

    Args:
        subject: A PyTorch classifier.
        params: Distance and the space it is measured in.
        seed: Seed of the bootstrap of the loss bound.

    Returns:
        Metrics, curves over the distance, bounds of the layers.

    Raises:
        NotApplicable: No last linear layer gives the logits, they are not finite, or no sound bound links inputs and
            features.
    """
    import numpy as np

    from assessor_checks.robustness._masking import refuse_batch_statistics
    from assessor_checks.robustness._reach import unit_doubt

    if Need.GRADIENTS not in subject.offers:
        raise NotApplicable(
            "the model is no PyTorch module, so it has no last layer to look at; robustness.certified_accuracy "
            "certifies any classifier, by asking it for noisy copies"
        )
    refuse_batch_statistics(subject.module)
    room = _room(subject, params)
    rows = _rows(subject)
    bound, estimate = _slope(subject, room)
    if params.space == "input" and bound.value is None:
        raise NotApplicable(
            f"nothing bounds how far the features move when the inputs do: {bound.reason}; an estimate at a few rows "
            f"is {estimate or 0.0:.3g}, which proves nothing; set space: features to measure there, or use "
            "robustness.certified_accuracy, which certifies any classifier"
        )
    if params.space == "input":
        rows = rows._replace(factor=np.full_like(rows.margin, bound.value))
    return Result(
        metrics=(*_shares(rows, params), *_means(rows, params.eps, seed), *_slopes(bound)),
        series=_curves(rows, params.eps),
        tables=_steps(bound),
        remarks=(*(room.remarks if room else ()), *_remarks(rows, bound, estimate)),
        outcomes=Outcomes.of("certified_accuracy", rows.margin > params.eps * rows.factor, subject.splits["test"]),
        doubt=unit_doubt(subject, room.scale, params.eps, params.scale) if room else None,
    )


def _room(subject: Subject, params: FlatnessCertificateParams) -> Room | None:
    from assessor_checks import _inputs as inputs

    if params.space == "features":
        return None
    return inputs.room(subject, scale=params.scale, frozen=params.frozen, bounds=None)


def _slope(subject: Subject, room: Room | None) -> tuple[Bound, float | None]:
    """How much faster the features move than the inputs: a bound, or else an estimate at some rows."""
    import torch

    from assessor_checks.robustness import _lipschitz as lipschitz

    inputs, _ = subject.tensors("test")
    scale = None if room is None or (room.scale == 1).all() else torch.from_numpy(room.scale).to(inputs.device)
    bound = lipschitz.sound_bound(subject.module, inputs, scale)
    if bound.value is not None or not inputs.is_floating_point():
        return bound, None

    def estimate(rows: torch.Tensor) -> torch.Tensor:
        return torch.full((len(rows),), lipschitz.local_estimate(subject.module, rows, scale))

    return bound, float(in_batches(estimate, inputs[:ESTIMATED], size=ESTIMATED).max())


def _rows(subject: Subject) -> _Rows:
    """Certificates of all rows, some at a time, so that their features are never held together."""
    import torch

    from assessor_checks._layers import BATCH, last_linear
    from assessor_checks.robustness import _certificate as certificate

    everything, labels = subject.tensors("test")
    first = last_linear(subject.module, everything[:1])
    parts, bad = [], 0

    def right_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        nonlocal bad
        layer = last_linear(subject.module, x)
        z = layer.logits
        lost = int((~torch.cat([layer.features, z], dim=1).isfinite().all(dim=1)).sum())
        if not lost:
            parts.append(certificate.certify(layer.features, layer.weight, layer.bias, y))
        bad += lost
        return ((z[:, 0] > 0) if z.shape[1] == 1 else z.argmax(dim=1)) == y

    right = in_batches(right_of, everything, labels, size=BATCH, work="forward")
    if bad:
        raise NotApplicable(f"the last layer's features or logits are not finite for {bad} of {len(labels)} test rows")
    terms = certificate.Certificate(*map(torch.cat, zip(*parts, strict=True)))
    if not bool((terms.reach > 0).any()):
        raise NotApplicable(f"all classes have the same weights in layer '{first.name}': its features decide nothing")
    found = (right, terms.margin, certificate.flatness_radius(terms), terms.length)
    answers, margin, flatness, length = (part.cpu().numpy() for part in found)
    outputs, width = first.weight.shape
    return _Rows(first.name, (outputs, width), answers, terms, margin, flatness, length)


def _certified(radius: np.ndarray, rows: _Rows, eps: float) -> int:
    return int((radius > eps * rows.factor).sum())


def _shares(rows: _Rows, params: FlatnessCertificateParams) -> list[Metric]:
    from assessor_checks._intervals import clopper_pearson

    where = "Euclidean length at the inputs" if params.space == "input" else "of the length of the row's features"
    n = len(rows.right)
    counts = {
        "certified_accuracy": (
            _certified(rows.margin, rows, params.eps),
            f"margin certificate, eps {params.eps:g} ({where}); 95 % Clopper-Pearson, sampling of rows only",
        ),
        "clean_accuracy": (int(rows.right.sum()), "the same rows; 95 % Clopper-Pearson"),
        "flatness_certified_share": (
            int((rows.flatness > 0).sum()),
            "rows whose flatness certificate is above 0: right, with more than half of the probability; "
            "95 % Clopper-Pearson",
        ),
    }
    return [
        _metric(name, (found := clopper_pearson(count, n)).value, found, n, how, Better.HIGHER)
        for name, (count, how) in counts.items()
    ]


def _means(rows: _Rows, eps: float, seed: int) -> list[Metric]:
    """Bound on the mean loss, and median radii."""
    import numpy as np

    from assessor_checks._intervals import bootstrap_mean
    from assessor_checks.robustness._certificate import median

    loss, n = rows.loss_within(eps), len(rows.margin)
    how = "mean over rows of the largest cross-entropy that flatness allows within eps; 95 % BCa bootstrap over rows"
    estimate = bootstrap_mean(loss, seed) if n > 1 else None
    metrics = [_metric("certified_loss", float(loss.mean()), estimate, n, how, Better.LOWER, unit="nats")]
    length = rows.terms.length.cpu().numpy()
    relative = np.divide(rows.margin, length, out=np.where(rows.margin > 0, np.inf, 0.0), where=length > 0)
    named = (
        ("relative_margin_radius", relative, "1", "margin radius over the length of the features"),
        ("margin_radius", rows.margin, "length at the features", "exact distance to the nearest other class"),
        (
            "flatness_radius",
            rows.flatness,
            "length at the features",
            "largest distance at which flatness keeps the class",
        ),
    )
    for name, values, unit, what in named:
        if np.isfinite(value := float(np.median(values))):
            method = f"median over rows of the {what}, 0 for rows classified wrongly; 95 % interval of order statistics"
            better = Better.HIGHER if unit == "1" else Better.NONE  # lengths at the features have no scale of their own
            metrics.append(_metric(name, value, median(values), n, method, better, unit=unit))
    return metrics


def _slopes(bound: Bound) -> list[Metric]:
    if bound.value is None:
        return []
    how = "product of the layers' bounds, holds for all inputs; no interval, since it is proven and not sampled"
    return [_metric("lipschitz_bound", bound.value, None, 0, how, Better.LOWER)]


def _metric(
    name: str, value: float, estimate: Estimate | None, n: int, method: str, better: Better, *, unit: str = "1"
) -> Metric:
    import math

    from assessor_checks._intervals import CONFIDENCE

    if estimate is not None and not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        estimate = None
    return Metric(
        name=name,
        value=value,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        confidence=CONFIDENCE if estimate else None,
        unit=unit,
        n=n,
        better=better,
        method=method if estimate or not n else f"{method}; no interval from so few rows",
        primary=name == "certified_accuracy",
    )


def _curves(rows: _Rows, eps: float) -> tuple[Series, ...]:
    """Certified share by both certificates, and the mean bound on the loss, over the distance."""
    import numpy as np

    own = np.divide(rows.margin, rows.factor, out=np.zeros_like(rows.margin), where=rows.factor > 0)
    grid = np.linspace(0.0, max(1.25 * eps, float(np.quantile(own[np.isfinite(own)], 0.99))), POINTS)
    columns = {"distance": tuple(grid.tolist())}
    shares = {
        name: tuple(_certified(radius, rows, at) / len(radius) for at in grid)
        for name, radius in (("margin", rows.margin), ("flatness", rows.flatness))
    }
    losses = tuple(float(rows.loss_within(at).mean()) for at in grid)
    return (
        Series(name="certified", title="Share of rows certified, by distance", columns={**columns, **shares}),
        Series(
            name="loss",
            title="Largest mean loss that flatness allows, by distance",
            columns={**columns, "loss": losses},
        ),
    )


def _steps(bound: Bound) -> tuple[Table, ...]:
    if not bound.steps:
        return ()
    columns = ("step", "kind", "bound")
    return (Table(name="steps", title="Bounds from the inputs to the features", columns=columns, rows=bound.steps),)


def _remarks(rows: _Rows, bound: Bound, estimate: float | None) -> tuple[str, ...]:
    import numpy as np

    both = rows.flatness > 0
    ratio = float(np.median(rows.flatness[both] / rows.margin[both])) if both.any() else 0.0
    outputs, width = rows.shape
    remarks = [
        f"Layer '{rows.layer}': {width} features, {outputs} outputs; {len(both)} test rows. Rows classified wrongly "
        "have radius 0.",
        "At the features the margin certificate is exact: at that distance the class does change. The flatness "
        f"certificate is therefore never larger (in the median {ratio:.3g} of it); what it adds is certified_loss, a "
        "bound on the loss at every point within the distance.",
    ]
    if bound.value is not None:
        remarks.append(
            f"The features move at most {bound.value:.4g} times as far as the inputs, for all inputs: the product of "
            "the layers' bounds, for a forward pass proven to be a plain chain of layers."
        )
    else:
        remarks.append(f"Nothing bounds how far the features move when the inputs do: {bound.reason}.")
    if estimate is not None:
        remarks.append(
            f"ESTIMATE, no bound: at a few rows the features move up to {estimate:.4g} times as far as the inputs. "
            "No certificate here uses it."
        )
    return tuple(remarks)


def plot(result: Result, axes: Axes) -> None:
    """Certified share over the distance; solid by margin, dashed by flatness."""
    columns = result.series[0].arrays
    axes.plot(columns["distance"], columns["margin"], "-", color="black", label="by margin")
    axes.plot(columns["distance"], columns["flatness"], "--", color="0.4", label="by flatness")
    axes.set_ylim(0, 1)
    axes.set_xlim(left=0)
    axes.set_xlabel("Euclidean length of a change")
    axes.set_ylabel("share of rows certified")
    axes.legend(frameon=False)


CHECK = Check(info=INFO, params=FlatnessCertificateParams, measure=measure, plot=plot, rows=of_test)
