"""Fairness: ours against Fairlearn, dcor and statsmodels, all in one process; prints ratios and checks equal numbers.

1. Group metrics of 100 000 rows and 8 groups: point values equal; time of a bootstrap of 1000 resamples, Fairlearn's
   extrapolated from a few; at 4000 rows both interval widths side by side.
2. Distance correlation: values equal to dcor's to 1e-9 relative; time at 10 000 rows; p-values of permutation tests.
3. Newcombe's interval, Holm's adjustment and Welch's interval equal to those of statsmodels.

The packages need an environment of their own (requirements.txt beside this file says how). Run, with it:
python benchmarks/peers/fairness.py [--quick]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import dcor
import fairlearn
import numpy as np
import pandas as pd
import statsmodels
from fairlearn import metrics as peer
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from assessor_checks import _gaps, _groups, _rates
from assessor_checks.fairness import _dependence, _mean_gaps
from assessor_checks.fairness import _distance_covariance as dcov

ROWS, GROUPS, RESAMPLES = 100_000, 8, 1_000
SMALL, PAIRS, PERMUTATIONS = 4_000, 10_000, 999
METRICS = {
    "selection_rate": peer.selection_rate,
    "true_positive_rate": peer.true_positive_rate,
    "false_positive_rate": peer.false_positive_rate,
    "accuracy": lambda true, said: float((true == said).mean()),
}
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def seconds(function: Callable[[], object]) -> tuple[float, object]:
    """Process time of one call, and what it gave."""
    begin = time.process_time()
    found = function()
    return time.process_time() - begin, found


def case(rows: int) -> Rows:
    """(n,) group, label and prediction."""
    rng = np.random.default_rng(0)
    group, labels = rng.integers(0, GROUPS, rows), rng.integers(0, 2, rows)
    return group, labels, (rng.random(rows) < 0.3 + 0.02 * group).astype(np.int64)


def frame(rows: Rows, resamples: int | None = None) -> peer.MetricFrame:
    """Fairlearn's, with a bootstrap or without."""
    more = {} if resamples is None else {"n_boot": resamples, "ci_quantiles": [0.025, 0.975], "random_state": 0}
    group, labels, said = rows
    return peer.MetricFrame(metrics=METRICS, y_true=labels, y_pred=said, sensitive_features=group, **more)


def ours(rows: Rows, resamples: int) -> tuple[dict[str, _rates.Rate], dict[str, np.ndarray]]:
    """Rates, and resampled ones (R, G)."""
    group, labels, said = rows
    groups = _groups.find_groups(pd.DataFrame({"group": group}))
    outcomes = _rates.count_outcomes(groups.cells, labels, said, positive=1)
    resampled = _rates.resampled_rates(groups, outcomes, resamples, np.random.default_rng(0))
    return _rates.rates_of(groups, outcomes, minimum=2), resampled


def compare_groups(few: int) -> bool:
    """Values, times and widths."""
    rows = case(ROWS)
    plain, found = seconds(lambda: frame(rows))
    some, _ = seconds(lambda: frame(rows, few))
    mine, (rates, _) = seconds(lambda: ours(rows, RESAMPLES))  # type: ignore[misc]
    values = np.stack([rates[name].hits / rates[name].trials for name in METRICS], axis=1)
    apart = float(np.abs(found.by_group.to_numpy(dtype=float) - values).max())  # type: ignore[attr-defined]
    theirs = (some - plain) / few * RESAMPLES
    print(f"group metrics, {ROWS} rows, {GROUPS} groups: largest difference of 32 rates {apart:.1e}")
    print(f"  {RESAMPLES} resamples: ours {1e3 * mine:.0f} ms with grouping the rows, Fairlearn {theirs:.0f} s from "
          f"{few}: {theirs / mine:.0f}x")  # fmt: skip
    small = case(SMALL)
    drawn = frame(small, 150)
    low, high = (part.to_numpy(dtype=float) for part in drawn.by_group_ci)
    _, resampled = ours(small, 20_000)
    ends = np.stack([np.quantile(resampled[name], [0.025, 0.975], axis=0) for name in METRICS], axis=2)
    ratio = np.median((high - low) / (ends[1] - ends[0]))
    print(f"  {SMALL} rows: median width of Fairlearn's intervals (150 resamples) over ours (20 000): {ratio:.2f}")
    return apart < 1e-12 and 0.85 < ratio < 1.15


def compare_distances() -> bool:
    """Values of all kinds, times and p-values."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(PAIRS)
    y = np.round(x**2 + rng.standard_normal(PAIRS), 1)
    codes = rng.integers(0, 5, PAIRS)
    mine, found = seconds(lambda: dcov.of_values(x, y))
    dcor.u_distance_correlation_sqr(x[:50], y[:50])  # compiles
    theirs, value = seconds(lambda: dcor.u_distance_correlation_sqr(x, y))
    assert isinstance(found, dcov.Dependence)
    errors = [abs(found.corrected / float(value) - 1), abs(found.plain / float(dcor.distance_correlation(x, y)) - 1)]
    print(f"distance correlation, {PAIRS} numbers with ties: ours {1e3 * mine:.0f} ms, dcor {1e3 * theirs:.0f} ms")
    some = slice(0, 2_000)
    hot = np.eye(5)[codes[some]] / np.sqrt(2)
    groups = dcov.of_values_and_cells(x[some], codes[some], 1.0 - np.eye(5))
    value = dcor.u_distance_correlation_sqr(x[some], hot)
    errors.append(abs(groups.corrected - float(value)) / groups.plain**2)
    columns = [_dependence.Column("y", y[some], is_number=True), _dependence.Column("g", codes[some], is_number=False)]
    both = _dependence.Attributes(columns)
    output = _dependence.Column("x", x[some], is_number=True)
    sums, _ = _dependence.dependence(output, both, pair_rows=PAIRS, seed=0)
    joined = np.column_stack([y[some] / y[some].std(), hot])
    errors.append(abs(sums.corrected / float(dcor.u_distance_correlation_sqr(x[some], joined)) - 1))
    print(f"  largest relative difference from dcor (numbers, groups, both together): {max(errors):.1e}")
    weak = (x[:500], x[:500] * 0.08 + rng.standard_normal(500))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = dcor.independence.distance_covariance_test(*weak, num_resamples=PERMUTATIONS, random_state=0)
    sides = [_dependence.side(_dependence.Attributes([_dependence.Column("x", v, is_number=True)])) for v in weak]
    p = _dependence.p_values([(sides[0], [sides[1]])], PERMUTATIONS, np.random.default_rng(0))[0]
    print(f"  p-value of a weak dependence, {PERMUTATIONS} permutations each: ours {p:.3f}, dcor {test.pvalue:.3f}")
    return max(errors) < 1e-9 and abs(p - test.pvalue) < 0.05


def compare_statistics() -> bool:
    """Intervals and adjustments by hand in statsmodels."""
    rate = _rates.Rate("selection_rate", *(np.array(x) for x in ([56, 48], [70, 80], [70, 80], [0], [1])))
    _, low, high = _gaps.differences(rate, 1.959963984540054)
    errors = [*np.abs(np.array([low[0], high[0]]) - confint_proportions_2indep(56, 70, 48, 80, method="newcomb"))]
    p_values = np.random.default_rng(0).random(20) ** 3
    errors.append(
        float(np.abs(np.array(_gaps.holm(p_values.tolist())) - multipletests(p_values, method="holm")[1]).max())
    )
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(40), 2 * rng.standard_normal(25) + 1
    groups = _groups.find_groups(pd.DataFrame({"group": [0] * 40 + [1] * 25}))
    found = _mean_gaps.mean_gap(groups, _mean_gaps.moments("x", groups, np.concatenate([x, y]), minimum=2), 0.95, rng)
    welch = CompareMeans(DescrStatsW(y), DescrStatsW(x)).tconfint_diff(usevar="unequal")
    errors.append(abs(found[0].high - max(map(abs, welch))))
    print(f"Newcombe, Holm and Welch: largest difference from statsmodels {max(errors):.1e}")
    return max(errors) < 1e-9


def main() -> None:
    """All three; ends with 1 where numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer of Fairlearn's resamples")
    few = 2 if parser.parse_args().quick else 10
    print(f"fairlearn {fairlearn.__version__}, dcor {dcor.__version__}, statsmodels {statsmodels.__version__}")
    equal = [compare_groups(few), compare_distances(), compare_statistics()]
    raise SystemExit(0 if all(equal) else "numbers differ")


if __name__ == "__main__":
    main()
