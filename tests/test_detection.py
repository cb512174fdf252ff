"""The study of planted defects: what is counted, what is kept, what is written. Its defects themselves: slow."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

STUDIES = Path(__file__).parents[1] / "studies"
sys.path.append(str(STUDIES / "detection"))  # it runs as a script, whose parts find each other there

import _cells  # noqa: E402
import _frame  # noqa: E402
import _table  # noqa: E402
import run  # noqa: E402

from assessor.contract import Better, Metric  # noqa: E402
from assessor.model import Status  # noqa: E402

TOY = """
from pathlib import Path
import numpy as np
from _frame import Defect
from assessor.contract import Split, Task
from assessor.subjects.predictions import PredictionsSubject

LOG = Path(__file__).with_name("log")


def make(strength, seed):
    with LOG.open("a") as log:
        log.write(f"{strength} {seed}\\n")
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 2, 300)
    found = np.where(rng.random(300) < 0.05 + strength, 1 - true, true)
    splits = {"test": Split(name="test", labels=true, sha256="0")}
    return PredictionsSubject(Task.BINARY, ("a", "b"), splits, {"test": found}, {})


def crashes(strength, seed):
    raise RuntimeError("no such luck")


DEFECTS = (
    Defect(
        check="reliability.performance",
        name="wrong predictions | many",
        unit="share of rows",
        strengths=(0, 0.1, 0.3),
        make=make,
        target={"metric": "accuracy", "at_least": 0.9},
        named=0.3,
        repeats=4,
    ),
)
"""


EMPTY = Figure(figsize=(1, 1))


@pytest.fixture
def study(tmp_path, capsys, monkeypatch):
    """Runs the study over a folder of toy areas; gives exit code, what was printed and what was newly made."""
    monkeypatch.setattr(run, "figure", lambda found: EMPTY)  # drawing takes longer than all the rest
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # areas are written twice in a second here
    folder = tmp_path / "areas"
    folder.mkdir()

    class Study:
        out, cells, log = tmp_path / "out", tmp_path / "cells", folder / "log"

        def write(self, text=TOY, name="toy"):
            (folder / f"{name}.py").write_text(text, "utf-8")

        def __call__(self, *options):
            _frame.defects_of.cache_clear()
            _cells.source_digest.cache_clear()
            before = self.made()
            code = run.main(["--out", str(self.out), "--cells", str(self.cells), *options], folder)
            return code, capsys.readouterr(), self.made()[len(before) :]

        def made(self):
            return self.log.read_text().splitlines() if self.log.exists() else []

        def rows(self):
            return _table.read_rows(self.out / "detection.csv")

    found = Study()
    found.write()
    return found


def test_a_defect_is_measured_counted_and_told(study):
    code, printed, made = study()
    assert code == 0
    assert len(made) == 12
    clean, some, named = study.rows()
    assert (clean.strength, clean.runs, clean.alarms, clean.passes) == (0, 4, 0, 4)
    assert some.alarms + some.inconclusive + some.passes == 4
    assert (named.alarms, named.rate.value) == (4, 1)
    assert printed.out.startswith(
        "ok           reliability.performance: wrong predictions | many: false alarms 0 of 4, found 4 of 4 at 0.3"
    )
    text = (study.out / "detection.md").read_text("utf-8")
    assert "| ok | 1 |" in text
    assert (
        "| `reliability.performance` | wrong predictions / many (share of rows) | accuracy at least 0.9 | 0 of 4 "
        in text
    )
    assert "](./detection_toy.png)" in text
    assert (study.out / "detection_toy.png").exists()


def test_what_is_kept_is_not_measured_again(study):
    study()
    first = (study.out / "detection.csv").read_bytes()
    code, _, made = study()
    assert (code, made) == (0, [])
    assert (study.out / "detection.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        ('"at_least": 0.9', '"at_least": 0.99', 0),  # judged anew
        ("named=0.3", "named=0.1", 0),
        ("repeats=4", "repeats=5", 3),
        ("(0, 0.1, 0.3)", "(0, 0.1, 0.2, 0.3)", 4),
        ("# a comment", "", 0),
        ("0.05 + strength", "0.04 + strength", 12),
        ("named=0.3", 'named=0.3, params={"replicates": 500}', 12),
    ],
)
def test_only_what_a_number_depends_on_is_measured_again(study, old, new, count):
    study.write(TOY + "# a comment\n")
    study()
    study.write((TOY + "# a comment\n").replace(old, new))
    assert len(study()[2]) == count


def test_a_stopped_run_goes_on(study):
    stopping = TOY.replace(
        "    rng = ", "    if len(LOG.read_text().splitlines()) == 7:\n        raise KeyboardInterrupt\n    rng = "
    )
    study.write(stopping)
    code, printed, made = study()
    assert code == 130
    assert "run it again to go on" in printed.err
    assert len(made) == 7
    assert not (study.out / "detection.csv").exists()
    path = study.cells / "reliability.performance.jsonl"
    with path.open("ab") as file:
        file.write(b'{"key": "half a li')
    code, _, made = study()
    assert (code, len(made)) == (0, 6)  # of twelve six were kept
    assert len(path.read_text("utf-8").splitlines()) == 13


def test_a_crash_is_told_and_not_kept(study):
    study.write(TOY.replace("make=make", "make=crashes"))
    code, printed, _ = study()
    assert code == 1
    assert "wrong predictions | many: could not be planted: RuntimeError: no such luck" in printed.err
    assert printed.out.startswith("error ")
    assert not list(study.cells.glob("*"))


def test_other_checks_keep_their_rows(study):
    study.write(TOY.replace("reliability.performance", "uncertainty.calibration"), "second")
    code, _, made = study()
    assert (code, len(made)) == (1, 24)  # no calibration without scores
    assert [row.not_applicable for row in study.rows()[3:]] == [0, 0, 0]
    assert [row.not_applicable for row in study.rows()[:3]] == [4, 4, 4]
    assert [row.area for row in study.rows()] == ["second"] * 3 + ["toy"] * 3
    code, _, made = study("--only", "reliability.performance", "--quick")
    assert (code, made) == (0, [])  # the quick seeds are among those kept
    assert [(row.area, row.runs) for row in study.rows()] == [("second", 4)] * 3 + [("toy", 2)] * 2
    assert "**Quick: says nothing.**" in (study.out / "detection.md").read_text("utf-8")
    assert study("--only", "fairness")[0] == 2
    study.write("x = 1\n", "second")
    study()
    assert [row.area for row in study.rows()] == ["toy"] * 3


def test_a_defect_that_is_not_measured_yet_is_named(study):
    study()
    study.write(
        TOY.replace("wrong predictions", "others").replace("reliability.performance", "uncertainty.calibration"),
        "second",
    )
    study("--only", "reliability")
    text = (study.out / "detection.md").read_text("utf-8")
    assert "- not measured yet: `uncertainty.calibration`, others | many" in text


@pytest.mark.slow
def test_several_processes_give_the_same(study):
    study()
    first = [row._replace(seconds=0) for row in study.rows()]
    study.cells = study.cells.with_name("other")
    assert study("--jobs", "2")[0] == 0
    assert [row._replace(seconds=0) for row in study.rows()] == first


# --- verdicts --------------------------------------------------------------------------------------------------------


def rows(clean, named, runs=40, **more):
    fields = {"area": "a", "check": "c", "defect": "d", "unit": "u", "target": "t", "nominal": 0.05, "named": 1.0}
    counts = {"runs": runs, "passes": 0, "inconclusive": 0, "not_applicable": 0, "errors": 0, "seconds": 0.0, **more}
    return _table.Found(
        (
            _table.Row(**fields, **counts, strength=0.0, alarms=clean),
            _table.Row(**fields, **counts, strength=1.0, alarms=named),
        )
    )


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (rows(0, 40), "ok"),
        (rows(5, 40), "ok"),  # 5 of 40 is 0.125, and chance explains it: [0.04, 0.27]
        (rows(6, 40), "false alarms"),  # [0.057, 0.298]
        (rows(0, 32), "ok"),
        (rows(0, 31), "weak"),
        (rows(0, 40, not_applicable=21), "unmeasured"),
        (rows(0, 40, errors=1), "error"),
    ],
)
def test_verdicts(found, verdict):
    assert found.verdict == verdict
    assert verdict in _table.VERDICTS


def test_the_interval_is_that_of_the_simulation():
    assert rows(0, 20).named.rate == pytest.approx((0.5, 0.338, 0.662), abs=1e-3)
    assert rows(0, 0, inconclusive=10, not_applicable=10).clean.silent == 0.5


def test_a_figure_has_a_panel_a_defect(tmp_path):
    drawing = _table.figure([rows(0, 40), rows(1, 20), rows(2, 30), rows(0, 1), rows(0, 9)])
    assert len([axes for axes in drawing.axes if axes.axison]) == 5
    drawing.savefig(tmp_path / "x.png", dpi=80)
    assert (tmp_path / "x.png").stat().st_size < 100_000


def test_measured_results_are_judged_like_those_of_the_engine():
    metric = Metric(name="m", value=0.5, low=0.4, high=0.6, n=9, better=Better.HIGHER, method="x")
    found = _frame.Measured((metric,), None, None, "", 0.0)

    def status(**target):
        return found.status(defect(target=target).judged)

    assert status(metric="m", at_least=0.7) is Status.FAIL
    assert status(metric="m", at_most=0.7) is Status.PASS
    assert status(at_least=0.5) is Status.INCONCLUSIVE
    assert status(interval=[0.3, 0.7]) is Status.PASS
    assert found._replace(refused=Status.ERROR).status(defect().judged) is Status.ERROR


# --- defects ---------------------------------------------------------------------------------------------------------


def defect(**changes):
    fields = {
        "check": "reliability.performance",
        "name": "d",
        "unit": "u",
        "strengths": (0, 1),
        "make": lambda strength, seed: None,
        "target": {"at_most": 1},
        "named": 1,
    }
    return _frame.Defect(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strengths": (1, 2)}, "wanted 0 first, then rising"),
        ({"strengths": (0, 2, 1)}, "wanted 0 first, then rising"),
        ({"strengths": (0,)}, "wanted 0 first, then rising"),
        ({"named": 0}, "wanted one of"),
        ({"target": {"metric": "x"}}, "target has no end"),
        ({"target": {"most": 1}}, "target has \\['most'\\]"),
        ({"repeats": 0}, "repeats from 1"),
        ({"nominal": 1}, "nominal between 0 and 1"),
    ],
)
def test_what_cannot_be_right_is_refused(changes, message):
    defect().refuse_faults()
    with pytest.raises(ValueError, match=message):
        defect(**changes).refuse_faults()


def test_planted_twice(study):
    study.write(TOY, "copy")
    with pytest.raises(ValueError, match="planted twice"):
        study()


def test_the_check_draws_other_numbers_than_the_subjects_maker(monkeypatch):
    seeds = []

    def noted(job, *_):
        seeds.append(job.seed)
        raise ZeroDivisionError

    monkeypatch.setattr(_frame, "run_job", noted)
    with pytest.raises(ZeroDivisionError):
        _frame.measured(defect(make=lambda strength, seed: seeds.append(seed)), 0, 3)
    assert seeds == [3, 3 + _frame.MEASURING]


def test_cells_are_written_line_by_line(tmp_path, study):
    study()
    lines = (study.cells / "reliability.performance.jsonl").read_text("utf-8").splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == 12
    with (study.out / "detection.csv").open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == list(_table.Row._fields)


# --- the planted defects themselves -----------------------------------------------------------------------------------

AREAS = _frame.areas()


@pytest.mark.parametrize("area", AREAS)
def test_defects_name_checks_and_parameters_that_are_there(area):
    for one in AREAS[area]:
        check = _frame.check_of(one.check)
        assert check.id == one.check
        check.params(**one.params)
        assert one.judged.interval != (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("area", AREAS)
def test_defects_can_be_planted_and_measured(area, tmp_path):
    checks = sorted({one.check for one in AREAS[area]})
    options = [option for check in checks for option in ("--only", check)]
    places = ["--out", str(tmp_path), "--cells", str(tmp_path / "cells")]
    command = [sys.executable, str(STUDIES / "detection" / "run.py"), "--quick", *options, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr  # two seeds say nothing of power
    assert "error " not in done.stdout, done.stderr
