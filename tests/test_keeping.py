"""Parts of long measurements: kept through a killed process, never mixed up, never half."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from assessor.contract import Better, Lent, Metric, Result, Subject, kept, lending, progress
from assessor.engine import Job, run_job, scope_of, subject_record
from assessor.keeping import lent_by
from assessor.model import Status
from assessor.subjects import load_subject

Make = Callable[..., Any]


def silent(what: str, done: int, total: int) -> None:
    """No display."""


@pytest.fixture
def lend(tmp_path: Path) -> Callable[..., Lent]:
    return lambda scope="scope", **more: lent_by(tmp_path / "kept", scope, silent, **more)


def never() -> JsonValue:
    raise AssertionError("computed again")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("kept/*"))


# --- what comes back -------------------------------------------------------------------------------------------------


def test_a_value_is_computed_once(lend: Callable[..., Lent], tmp_path: Path) -> None:
    with lending(lend()):
        assert kept(["a", 1], lambda: {"loss": [0.1, 2.0]}) == {"loss": [0.1, 2.0]}
    with lending(lend()):  # as another process would
        assert kept(["a", 1], never) == {"loss": [0.1, 2.0]}
        assert kept(["a", 2], lambda: 3) == 3
    assert len(files(tmp_path)) == 2


numbers = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(value=values)
def test_it_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: JsonValue) -> None:
    """To the last digit and type: 1.0 is no 1, or a resumed run would count in whole numbers."""
    lent = lent_by(tmp_path_factory.mktemp("a"), None, silent)
    lent.keep("key", value)
    assert repr(lent.find("key")) == repr(value)


def test_what_is_no_number_comes_back_too(lend: Callable[..., Lent]) -> None:
    lend().keep("key", [math.nan, math.inf, -0.0])
    found: Any = lend().find("key")
    assert [str(value) for value in found] == ["nan", "inf", "-0.0"]


def test_scopes_and_keys_are_kept_apart(lend: Callable[..., Lent]) -> None:
    parts: list[tuple[JsonValue, JsonValue]] = [
        ({"code": "a"}, "x"),
        ({"code": "b"}, "x"),
        ({"code": "a"}, "y"),
        ({"code": "a"}, ["x"]),
        ({"code": "a"}, {"x": 1}),
        ({"code": "a"}, {"x": "1"}),
        (["a"], ["x"]),
        ([], ["a", "x"]),
    ]
    for number, (scope, key) in enumerate(parts):
        assert lend(scope).find(key) is None
        lend(scope).keep(key, number)
    assert [lend(scope).find(key) for scope, key in parts] == list(range(len(parts)))
    assert lend({"b": 1, "a": 2}).find({"d": 1, "c": 2}) is None
    lend({"b": 1, "a": 2}).keep({"d": 1, "c": 2}, "one")
    assert lend({"a": 2, "b": 1}).find({"c": 2, "d": 1}) == "one"


def test_a_fresh_run_finds_only_its_own(lend: Callable[..., Lent]) -> None:
    lend().keep("key", 1)
    fresh = lend(fresh=True)
    assert fresh.find("key") is None
    fresh.keep("key", 2)
    assert (fresh.find("key"), lend().find("key")) == (2, 2)


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"0.25", b"0.35"),  # still a number
        lambda content: content.split(b"\n")[1],
        lambda content: content + b" ",
        lambda content: b"\xff\xfe" + content,
        lambda content: b"null",
    ],
)
def test_a_spoiled_file_is_computed_again(
    lend: Callable[..., Lent], tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    lend().keep("key", [0.25, 1.5])
    (path,) = files(tmp_path)
    path.write_bytes(spoil(path.read_bytes()))
    with lending(lend()):
        assert kept("key", lambda: [0.25, 1.5]) == [0.25, 1.5]
    with lending(lend()):
        assert kept("key", never) == [0.25, 1.5]
    assert files(tmp_path) == [path]


def test_a_value_that_cannot_be_kept_leaves_nothing(lend: Callable[..., Lent], tmp_path: Path) -> None:
    lent: Any = lend()
    with pytest.raises(TypeError):
        lent.keep("key", object())
    assert files(tmp_path) == []
    lent.keep("key", 1)
    (path,) = files(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        lent.keep("key", 1)
    assert files(tmp_path) == [path]  # no half file beside it
    assert lent.find("key") is None


def test_a_fault_in_a_part_keeps_nothing_of_it(lend: Callable[..., Lent], tmp_path: Path) -> None:
    with lending(lend()), pytest.raises(AssertionError, match="computed again"):
        kept("key", never)
    assert not (tmp_path / "kept").exists()


KILLED = """
import os, sys
from pathlib import Path
from assessor.contract import kept, lending
from assessor.keeping import lent_by

done = []
def part(k):
    if k == int(sys.argv[2]):
        os._exit(9)
    done.append(k)
    return {"part": k, "value": k / 7}

with lending(lent_by(Path(sys.argv[1]), "scope", lambda what, done, total: None)):
    found = [kept(k, lambda: part(k)) for k in range(5)]
print(done, found)
"""


def test_a_killed_process_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def run(die_at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(die_at)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run(3).returncode == 9
    (tmp_path / "left.part").write_text("half a fi")  # of a process that died while it wrote
    second = run(99)
    whole = [{"part": k, "value": k / 7} for k in range(5)]
    assert second.stdout == f"[3, 4] {whole}\n", second.stderr


# --- with an engine, and without one ---------------------------------------------------------------------------------


def test_without_an_engine_everything_is_computed_and_nobody_told() -> None:
    counts = iter(range(2))
    assert [kept("key", lambda: next(counts)) for _ in range(2)] == [0, 1]
    progress("parts", 1, 2)


def test_what_was_lent_is_given_back(lend: Callable[..., Lent]) -> None:
    told: list[tuple[str, int, int]] = []

    def tell(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    def fail() -> None:
        with lending(lend("inner")):
            kept("key", lambda: "inner")
            progress("nobody", 0, 1)
            raise KeyError

    with lending(Lent(tell, lend("outer").find, lend("outer").keep)):
        with pytest.raises(KeyError):
            fail()
        progress("parts", 1, 2)
        assert kept("key", lambda: "outer") == "outer"
    progress("nobody", 0, 1)
    assert told == [("parts", 1, 2)]


@pytest.fixture
def measured(make_folder: Make, make_check: Make) -> Callable[..., Any]:
    """Runs a check of four parts as an assessment does; `die_at` interrupts it there."""
    project = make_folder()
    subject, kind, digest = load_subject(project.configuration().target, project.folder)
    record = subject_record(subject, kind, digest)

    def run(die_at: int | None = None, seed: int = 0, version: str = "1", half_width: float = 0.25) -> Any:
        computed = []

        def part(number: int, seed: int) -> float:
            if number == die_at:
                raise KeyboardInterrupt
            computed.append(number)
            return number / 3 + seed

        def measure(subject: Subject, params: Any, seed: int) -> Result:
            values: list[Any] = [kept([k, seed], lambda k=k: part(k, seed)) for k in range(4)]
            mean = sum(values) / 4
            return Result(metrics=(Metric(name="share", value=mean, n=4, better=Better.NONE, method="made up"),))

        check = make_check(measure, version=version)
        job = Job(check, check.params(half_width=half_width), None, seed, ())
        with lending(lent_by(project.folder / ".assessor" / "kept", scope_of(job, record, subject.device), silent)):
            return run_job(job, subject, record), computed

    return run


def test_a_check_that_was_interrupted_goes_on(measured: Callable[..., Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        measured(die_at=2)
    resumed, computed = measured()
    assert computed == [2, 3]
    assert resumed.outcome.status is Status.MEASURED
    assert resumed.metrics[0].value == sum(k / 3 for k in range(4)) / 4
    again, nothing = measured()
    assert nothing == []
    assert again.metrics == resumed.metrics


def test_parts_count_for_one_version_and_seed_but_for_all_parameters(measured: Callable[..., Any]) -> None:
    assert measured()[1] == [0, 1, 2, 3]
    assert measured(half_width=0.1)[1] == []  # what a part depends on is for the check to say
    assert measured(seed=1)[1] == [0, 1, 2, 3]
    assert measured(version="2")[1] == [0, 1, 2, 3]
    assert measured()[1] == []
