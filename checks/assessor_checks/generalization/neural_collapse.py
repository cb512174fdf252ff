"""Neural collapse: have the last features of each class shrunk to one point, and do these points lie symmetrically."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

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
    import torch
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate
    from assessor_checks.generalization._collapse import Classes, Geometry

QUANTILES = 101  # points of the plotted distribution
MOST_COMMON = 0.01  # change of NC3 by what the weight vectors have in common that is worth telling
MOST_BIAS = 0.1  # share of NC1 that too few rows a class may take away before it must not be judged
NC1 = (
    "mean over classes of the within-class variance, whitened by the pseudo-inverse of the between-class covariance; "
    "every class weighs the same; 95 % bootstrap over rows within classes, reflected on the logarithmic scale because "
    "few rows make the value too low, and widened to hold the value"
)
NC2 = "95 % bootstrap over rows within classes, percentile and reflected interval together"
NC2_NORMS = f"coefficient of variation of the class means' distances from their centre; {NC2}"
NC2_ANGLES = f"mean of |cos + 1 / (classes - 1)| over pairs of class means seen from their centre; {NC2}"
NC3 = (
    "distance of the weights from the centred class means, both scaled to length 1: 0 to 2, unrelated 1.41; 95 % "
    "bootstrap over rows within classes, reflected on the logarithm of the cosine"
)
NC4 = "nearest class mean of the train split against the model's decision; 95 % Clopper-Pearson, means held fixed"
INFO = CheckInfo(
    id="generalization.neural_collapse",
    version="1",
    title="Neural collapse of the last layer's features",
    measures=(
        "How far training has shrunk the features in front of the last linear layer: how much rows of one class differ "
        "compared with the distances between classes (NC1), whether the class means are equally long and equally far "
        "apart (NC2), whether the weights point along them (NC3), and how often the model decides otherwise than the "
        "nearest class mean does (NC4). All are 0 at full collapse."
    ),
    unit="1",
    needs=frozenset({Need.TRAIN, Need.TEST, Need.GRADIENTS}),
    tasks=frozenset({Task.BINARY, Task.MULTICLASS}),
    limits=(
        "Collapse does not make a model generalise: networks kept from collapsing generalise as well, and in delayed "
        "generalization the collapse comes before it (Han et al. 2025, arXiv 2509.17738). Neither end is good.",
        "It describes the end of training, when the train split is classified without error; before that the values "
        "only describe a state on the way.",
        "The simplex that NC2 compares with is expected for classes of equal size; with unequal classes a well trained "
        "model need not reach it.",
        "Only the last linear layer's features are measured; the intervals show the sampling of rows, not the "
        "variation between training runs.",
    ),
    remedy=(
        "None is needed for the values themselves. Where features collapse on the train split and not on the test "
        "split, treat it as overfitting: regularise, stop earlier, or collect data, and read the generalization gap."
    ),
    source=(
        "Papyan, Han, Donoho: Prevalence of neural collapse during the terminal phase of deep learning training, "
        "PNAS 117 (2020) 24652, arXiv 2008.08186, NC1 to NC4; meaning: Han, Adilova, Petzka, Kleesiek, Kamp: Flatness "
        "is Necessary, Neural Collapse is Not, NeurIPS 2025, arXiv 2509.17738"
    ),
    requirements=("RE-R-SC-ME-03",),
    instead=("generalization.gap",),
)


class NeuralCollapseParams(Params):
    """Parameters of generalization.neural_collapse."""

    split: Literal["train", "test"] = Field(
        default="train", description="Data whose features are measured; the other split is shown beside them."
    )
    replicates: int = Field(default=1000, ge=200, le=10_000, description="Resamples of the intervals.")


class _Side(NamedTuple):
    """One split: features (n, m), the classes with enough rows, decisions (n,) and labels (n,)."""

    features: torch.Tensor
    classes: Classes
    predicted: torch.Tensor
    labels: torch.Tensor

    @property
    def enough(self) -> bool:
        """Whether at least two classes have rows enough and means that differ."""
        return len(self.classes.labels) > 1 and not self.classes.flat


def measure(subject: Subject, params: NeuralCollapseParams, seed: int) -> Result:
    """NC1 to NC4 of one split with intervals, NC1 and NC4 of the other, and the parts of every class.

    Args:
        subject: A PyTorch classifier with a last linear layer.
        params: Split and number of resamples.
        seed: Seed of the resampling.

    Returns:
        Metrics, a table by class, the distribution of the distances.

    Raises:
        NotApplicable: No last linear layer gives the logits, they are not finite, or fewer than two classes have two
            rows or different features.
    """
    from assessor_checks.generalization import _collapse as collapse

    weight, sides = _sides(subject)
    for name in ("train", params.split):
        _check(sides[name], name, subject.classes)
    side, other = sides[params.split], "test" if params.split == "train" else "train"
    found = collapse.geometry(side.features, side.classes)
    metrics, bias = _metrics(side, found, weight, params.replicates, seed)
    disagreed = {
        name: collapse.nearest_class(one.features, sides["train"].classes) != one.predicted
        for name, one in sides.items()
    }
    metrics.append(_share("nc4", disagreed[params.split]))
    if sides[other].enough:
        beside = collapse.geometry(sides[other].features, sides[other].classes)
        (nc1, *_), _ = _metrics(sides[other], beside, weight, params.replicates, seed)
        metrics.append(nc1.model_copy(update={"name": f"nc1_{other}", "primary": False}))
    metrics.append(_share(f"nc4_{other}", disagreed[other]))
    return Result(
        metrics=tuple(metrics),
        series=(_distances(sides),),
        tables=(_by_class(subject.classes, side, found, disagreed[params.split]),),
        remarks=_remarks(subject, params.split, sides, found, weight),
        doubt=_doubt(bias, side),
    )


def _sides(subject: Subject) -> tuple[torch.Tensor, dict[str, _Side]]:
    """(C, m) weights and both splits; a single output z counts as the two outputs -z/2 and z/2."""
    import torch

    from assessor_checks import _layers as layers
    from assessor_checks.generalization import _collapse as collapse

    weight, sides = torch.empty(0), {}
    for name in ("train", "test"):
        inputs, labels = subject.tensors(name)
        layer = layers.last_linear(subject.module, inputs)
        for what, values in (("features", layer.features), ("logits", layer.logits)):
            if bad := int((~torch.isfinite(values)).any(dim=1).sum()):
                raise NotApplicable(f"the last layer's {what} are not finite for {bad} of {len(values)} rows of {name}")
        single = layer.logits.shape[1] == 1
        predicted = (layer.logits[:, 0] > 0).long() if single else layer.logits.argmax(dim=1)
        weight = torch.cat([-layer.weight, layer.weight]) / 2 if single else layer.weight
        sides[name] = _Side(layer.features, collapse.classes_of(layer.features, labels), predicted, labels)
    return weight, sides


def _check(side: _Side, split: str, names: tuple[str, ...]) -> None:
    kept = side.classes.labels
    if not kept:
        raise NotApplicable(f"no class has two rows in the {split} split, so there is no spread within classes")
    if len(kept) == 1:
        raise NotApplicable(
            f"only class '{names[kept[0]]}' has two rows in the {split} split; collapse is measured between classes"
        )
    if side.classes.flat:
        raise NotApplicable(
            f"the features have the same mean in every class of the {split} split, so there is nothing to compare with"
        )


def _metrics(
    side: _Side, found: Geometry, weight: torch.Tensor, replicates: int, seed: int
) -> tuple[list[Metric], float]:
    """NC1, NC2 and NC3 with intervals, and by how much resampling moves NC1 (a logarithm)."""
    from assessor_checks.generalization import _collapse as collapse

    weight = weight[list(side.classes.labels)]
    drawn = collapse.bootstrap(side.features, side.classes, weight, replicates=replicates, seed=seed)
    n = sum(map(len, side.classes.rows))
    nc1, bias = collapse.bias_corrected(float(found.nc1.mean()), drawn.nc1)
    metrics = [_metric("nc1", nc1, n, NC1, primary=True)]
    if len(weight) > 2:
        norms = collapse.either_way(found.nc2_norms, drawn.nc2_norms)
        metrics.append(_metric("nc2_norms", norms, n, NC2_NORMS))
        if found.nc2_angles is not None:
            angles = collapse.either_way(found.nc2_angles, drawn.nc2_angles)
            metrics.append(_metric("nc2_angles", angles, n, NC2_ANGLES))
    if bool(weight.any()):
        metrics.append(_metric("nc3", collapse.aligned(collapse.nc3(weight, side.classes.means), drawn.nc3), n, NC3))
    return metrics, bias


def _metric(name: str, found: Estimate, n: int, method: str, *, primary: bool = False) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name=name,
        value=found.value,
        low=found.low,
        high=found.high,
        confidence=CONFIDENCE,
        n=n,
        better=Better.NONE,
        method=method,
        primary=primary,
    )


def _share(name: str, disagreed: torch.Tensor) -> Metric:
    from assessor_checks._intervals import clopper_pearson

    return _metric(name, clopper_pearson(int(disagreed.sum()), len(disagreed)), len(disagreed), NC4)


def _distances(sides: dict[str, _Side]) -> Series:
    import numpy as np

    from assessor_checks.generalization import _collapse as collapse

    shares = np.linspace(0, 1, QUANTILES)
    columns: dict[str, tuple[float | None, ...]] = {"share": tuple(shares.tolist())}
    for name, side in sides.items():
        columns[name] = (None,) * QUANTILES
        if side.enough:
            found = collapse.relative_distances(side.features, side.classes).cpu().numpy()
            columns[name] = tuple(np.quantile(found, shares).tolist())
    title = "Distance of a row from its class mean, over the distance of the class means from their centre, sorted"
    return Series(name="distances", title=title, columns=columns)


def _by_class(names: tuple[str, ...], side: _Side, found: Geometry, disagreed: torch.Tensor) -> Table:
    columns = zip(
        (names[index] for index in side.classes.labels),
        map(len, side.classes.rows),
        found.spread.tolist(),
        found.distance.tolist(),
        found.nc1.tolist(),
        (float(disagreed[rows].double().mean()) for rows in side.classes.rows),
        strict=True,
    )
    heads = ("class", "rows", "distance of rows from the mean", "distance of the mean from the centre", "NC1", "NC4")
    title = "Collapse by class: root mean square distances in feature space; NC1 is the mean of its column"
    return Table(name="by_class", title=title, columns=heads, rows=tuple(columns))


def _remarks(
    subject: Subject, split: str, sides: dict[str, _Side], found: Geometry, weight: torch.Tensor
) -> tuple[str, ...]:
    from assessor_checks.generalization import _collapse as collapse

    side, train = sides[split], sides["train"]
    index, width = list(side.classes.labels), side.features.shape[1]
    remarks = [
        f"{width} features in front of the last layer; {len(index)} classes with {len(side.labels)} {split} rows."
    ]
    if left := [name for position, name in enumerate(subject.classes) if position not in index]:
        remarks.append(f"Left out because they have fewer than two rows in the {split} split: {', '.join(left)}.")
    if wrong := int((train.predicted != train.labels).sum()):
        remarks.append(
            f"{wrong} of {len(train.labels)} train rows are classified wrongly: training has not reached the phase "
            "for which collapse is described."
        )
    if len(index) == 2:
        remarks.append("With two classes the class means are always equally long and opposite, so NC2 is left out.")
    elif found.nc2_angles is None:
        remarks.append("A class mean lies at the centre of all and points nowhere, so the angles of NC2 are left out.")
    if found.rank < min(len(index) - 1, width):
        remarks.append(
            f"The class means span {found.rank} of {min(len(index) - 1, width)} directions; NC1 is measured in these."
        )
    if width < len(index) - 1:
        remarks.append(f"{width} features are too few for {len(index)} classes to lie as NC2 describes.")
    weight = weight[index]
    plain, centred = (collapse.nc3(w, side.classes.means) for w in (weight, weight - weight.mean(dim=0)))
    if not bool(weight.any()):
        remarks.append("All weights of the last layer are 0, so nc3 is left out.")
    elif abs(plain - centred) > MOST_COMMON:
        remarks.append(
            f"The weight vectors have a part in common that changes no decision; without it nc3 is {centred:.3g} "
            f"instead of {plain:.3g}."
        )
    if not all(one.enough for one in sides.values()):
        remarks.append("The other split has too few rows or classes for nc1.")
    return tuple(remarks)


def _doubt(bias: float, side: _Side) -> str | None:
    if (share := -math.expm1(-abs(bias))) <= MOST_BIAS:
        return None
    rows = min(map(len, side.classes.rows))
    return (
        f"There are too few rows a class ({rows} in the smallest) for their means: resampling alone changes NC1 by "
        f"about {share:.0%}."
    )


def plot(result: Result, axes: Axes) -> None:
    """Sorted distances of the rows from their class mean, on both splits; collapsed features lie near 0."""
    columns = result.series[0].arrays
    for name, style in (("train", "--"), ("test", "-")):
        if (columns[name] >= 0).all():
            axes.plot(columns["share"], columns[name], style, color="black", label=name)
    axes.axhline(1, color="0.6", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of rows")
    axes.set_ylabel("distance from the class mean / distance of the means")
    axes.legend(frameon=False)


CHECK = Check(info=INFO, params=NeuralCollapseParams, measure=measure, plot=plot, rows=of_train_and_test)
