"""Measuring again what a report claims, and saying which of its numbers and verdicts hold.

A number holds where it comes out the same, or where each of both values lies inside the other's interval. A check
holds where model and data have the claimed digests and all its numbers and its verdict hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from assessor import __version__
from assessor.assessment import Measurement, Place, Step, guards_of
from assessor.canonical import canonical_json, sha256_hex
from assessor.claims import Claims
from assessor.contract import Check, Frozen, Metric
from assessor.engine import Job
from assessor.errors import UsageError
from assessor.files import write_whole
from assessor.model import FORMS, SOURCES, CheckRun, DataSpec, ModelSpec, Status, TargetSpec
from assessor.project import now
from assessor.registry import find_check, load_checks

ROUNDING = 1e-6  # relative: what another machine's order of additions may change
TABLES = (".csv", ".csv.gz", ".parquet", ".pq", ".arrow", ".feather", ".npz")


class Agreement(StrEnum):
    """How a number that was measured again compares with the claimed one."""

    IDENTICAL = "identical"
    AGREES = "agrees"
    DIFFERS = "differs"
    MISSING = "missing"


class Number(Frozen):
    """One claimed number and the same measured again."""

    metric: str
    unit: str
    claimed: Metric
    again: Metric | None
    agreement: Agreement


class Redone(Frozen):
    """One claimed check, measured again.

    Attributes:
        check: Its id.
        title: Its title.
        requirements: What it is evidence for.
        held: Whether subject, numbers and verdict are as claimed; None where it could not be measured again.
        because: Why not, in sentences; empty where it held.
        claimed: Claimed status.
        again: Status now; None where it could not be measured again.
        repeatable: Whether the same inputs give the same numbers; where not, as with times, numbers do not count.
        numbers: All claimed numbers.
        differences: What is not the same here: versions of check and code, packages, platform, device.
        claimed_result: Digest of the claimed result.
        result: Digest of the new one; None where there is none.
    """

    check: str
    title: str
    requirements: tuple[str, ...]
    held: bool | None
    because: tuple[str, ...]
    claimed: Status
    again: Status | None
    repeatable: bool
    numbers: tuple[Number, ...]
    differences: tuple[str, ...]
    claimed_result: str
    result: str | None


class Rerun(Frozen):
    """A report measured again.

    Attributes:
        format: Of this record.
        tool: What measured again.
        created: When.
        source: What was measured again: file, digest of its record, report id, what is known of its integrity.
        system: Name and version of the system, as the report has them.
        replaced: What of the target was named anew, in words.
        checks: Every claimed check that was asked for.
    """

    format: int = 1
    tool: Mapping[str, str]
    created: str
    source: Mapping[str, str]
    system: Mapping[str, str]
    replaced: tuple[str, ...]
    checks: tuple[Redone, ...]

    @property
    def held(self) -> bool:
        """Whether everything was measured again and holds."""
        return all(item.held for item in self.checks)


class Replacement(NamedTuple):
    """What takes the place of the names in the report.

    Attributes:
        model: `module:callable`, or a table of predictions.
        data: By split: `module:callable` or a table.
    """

    model: str | None = None
    data: Mapping[str, str] = {}


AS_REPORTED = Replacement()


def rerun(  # noqa: PLR0913 - what a person may choose
    claims: Claims,
    system: Path,
    output: Path,
    ids: Sequence[str] = (),
    *,
    replacement: Replacement = AS_REPORTED,
    device: str | None = None,
    trust: bool = False,
    fresh: bool = False,
    step: Step | None = None,
) -> Rerun:
    """Measure again what is claimed; each result is kept in `output` as soon as it is there.

    Args:
        claims: What is claimed.
        system: Folder where the names of model and data are looked up.
        output: Folder of the new results; a stopped run goes on there.
        ids: Which checks; default all claimed ones.
        replacement: Model and data under other names than in the report.
        device: Overrides the report's device.
        trust: Load the model even where its files hold what should not be loaded.
        fresh: Measure again what is in `output` already.
        step: Told how far it is.

    Returns:
        What holds and what does not.

    Raises:
        UsageError: Nothing was claimed, or model or data are not to be had as the report names them.
    """
    target = target_of(claims, system, replacement)
    known = load_checks()
    wanted = [name for name in claims.runs if not ids or name in {_claimed(text, claims) for text in ids}]
    jobs, reasons = _jobs(wanted, claims, known)
    place = _place(system, output)
    guards = [_guard(check) for check in guards_of(known)] if target.model_files else []
    measurement = Measurement(place, target, device, fresh, trust)
    measurement = replace(measurement, step=step) if step else measurement
    runs = {run.check: run for run in measurement.run(jobs, guards)} if jobs else {}
    return Rerun(
        tool={"name": "ai-assessor", "version": __version__},
        created=now().isoformat().replace("+00:00", "Z"),
        source={
            "name": Path(claims.where).name,
            "record_sha256": claims.sha256,
            "report": claims.report_id,
            "integrity": claims.integrity,
        },
        system={"name": claims.configuration.system.name, "version": claims.configuration.system.version},
        replaced=tuple(_replaced(replacement)),
        checks=tuple(
            redone(
                claims.runs[name],
                runs.get(name),
                reasons.get(name, ""),
                repeatable=name not in known or known[name].info.repeatable,
            )
            for name in wanted
        ),
    )


# --- what is measured ------------------------------------------------------------------------------------------------


def target_of(claims: Claims, system: Path, replacement: Replacement) -> TargetSpec:
    """The target as claimed, with what was named anew in its place; nothing in it may lie outside `system`.

    A report is somebody else's text: what it names is only taken from the folder, never from the rest of the machine.

    Raises:
        UsageError: The report measured nothing, or names what is not in the folder.
    """
    target = claims.configuration.target
    if target is None or not claims.runs:
        raise UsageError(f"{claims.where}: nothing was measured there, so there is nothing to measure again")
    model = target.model
    if replacement.model is not None:
        model = _other_model(model, replacement.model)
    data = dict(target.data)
    for split, text in replacement.data.items():
        if data.get(split) is None:
            there = ", ".join(name for name, spec in data.items() if spec is not None)
            raise UsageError(f"--data: the report has no {split} data; it has {there}")
        data[split] = data[split].model_copy(
            update={**dict.fromkeys(SOURCES), **_source(text, ("load", "file"), "--data")}
        )
    changed = target.model_copy(update={"model": model, "data": target.data.model_copy(update=data)})
    given = {replacement.model, *replacement.data.values()}
    for field, name in _names(changed):
        if name not in given:
            _refuse_outside(name, field, system)
    return changed


def _other_model(model: ModelSpec, text: str) -> ModelSpec:
    """The model with another source: an address in place of an address, else code or a table in place of any."""
    if model.endpoint is not None and text.startswith(("https://", "http://")):
        return model.model_copy(update={"endpoint": model.endpoint.model_copy(update={"url": text})})
    return model.model_copy(update={**dict.fromkeys(FORMS), **_source(text, ("load", "predictions"), "--model")})


def _source(text: str, fields: tuple[str, str], option: str) -> dict[str, str | None]:
    load, table = fields
    if text.lower().endswith(TABLES):
        return {load: None, table: str(Path(text).resolve())}
    if ":" not in text:
        raise UsageError(f"{option}: found '{text}', wanted module:callable or a table ({', '.join(TABLES)})")
    return {load: text, table: None}


def _names(target: TargetSpec) -> Iterable[tuple[str, str]]:
    """Everything that a target names, by field."""
    for field, form in (("target.model", target.model), ("target.baseline", target.baseline)):
        if form is None:
            continue
        for name in ("load", "predictions", "build", "train"):
            if (named := getattr(form, name, None)) is not None:
                yield f"{field}.{name}", named
        yield from ((f"{field}.files", name) for name in form.named_files)
        if form.endpoint is not None:
            yield f"{field}.endpoint", form.endpoint.url
            if form.endpoint.openapi is not None:
                yield f"{field}.endpoint.openapi", form.endpoint.openapi
    yield from (("target.dependencies", name) for name in target.dependencies)
    for split, spec in target.data:
        if isinstance(spec, DataSpec):
            yield from ((f"target.data.{split}", name) for name in spec.named_paths)
            if spec.sql is not None:
                yield f"target.data.{split}.sql", spec.sql.query


def _refuse_outside(name: str, field: str, system: Path) -> None:
    if field.endswith(".sql"):
        raise UsageError(
            f"{field}: the report names a query, and what a report names is not asked of your database; write its rows "
            "to a file and name it with --data"
        )
    if field.endswith(".endpoint"):
        raise UsageError(
            f"{field}: the report names the address {name}, and what a report names is not asked; to ask it, "
            f"give it yourself with  --model {name}"
        )
    module, colon, _ = name.partition(":")
    path = Path(*module.split(".")) if colon else Path(name)
    found = [system / path.with_suffix(".py"), system / path / "__init__.py"] if colon else [system / path]
    inside = any(one.exists() and _is_inside(one, system) for one in found)
    if path.is_absolute() or ".." in path.parts or not inside:
        option = "--model" if field.startswith("target.model") else "--data"
        raise UsageError(
            f"{field}: the report names '{name}', which is not in {system}; name the folder of the system with "
            f"--system, or another source with {option}"
        )


def _is_inside(path: Path, system: Path) -> bool:
    """Whether a file, or a folder with all its files, lies in the system's folder, whatever links say."""
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    return all(one.resolve().is_relative_to(system.resolve()) for one in files)


def _claimed(text: str, claims: Claims) -> str:
    if text not in claims.runs:
        find_check(text, load_checks())
        raise UsageError(f"{text}: the report claims nothing of this check")
    return text


def _jobs(wanted: Iterable[str], claims: Claims, known: Mapping[str, Check]) -> tuple[list[Job], dict[str, str]]:
    """What can be measured again, and why the rest cannot."""
    jobs, reasons = [], {}
    for name in wanted:
        run = claims.runs[name]
        if name not in known:
            reasons[name] = "This check is not installed here."
            continue
        try:
            params = known[name].params.model_validate(run.params)
        except ValidationError:
            reasons[name] = f"Its parameters are those of version {run.check_version}, not of the one installed here."
            continue
        jobs.append(Job(known[name], params, run.target, run.seed, run.requirements))
    return jobs, reasons


def _guard(check: Check) -> Job:
    return Job(check, check.params(), None, 0, ())


def _place(system: Path, output: Path) -> Place:
    """Results in `output`, one file a check."""
    folder = output / "results"

    def stored() -> dict[str, CheckRun]:
        runs = (CheckRun.model_validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json")))
        return {run.check: run for run in runs}

    def save(run: CheckRun) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{run.check}.json", canonical_json(run))

    return Place(system.resolve(), output / ".parts", stored, save)


def _replaced(replacement: Replacement) -> Iterable[str]:
    if replacement.model is not None:
        yield f"model: {replacement.model}"
    yield from (f"{split} data: {text}" for split, text in replacement.data.items())


# --- what holds ------------------------------------------------------------------------------------------------------


def redone(claimed: CheckRun, again: CheckRun | None, reason: str = "", *, repeatable: bool = True) -> Redone:
    """Compare a claimed check with the same measured again.

    Args:
        claimed: From the report.
        again: Measured here, or None.
        reason: Why it could not be measured.
        repeatable: Whether the same inputs give the same numbers.

    Returns:
        What holds.
    """
    numbers = tuple(_number(metric, again) for metric in claimed.metrics)
    because: tuple[str, ...]
    if again is None or (again.outcome.status is Status.ERROR and claimed.outcome.status is not Status.ERROR):
        held, because = None, (reason or f"It could not be measured: {again.outcome.sentence if again else ''}",)
    else:
        because = (*_reasons(claimed, again, numbers if repeatable else ()),)
        held = not because
    return Redone(
        check=claimed.check,
        title=claimed.title,
        requirements=claimed.requirements,
        held=held,
        because=because,
        claimed=claimed.outcome.status,
        again=None if again is None else again.outcome.status,
        repeatable=repeatable,
        numbers=numbers,
        differences=() if again is None else tuple(_differences(claimed, again)),
        claimed_result=sha256_hex(canonical_json(claimed)),
        result=None if again is None else sha256_hex(canonical_json(again)),
    )


def _number(claimed: Metric, again: CheckRun | None) -> Number:
    found = next((metric for metric in again.metrics if metric.name == claimed.name), None) if again else None
    return Number(
        metric=claimed.name, unit=claimed.unit, claimed=claimed, again=found, agreement=agreement(claimed, found)
    )


def agreement(claimed: Metric, again: Metric | None) -> Agreement:
    """Whether a number measured again agrees with the claimed one.

    Args:
        claimed: With its interval, where it has one.
        again: The same metric, or None.

    Returns:
        Identical: value and interval are the same. Agrees: each value lies inside the other's interval, or they differ
        by no more than rounding. Differs: neither. Missing: it was not measured.
    """
    if again is None:
        return Agreement.MISSING
    if (claimed.value, claimed.low, claimed.high) == (again.value, again.low, again.high):
        return Agreement.IDENTICAL
    if math.isclose(claimed.value, again.value, rel_tol=ROUNDING, abs_tol=1e-12):
        return Agreement.AGREES
    inside = _inside(again.value, claimed) and _inside(claimed.value, again)
    return Agreement.AGREES if inside else Agreement.DIFFERS


def _inside(value: float, metric: Metric) -> bool:
    return metric.low is not None and metric.high is not None and metric.low <= value <= metric.high


def _reasons(claimed: CheckRun, again: CheckRun, numbers: Iterable[Number]) -> Iterable[str]:
    """Why a check does not hold."""
    before, after = claimed.subject, again.subject
    if before.model_sha256 != after.model_sha256:
        yield "The model is not the one of the report: its digest differs."
    parts = [name for name in ("files", "dependencies") if getattr(before, name) != getattr(after, name)]
    if parts:
        yield f"These files are not those of the report: {', '.join(parts)}."
    for name in ("baseline_sha256", "architecture_sha256"):
        if getattr(before, name) != getattr(after, name):
            yield f"Not as in the report: {name}."
    other = [name for name in before.data if before.data[name] != after.data.get(name)]
    if other:
        yield f"The data are not those of the report: the digest differs for {', '.join(other)}."
    differing = [item.metric for item in numbers if item.agreement is Agreement.DIFFERS]
    missing = [item.metric for item in numbers if item.agreement is Agreement.MISSING]
    if differing:
        yield f"These numbers differ by more than their intervals allow: {', '.join(differing)}."
    if missing:
        yield f"These numbers were not measured: {', '.join(missing)}."
    if claimed.outcome.status is not again.outcome.status:
        yield f"The verdict is {again.outcome.status}, claimed was {claimed.outcome.status}."


def _differences(claimed: CheckRun, again: CheckRun) -> Iterable[str]:
    """What is not the same here, though it need not matter."""
    if claimed.check_version != again.check_version:
        yield f"version {again.check_version} of the check, claimed with {claimed.check_version}"
    elif claimed.code != again.code:
        yield f"other code: {again.code.package} {again.code.version}, claimed with {claimed.code.version}"
    before, after = claimed.environment, again.environment
    for name in ("python", "platform", "device", "threads"):
        if getattr(before, name) != getattr(after, name):
            yield f"{name} {getattr(after, name)}, claimed with {getattr(before, name)}"
    for package, version in before.packages.items():
        if after.packages.get(package) != version and package != "ai-assessor":
            yield f"{package} {after.packages.get(package, 'not installed')}, claimed with {version}"


def record(found: Rerun) -> dict[str, Any]:
    """As plain data, canonical as JSON."""
    return found.model_dump(mode="json")
