"""Assessing from Python: a model and its data in, results out that a notebook shows. No folder is needed.

import assessor

found = assessor.assess(model, (X_test, y_test), targets={"reliability.performance": (0.8, None)})
assert found.passed
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from assessor.assessed import Assessed, Measured
from assessor.contract import Check, Lent, Params, lending
from assessor.criteria import load_catalog
from assessor.engine import Job, run_job, subject_record
from assessor.errors import UsageError, nearest
from assessor.messages import SOURCE
from assessor.model import CheckRun, JudgedTarget, Target
from assessor.registry import find_check, load_checks
from assessor.subjects.objects import Given, subject_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Attributes = str | Sequence[str] | np.ndarray | pd.Series | pd.DataFrame

Wanted = Target | Mapping[str, Any] | tuple[float | None, float | None]
"""A target: (low, high) with None for an open end, or a mapping with interval, and perhaps metric and because."""
SECONDS = 0.2  # between lines about the parts of a check
BECAUSE, SOURCE_OF_TARGET = "no reason was given", "assessor.assess(targets=...)"


def assess(  # noqa: PLR0913 - what there is to say of a model
    model: Any,
    data: Any,
    *,
    train: Any = None,
    task: str | None = None,
    label: str | None = None,
    sensitive: Attributes | None = None,
    classes: Sequence[str] | None = None,
    outputs: str | None = None,
    checks: Iterable[str] | Mapping[str, Mapping[str, Any]] | None = None,
    targets: Mapping[str, Wanted] | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Assessed:
    """Run checks on a model and judge what they find.

    Args:
        model: A torch.nn.Module, a fitted estimator with scikit-learn's methods, or a callable that takes rows (n, ...)
            and gives probabilities (n, C) or (n,), for a regression values (n,). It is not changed.
        data: What it is judged on: (X, y) or (X, y, attributes) with X (n, ...) and y (n,), a DataFrame with `label`, a
            torch Dataset of pairs or a DataLoader of one, or a Bunch of scikit-learn's.
        train: What it was trained on, in the same forms; some checks need it.
        task: "binary", "multiclass" or "regression"; by default what model and labels say.
        label: Column of true labels in a DataFrame.
        sensitive: Names of columns of X, of the attributes or of the DataFrame; or the values, (n,) or (n, k).
        classes: Class names in the order of the model's outputs; an estimator knows its own.
        outputs: "logits" or "probabilities": what a module or callable gives, where that is not clear.
        checks: Ids such as "fairness.group_metrics" or areas such as "fairness"; with parameters as a mapping from id
            to name and value. By default all.
        targets: By check id what is wanted: (low, high), None for an open end. Nothing is judged without one.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: Of all randomness.
        progress: Whether to tell on standard error how far it is.

    Returns:
        The results; in a notebook they show themselves.

    Raises:
        UsageError: Model, data or arguments do not fit; the message says what and where.
    """
    jobs = _jobs(checks, targets or {}, seed)
    given = Given(model, data, train, task, label, sensitive, classes, outputs, device)
    return Assessed(tuple(_runs(jobs, given, progress=progress)))


def measure(  # noqa: PLR0913 - as assess
    check: str,
    model: Any,
    data: Any,
    *,
    target: Wanted | None = None,
    train: Any = None,
    task: str | None = None,
    label: str | None = None,
    sensitive: Attributes | None = None,
    classes: Sequence[str] | None = None,
    outputs: str | None = None,
    device: str = "auto",
    seed: int = 0,
    **params: Any,
) -> Measured:
    """Run one check on a model and judge what it finds.

    Args:
        check: Id of the check.
        model: As for `assess`, like the others that are not explained here.
        data: What it is judged on.
        target: What is wanted: (low, high), None for an open end.
        train: What it was trained on.
        task: What it does.
        label: Column of true labels in a DataFrame.
        sensitive: Names of columns, or values.
        classes: Class names.
        outputs: What it gives.
        device: Where it is measured.
        seed: Of all randomness.
        params: Parameters of the check; `assessor check show ID` lists them.

    Returns:
        The result.

    Raises:
        UsageError: Model, data or arguments do not fit.
    """
    find_check(check, load_checks())
    jobs = _jobs({check: params}, {} if target is None else {check: target}, seed)
    (run,) = _runs(jobs, Given(model, data, train, task, label, sensitive, classes, outputs, device), progress=False)
    return Measured(run)


def _runs(jobs: Sequence[Job], given: Given, *, progress: bool) -> list[CheckRun]:
    subject, kind, digest = subject_of(given)
    record = subject_record(subject, kind, digest)
    told = _Told() if progress else None
    runs = []
    for number, job in enumerate(jobs, start=1):
        if told:
            told.begin(f"[{number}/{len(jobs)}] {job.check.id}")
        lent = Lent(told.part if told else _silent, find=lambda _key: None, keep=lambda _key, _value: None)
        with lending(lent):
            runs.append(run_job(job, subject, record))
    if told:
        told.begin("")
    return runs


def _silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


class _Told:
    """One line on standard error, written over the one before; parts of a check not more often than can be read."""

    def __init__(self) -> None:
        self._check, self._said, self._width = "", 0.0, 0

    def begin(self, check: str) -> None:
        self._check = check
        self._write(check)

    def part(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._said > SECONDS:
            self._write(f"{self._check}: {what} {done}/{total}")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text:{self._width}}" if text else f"\r{'':{self._width}}\r")
        sys.stderr.flush()
        self._said, self._width = time.monotonic(), len(text)


# --- what is wanted --------------------------------------------------------------------------------------------------


def _jobs(
    checks: Iterable[str] | Mapping[str, Mapping[str, Any]] | None, targets: Mapping[str, Wanted], seed: int
) -> list[Job]:
    chosen = _chosen(checks)
    for name in targets:
        if name not in chosen:
            raise UsageError(f"targets: '{name}' is none of the checks that are run{nearest(name, chosen)}")
    bound = _bound()
    return [
        Job(
            check=check,
            params=_params(check, params),
            target=_target(name, targets[name]) if name in targets else None,
            seed=seed,
            requirements=tuple(sorted({*check.info.requirements, *bound.get(name, ())})),
        )
        for name, (check, params) in chosen.items()
    ]


def _chosen(
    checks: Iterable[str] | Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, tuple[Check, Mapping[str, Any]]]:
    """Checks by id with their parameters; an area stands for all its checks."""
    installed = load_checks()
    if checks is None:
        return {name: (check, {}) for name, check in installed.items()}
    found: dict[str, tuple[Check, Mapping[str, Any]]] = {}
    for name in [checks] if isinstance(checks, str) else checks:
        params = checks[name] if isinstance(checks, Mapping) else {}
        area = [check for check in installed.values() if check.id.startswith(f"{name}.")]
        for check in area or [find_check(name, installed)]:
            found[check.id] = (check, params)
    if not found:
        raise UsageError("checks: found none, wanted one at least, or None for all")
    return found


def _params(check: Check, given: Mapping[str, Any]) -> Params:
    try:
        return check.params(**given)
    except ValidationError as fault:
        first = fault.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{check.id}: {name}: {first['msg']}{nearest(name, check.params.model_fields)}; "
            f"see  assessor check show {check.id}"
        ) from fault


def _target(check: str, wanted: Wanted) -> JudgedTarget:
    fields: dict[str, Any] = (
        wanted.model_dump()
        if isinstance(wanted, Target)
        else dict(wanted)
        if isinstance(wanted, Mapping)
        else {"interval": wanted}
    )
    try:
        target = Target(**{"because": BECAUSE, **fields})
    except ValidationError as fault:
        raise UsageError(f"targets: {check}: {fault.errors()[0]['msg']}; wanted (low, high)") from fault
    return JudgedTarget(**target.model_dump(), source=SOURCE_OF_TARGET)


@cache
def _bound() -> Mapping[str, tuple[str, ...]]:
    """Requirements that the catalog binds a check to, by check id."""
    found: dict[str, tuple[str, ...]] = {}
    for requirement in load_catalog(language=SOURCE).requirements:
        for check in requirement.checks:
            found[check] = (*found.get(check, ()), requirement.id)
    return found
