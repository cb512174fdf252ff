"""Faults of columns: which cells, how many, what stands there afterwards."""

import numpy as np
import pytest

from assessor_checks.robustness import _table_corruptions as tables

N, D = 4000, 6


def made(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (N, D))
    x[:, 5] = rng.integers(0, 2, N)
    held, measured = np.zeros(D, bool), np.ones(D, bool)
    held[0], measured[5] = True, False
    return x, tables.columns_of(x, x.std(axis=0), held, measured, [0])


def hit(x, found):
    return ~((found == x) | (np.isnan(found) & np.isnan(x)))


@pytest.mark.parametrize("name", sorted(tables.CORRUPTIONS))
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_shares_and_columns(name, severity):
    x, columns = made()
    before = x.copy()
    found = tables.corrupted(x, columns, name, severity, [1])
    assert np.array_equal(x, before)
    changed = hit(x, found)
    assert not changed[:, 0].any()  # held
    assert np.array_equal(found, tables.corrupted(x, columns, name, severity, [1]), equal_nan=True)
    share = tables.SHARES[severity - 1]
    if name in {"missing", "unit_thousand", "unit_inch", "sign_error", "outliers"}:
        assert changed[:, 1:5].mean() == pytest.approx(share, abs=5 * (share / (4 * N)) ** 0.5)
    if name in {"unit_thousand", "unit_inch", "sign_error", "outliers", "rounding"}:
        assert not changed[:, 5].any()  # two values: no quantity
    if name == "stuck_sensor":
        assert (changed[:, 1:5].sum(axis=1) <= max(1, round(share * 5))).all()
        assert np.isin(found[changed], columns.stuck).all()
    if name == "swapped_columns":
        np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(x, axis=1))
        count = max(2, round(share * 5))
        moved = changed.sum(axis=1)
        assert moved.max() == count
        assert (moved == count).mean() > 0.8  # fewer only where equal values are swapped


def test_what_stands_in_a_cell_that_is_hit():
    x, columns = made()
    for name, wanted in {
        "missing": np.broadcast_to(columns.median, x.shape),
        "sign_error": -x,
    }.items():
        found = tables.corrupted(x, columns, name, 5, [1])
        changed = hit(x, found)
        np.testing.assert_allclose(found[changed], wanted[changed])
    for name, factor in {"unit_thousand": 1000.0, "unit_inch": 2.54}.items():
        found = tables.corrupted(x, columns, name, 5, [1])
        changed = hit(x, found)
        ratio = np.abs(np.log(found[changed] / x[changed]))
        np.testing.assert_allclose(ratio, np.log(factor))
    found = tables.corrupted(x, columns, "outliers", 5, [1])
    away = (np.abs(found - columns.median) / columns.spread)[hit(x, found)]
    np.testing.assert_allclose(away, 10)
    found = tables.corrupted(x, columns, "rounding", 3, [1])
    step = 0.5 * columns.spread[1:5]
    np.testing.assert_allclose(found[:, 1:5] / step, np.round(found[:, 1:5] / step), atol=1e-9)
    assert (np.abs(found - x)[:, 1:5] <= step / 2 + 1e-9).all()


def test_missing_values_stay_missing_or_become_so():
    x, columns = made()
    x[::3, 2] = np.nan
    columns = tables.columns_of(x, np.nanstd(x, axis=0), ~columns.open, columns.measured, [3])
    assert np.isfinite(columns.median).all()
    assert np.isfinite(columns.stuck).all()
    for name in ("unit_thousand", "sign_error", "outliers", "rounding"):
        assert np.isnan(tables.corrupted(x, columns, name, 5, [1])[::3, 2]).all()
    found = tables.corrupted(x, columns, "missing", 3, [1], missing=np.nan)
    assert np.isnan(found[1::3, 2]).mean() == pytest.approx(0.2, abs=0.05)
    empty = tables.columns_of(np.full((3, 1), np.nan), np.zeros(1), np.zeros(1, bool), np.zeros(1, bool), [0])
    assert empty.median[0] == empty.stuck[0] == 0


def test_eligible_columns():
    _, columns = made()
    assert tables.eligible("missing", columns).sum() == 5
    assert tables.eligible("unit_inch", columns).sum() == 4
    assert tables.least_columns("swapped_columns") == 2
