"""Does the same row get the same answer: again, in other company, in another order, with other threads and seeds?"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    Subject,
    Table,
    Task,
)
from assessor_checks._costs import used

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks.reliability._repeats import Variation

INFO = CheckInfo(
    id="reliability.determinism",
    version="1",
    title="The same input gets the same answer",
    measures=(
        "Whether answers depend on anything but the input: rows are asked again, with other random numbers, in another "
        "order, in batches of other sizes, after other rows, and with another number of threads. The value is the "
        "share of rows whose predicted class or value changes in any of these."
    ),
    unit="1",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset(Task),
    limits=(
        "One process on one machine: other hardware, drivers or library versions may still give other answers.",
        "The upper end of the interval is what rare changes may still be; unchanged rows prove nothing of other rows.",
        "A model that is meant to draw random numbers fails here; say so and how its seed is recorded.",
        "Differences of scores up to the tolerance count as rounding and are shown, not counted.",
    ),
    remedy=(
        "Put the model in eval mode (dropout off, stored statistics of batch normalisation), fix and log seeds, keep "
        "no state between requests, and where rounding decides, round scores or widen the margin of the decision."
    ),
    source=(
        "Clopper and Pearson 1934 (interval); on rounding that depends on order and batch: Goldberg 1991, doi "
        "10.1145/103162.103163; He and others 2025, Defeating Nondeterminism in LLM Inference (batch invariance)"
    ),
    requirements=("TR-R-AU-ME-05",),
)


class DeterminismParams(Params):
    """What the user may set."""

    tolerance: float = Field(
        default=1e-5,
        ge=0,
        description="Greatest difference of a probability that counts as rounding; for a regression in standard "
        "deviations of the predictions.",
    )
    max_samples: int = Field(default=500, ge=2, description="Rows used at most, chosen by the seed.")


def measure(subject: Subject, params: DeterminismParams, seed: int) -> Result:
    """Share of rows whose answer changes, of rows whose scores change, and the largest change.

    Args:
        subject: Any that answers new inputs.
        params: Tolerance and number of rows.
        seed: Seed of the rows' choice and of their order.

    Returns:
        Metrics and the table of variations.

    Raises:
        NotApplicable: The test split has no features or a score is not a number.
    """
    import numpy as np

    from assessor_checks import _inputs
    from assessor_checks.reliability import _repeats

    features = subject.splits["test"].features
    if features is None or not len(features):
        raise NotApplicable("the test split has no features" if features is None else "the test split has no rows")
    rows = _inputs.chosen_rows(len(features), params.max_samples, seed)
    first, found = _repeats.variations(subject, features[rows], np.delete(features, rows, axis=0), seed)
    if bad := int((~np.isfinite(first.scores)).any(axis=1).sum()):
        raise NotApplicable(f"the scores are not finite for {bad} of {len(rows)} rows")
    classifies, scored = subject.task.is_classification, Need.PROBABILITIES in subject.offers
    limit = params.tolerance * (1.0 if classifies else float(first.decided.std()) or 1.0)
    if not classifies:
        found = [one._replace(changed=one.moved > limit) for one in found]
    return Result(
        metrics=_metrics(found, len(rows), limit, scored=scored or not classifies),
        tables=(_table(found, limit),),
        remarks=_remarks(subject, found, len(rows), len(features), scored=scored),
    )


def _metrics(found: list[Variation], n: int, limit: float, *, scored: bool) -> tuple[Metric, ...]:
    import numpy as np

    from assessor_checks._intervals import CONFIDENCE, clopper_pearson

    def ever(which: list[np.ndarray]) -> np.ndarray:
        """(n,) rows to which it happened in any variation."""
        hit = np.zeros(n, dtype=bool)
        for one, rows in zip(which, (variation.rows for variation in found), strict=True):
            hit[rows] |= one
        return hit

    shares = [("changed_predictions", ever([one.changed for one in found]), "whose prediction changes")]
    if scored:
        moved = ever([one.moved > limit for one in found])
        shares.append(("changed_scores", moved, f"whose score changes by more than {limit:.3g}"))
    metrics = []
    for name, hit, what in shares:
        value, low, high = clopper_pearson(int(hit.sum()), n)
        metrics.append(
            Metric(
                name=name, value=value, low=low, high=high, confidence=CONFIDENCE, n=n, better=Better.LOWER,
                method=f"share of rows {what} in any of {len(found)} variations; 95 % Clopper-Pearson",
                primary=name == "changed_predictions",
            )
        )  # fmt: skip
    largest = max(float(one.moved.max()) for one in found)
    if scored and np.isfinite(largest):
        method = (
            f"largest difference of a score in any of {len(found)} variations of these rows; others may differ more"
        )
        metrics.append(Metric(name="largest_difference", value=largest, n=n, better=Better.LOWER, method=method))
    return tuple(metrics)


def _table(found: list[Variation], limit: float) -> Table:
    import math

    rows = []
    for one in found:
        largest = float(one.moved.max())
        shares = (float(one.changed.mean()), float((one.moved > limit).mean()), float(one.equal.mean()))
        rows.append((one.name, len(one.rows), *shares, largest if math.isfinite(largest) else None))
    columns = ("asked", "rows", "changed predictions", "changed scores", "same to the last bit", "largest difference")
    return Table(
        name="variations", title="Answers compared with those of the first time", columns=columns, rows=tuple(rows)
    )


def _remarks(subject: Subject, found: list[Variation], n: int, available: int, *, scored: bool) -> tuple[str, ...]:
    remarks = [f"{n} of {available} test rows in {len(found)} variations."]
    if subject.task.is_classification and not scored:
        remarks.append("The model gives no probabilities, so changes that do not change the class go unseen.")
    if active := _active(subject):
        remarks.append(f"These parts of the module are in training mode and may change answers: {', '.join(active)}.")
    if Need.GRADIENTS not in subject.offers:
        remarks.append("Another number of threads was not tried: the subject is no PyTorch module.")
    elif not subject.device.startswith("cpu"):
        remarks.append("Another number of threads was not tried: the model runs on another device than the CPU.")
    return tuple(remarks)


def _active(subject: Subject) -> list[str]:
    """Names of dropout and normalisation layers that are in training mode."""
    if Need.GRADIENTS not in subject.offers:
        return []
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.dropout import _DropoutNd

    kinds = (_DropoutNd, _NormBase, nn.RReLU)
    return [name or "the module" for name, layer in subject.module.named_modules()
            if isinstance(layer, kinds) and layer.training]  # fmt: skip


def plot(result: Result, axes: Axes) -> None:
    """Share of rows with another prediction and with another score, by variation."""
    rows = result.tables[0].rows
    places = range(len(rows))
    for column, marker, label in ((2, "o", "prediction"), (3, "s", "score")):
        values = [float(row[column] or 0.0) for row in rows]
        beside = [place + 0.3 * (column - 2.5) for place in places]
        axes.plot(values, beside, marker, color="black" if column == 2 else "0.5", markersize=4, label=label)
    axes.set_yticks(list(places), [str(row[0]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share of rows that change")
    axes.set_ylabel("asked")
    axes.legend(frameon=False)


def rows(subject: Subject, params: DeterminismParams) -> int:
    """Every used row eight times, and some of them one at a time; with scores where there are some."""
    from assessor_checks.reliability._repeats import ONE_BY_ONE

    n = used(subject, "test", params.max_samples)
    return (8 * n + min(n, ONE_BY_ONE)) * (1 + (Need.PROBABILITIES in subject.offers))


CHECK = Check(info=INFO, params=DeterminismParams, measure=measure, plot=plot, rows=rows)
