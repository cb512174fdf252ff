"""The gate over an assessment folder: reads all it looks at, decides, and says where everything stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from assessor.assessment import Assessment
from assessor.baseline import Baseline, read_baseline
from assessor.comparison import NumberChange, compare_numbers
from assessor.errors import ConfigurationError, nearest
from assessor.gate import Beside, decide
from assessor.gate_formats.notices import GateReport, report_of
from assessor.gate_places import Places, read_policy
from assessor.messages import _, retold
from assessor.model import CheckRun, Configuration, Policy
from assessor.project import Project
from assessor.registry import load_checks


def gated(
    project: Project,
    *,
    today: date,
    policy: Path | None = None,
    baseline: str | None = None,
    trust: tuple[Path, ...] = (),
) -> GateReport:
    """Decide on an assessment folder.

    Args:
        project: The folder.
        today: Date at which waivers are looked at.
        policy: File of a policy that takes the place of the one in assessor.yaml.
        baseline: Earlier results to compare with, by name.
        trust: PEM files of authorities whose signatures on a baseline count.

    Returns:
        The decision and where everything stands.
    """
    found = Assessment.read(project)
    rules = read_policy(policy) if policy else found.configuration.policy
    places = Places(project.folder, policy)
    _refuse_unknown(rules, found, places)
    earlier = read_baseline(baseline, project.folder, trust=trust) if baseline else None
    beside = _beside(found, earlier, rules)
    decision = decide(
        found.configuration,
        found.catalog,
        found.answers,
        found.runs,
        today=today,
        policy=rules,
        beside=beside,
    )
    system = found.configuration.system
    return report_of(
        decision,
        system=f"{system.name} {system.version}",
        catalog=found.catalog,
        runs=found.runs,
        remedies={name: retold(check.info.remedy) for name, check in load_checks().items()},
        places=places,
        baseline=_told(earlier, beside.changes) if earlier else None,
    )


def _told(earlier: Baseline, changes: Sequence[NumberChange]) -> dict[str, str]:
    tested = [item for item in changes if item.p_value is not None]
    tests = _("numbers tested: {n}, row by row on the same rows: {paired}",
              n=len(tested), paired=sum(item.pairs is not None for item in tested))  # fmt: skip
    return {"where": earlier.where, "integrity": earlier.integrity, "tests": tests}


def _beside(found: Assessment, earlier: Baseline | None, policy: Policy) -> Beside:
    said = Beside(contradictions=found.contradictions, audits=found.audits)
    if earlier is None:
        return said
    now = _looked_at(found.runs, found.configuration)
    changes = compare_numbers(earlier.runs, now, policy.baseline.tolerance)
    compared = {item.check for item in changes}
    lost = [name for name, run in earlier.runs.items() if run.judged_metric and name not in compared]
    return Beside(said.contradictions, said.audits, changes, lost)


def _looked_at(runs: Mapping[str, CheckRun], configuration: Configuration) -> dict[str, CheckRun]:
    """Results of checks that are not switched off: a check that is switched off is one that went."""
    return {name: run for name, run in runs.items() if configuration.checks.get(name) is not False}


def _refuse_unknown(policy: Policy, found: Assessment, places: Places) -> None:
    """Refuse ids in a policy that are neither a check nor a requirement: a typo there would waive nothing."""
    checks = {*load_checks(), *found.runs}
    known = checks | set(found.catalog.by_id)
    faults = [
        f"{place.file}:{place.line} waivers: no check or requirement '{waiver.id}'{nearest(waiver.id, known)}"
        for waiver in policy.waivers
        for place in [places.waiver(waiver.id)]
        if waiver.id not in known
    ]
    place = places.rule("baseline")
    faults += [
        f"{place.file}:{place.line} baseline.tolerance: no check '{name}'{nearest(name, checks)}"
        for name in policy.baseline.tolerance
        if name not in checks
    ]
    if faults:
        raise ConfigurationError("\n".join(faults))
