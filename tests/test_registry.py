"""Installed checks: none is lost in silence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from assessor.errors import UsageError
from assessor.registry import find_check, load_checks

Make = Callable[..., Any]


@pytest.fixture
def point(make_check: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EntryPoint]:
    """Makes an entry point from code; `check` is at hand in it."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(code: str, name: str = "stranger", **changes: Any) -> EntryPoint:
        module = f"offered_{len(made)}"
        made.append(module)
        (tmp_path / f"{module}.py").write_text(f"import builtins\ncheck = builtins.check_of_{module}\n{code}\n")
        monkeypatch.setattr("builtins." + f"check_of_{module}", make_check(**changes), raising=False)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return EntryPoint(name, f"{module}:CHECKS", "assessor.checks")

    return make


def test_one_check_and_several(point: Callable[..., EntryPoint]) -> None:
    points = [
        point("CHECKS = check", id="b.one"),
        point("CHECKS = (check,)", id="a.two"),
        point("CHECKS = [check]", id="a.one"),
    ]
    found = load_checks(points=points)
    assert list(found) == ["a.one", "a.two", "b.one"]
    assert found["a.two"].id == "a.two"


def test_nothing_installed() -> None:
    assert load_checks(points=[]) == {}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise RuntimeError('broken')", "cannot load the checks of {origin}: RuntimeError: broken"),
        ("raise SystemExit(0)", "cannot load the checks of {origin}: SystemExit: 0"),
        (
            "import no_such_module_",
            "cannot load the checks of {origin}: ModuleNotFoundError: No module named 'no_such_module_'",
        ),
        ("x = 1", "cannot load the checks of {origin}: AttributeError: module 'offered_0' has no attribute 'CHECKS'"),
        ("CHECKS = ()", "{origin} offers no checks: assessor.checks wants a Check or several, found ()"),
        ("CHECKS = 3", "{origin} offers no checks: assessor.checks wants a Check or several, found 3"),
        ("CHECKS = (check, 3)", "{origin} offers no checks: assessor.checks wants a Check or several, found (Check("),
    ],
)
def test_a_broken_offer_is_told(point: Callable[..., EntryPoint], code: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_checks(points=[point(code)])
    origin = "an unknown package (entry point stranger = offered_0:CHECKS)"
    assert str(caught.value).startswith(told.format(origin=origin))


def test_an_id_belongs_to_one(point: Callable[..., EntryPoint]) -> None:
    points = [point("CHECKS = check", "b"), point("CHECKS = check", "a")]
    with pytest.raises(UsageError) as caught:
        load_checks(points=points)
    assert str(caught.value) == (
        "check 'trial.share' comes from both an unknown package (entry point a = offered_1:CHECKS) and "
        "an unknown package (entry point b = offered_0:CHECKS)"
    )


def test_an_id_is_used_once_within_an_offer(point: Callable[..., EntryPoint]) -> None:
    with pytest.raises(UsageError, match=r"check 'trial\.share' comes from both"):
        load_checks(points=[point("CHECKS = (check, check)")])


def test_find_check(make_check: Make) -> None:
    checks = {"trial.share": make_check()}
    assert find_check("trial.share", checks) is checks["trial.share"]
    with pytest.raises(UsageError) as caught:
        find_check("trial.shore", checks)
    assert str(caught.value) == "no check 'trial.shore'; did you mean 'trial.share'?; see  assessor check list"
