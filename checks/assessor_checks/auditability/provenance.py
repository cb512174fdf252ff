"""Provenance: whether everything that the assessment is about can be told from any other version of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Params,
    Result,
    Subject,
    Table,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

INFO = CheckInfo(
    id="auditability.provenance",
    version="1",
    title="Provenance of model, data, code and packages",
    measures=(
        "Goes through all that the results depend on (the model and its files, every data split, the code, the "
        "packages, the way of training) and gives the share that is fixed by a digest, a revision or an exact version."
    ),
    unit="1",
    needs=frozenset({Need.TEST}),
    tasks=frozenset(Task),
    limits=(
        "A digest tells whether something is the same as before, not where it came from or whether it is right.",
        "That the named code, files and way of training are those that made the model is not shown here; "
        "auditability.reproducibility trains again where it can.",
        "The revision is that of the repository the assessment lies in; code that lies elsewhere is not covered.",
        "Whether data and model are archived, and for how long, is not looked at.",
    ),
    remedy=(
        "Name the training data, the model's files and a lock file in assessor.yaml, keep the assessment in the git "
        "repository of the model's code, and commit before measuring."
    ),
    source="ISO/IEC 42001:2023, annex A.7 (data provenance); SLSA 1.0, provenance; W3C PROV-O 2013",
    requirements=("TR-R-AU-ME-01", "TR-R-AU-ME-02", "TR-R-AU-ME-04", "S-R-IA-ME-02"),
)
SHOWN = 16  # characters of a digest; the result's subject holds all of them
_DIGEST = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

_Part = Literal["model", "model files", "training data", "code", "uncommitted changes", "packages", "way of training"]


class ProvenanceParams(Params):
    """What the user may set."""

    leave_out: tuple[_Part, ...] = Field(
        default=(), description="Parts that this system does not have, such as packages where it needs none."
    )


class _Item(NamedTuple):
    """A part of the system: whether it is fixed, by what, and what is lacking where it is not."""

    name: str
    fixed: bool
    by: str | None
    lacking: str


def measure(subject: Subject, params: ProvenanceParams, seed: int) -> Result:
    """Share of parts that are fixed.

    Args:
        subject: Any subject.
        params: Parts to leave out.
        seed: Not used.

    Returns:
        Exact share and count, one row a part.

    Raises:
        NotApplicable: All parts are left out.
    """
    items = [item for item in _items(subject) if item.name not in params.leave_out]
    if not items:
        raise NotApplicable("every part is left out, so there is nothing to look at")
    lost = [item for item in items if not item.fixed]
    how = "counted, so that both ends are the value"
    rows = tuple((item.name, item.fixed, item.by, None if item.fixed else item.lacking) for item in items)
    return Result(
        metrics=(
            _metric("fixed_share", (len(items) - len(lost)) / len(items), "1", len(items), Better.HIGHER, how),
            _metric("loose_parts", len(lost), "parts", len(items), Better.LOWER, how),
        ),
        tables=(
            Table(
                name="parts",
                title="What the results depend on",
                columns=("part", "fixed", "by", "what is lacking"),
                rows=rows,
            ),
        ),
        remarks=tuple(_remarks(lost, params)),
    )


def _metric(name: str, value: float, unit: str, n: int, better: Better, how: str) -> Metric:
    return Metric(
        name=name,
        value=value,
        low=value,
        high=value,
        unit=unit,
        n=n,
        better=better,
        method=how,
        primary=name == "fixed_share",
    )


def _items(subject: Subject) -> Iterator[_Item]:
    yield _digested("model", getattr(subject, "sha256", None), "the model itself; a table of predictions is none")
    if Need.BASELINE in subject.offers:
        yield _digested("model to compare with", getattr(subject.baseline, "sha256", None), "its digest")
    files = subject.origin.files
    yield _Item("model files", bool(files), _listed(list(files)), "the files that hold the model (target.model.files)")
    for name, split in sorted(subject.splits.items()):
        title = "training data" if name == "train" else f"{name} data"
        yield _digested(title, split.sha256, "its digest")
    if "train" not in subject.splits:
        yield _Item("training data", False, None, "the data it was trained on (target.data.train)")
    yield from _code(subject)
    yield _packages(subject)
    refit = Need.REFIT in subject.offers
    by = "it can be trained again" if refit else None
    yield _Item("way of training", refit, by, "a way to train it again (target.model.train)")


def _digested(name: str, digest: str | None, lacking: str) -> _Item:
    good = digest is not None and _DIGEST.fullmatch(digest) is not None
    return _Item(name, good, f"sha256 {digest[:SHOWN]}..." if good and digest else None, lacking)


def _code(subject: Subject) -> Iterator[_Item]:
    revision, modified = subject.origin.revision, subject.origin.modified
    good = revision is not None and _REVISION.fullmatch(revision) is not None
    yield _Item(
        "code",
        good,
        f"git {revision}" if good else None,
        "a revision: the assessment lies in no git repository",
    )
    lacking = "a commit: files that git knows were changed since" if modified else "a revision to compare with"
    yield _Item("uncommitted changes", modified is False, "none" if modified is False else None, lacking)


def _packages(subject: Subject) -> _Item:
    from assessor_checks._lock_files import read
    from assessor_checks._requirements import overall

    files = subject.origin.dependencies
    listed = [one for one in (read(name, text) for name, text in files.items()) if one is not None]
    packages = overall(listed)
    loose = [one.name for one in packages if not one.is_pinned]
    if not packages:
        return _Item("packages", False, None, "a list of packages (target.dependencies)")
    good = not loose and not any(one.unread for one in listed)
    by = f"{len(packages)} exact versions in {_listed(list(files))}" if good else None
    return _Item(
        "packages", good, by, f"exact versions of {_listed(loose)}" if loose else "lines that can be understood"
    )


def _listed(names: list[str]) -> str | None:
    """Some names, and how many more there are."""
    if not names:
        return None
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _remarks(lost: list[_Item], params: ProvenanceParams) -> list[str]:
    found = []
    if lost:
        found.append(f"Parts that may change unseen: {', '.join(item.name for item in lost)}.")
    if params.leave_out:
        found.append(f"Left out as the parameters say: {', '.join(params.leave_out)}.")
    return found


CHECK = Check(info=INFO, params=ProvenanceParams, measure=measure)
