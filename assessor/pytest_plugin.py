"""pytest: `--assessor[=FOLDER]` makes every check of an assessment a test item; the fixture `assessor` runs one check.

pytest loads this module in every project where ai-assessor is installed: nothing else is imported before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from assessor.assessed import Assessed, Measured
    from assessor.model import CheckRun, Configuration
    from assessor.project import Project

NAME = "assessor"


class CheckFailed(Exception):  # noqa: N818 - the failure of a test
    """A check did not find what its target asks for."""


class InTests(NamedTuple):
    """What the fixture offers.

    Attributes:
        check: `assessor.measure`: one check on a model and data.
        assess: `assessor.assess` without a display of its progress: several.
    """

    check: Callable[..., Measured]
    assess: Callable[..., Assessed]


@pytest.fixture(scope="session", name=NAME)
def fixture() -> InTests:
    """Checks of a model made in a test.

    run = assessor.check("reliability.performance", model, (X, y), target=(0.8, None))
    assert run.passed
    """
    from assessor import api

    return InTests(api.measure, partial(api.assess, progress=False))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options."""
    group = parser.getgroup(NAME, "checks of an AI system (ai-assessor)")
    group.addoption(
        "--assessor",
        nargs="?",
        const=".",
        metavar="FOLDER",
        help="Make every check of the assessment in FOLDER a test; default: the working folder.",
    )
    group.addoption(
        "--assessor-trust",
        action="store_true",
        help="Load the model even where its files, or their format, can run code.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known by which these items are chosen: `-m assessor`."""
    config.addinivalue_line("markers", f"{NAME}: a check of an AI system, run by --assessor")


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Add an item a check.

    Raises:
        UsageError: The folder holds no assessment, or a file in it has a fault.
    """
    folder = session.config.getoption("--assessor")
    if folder is None:
        return
    from assessor.errors import AssessorError

    collector = AssessmentCollector.from_parent(session, name=NAME, nodeid=NAME)
    try:
        collector.open(session.config.invocation_params.dir / folder)
        items += collector.collect()
    except AssessorError as fault:
        raise pytest.UsageError(str(fault)) from fault


class AssessmentCollector(pytest.Collector):
    """An assessment folder: its checks that are not switched off."""

    project: Project
    configuration: Configuration

    def open(self, folder: Path) -> None:
        """Read its configuration."""
        from assessor.project import Project

        self.project = Project(folder)
        self.configuration = self.project.configuration()
        self._results: Mapping[str, CheckRun] | None = None
        self._fault: Exception | None = None

    def collect(self) -> Iterator[CheckItem]:
        """An item a check."""
        from assessor.registry import load_checks

        installed = load_checks()
        self.project.check_ids_known(list(installed))
        switched = self.configuration.checks
        for name in installed:
            if switched.get(name) is not False:
                yield CheckItem.from_parent(self, name=name)

    def result(self, item: CheckItem) -> CheckRun:
        """What a check found. All that are asked for are measured at once, so that the model is loaded once.

        Where other processes take a part of the items, each is measured when its turn comes. Results that are there
        already are not measured again.
        """
        from assessor.assessment import measure

        trust = bool(self.config.getoption("--assessor-trust"))
        if "PYTEST_XDIST_WORKER" in os.environ:
            return measure(self.project, [item.name], trust=trust)[0]
        if self._fault is not None:
            raise self._fault
        if self._results is None:
            wanted = [one.name for one in self.session.items if isinstance(one, CheckItem)]
            try:
                self._results = {run.check: run for run in measure(self.project, wanted, trust=trust)}
            except Exception as fault:
                self._fault = fault
                raise
        return self._results[item.name]


class CheckItem(pytest.Item):
    """One check."""

    def __init__(self, *, parent: AssessmentCollector, **fields: Any) -> None:
        super().__init__(parent=parent, **fields)
        self.assessment = parent
        self.add_marker(NAME)

    def runtest(self) -> None:
        """Measure and judge by target and policy.

        Raises:
            CheckFailed: The policy forbids the outcome, or the check crashed.
        """
        run = self.assessment.result(self)
        self.user_properties.append(("outcome", run.outcome.sentence))
        end = ending(run, self.assessment.configuration, datetime.now(UTC).date())
        if end == "failed":
            raise CheckFailed(_told(run))
        if end == "skipped":
            pytest.skip(run.outcome.sentence)
        if end == "xfailed":
            pytest.xfail(_told(run))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The sentence, without lines of ours; a fault of ours with all of them."""
        from assessor.errors import AssessorError

        if isinstance(excinfo.value, CheckFailed | AssessorError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where its target is, for editors."""
        file, _, line = self.assessment.project.target_source(self.name).partition(":")
        return self.assessment.project.folder / file, int(line) - 1, f"check {self.name}"


def ending(run: CheckRun, configuration: Configuration, today: date) -> str:
    """How the item of a check ends.

    Args:
        run: What was found.
        configuration: Its policy says what is forbidden, and which findings are waived.
        today: Date at which waivers are looked at.

    Returns:
        passed: it lies inside its target. failed: the policy forbids the outcome, it crashed, or it has a target and
        could not be measured. xfailed: waived, or not forbidden. skipped: nothing is judged.
    """
    status = run.outcome.status.value
    if status == "pass":
        return "passed"
    if status == "error":
        return "failed"
    if status == "measured" or (status == "not_applicable" and run.target is None):
        return "skipped"
    from assessor.gate import forbidden_outcomes

    policy = configuration.policy
    waived = any(
        waiver.id == run.check and status in waiver.covers and today <= waiver.until for waiver in policy.waivers
    )
    forbidden = forbidden_outcomes(configuration, policy, run.requirements) | {"not_applicable"}
    return "failed" if status in forbidden and not waived else "xfailed"


def _told(run: CheckRun) -> str:
    because = f" ({run.target.because}; {run.target.source})" if run.target else ""
    return f"{run.outcome.status.value}: {run.outcome.sentence}{because}"
