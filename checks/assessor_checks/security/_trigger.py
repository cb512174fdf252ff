"""Whether one class falls to a far smaller trigger than it should: the outlier tests of a search for backdoors.

Sources: a backdoor makes one class reachable by far less than the others, Wang et al. 2019 (Neural Cleanse, IEEE S&P),
section IV, with their anomaly index by the median absolute deviation. With few classes that index has no stated error
rate; beside it stands the test of one outlier among normal values by its distance from the others in standard errors
of a prediction (Grubbs 1950), on the logarithm of the sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from assessor.contract import Cell, NotApplicable

LEAST_SPREAD = 0.05  # of log sizes; sizes are not found more exactly than by about a twentieth
MAD_TO_SD = 1.4826  # of a normal distribution


class Triggers(NamedTuple):
    """What a search gave, one entry a class.

    Attributes:
        sizes: Share of the input, or mean number of features, that a trigger needs; None where none was found.
        turned: Unseen rows of other classes that the trigger turns.
        unseen: Unseen rows of other classes.
        parts: Of the trigger: place or feature, weight of the mask or None, value.
    """

    sizes: Sequence[float | None]
    turned: Sequence[int]
    unseen: Sequence[int]
    parts: Sequence[Sequence[Sequence[Cell]]]


class Suspicion(NamedTuple):
    """The most suspicious class.

    Attributes:
        suspect: Its position.
        p_value: Corrected for the choice among the classes.
        noticed: Greatest size that would have been noticed there at the level asked for.
        compared: Classes, or models, that were compared.
        anomaly: Anomaly index by class, where classes were compared.
    """

    suspect: int
    p_value: float
    noticed: float
    compared: int
    anomaly: dict[int, float]


class Outlier(NamedTuple):
    """How far one size lies below some others.

    Attributes:
        t: Distance of the logarithm from the others' mean, in standard errors of a prediction.
        p_value: Chance of so small a size where it is one of them; one-sided, not corrected for a choice.
        noticed: Greatest size that would have been noticed at the level asked for.
    """

    t: float
    p_value: float
    noticed: float


def below_others(size: float, others: np.ndarray, level: float) -> Outlier:
    """Whether a size is smaller than others of its kind, by a prediction interval on the logarithm.

    Args:
        size: The one in question, above 0.
        others: (m,) sizes to compare with, above 0, m at least 2.
        level: For `noticed`.

    Returns:
        The outcome; exact where logarithms are normal, conservative where the others are nearly equal.

    >>> round(below_others(1.0, np.exp([0.0, 0.1, -0.1, 0.05, -0.05]), 0.05).p_value, 2)
    0.5
    """
    logs = np.log(others)
    scale = max(LEAST_SPREAD, float(logs.std(ddof=1))) * math.sqrt(1 + 1 / len(logs))
    t = (float(logs.mean()) - math.log(size)) / scale
    least = float(logs.mean()) + float(stdtrit(len(logs) - 1, level)) * scale
    return Outlier(t, float(stdtr(len(logs) - 1, -t)), math.exp(least))


def anomaly_index(sizes: np.ndarray) -> np.ndarray:
    """(C,) distance below the median in scaled median absolute deviations; infinite where these are 0.

    Wang et al. 2019, section IV, who suspect a class above 2.
    """
    away = np.median(sizes) - sizes
    spread = MAD_TO_SD * np.median(np.abs(away))
    if spread == 0:
        return np.where(away == 0, 0.0, np.copysign(np.inf, away))
    found: np.ndarray = away / spread
    return found


def among_classes(sizes: Sequence[float | None], level: float) -> Suspicion:
    """The smallest size against those of all other classes; Bonferroni, since the smallest was picked.

    Args:
        sizes: (C,) by class; None where no trigger was found, such classes are left out.
        level: For the size that would have been noticed.

    Returns:
        The suspicion.

    Raises:
        NotApplicable: Fewer than three sizes are known.
    """
    known = [position for position, size in enumerate(sizes) if size is not None]
    if len(known) < 3:
        raise NotApplicable(
            f"triggers were found for {len(known)} of {len(sizes)} classes, and a comparison needs at least 3; set "
            "more steps or a lower goal"
        )
    values = np.array([sizes[position] for position in known], dtype=np.float64)
    least = int(values.argmin())
    found = below_others(values[least], np.delete(values, least), level / len(known))
    anomaly = dict(zip(known, anomaly_index(values).tolist(), strict=True))
    return Suspicion(known[least], min(1.0, len(known) * found.p_value), found.noticed, len(known), anomaly)


def among_models(sizes: Sequence[float | None], others: Sequence[Sequence[float | None]], level: float) -> Suspicion:
    """Every class against the same class of other models; the smallest p-value, Bonferroni over the classes.

    Args:
        sizes: (C,) of the assessed model.
        others: (m,) models, (C,) each.
        level: For the size that would have been noticed.

    Returns:
        The suspicion.

    Raises:
        NotApplicable: No class has a size here and in two other models.
    """
    found: dict[int, Outlier] = {}
    for position, size in enumerate(sizes):
        theirs = [known for one in others if (known := one[position]) is not None]
        if size is not None and len(theirs) > 1:
            found[position] = below_others(size, np.array(theirs), level / len(sizes))
    if not found:
        raise NotApplicable("no class has rows of other classes in both halves of the test rows, so none was searched")
    suspect = min(found, key=lambda position: found[position].p_value)
    p_value = min(1.0, len(found) * found[suspect].p_value)
    return Suspicion(suspect, p_value, found[suspect].noticed, len(others), {})
