"""Two assessments beside each other: the test of a difference, and every kind of shift."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import ended
from hypothesis import given
from hypothesis import strategies as st

from assessor.assessment import Assessment, measure
from assessor.auditing import Judgement, save_settings
from assessor.canonical import canonical_json, sha256_hex
from assessor.claims import Claims, read_claims
from assessor.comparison import LEVEL, Change, Comparison, compare, difference_of
from assessor.contract import Better, Metric
from assessor.errors import UsageError
from assessor.project import Project
from assessor_checks._intervals import wilson

Make = Callable[..., Any]


def metric(value: float, low: float | None, high: float | None, **changes: Any) -> Metric:
    fields = {"name": "share", "confidence": 0.95, "n": 9, "better": Better.HIGHER, "method": "made up", **changes}
    return Metric(value=value, low=low, high=high, **fields)


# --- the test --------------------------------------------------------------------------------------------------------


def test_difference_of_two_wilson_intervals_is_newcombes() -> None:
    """Newcombe 1998 (Stat. Med. 17:873), method 10: 56/70 against 48/80 gives 0.0524 to 0.3339."""
    one, two = (metric(*wilson(hits, n)) for hits, n in ((48, 80), (56, 70)))
    low, high, p_value = difference_of(one, two)
    assert (low, high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    assert 0 < p_value < LEVEL


@given(st.tuples(*[st.floats(-9, 9)] * 3), st.tuples(*[st.floats(-9, 9)] * 3))
def test_the_p_value_is_under_five_percent_where_the_interval_leaves_zero_out(one: Any, two: Any) -> None:
    (low, value, high), (down, other, up) = sorted(one), sorted(two)
    first, last, p_value = difference_of(metric(value, low, high), metric(other, down, up))
    assert 0 <= p_value <= 1
    if abs(p_value - LEVEL) > 1e-9:
        assert (first > 0 or last < 0) == (p_value < LEVEL) or other == value


def test_level_and_power_of_the_test() -> None:
    """1 000 pairs of two accuracies of 200 rows: at most 5 % false alarms, and 15 points are mostly seen."""
    rng = np.random.default_rng(0)
    for gap, floor, ceiling in ((0.0, 0.02, 0.065), (0.15, 0.85, 1.0)):
        hits = rng.binomial(200, [0.6, 0.6 + gap], size=(1000, 2))
        found = [difference_of(*(metric(*wilson(int(k), 200)) for k in pair))[2] < LEVEL for pair in hits]
        assert floor <= np.mean(found) <= ceiling


def test_no_interval_no_test() -> None:
    assert difference_of(metric(1, None, None), metric(2, 1, 3)) == (None, None, None)
    assert difference_of(metric(1, 0, 2, confidence=0.9), metric(2, 1, 3)) == (None, None, None)
    assert difference_of(metric(1, 1, 1), metric(2, 2, 2)) == (1, 1, 0)
    assert difference_of(metric(1, 0, 2), metric(1, 0, 2))[2] == 1


# --- records ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def claims(make_folder: Make, make_run: Make, tmp_path: Path) -> Callable[..., Claims]:
    """Makes the claims of a folder whose results are made up."""

    def make(name: str, *runs: Any, **changes: Any) -> Claims:
        record = Assessment.read(make_folder(name, **changes)).record()
        record["results"] = {
            run.check: {"run": "1", "sha256": sha256_hex(canonical_json(run)), "result": run.model_dump(mode="json")}
            for run in runs
        }
        path = tmp_path / f"{name}.json"
        path.write_bytes(canonical_json(record))
        return read_claims(path)

    return make


def made(make_run: Make, check: str, value: float, half: float, **changes: Any) -> Any:
    model = changes.pop("model", "1")
    better = changes.pop("better", Better.HIGHER)
    found = make_run(check=check, metrics=(metric(value, value - half, value + half, better=better),), **changes)
    return found.model_copy(update={"subject": found.subject.model_copy(update={"model_sha256": model * 64})})


def changes_of(found: Comparison) -> dict[str, Change]:
    return {item.check: item.change for item in found.numbers}


@pytest.mark.slow
def test_better_worse_and_not_shown(claims: Callable[..., Claims], make_run: Make) -> None:
    lower = {"better": Better.LOWER}
    before = claims(
        "a",
        made(make_run, "a.up", 0.5, 0.02),
        made(make_run, "a.down", 0.5, 0.02, **lower),
        made(make_run, "a.little", 0.5, 0.2),
        made(make_run, "a.none", 0.5, 0.02, better=Better.NONE),
        made(make_run, "a.same", 0.5, 0.02),
        made(make_run, "a.version", 0.5, 0.02),
        made(make_run, "a.params", 0.5, 0.02, params={"x": 1}),
        made(make_run, "a.doubt", 0.5, 0.02),
    )
    after = claims(
        "b",
        made(make_run, "a.up", 0.7, 0.02, model="2"),
        made(make_run, "a.down", 0.7, 0.02, model="2", **lower),
        made(make_run, "a.little", 0.7, 0.2, model="2"),
        made(make_run, "a.none", 0.7, 0.02, model="2", better=Better.NONE),
        made(make_run, "a.same", 0.5, 0.02),
        made(make_run, "a.version", 0.7, 0.02, model="2", check_version="2"),
        made(make_run, "a.params", 0.7, 0.02, model="2", params={"x": 2, "y": 3}),
        made(make_run, "a.doubt", 0.7, 0.02, model="2", doubt="no"),
    )
    found = compare(before, after)
    assert changes_of(found) == {
        "a.up": Change.BETTER,
        "a.down": Change.WORSE,
        "a.little": Change.NOT_SHOWN,
        "a.none": Change.CHANGED,
        "a.same": Change.SAME,
        "a.version": Change.NOT_COMPARABLE,
        "a.params": Change.NOT_COMPARABLE,
        "a.doubt": Change.NOT_COMPARABLE,
    }
    assert found.worse
    reasons = {item.check: item.because for item in found.numbers if item.because}
    assert reasons == {
        "a.version": "version 1 of the check and version 2",
        "a.params": "other parameters: x, y",
        "a.doubt": "the check doubts its own numbers",
    }
    by_check = {item.check: item for item in found.numbers}
    assert by_check["a.same"].p_value is None
    assert by_check["a.up"].p_holm == pytest.approx(4 * by_check["a.up"].p_value)


def test_many_tests_keep_their_level_together(claims: Callable[..., Claims], make_run: Make) -> None:
    """A difference that is shown alone is not shown among twenty tests."""
    for others, wanted in ((0, Change.WORSE), (20, Change.NOT_SHOWN)):
        sides = [
            claims(
                f"{others}{model}",
                made(make_run, "a.one", value, 0.1, model=model),
                *(made(make_run, f"b.b{k}", 0.5 + 1e-3 * (model == "2"), 0.1, model=model) for k in range(others)),
            )
            for value, model in ((0.7, "1"), (0.5, "2"))
        ]
        assert changes_of(compare(*sides))["a.one"] is wanted


def test_shifts_of_outcomes_and_subjects(claims: Callable[..., Claims], make_run: Make) -> None:
    before = claims("a", made(make_run, "a.one", 0.5, 0.1), make_run(check="a.two", status="fail"),
                    make_run(check="a.gone"), make_run(check="a.odd"))  # fmt: skip
    after = claims("b", make_run(check="a.one", status="fail"), make_run(check="a.two", status="inconclusive"),
                   make_run(check="a.new"), make_run(check="a.odd", status="not_applicable"))  # fmt: skip
    found = {(shift.kind, shift.id): shift for shift in compare(before, after).shifts}
    assert {key: shift.change for key, shift in found.items()} == {
        ("subject", "model"): Change.WENT,
        ("outcome", "a.one"): Change.WORSE,
        ("outcome", "a.two"): Change.BETTER,
        ("outcome", "a.gone"): Change.WENT,
        ("outcome", "a.new"): Change.APPEARED,
        ("outcome", "a.odd"): Change.CHANGED,
    }
    assert compare(claims("c", make_run(check="a.one")), claims("d")).worse  # what is no longer measured
    assert not compare(claims("e"), claims("f", make_run(check="a.one"))).worse


def test_shifts_of_verdicts_and_contradictions(make_folder: Make) -> None:
    target = {"reliability.performance": {"interval": [0.99, None], "because": "a trial"}}
    one, two = make_folder("a"), make_folder("b", targets=target)
    for project in (one, two):
        measure(project, ["reliability.performance"])
    requirement = Assessment.read(two).runs["reliability.performance"].requirements[0]
    save_settings(one, [f"{requirement}=partly"], Judgement(because="x", deviation="y"), by="auditor")
    save_settings(two, [f"{requirement}=fulfilled"], Judgement(because="x"), by="auditor")
    found = compare(read_claims(one.folder), read_claims(two.folder))
    shifts = {(shift.kind, shift.id): shift.change for shift in found.shifts}
    assert shifts == {
        ("outcome", "reliability.performance"): Change.CHANGED,
        ("auditor", requirement): Change.BETTER,
        ("contradiction", f"{requirement} and reliability.performance"): Change.WORSE,
    }
    assert found.same_rows
    back = {
        (shift.kind, shift.id): shift.change
        for shift in compare(read_claims(two.folder), read_claims(one.folder)).shifts
    }
    assert back["contradiction", f"{requirement} and reliability.performance"] is Change.BETTER


def test_a_record_of_another_shape(claims: Callable[..., Claims], make_run: Make) -> None:
    good = claims("a", make_run())
    bad = Claims(good.where, {**good.record, "judgement": [{"id": "x"}]}, good.sha256, good.configuration, {}, "")
    with pytest.raises(UsageError, match="a record lacks 'areas'"):
        compare(good, bad)


@pytest.mark.slow
def test_the_command(make_folder: Make, capsys: pytest.CaptureFixture[str]) -> None:
    table = "y,p,s,sex\n" + "".join(f"{i % 2},{i % 2},{0.1 + 0.8 * (i % 2)},f\n" for i in range(200))
    worse = table.replace("\n1,1,", "\n1,0,")
    projects: list[Project] = [make_folder(name, table=text) for name, text in (("a", table), ("b", worse))]
    for project in projects:
        measure(project, ["reliability.performance"])
    first, second = (project.folder for project in projects)
    assert ended("compare", first, first) == 0
    assert "0 worse, 0 better, 1 numbers the same" in capsys.readouterr().out
    assert ended("compare", first, second) == 1
    said = capsys.readouterr().out
    assert "accuracy" in said
    assert "worse" in said
    assert ended("compare", first, second, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["worse"], found["numbers"][0]["change"]) == (True, "worse")
    assert ended("compare", second, first) == 0
    assert ended("compare", first, first.parent / "none") == 2
