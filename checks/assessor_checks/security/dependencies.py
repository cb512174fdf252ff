"""Pinned dependencies: whether the listed packages can only be the very ones that were assessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Document,
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
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from assessor_checks._requirements import Listed, Overall

ROWS = 1000  # packages that are shown
INFO = CheckInfo(
    id="security.dependencies",
    version="1",
    title="Pinned dependencies",
    measures=(
        "Reads the files that list the system's packages and gives the share pinned to one exact version, the share "
        "whose content is bound by a hash, and the number that come from an address or a path instead of an index."
    ),
    unit="1",
    needs=frozenset({Need.DEPENDENCIES}),
    tasks=frozenset(Task),
    limits=(
        "Nothing is looked up: whether a version has known vulnerabilities is not found here. Give the bill of "
        "materials (assessor export --format cyclonedx) to a scanner, or run pip-audit where there is a network.",
        "Only what the named files list is counted. Files that list direct dependencies leave open what those need, "
        "and libraries of the operating system are in none of them.",
        "The files are not compared with what is installed where the system runs.",
        "A pinned package can be harmful, and an old pin keeps old faults.",
    ),
    remedy=(
        "Let a tool write a lock file with hashes and install from it: pip-compile --generate-hashes with pip install "
        "--require-hashes, uv lock, poetry lock, or conda-lock. Name that file under target.dependencies."
    ),
    remedy_code=(
        "# in a shell\npip-compile --generate-hashes requirements.in\npip install --require-hashes -r requirements.txt"
    ),
    source=(
        "PEP 440, PEP 508, PEP 621, PEP 735, PEP 751; pip, Requirements File Format and Secure installs; CycloneDX 1.6 "
        "(ECMA-424); OWASP Machine Learning Security, ML06"
    ),
    requirements=("TR-R-AU-ME-02", "S-R-IA-ME-06", "S-R-IA-ME-02"),
)


class DependenciesParams(Params):
    """Parameters of security.dependencies: none."""


def measure(subject: Subject, params: DependenciesParams, seed: int) -> Result:
    """Shares of pinned and hashed packages over all named files together.

    A package counts as pinned, or hashed, if one of the files pins it, or binds it.

    Args:
        subject: Any subject whose dependency files are named; nothing of it is loaded.
        params: None are used.
        seed: Not used.

    Returns:
        Exact shares, a count of packages from elsewhere, the packages with their places.

    Raises:
        NotApplicable: No file of a known kind lists a package.
    """
    from assessor_checks._requirements import overall
    from assessor_checks.security._bill_of_materials import cyclonedx

    listed, strange = _listed(subject.origin.dependencies)
    packages = overall(listed.values())
    if not packages:
        raise NotApplicable(f"the files list no package: {', '.join(subject.origin.dependencies) or 'none is named'}")
    unread = sum(len(one.unread) for one in listed.values())
    counts = {
        "pinned_share": sum(one.is_pinned for one in packages),
        "hashed_share": sum(one.is_hashed for one in packages),
    }
    elsewhere = sum(one.source is not None for one in packages)
    return Result(
        metrics=(
            *(_share(name, count, len(packages), unread) for name, count in counts.items()),
            _count("packages_from_elsewhere", elsewhere, unread, len(packages)),
            _count("lines_not_understood", unread, 0, len(packages)),
        ),
        tables=(_files(listed), _packages(packages), *_unread(listed)),
        remarks=tuple(_remarks(listed, strange, packages)),
        documents=(Document(name="bom.cdx.json", standard="cyclonedx", content=cyclonedx(packages)),),
    )


def _listed(files: Mapping[str, str]) -> tuple[dict[str, Listed], list[str]]:
    """What each file lists, and files of no known kind."""
    from assessor_checks._lock_files import read

    found = {name: read(name, text) for name, text in files.items()}
    known = {name: listed for name, listed in found.items() if listed is not None}
    return known, [name for name in found if name not in known]


def _share(name: str, count: int, total: int, unread: int) -> Metric:
    """Share of packages; lines that were not understood may be packages of either kind."""
    what = "pinned to one version, or to one content" if name == "pinned_share" else "with a hash of their content"
    how = f"packages {what}, of all that are listed; counted, so that both ends are the value"
    if unread:
        how = (
            f"packages {what}, of all that are listed; the ends take lines not understood as packages without and with"
        )
    return Metric(
        name=name,
        value=count / total,
        low=count / (total + unread),
        high=(count + unread) / (total + unread),
        n=total,
        better=Better.HIGHER,
        method=how,
        primary=name == "pinned_share",
    )


def _count(name: str, count: int, unread: int, total: int) -> Metric:
    how = "counted, so that both ends are the value"
    if unread:
        how = "counted; the upper end takes every line not understood as one more"
    return Metric(
        name=name,
        value=count,
        low=count,
        high=count + unread,
        unit="lines" if name == "lines_not_understood" else "packages",
        n=total,
        better=Better.LOWER,
        method=how,
    )


def _files(listed: Mapping[str, Listed]) -> Table:
    rows = tuple(
        (
            name,
            one.kind,
            len(one.packages),
            sum(package.is_pinned for package in one.packages),
            sum(package.is_hashed for package in one.packages),
            one.is_complete,
            len(one.unread),
        )
        for name, one in listed.items()
    )
    columns = ("file", "kind", "entries", "pinned", "hashed", "lists all", "not understood")
    return Table(name="files", title="Files that list packages", columns=columns, rows=rows)


def _packages(packages: list[Overall]) -> Table:
    """The packages that are not pinned first."""
    ordered = sorted(packages, key=lambda one: (one.is_pinned, one.is_hashed, one.name))
    rows = tuple(
        (
            one.name,
            ", ".join(one.versions) or None,
            ", ".join(sorted({entry.wanted for entry in one.entries if entry.wanted})) or None,
            one.is_pinned,
            one.is_hashed,
            one.source,
            ", ".join(entry.place for entry in one.entries)[:300],
        )
        for one in ordered[:ROWS]
    )
    columns = ("package", "version", "wanted", "pinned", "hashed", "from elsewhere", "listed in")
    return Table(name="packages", title="Packages, those that are not pinned first", columns=columns, rows=rows)


def _unread(listed: Mapping[str, Listed]) -> tuple[Table, ...]:
    rows = tuple((line,) for one in listed.values() for line in one.unread[:ROWS])
    if not rows:
        return ()
    return (Table(name="not_understood", title="Lines that were not understood", columns=("line",), rows=rows),)


def _remarks(listed: Mapping[str, Listed], strange: list[str], packages: list[Overall]) -> list[str]:
    found = []
    loose = [one.name for one in packages if not one.is_pinned]
    if loose:
        found.append(f"Packages not pinned: {len(loose)}, among them {', '.join(loose[:5])}.")
    if not any(one.is_complete for one in listed.values()):
        found.append("No file lists all that the packages need themselves, so that those may change unseen.")
    if torn := [one.name for one in packages if len(one.versions) > 1]:
        found.append(f"Pinned to more than one version, for platforms or by mistake: {', '.join(torn[:5])}.")
    if indexes := sorted({one for file in listed.values() for one in file.indexes}):
        found.append(
            f"Packages are also looked for at: {', '.join(indexes[:5])}. A stranger's package may win by its name."
        )
    last = {name.replace("\\", "/").rsplit("/", 1)[-1] for name in (*listed, *strange)}
    missing = sorted({one for file in listed.values() for one in file.includes if one.rsplit("/", 1)[-1] not in last})
    if missing:
        found.append(f"These files are included and were not named, so they were not read: {', '.join(missing[:5])}.")
    if strange:
        found.append(f"These files are of no kind that is known here and were not read: {', '.join(strange[:5])}.")
    if len(packages) > ROWS:
        found.append(f"Of {len(packages)} packages the first {ROWS} are shown.")
    return found


def plot(result: Result, axes: Axes) -> None:
    """Bars of packages: all, pinned, hashed, from elsewhere."""
    total = result.metric("pinned_share").n
    names = ("from elsewhere", "with a hash", "pinned", "all")
    counts = (
        result.metric("packages_from_elsewhere").value,
        result.metric("hashed_share").value * total,
        result.metric("pinned_share").value * total,
        float(total),
    )
    axes.barh(names, counts, color=("0.3", "0.5", "0.7", "0.9"), edgecolor="black")
    axes.set_xlabel("packages")


CHECK = Check(info=INFO, params=DependenciesParams, measure=measure, plot=plot)
