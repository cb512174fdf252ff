"""Search for weak groups, against every group looked at by brute force."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor_checks.reliability import _slices as slices


def table(n, seed, numbers=3):
    rng = np.random.default_rng(seed)
    made = pd.DataFrame(rng.standard_normal((n, numbers)), columns=[f"x{i}" for i in range(numbers)])
    made["site"] = rng.choice(list("abc"), n)
    return made


def test_conditions_in_words():
    frame = pd.DataFrame(
        {
            "age": np.arange(40.0),
            "sex": list("fm") * 20,
            "flag": [True, False] * 20,
            "code": [str(i) for i in range(40)],
            "few": [1.0, 2.0, np.nan, 1.0] * 10,
        }
    )
    frame["code"] = [f"id {i % 120}" for i in range(40)]
    made = slices.conditions(frame, bins=4, least=5)
    assert made.skipped == ()
    assert [name.text for name in made.names] == [
        "age <= 9", "age > 9", "age <= 19", "age > 19", "age <= 29", "age > 29", "9 < age <= 19", "19 < age <= 29",
        "sex = f", "sex = m", "flag = False", "flag = True", "few = 1", "few = 2", "few is missing",
    ]  # fmt: skip
    for name, met in zip(made.names, made.members.T, strict=True):
        assert 5 <= met.sum() <= 35, name
    assert made.members[:, 0].tolist() == (frame.age <= 9).tolist()
    assert slices.conditions(pd.DataFrame({"id": [f"r{i}" for i in range(300)]}), bins=4, least=5).skipped == ("id",)
    odd = slices.conditions(pd.DataFrame({"x": np.r_[np.full(20, np.inf), np.arange(20.0)]}), bins=4, least=5)
    assert [name.text for name in odd.names] == ["x <= 9", "x > 9", "x <= 19", "x > 19", "9 < x <= 19"]


def by_brute_force(members, columns, losses, depth, least):
    """All conjunctions with their standard scores."""
    n, found = len(losses), {}
    for length in range(1, depth + 1):
        for parts in itertools.combinations(range(members.shape[1]), length):
            inside = members[:, parts].all(axis=1)
            rows = inside.sum()
            if len({columns[part] for part in parts}) == length and least <= rows <= n - least:
                spread = np.sqrt(losses.var(ddof=1) * rows * (1 - rows / n))
                found[parts] = (losses[inside] - losses.mean()).sum() / spread
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.booleans())
def test_search_looks_at_every_group_and_picks_the_worst(seed, depth, binary):
    made = slices.conditions(table(80, seed, 2), bins=3, least=5)
    rng = np.random.default_rng(seed)
    losses = (rng.random(80) < 0.3).astype(float) if binary else rng.exponential(size=80)
    if losses.std() == 0:
        return
    columns = [name.column for name in made.names]
    wanted = by_brute_force(made.members, columns, losses, depth, 5)
    found = slices.search(made.members, columns, losses, depth=depth, least=5, most=6)
    if depth < 3:  # triples continue the worst pairs only
        assert found.searched == len(wanted)
        best = max(wanted.values())
        assert best <= 0 or wanted[found.slices[0]] == pytest.approx(best, abs=1e-4)
    assert found.searched <= len(wanted)
    chosen = [made.members[:, parts].all(axis=1) for parts in found.slices]
    for one, other in itertools.combinations(chosen, 2):
        assert (one & other).sum() <= 0.5 * (one | other).sum()
    for parts in found.slices:
        for length in range(1, len(parts)):
            assert all(wanted[parts] > wanted.get(short, -9) - 1e-4 for short in itertools.combinations(parts, length))


def test_search_finds_nothing_where_losses_are_equal():
    made = slices.conditions(table(60, 0), bins=4, least=5)
    assert slices.search(made.members, [0] * made.members.shape[1], np.ones(60), depth=2, least=5, most=3).slices == ()
    assert slices.search(made.members[:, :0], [], np.arange(60.0), depth=2, least=5, most=3).slices == ()
