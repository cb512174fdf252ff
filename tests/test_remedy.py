"""`assessor remedy` and where else the advice is shown: the command, `check show`, the report's card."""

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from assessor.contract import Check
from assessor.messages import _
from assessor.model import CheckRun, Status
from assessor.project import Project
from assessor.registry import load_checks
from assessor.report_cards import card

CODE = """
from assessor_checks.fam import FAM

with FAM(model, "fc2") as fam:  # [bold] is no markup
    loss = loss + fam()
"""


@pytest.fixture
def installed(make_check: Callable[..., Check], monkeypatch: pytest.MonkeyPatch) -> Check:
    """A tiny check with code for its remedy, offered as a stranger's package would."""
    check = make_check(remedy="Train again.", remedy_code=CODE)
    monkeypatch.setattr("builtins.offered_for_trial", check, raising=False)
    point = EntryPoint("trial", "builtins:offered_for_trial", "assessor.checks")
    monkeypatch.setattr("assessor.registry.entry_points", lambda group: [point])
    assert load_checks() == {"trial.share": check}
    return check


def test_the_remedy_of_a_check_with_its_code(run: Run, installed: Check) -> None:
    done = run("remedy", "trial.share")
    assert done.code == 0
    head, remedy, empty, *code = done.out.rstrip().split("\n")
    assert (head, remedy, empty) == ("trial.share  Share of right predictions", "  Train again.", "")
    assert code == [f"    {line}" if line else "" for line in CODE.strip().split("\n")]


def test_json_of_a_check(run: Run, installed: Check) -> None:
    assert json.loads(run("remedy", "trial.share", "--json").out) == {
        "check": "trial.share",
        "title": "Share of right predictions",
        "remedy": "Train again.",
        "remedy_code": CODE,
    }


def test_check_show_has_the_code_too(run: Run, installed: Check) -> None:
    told = run("check", "show", "trial.share").out
    assert '    with FAM(model, "fc2") as fam:  # [bold] is no markup\n' in told
    assert told.index("Train again.") < told.index("with FAM") < told.index("needs")
    assert json.loads(run("check", "show", "trial.share", "--json").out)["remedy_code"] == CODE


def test_installed_checks_without_code_say_their_remedy(run: Run) -> None:
    done = run("remedy", "generalization.gap")
    assert done.code == 0
    assert done.out.startswith("generalization.gap  Generalization gap between training and test data\n  Regularise")


def test_an_unknown_check(run: Run) -> None:
    done = run("remedy", "generalization.gapp")
    assert done.code == 2
    assert "no check 'generalization.gapp'; did you mean 'generalization.gap'?" in done.err


@pytest.fixture
def results(make_folder: Callable[..., Project], make_run: Callable[..., CheckRun]) -> Path:
    """A folder with one result of every kind, two of them bad, and a bad one of a check that is gone."""
    project = make_folder()
    for check, status in {
        "trial.share": "fail",
        "trial.unsure": "inconclusive",
        "trial.good": "pass",
        "trial.broken": "error",
        "trial.other": "not_applicable",
        "trial.plain": "measured",
    }.items():
        project.save_run(make_run(check, status, f"{check} says {status}"))
    return project.folder


def test_all_bad_results_of_a_folder(run: Run, installed: Check, results: Path) -> None:
    done = run("remedy", "--project", results)
    assert done.code == 0
    assert "trial.share  fail  trial.share says fail\n  Train again.\n\n    from assessor_checks.fam" in done.out
    assert "trial.unsure  inconclusive  trial.unsure says inconclusive\n  this check is not installed here" in done.out
    assert not any(word in done.out for word in ("trial.good", "trial.broken", "trial.other", "trial.plain"))
    found = json.loads(run("remedy", "--project", results, "--json").out)
    assert [(item["check"], item["status"], item["remedy"]) for item in found] == [
        ("trial.share", "fail", "Train again."),
        ("trial.unsure", "inconclusive", None),
    ]
    assert found[0]["sentence"] == "trial.share says fail"


def test_nothing_bad_and_nothing_at_all(
    run: Run, make_folder: Callable[..., Project], make_run: Callable[..., CheckRun]
) -> None:
    project = make_folder()
    assert run("remedy", "--project", project.folder).out == "nothing has been measured yet\n"
    project.save_run(make_run("trial.good", "pass"))
    assert run("remedy", "--project", project.folder).out == "no check has failed or is inconclusive\n"
    assert json.loads(run("remedy", "--project", project.folder, "--json").out) == []


@pytest.fixture(scope="module")
def as_html() -> Callable[[dict[str, Any]], str]:
    """A card as the report sets it."""
    folder = str(files("assessor.templates") / "report")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["_"] = _
    macro = environment.get_template("card.html.j2").module.card  # type: ignore[attr-defined]
    return lambda item: str(macro(item))


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ERROR])
def test_the_card_shows_the_code_when_the_check_failed(
    make_check: Callable[..., Check],
    make_run: Callable[..., CheckRun],
    as_html: Callable[[dict[str, Any]], str],
    status: Status,
) -> None:
    html = as_html(card(make_run("trial.share", status.value), make_check(remedy="Train again.", remedy_code=CODE)))
    code = '<pre class="code">from assessor_checks.fam import FAM\n\nwith FAM(model, &#34;fc2&#34;) as fam:'
    assert (code in html) is ("<pre" in html) is (status is Status.FAIL)
    assert ("Train again." in html) is (status in {Status.FAIL, Status.INCONCLUSIVE})


def test_a_card_without_code(
    make_check: Callable[..., Check], make_run: Callable[..., CheckRun], as_html: Callable[[dict[str, Any]], str]
) -> None:
    run = make_run("trial.share", "fail")
    assert "<pre" not in as_html(card(run, make_check()))
    assert "<pre" not in as_html(card(run, None))
