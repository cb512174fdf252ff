"""Results that tell of single rows, and the paired test of two of them on the same rows."""

from __future__ import annotations

import base64
import inspect
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Run
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest

import assessor.contract
from assessor.assessment import Assessment
from assessor.canonical import canonical_json
from assessor.claims import read_claims
from assessor.comparison import LEVEL, Change, compare_numbers, difference_of
from assessor.contract import Better, Metric, Outcomes, Result, Split, Task, collecting
from assessor.model import CheckRun
from assessor.paired_test import Pairs, difference_in_pairs, pairs_of
from assessor.project import Project
from assessor.registry import load_checks
from assessor.report import report_html
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._inputs import chosen_rows
from assessor_checks._intervals import clopper_pearson

Make = Callable[..., Any]
ROWS = st.integers(1, 400).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda rose: st.integers(0, n - rose).map(lambda fell: Pairs(n=n, rose=rose, fell=fell))
    )
)


def split_of(sha256: str = "a" * 64) -> Split:
    return Split(name="test", labels=np.zeros(3), sha256=sha256)


def share(hits: np.ndarray, **changes: Any) -> Metric:
    value, low, high = clopper_pearson(int(hits.sum()), len(hits))
    fields = {"name": "accuracy", "confidence": 0.95, "n": len(hits), "better": Better.HIGHER, "method": "made up"}
    return Metric(value=value, low=low, high=high, **{**fields, **changes})


# --- outcomes of rows ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=70))
def test_rows_are_counted_as_numpy_counts_them(rows: list[tuple[bool, bool]]) -> None:
    before, after = (np.array(side) for side in zip(*rows, strict=True))
    (one,), (two,) = (Outcomes.of("accuracy", side, split_of()) for side in (before, after))
    assert one.number.bit_count() == before.sum()
    wanted = Pairs(n=len(rows), rose=int((after & ~before).sum()), fell=int((before & ~after).sum()))
    assert pairs_of(one, two) == wanted


def test_only_the_same_rows_are_pairs() -> None:
    hits = np.array([True, False, True])
    made = [
        Outcomes.of("accuracy", hits, split_of()),
        Outcomes.of("accuracy", hits, split_of("b" * 64)),
        Outcomes.of("accuracy", hits, split_of(), np.array([0, 1, 2])),
        Outcomes.of("accuracy", hits, split_of(), np.array([0, 2, 1])),
        Outcomes.of("accuracy", hits[:2], split_of()),
    ]
    for place, (one,) in enumerate(made):
        for other, (two,) in enumerate(made):
            assert (pairs_of(one, two) is not None) == (place == other)


def test_too_many_rows_are_not_kept_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assessor.contract, "MOST_OUTCOMES", 2)
    with collecting() as remarks:
        assert Outcomes.of("accuracy", np.ones(2, dtype=bool), split_of()) != ()
        assert Outcomes.of("accuracy", np.ones(3, dtype=bool), split_of()) == ()
    assert remarks == ["Outcomes of single rows are not kept: there are more than 2 rows."]


def test_a_million_rows_take_167_kilobytes() -> None:
    (found,) = Outcomes.of("accuracy", np.ones(1_000_000, dtype=bool), split_of())
    assert len(canonical_json(found)) == pytest.approx(166_800, abs=100)


@pytest.mark.parametrize("bits", ["", "/w==", "4A", "4A==x", "ñ", "//8=", "8A=="])
def test_bits_that_are_none(bits: str) -> None:
    """Too few, too many, no Base64; a bit set after the last row."""
    good = {"metric": "accuracy", "rows": "0" * 64, "n": 3}
    assert Outcomes(bits="4A==", **good).number == 0b11100000
    with pytest.raises(ValidationError, match="outcomes of accuracy"):
        Outcomes(bits=bits, **good)


def test_outcomes_must_be_those_of_their_metric(make_run: Make) -> None:
    hits = np.array([True, False, True])
    outcomes = Outcomes.of("accuracy", hits, split_of())
    assert Result(metrics=(share(hits),), outcomes=outcomes).outcomes == outcomes
    for other in (share(~hits), share(hits, name="recall"), share(hits, n=4)):
        for make in (Result, make_run):
            with pytest.raises(ValidationError, match="outcomes of accuracy: their mean is"):
                make(metrics=(other,), outcomes=outcomes)


def test_results_without_outcomes_are_written_as_ever(make_run: Make) -> None:
    """Reports name digests of results: one from before there were outcomes is read and has its digest still."""
    old, hits = make_run(), np.array([True, False])
    assert b"outcomes" not in canonical_json(old)
    assert CheckRun.model_validate_json(canonical_json(old)) == old
    new = make_run(metrics=(share(hits),), outcomes=Outcomes.of("accuracy", hits, split_of()))
    assert CheckRun.model_validate_json(canonical_json(new)) == new


EPS = 0.3
KEEPING: dict[str, dict[str, Any]] = {
    "reliability.performance": {},
    "robustness.pgd_accuracy": {"eps": EPS, "norm": "l2", "curve": [0.5, 2.0], "max_samples": 50},
    "robustness.autoattack": {"eps": EPS, "norm": "l2", "steps": 20, "queries": 60, "max_samples": 50},
    "robustness.decision_attack": {"eps": EPS, "norm": "l2", "queries": 1500, "max_samples": 50},
    "robustness.certified_accuracy": {"radius": 0.1, "sigma": 0.2, "most": 2000, "max_samples": 50},
    "robustness.flatness_certificate": {"eps": EPS, "space": "input"},
    "uncertainty.conformal_coverage": {},
}


@pytest.mark.parametrize("name", KEEPING)
def test_checks_keep_the_outcomes_of_the_rows_they_say(name: str) -> None:
    """A linear model, of which every row's distance to the other class is known."""
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((200, 4)).astype(np.float32), np.array([1.0, -2.0, 0.5, 0.0])
    labels = ((x @ weight > 0) ^ (rng.random(200) < 0.1)).astype(np.int64)
    split = Split(name="test", labels=labels, sha256="a" * 64, features=x)
    subject = TorchSubject(linear(weight), Task.BINARY, ("no", "yes"), {"test": split})
    check = load_checks()[name]
    result = check.measure(subject, check.params(**KEEPING[name]), 5)
    (found,) = result.outcomes
    (primary,) = (metric for metric in result.metrics if metric.primary)
    assert found.metric == primary.name
    places = chosen_rows(200, found.n, 5)
    if name == "uncertainty.conformal_coverage":
        places = np.sort(np.random.default_rng([5, 0]).permutation(200)[100:])
    some = KEEPING[name].get("max_samples") or name == "uncertainty.conformal_coverage"
    (same_rows,) = Outcomes.of(found.metric, np.ones(found.n, dtype=bool), split, places if some else None)
    assert same_rows.rows == found.rows
    bits = np.unpackbits(np.frombuffer(base64.b64decode(found.bits), dtype=np.uint8))[: found.n].astype(bool)
    right, distance = (x @ weight > 0) == labels, np.abs(x @ weight) / np.linalg.norm(weight)
    if name == "uncertainty.conformal_coverage":
        assert bits[right[places]].mean() > bits[~right[places]].mean()
    elif name == "robustness.certified_accuracy":
        assert bits.any()
        assert not (bits & (~right[places] | (distance[places] < 0.1))).any()
    else:
        reach = 0.0 if name == "reliability.performance" else EPS
        assert (bits == (right & (distance > reach))[places]).all()


def test_every_check_that_keeps_outcomes_is_among_them() -> None:
    sources = {name: Path(inspect.getfile(check.measure)).read_text() for name, check in load_checks().items()}
    assert {name for name, text in sources.items() if re.search(r"\boutcomes=", text)} == set(KEEPING)


def linear(weight: np.ndarray) -> torch.nn.Linear:
    net = torch.nn.Linear(len(weight), 1)
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(weight[None]))
        net.bias.zero_()
    return net


# --- the test --------------------------------------------------------------------------------------------------------


@given(ROWS)
def test_without_a_tolerance_it_is_the_exact_test_of_mcnemar(pairs: Pairs) -> None:
    assume(pairs.rose != pairs.fell)
    wanted = binomtest(pairs.fell, pairs.rose + pairs.fell).pvalue
    assert difference_in_pairs(pairs)[2] == pytest.approx(wanted, rel=1e-9)


def score_by_search(pairs: Pairs, difference: float) -> float:
    """The score with the likeliest share of falls found by searching, not by its formula."""
    n, rose, fell = pairs.n, pairs.rose, pairs.fell
    low, high = max(0.0, -difference), (1 - difference) / 2

    def unlikely(falls: float) -> float:
        shares = ((rose, falls + difference), (fell, falls), (n - rose - fell, 1 - 2 * falls - difference))
        return -sum(count * np.log(max(p, 1e-300)) for count, p in shares if count)

    best = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return float((rose - fell - n * difference) / np.sqrt(n * (2 * best + difference - difference**2)))


@pytest.mark.parametrize("pairs", [(100, 2, 12), (44, 1, 7), (200, 30, 10), (50, 5, 5), (1000, 3, 60)])
def test_the_interval_ends_where_the_score_is_that_of_95_percent(pairs: tuple[int, int, int]) -> None:
    found = Pairs(**dict(zip(("n", "rose", "fell"), pairs, strict=True)))
    low, high, _p = difference_in_pairs(found)
    assert score_by_search(found, low) == pytest.approx(1.959964, abs=1e-3)
    assert score_by_search(found, high) == pytest.approx(-1.959964, abs=1e-3)


def test_rows_that_all_stay_as_they_are_leave_the_interval_of_a_share() -> None:
    """Solved by hand: with no row changed the score is -sqrt(n d / (1 - d)), so the ends are z^2 / (n + z^2)."""
    low, high, p_value = difference_in_pairs(Pairs(n=100, rose=0, fell=0))
    end = 1.959963985**2 / (100 + 1.959963985**2)
    assert (low, high, p_value) == (pytest.approx(-end, abs=1e-9), pytest.approx(end, abs=1e-9), 1.0)


@given(ROWS, st.floats(0, 0.3))
def test_called_a_change_only_where_the_interval_lies_beyond_the_tolerance(pairs: Pairs, tolerance: float) -> None:
    low, high, p_value = difference_in_pairs(pairs, tolerance)
    assert -1 <= low <= (pairs.rose - pairs.fell) / pairs.n <= high <= 1
    if tolerance and p_value < LEVEL:
        assert low > tolerance or high < -tolerance
    mirrored = difference_in_pairs(Pairs(n=pairs.n, rose=pairs.fell, fell=pairs.rose), tolerance)
    assert mirrored == (pytest.approx(-high, abs=1e-9), pytest.approx(-low, abs=1e-9), p_value)


@given(ROWS)
def test_more_tolerance_is_never_more_of_a_change(pairs: Pairs) -> None:
    found = [difference_in_pairs(pairs, tolerance)[2] for tolerance in (0, 1e-9, 0.01, 0.05, 0.2)]
    assert all(one <= two + 1e-12 for one, two in pairwise(found))


@pytest.mark.parametrize(
    ("changing", "tolerance"), [(0.02, 0.0), (0.2, 0.0), (0.0, 0.05), (0.005, 0.05), (0.02, 0.05), (0.02, 0.02)]
)
def test_level_by_counting(changing: float, tolerance: float) -> None:
    """All that can happen to 100 rows, each with its probability: a true fall of just the tolerance is called larger
    in at most 5 %, whatever the share of rows that change both ways.
    """
    falls = changing + tolerance
    wrong = 0.0
    for changed in range(1, 101):
        for fell in range(changed // 2 + 1, changed + 1):
            chance = binom.pmf(changed, 100, falls + changing) * binom.pmf(fell, changed, falls / (falls + changing))
            pairs = Pairs(n=100, rose=changed - fell, fell=fell)
            if chance > 1e-8 and difference_in_pairs(pairs, tolerance)[2] < LEVEL:
                wrong += chance
    assert wrong <= LEVEL
    if tolerance:
        assert wrong > 0.005  # it is no test that never says anything


# Rows, accuracy before, share that falls, share that rises -> share of 400 pairs of results that each test calls worse.
POWER = [
    ((500, 0.9, 0.03, 0.01), 0.45, 0.10),
    ((1000, 0.9, 0.03, 0.01), 0.80, 0.20),
    ((1000, 0.95, 0.04, 0.02), 0.60, 0.50),
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "paired_least", "unpaired_most"), POWER)
def test_power_beside_the_unpaired_test(case: Any, paired_least: float, unpaired_most: float) -> None:
    """The same falls, seen by either test."""
    n, accuracy, falls, rises = case
    rng = np.random.default_rng(1)
    shares = [falls, rises, accuracy - falls, 1 - accuracy - rises]
    seen = np.zeros((400, 2))
    for trial, counts in enumerate(rng.multinomial(n, shares, size=400)):
        fell, rose, both = (int(count) for count in counts[:3])
        sides = (np.arange(n) < both + fell, np.arange(n) < both + rose)
        _low, high, p_value = difference_of(share(sides[0]), share(sides[1]))
        paired = difference_in_pairs(Pairs(n=n, rose=rose, fell=fell))[2]
        assert high is not None
        assert p_value is not None
        seen[trial] = paired < LEVEL and fell > rose, p_value < LEVEL and high < 0
    paired, unpaired = seen.mean(axis=0)
    assert paired >= paired_least
    assert unpaired <= unpaired_most


# --- two results -----------------------------------------------------------------------------------------------------


@pytest.fixture
def results(make_run: Make) -> Callable[..., dict[str, CheckRun]]:
    """Makes the result of one check from what each row came to."""

    def make(hits: np.ndarray, *, known: bool = True, rows: str = "a" * 64, **changes: Any) -> dict[str, CheckRun]:
        outcomes = Outcomes.of("accuracy", hits, split_of(rows)) if known else ()
        return {"a.b": make_run(check="a.b", metrics=(share(hits),), outcomes=outcomes, **changes)}

    return make


def test_pairs_are_tested_where_both_tell_of_the_same_rows(results: Make) -> None:
    before = np.arange(500) < 450
    after = before.copy()
    after[:10] = False  # 2 points: ten rows of 500 fell and none rose
    for other in ({"known": False}, {"rows": "b" * 64}):
        (item,) = compare_numbers(results(before), results(after, **other)).__iter__()
        assert (item.change, item.pairs, item.told_test) == (Change.NOT_SHOWN, None, "two samples")
    (item,) = compare_numbers(results(before), results(after))
    assert item.pairs == Pairs(n=500, rose=0, fell=10)
    assert (item.change, item.told_test) == (Change.WORSE, "same 500 rows: 0 rose, 10 fell")
    assert item.p_holm == pytest.approx(2 * 0.5**10)
    assert item.high is not None
    assert item.high < 0
    (tolerated,) = compare_numbers(results(before), results(after), {"a.b": 0.01})
    assert tolerated.change is Change.NOT_SHOWN
    (back,) = compare_numbers(results(after), results(before))
    assert back.change is Change.BETTER
    (unlike,) = compare_numbers(results(before), results(after, check_version="2"))
    assert (unlike.change, unlike.pairs, unlike.told_test) == (Change.NOT_COMPARABLE, None, "")


# --- the gate --------------------------------------------------------------------------------------------------------


def table(wrong: int) -> str:
    """400 rows, the last 20 and some of the first ones answered wrongly."""
    answers = [(i % 2) ^ (i < wrong or i >= 380) for i in range(400)]
    return "y,p,sex\n" + "".join(f"{i % 2},{answer},{'fm'[i % 3 == 0]}\n" for i, answer in enumerate(answers))


@pytest.fixture
def folders(make_folder: Make, run: Run) -> Callable[..., Path]:
    def make(name: str, wrong: int, **changes: Any) -> Path:
        target = {
            "task": "binary",
            "model": {"predictions": "p.csv"},
            "data": {"test": {"label": "y", "prediction": "p", "sensitive": ["sex"]}},
            **changes,
        }
        folder: Path = make_folder(name, table=table(wrong), target=target).folder
        assert run("check", "run", "reliability.performance", "--project", folder).code == 0
        return folder

    return make


def outcomes_in(folder: Path) -> list[Any]:
    (path,) = (folder / "results" / "reliability.performance").glob("*.json")
    return list(json.loads(path.read_bytes()).get("outcomes", []))


@pytest.mark.slow
def test_the_gate_sees_a_small_fall_on_the_same_rows(folders: Make, run: Run, tmp_path: Path) -> None:
    """Two points of accuracy, 8 rows of 400: two samples could not show it. Tables of predictions know their rows."""
    good, bad = folders("good", 0), folders("bad", 8)
    record = tmp_path / "record.json"
    record.write_bytes(canonical_json(Assessment.read(Project(good)).record()))
    (kept,) = read_claims(record).runs["reliability.performance"].outcomes
    assert kept.bits not in report_html(Assessment.read(Project(good)), load_checks())  # stored, and shown to nobody
    for baseline in (good, record):
        done = run("gate", "--project", bad, "--baseline", baseline, "--format", "json")
        found = json.loads(done.out)
        assert done.code == 1
        assert found["findings"][0]["status"] == "worse"
        assert "p = 0.007813 (same 400 rows: 0 rose, 8 fell)" in found["findings"][0]["sentence"]
        assert found["baseline"]["tests"] == "numbers tested: 1, row by row on the same rows: 1"
    told = run("gate", "--project", bad, "--baseline", good)
    assert "row by row on the same rows: 1" in told.out
    beside = run("compare", good, bad)
    assert "same 400 rows: 0 rose, 8 fell" in beside.out


def test_outcomes_of_rows_can_be_left_out(folders: Make, run: Run) -> None:
    good, bad = folders("good", 0), folders("bad", 8, row_outcomes=False)
    assert [item["metric"] for item in outcomes_in(good)] == ["accuracy"]
    assert outcomes_in(bad) == []
    done = run("gate", "--project", bad, "--baseline", good, "--format", "json")
    assert json.loads(done.out)["baseline"]["tests"] == "numbers tested: 1, row by row on the same rows: 0"
    path = good / "assessor.yaml"
    path.write_text(path.read_text().replace("task: binary", "task: binary\n  row_outcomes: false"))
    run("check", "run", "reliability.performance", "--project", good)
    (kept,) = Assessment.read(Project(good)).runs.values()
    assert kept.outcomes == ()
