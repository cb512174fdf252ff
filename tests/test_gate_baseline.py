"""Baselines of the gate: the test beyond a tolerance, and results of a commit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run
from hypothesis import assume, given
from hypothesis import strategies as st

from assessor.baseline import read_baseline
from assessor.comparison import LEVEL, Change, compare_numbers, difference_of
from assessor.contract import Better, Metric
from assessor.errors import UsageError
from assessor_checks._intervals import wilson

Make = Callable[..., Any]
SIZES = st.tuples(*[st.floats(-9, 9)] * 3)


def metric(value: float, low: float | None, high: float | None, **changes: Any) -> Metric:
    fields = {"name": "share", "confidence": 0.95, "n": 9, "better": Better.HIGHER, "method": "made up", **changes}
    return Metric(value=value, low=low, high=high, **fields)


# --- the test --------------------------------------------------------------------------------------------------------


@given(SIZES, SIZES, st.floats(0, 5))
def test_a_difference_is_beyond_the_tolerance_where_its_interval_is(one: Any, two: Any, tolerance: float) -> None:
    (low, value, high), (down, other, up) = sorted(one), sorted(two)
    sides = metric(value, low, high), metric(other, down, up)
    first, last, p_value = difference_of(*sides, tolerance)
    assert (first, last) == difference_of(*sides)[:2]
    assert p_value is not None
    assert p_value >= difference_of(*sides)[2]
    assume(abs(p_value - LEVEL) > 1e-9)
    assert (first > tolerance or last < -tolerance) == (p_value < LEVEL)


@given(SIZES, st.floats(0.1, 5))
def test_a_tolerance_is_a_shift(one: Any, tolerance: float) -> None:
    """Against a number without noise the test beyond a tolerance is the plain test against the shifted number."""
    low, value, high = (10 + size for size in sorted(one))
    assume(value > tolerance)
    shifted = difference_of(metric(tolerance, tolerance, tolerance), metric(value, low, high))[2]
    tolerated = difference_of(metric(0, 0, 0), metric(value, low, high), tolerance)[2]
    assert tolerated == pytest.approx(shifted, abs=1e-12)


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
@pytest.mark.parametrize(("n", "share"), [(100, 0.7), (200, 0.9), (500, 0.8)])
def test_level_and_power_beyond_a_tolerance(n: int, share: float, tolerance: float) -> None:
    """4 000 pairs whose accuracy fell by just the tolerance: at most 5 % are called worse; 20 points more are seen."""
    rng = np.random.default_rng(n)
    for fall, floor, ceiling in ((tolerance, 0.0, LEVEL), (tolerance + 0.2, 0.75, 1.0)):
        hits = rng.binomial(n, [share, share - fall], size=(4000, 2))
        found = [difference_of(*(metric(*wilson(int(k), n)) for k in pair), tolerance) for pair in hits]
        worse = [p_value < LEVEL and high < 0 for _low, high, p_value in found]
        assert floor <= np.mean(worse) <= ceiling


def test_tolerances_are_by_check(make_run: Make) -> None:
    def made(value: float) -> dict[str, Any]:
        one = metric(value, value - 0.02, value + 0.02)
        return {name: make_run(check=name, metrics=(one,)) for name in ("a.strict", "a.lenient")}

    before, after = made(0.9), made(0.8)
    assert not compare_numbers(before, {})
    found = {item.check: item.change for item in compare_numbers(before, after, {"a.lenient": 0.1})}
    assert found == {"a.strict": Change.WORSE, "a.lenient": Change.NOT_SHOWN}
    back = {item.check: item.change for item in compare_numbers(after, before, {"a.lenient": 0.1})}
    assert back == {"a.strict": Change.BETTER, "a.lenient": Change.NOT_SHOWN}


# --- where it comes from ---------------------------------------------------------------------------------------------

GOOD = "y,p,s,sex\n" + "".join(f"{i % 2},{i % 2},{0.1 + 0.8 * (i % 2)},f\n" for i in range(200))
BAD = GOOD.replace("\n1,1,", "\n1,0,")


def git(folder: Path, *words: str) -> str:
    settings = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *settings, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(make_folder: Make, run: Run, tmp_path: Path) -> Path:
    """An assessment in a folder of a repository, its good results committed as `main`, worse ones in the folder."""
    folder: Path = make_folder("root/in here", table=GOOD).folder
    run("check", "run", "reliability.performance", "--project", folder)
    git(tmp_path / "root", "init", "-q")
    git(tmp_path / "root", "add", ".")
    git(tmp_path / "root", "commit", "-q", "-m", "good")
    (folder / "p.csv").write_text(BAD)
    run("check", "run", "reliability.performance", "--project", folder)
    return folder


@pytest.mark.slow
def test_worse_than_a_commit(repository: Path, run: Run) -> None:
    before = sorted(path for path in repository.rglob("*") if path.is_file())
    for name in ("main", "git:main", "HEAD", git(repository, "rev-parse", "HEAD")[:12]):
        done = run("gate", "--project", repository, "--baseline", name, "--format", "json")
        (found, measured) = json.loads(done.out)["findings"]
        assert (done.code, found["rule"], found["status"]) == (1, "regression/reliability.performance", "worse")
        assert found["place"]["file"] == "in here/assessor.yaml"
        assert measured["status"] == "measured"
    assert sorted(path for path in repository.rglob("*") if path.is_file()) == before
    (repository / "p.csv").write_text(GOOD)
    run("check", "run", "reliability.performance", "--project", repository)
    assert run("gate", "--project", repository, "--baseline", "main").code == 0


def test_a_tolerance_in_the_policy(repository: Path, run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("baseline: {tolerance: {reliability.performance: 0.7}}\n")
    assert run("gate", "--project", repository, "--baseline", "main", "--policy", policy).code == 0


def test_a_check_that_is_switched_off_went(repository: Path, run: Run) -> None:
    run("check", "run", "reliability.determinism", "--project", repository)
    path = repository / "assessor.yaml"
    path.write_text(path.read_text() + "checks: {reliability.performance: off}\n")
    done = run("gate", "--project", repository, "--baseline", "main")
    assert done.code == 3
    assert "was measured in the baseline and is not now" in done.out or "nothing was measured" in done.out


def test_other_baselines(repository: Path, make_folder: Make, run: Run, tmp_path: Path) -> None:
    other = make_folder("other", table=GOOD).folder
    with pytest.raises(UsageError, match="holds no measured result"):
        read_baseline(str(other), repository)
    run("check", "run", "reliability.performance", "--project", other)
    assert run("gate", "--project", repository, "--baseline", other).code == 1
    done = run("gate", "--project", repository, "--baseline", "no such ref")
    assert done.code == 2
    assert "nor a commit that git knows" in done.err
    assert run("gate", "--project", repository, "--baseline=--output=x").code == 2
    assert run("gate", "--project", other, "--baseline", "main").code == 2  # not in a repository


def test_a_commit_without_results_or_with_hostile_ones(repository: Path, tmp_path: Path) -> None:
    index = repository / "results" / "index.json"
    content = index.read_bytes()
    for text, told in (
        (b"{}", "holds no measured result"),
        (b"[", "not readable"),
        (b'{"a.b": "../../../x"}', "which is not there"),
        (b'{"../x": "y"}', "not readable"),
    ):
        index.write_bytes(text)
        git(repository, "commit", "-q", "-a", "-m", "hostile")
        with pytest.raises(UsageError, match=told):
            read_baseline("HEAD", repository)
    index.unlink()
    secret = tmp_path / "secret.json"
    secret.write_bytes(content)
    index.symlink_to(secret)
    git(repository, "commit", "-q", "-a", "-m", "a link")
    with pytest.raises(UsageError, match="not readable"):  # a link is its text, and is not followed
        read_baseline("HEAD", repository)
    git(repository, "rm", "-q", "-r", "results")
    git(repository, "commit", "-q", "-m", "none")
    with pytest.raises(UsageError, match="were results committed"):
        read_baseline("HEAD", repository)
