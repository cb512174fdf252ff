"""A weakness that a check found, frozen: later models are measured on it, and the gate judges them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from assessor import yamlfile
from assessor.canonical import sha256_hex
from assessor.contract import REGRESSION_CHECK, Check, Need, NotApplicable, Subject, Weakness
from assessor.engine import fixed_randomness, subject_record
from assessor.errors import UsageError
from assessor.model import CheckRun, Configuration, Target
from assessor.project import CONFIGURATION, Project
from assessor.registry import find_check, load_checks

if TYPE_CHECKING:
    import numpy as np

NAME = re.compile(r"^[a-z][a-z0-9_]{0,59}$")


class Wish(NamedTuple):
    """What a person wants of a frozen weakness.

    Attributes:
        name: How the case is called; None for a name made of the check's.
        at_most: Upper end of the target for the worst case; None keeps the one there is.
        because: Why.
        by: Who.
    """

    name: str | None
    at_most: float | None
    because: str
    by: str


class Frozen(NamedTuple):
    """What was frozen.

    Attributes:
        name: Of the case.
        told: What it is.
        file: File of its inputs, or None.
    """

    name: str
    told: str
    file: str | None


def freeze(project: Project, check_id: str, wish: Wish, *, device: str | None = None, trust: bool = False) -> Frozen:
    """Find the worst of what a check found once more and keep it as a case of the regression check.

    Args:
        project: The folder.
        check_id: The check; its current result says with which parameters and which seed.
        wish: Name, target and reason.
        device: Overrides target.device.
        trust: Load the model even where its files run code.

    Returns:
        What was frozen.

    Raises:
        UsageError: The check has no result for this model, gives nothing to freeze, or a target or a reason is missing.
    """
    checks, configuration = load_checks(), project.configuration()
    check, run = find_check(check_id, checks), project.runs().get(check_id)
    name = _name(check, wish, configuration)
    target = _target(wish, configuration)
    if check.weakness is None:
        able = ", ".join(name for name, other in checks.items() if other.weakness)
        raise UsageError(f"{check_id}: finds no single weakness that could be frozen; these do: {able}")
    if run is None or not run.metrics:
        raise UsageError(f"{check_id}: has no result; measure first:  assessor check run {check_id}")
    subject = _subject(project, configuration, run, device=device, trust=trust)
    found = _found(check, run, subject)
    case: dict[str, Any] = {"told": found.told}
    files: dict[str, bytes] = {}
    if found.features is not None:
        content = packed(*_still_wrong(found, subject, check_id))
        case["inputs"] = sha256_hex(content)
        files[f"frozen/{case['inputs']}.npz"] = content
    else:
        case |= {"where": [condition.model_dump(exclude_defaults=True) for condition in found.where]}
        case |= {key: value for key in ("compared", "positive") if (value := getattr(found, key)) is not None}
    files[CONFIGURATION] = _configured(project, configuration, name, case, target)
    project.commit(files, actor=wish.by, action=f"check freeze {check_id} as {name}", because=wish.because)
    return Frozen(name, found.told, next((path for path in files if path != CONFIGURATION), None))


def _name(check: Check, wish: Wish, configuration: Configuration) -> str:
    known = _cases(configuration)
    if wish.name is None:
        stem = check.id.partition(".")[2][:50]
        return next(name for name in (f"{stem}_{number}" for number in range(1, len(known) + 2)) if name not in known)
    if not NAME.match(wish.name):
        raise UsageError(f"--name: found '{wish.name}', wanted small letters, digits and _, such as weak_sites")
    if wish.name in known:
        raise UsageError(f"--name: a case '{wish.name}' was frozen before; take another name, or remove that one")
    return wish.name


def _cases(configuration: Configuration) -> Mapping[str, Any]:
    params = configuration.checks.get(REGRESSION_CHECK) or {}
    cases = params.get("cases")
    return cases if isinstance(cases, dict) else {}


def _target(wish: Wish, configuration: Configuration) -> dict[str, Any] | None:
    """The target to be written, or None to keep the one there is."""
    if not wish.because.strip():
        raise UsageError("--because: is missing; say why this must not come back")
    if wish.at_most is None:
        if REGRESSION_CHECK in configuration.targets:
            return None
        raise UsageError(
            "--at-most: is missing; say which error on the worst frozen case is good enough, such as --at-most 0.1"
        )
    target = Target(interval=(None, wish.at_most), because=wish.because)
    return target.model_dump(mode="json", exclude_none=True) | {"interval": [None, wish.at_most]}


def _subject(
    project: Project, configuration: Configuration, run: CheckRun, *, device: str | None, trust: bool
) -> Subject:
    """What the result measured; refused where it is not that any more."""
    from assessor.subjects import load_subject

    if configuration.target is None:
        raise UsageError(f"{CONFIGURATION}: no target: say what is measured")
    folder = project.folder.resolve()
    subject, kind, model_sha256 = load_subject(configuration.target, folder, device=device, trust=trust)
    record = subject_record(subject, kind, model_sha256)
    if (record.model_sha256, record.data) != (run.subject.model_sha256, run.subject.data):
        raise UsageError(
            f"{run.check}: its result is about another model or other data; measure again:  assessor check run "
            f"{run.check}"
        )
    return subject


def _found(check: Check, run: CheckRun, subject: Subject) -> Weakness:
    from assessor.subjects import importable

    assert check.weakness is not None
    assert subject.origin.folder is not None
    try:
        with importable(subject.origin.folder), fixed_randomness(run.seed):
            return check.weakness(subject, check.params.model_validate(run.params), run.seed)
    except NotApplicable as reason:
        raise UsageError(f"{check.id}: {reason}") from reason


def _still_wrong(found: Weakness, subject: Subject, check_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that the model, asked as later models will be, gets wrong, with class names or values."""
    import numpy as np

    assert found.features is not None
    assert found.labels is not None
    if Need.QUERY not in subject.offers:
        raise UsageError(f"{check_id}: inputs can be frozen only where the model itself is at hand, to ask it")
    if not subject.task.is_classification:
        return found.features, np.asarray(found.labels, dtype=np.float64)
    wrong = subject.query(found.features) != found.labels
    if not wrong.any():
        raise UsageError(f"{check_id}: asked once more, the model is right on every input found; nothing was frozen")
    names = np.array(subject.classes)
    return found.features[wrong], names[found.labels[wrong].astype(np.int64)]


def packed(features: np.ndarray, labels: np.ndarray) -> bytes:
    """Two arrays as an npz file; the same arrays give the same bytes.

    Args:
        features: (k, ...) numbers.
        labels: (k,) class names or values.

    Returns:
        The file.
    """
    import numpy as np

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in (("features", features), ("labels", labels)):
            content = io.BytesIO()
            np.save(content, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), content.getvalue()
            )  # its date is 1980, whenever it is made
    return stream.getvalue()


def _configured(
    project: Project,
    configuration: Configuration,
    name: str,
    case: dict[str, Any],
    target: dict[str, Any] | None,
) -> bytes:
    """assessor.yaml with the case, and the target."""
    text = yamlfile.decoded((project.folder / CONFIGURATION).read_bytes(), CONFIGURATION)
    if configuration.checks.get(REGRESSION_CHECK) is False:
        raise UsageError(f"{CONFIGURATION}: checks.{REGRESSION_CHECK} is off; remove that line first")
    params = {**(configuration.checks.get(REGRESSION_CHECK) or {}), "cases": {**_cases(configuration), name: case}}
    text = yamlfile.set_entry(text, "checks", REGRESSION_CHECK, params, CONFIGURATION)
    if target is not None:
        text = yamlfile.set_entry(text, "targets", REGRESSION_CHECK, target, CONFIGURATION)
    yamlfile.validate(yamlfile.parse(text, CONFIGURATION), Configuration)
    return text.encode()
