"""The comparison with other tools: what travels between environments, what is counted, what the document says."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

OTHERS = Path(__file__).parents[1] / "studies" / "detection" / "others"
sys.path.append(str(OTHERS))  # its parts run as scripts and find each other there

import _cases  # noqa: E402
import compare  # noqa: E402
import export  # noqa: E402

ASKED = {path.stem.removeprefix("with_") for path in OTHERS.glob("with_*.py")}


def line(seed=0, *, tool="deepchecks", case="seen", strength=0.0, number=0.0, worse="high", alarm="0", seconds=1.0):
    return _cases.Line(tool, "1.0", case, strength, seed, "a rule", number, worse, alarm, seconds)


@pytest.fixture
def seen():
    """A tool that finds two of three, with one false alarm in three, and one that gives numbers alone."""
    clean = [
        line(seed, number=value, alarm=alarm) for seed, (value, alarm) in enumerate([(0, "0"), (1, "0"), (5, "1")])
    ]
    bad = [
        line(seed, strength=0.1, number=value, alarm=alarm)
        for seed, (value, alarm) in enumerate([(1, "0"), (6, "1"), (7, "1")])
    ]
    other = [line(tool="ART", strength=s, number=s, worse="low", alarm="") for s in (0.0, 0.1)]
    return [*clean, *bad, *other]


def test_every_case_is_a_planted_defect_at_one_of_its_strengths():
    for case in _cases.CASES.values():
        assert case.strength in export.defect_of(case).strengths[1:]


def test_systems_travel_by_file(tmp_path):
    arrays = {"test_labels": np.array([0, 1]), "test_attribute_sex": np.array(["f", "m"])}
    for strength, seed in ((0.5, 0), (0.0, 10), (0.0, 2)):
        _cases.write_system(tmp_path, _cases.System("women", strength, seed, arrays))
    _cases.write_system(tmp_path, _cases.System("sites", 0.0, 0, arrays))
    found = list(_cases.read_systems(tmp_path, "women"))
    assert [(one.strength, one.seed) for one in found] == [(0.0, 2), (0.0, 10), (0.5, 0)]
    assert found[0].attributes()["sex"].tolist() == ["f", "m"]
    assert found[0].arrays["test_labels"].tolist() == [0, 1]


def test_answers_travel_by_file(tmp_path):
    def ask(system):
        yield _cases.Answer("says so", 0.25, "low", True)
        yield _cases.Answer("reports", system.arrays["x"].sum(), "high")

    system = _cases.System("seen", 0.1, 3, {"x": np.arange(3)})
    lines = list(_cases.lines_of("tool", "1.0", ask, system))
    assert [(one.rule, one.number, one.alarm) for one in lines] == [("says so", 0.25, "1"), ("reports", 3.0, "")]
    assert min(one.seconds for one in lines) >= 0
    _cases.write_lines(tmp_path / "tool.csv", lines)
    assert _cases.read_lines(tmp_path / "tool.csv") == lines


def test_an_answered_case_stays_when_another_is_asked(tmp_path, monkeypatch):
    def ask(system):
        yield _cases.Answer("a rule", system.seed, "high", False)

    for seed in (0, 1):
        _cases.write_system(tmp_path, _cases.System("seen", 0.0, seed, {"x": np.zeros(1)}))
        _cases.write_system(tmp_path, _cases.System("mix", 0.0, seed, {"x": np.zeros(1)}))
    for arguments in ([], ["--only", "mix", "--seeds", "1"]):
        monkeypatch.setattr(sys, "argv", ["tool", str(tmp_path), *arguments])
        _cases.answer_all("tool", "numpy", {"seen": ask, "mix": ask})
    found = _cases.read_lines(tmp_path / "answers" / "tool.csv")
    assert [(one.case, one.seed) for one in found] == [("seen", 0), ("seen", 1), ("mix", 0)]
    assert {one.version for one in found} == {np.__version__}


def test_alarms_are_counted_and_numbers_separated(seen):
    alone, both = compare.rows_of(seen)[:2], compare.rows_of(seen)[2:]
    assert [(row.tool, row.strength, row.systems, row.verdicts) for row in alone] == [
        ("ART", 0, 1, 0),
        ("ART", 0.1, 1, 0),
    ]
    assert alone[1].separation == 0.0  # where low is bad, a higher number is the better one
    assert [(row.alarms, row.verdicts) for row in both] == [(1, 3), (2, 3)]
    assert both[1].separation == pytest.approx((1.5 + 3 + 3) / 9, abs=1e-4)  # of nine pairs one is a tie, one is lost
    assert (both[0].mean, both[0].lowest, both[0].highest) == (2, 0, 5)
    assert math.isnan(both[0].separation)


def test_half_answered_cases_are_refused(seen):
    with pytest.raises(ValueError, match="deepchecks has not answered all of seen: run it again"):
        compare.rows_of([one for one in seen if one.tool == "deepchecks" and not one.strength])


def test_a_number_that_is_missing_is_told():
    lines = [line(number=0.4, alarm=""), line(strength=0.1, number=math.nan, alarm="")]
    clean, bad = compare.rows_of(lines)
    assert (clean.missing, bad.missing) == (0, 1)
    assert math.isnan(bad.separation)
    told = compare._line(clean, bad)
    assert "| 0.4, none for any of 1 | - |" in told


def test_the_document_says_who_offers_what(seen):
    text = compare.document(compare.rows_of(seen))
    assert "| test rows that training has seen | - | - | - | no verdict | 1/3, 2/3 | - | - |" in text
    assert "1 of 3 [0.01, 0.91] | 2 of 3 [0.09, 0.99] | 2, 4.67 | 0.83 |" in text
    assert "Not offered: ai-assessor, AI Verify, AIF360, Fairlearn, giskard." in text


def test_our_verdict_is_that_of_the_study():
    defect = export.defect_of(_cases.CASES["copied"])
    clean, bad = (export.said("copied", defect, strength, 0) for strength in (0.0, 0.1))
    assert (clean.alarm, bad.alarm) == ("0", "1")
    assert clean.number == 0
    assert 0.05 < bad.number < 0.15
    assert "duplicate_share at most 0.02" in bad.rule


def test_every_tool_has_its_requirements_pinned():
    assert sorted(ASKED) == ["aif360", "aiverify", "art", "deepchecks", "fairlearn", "giskard"]
    for tool in ASKED:
        pins = (OTHERS / f"requirements_{tool}.txt").read_text("utf-8").splitlines()
        assert any(tool in pin or "adversarial" in pin for pin in pins if "==" in pin)
        assert all("==" in pin or "<" in pin for pin in pins if not pin.startswith("#"))
