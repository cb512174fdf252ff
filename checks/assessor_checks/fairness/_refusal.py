"""Why no two groups can be compared, and what can be done about it."""

from __future__ import annotations

import numpy as np

from assessor_checks._groups import Groups, pairs_of, too_small


def too_few_groups(groups: Groups, minimum: int) -> str:
    """Which attributes have a single group, which groups are too small, and what to do; empty where groups suffice.

    Args:
        groups: With the rows' cells.
        minimum: Fewest rows of a group that is compared.

    Returns:
        Sentences, or nothing where an attribute has two groups of so many rows.
    """
    sizes = groups.members @ np.bincount(groups.cells, minlength=groups.members.shape[1])
    if len(pairs_of(groups.attributes, sizes >= minimum)[0]):
        return ""
    alone = one_group(groups)
    if len(alone) == 1 and len(set(groups.attributes)) == len(groups.attributes):
        return alone[0]
    return " ".join([*alone, *too_small(groups, minimum), advice()])


def one_group(groups: Groups) -> list[str]:
    """A sentence that names the attributes in which all rows are alike; none where there are no such attributes."""
    alone = [name for name in groups.families if groups.attributes.count(name) == 1]
    return [f"All rows have the same value of: {', '.join(alone)}."] if alone else []


def advice() -> str:
    """What helps where groups are too small."""
    return (
        "Take more rows, merge small groups or lower minimum_group; fairness.distance_covariance compares without "
        "groups."
    )
