"""How many rows checks ask a model for, for plans: a forward pass of a row counts once.

What a check computes besides is not in it. Counted is the most that is asked where a check may stop earlier.
"""

from __future__ import annotations

from assessor.contract import Params, Subject

GRADIENT = 3
"""A forward and a backward pass."""
PRODUCT = 6
"""A product with second derivatives: a backward pass through both."""


def used(subject: Subject, split: str, most: int | None = None) -> int:
    """Rows of a split that are used, at most so many; 0 where it is not there."""
    found = subject.splits.get(split)
    return 0 if found is None else found.n if most is None else min(found.n, most)


def of_test(subject: Subject, params: Params) -> int:
    """Every test row once."""
    return used(subject, "test")


def of_train_and_test(subject: Subject, params: Params) -> int:
    """Every train and every test row once."""
    return used(subject, "train") + used(subject, "test")
