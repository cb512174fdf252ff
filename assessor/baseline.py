"""The earlier results that the gate compares with: a report, a record, a folder, or a commit of the repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import RootModel, ValidationError

from assessor.claims import MOST_BYTES, read_claims
from assessor.errors import UsageError
from assessor.git import git, git_bytes
from assessor.model import CheckRun
from assessor.model.words import CheckId

SCHEME = "git:"
RUN_ID = re.compile(r"^[\w-]{1,100}$", re.ASCII)
MOST_RUNS = 10_000
INDEX = "results/index.json"


@dataclass(frozen=True)
class Baseline:
    """Earlier results.

    Attributes:
        where: How messages call them.
        runs: By check id.
        integrity: What is known of their integrity, in words.
    """

    where: str
    runs: Mapping[str, CheckRun]
    integrity: str


class _Index(RootModel[dict[CheckId, str]]):
    """results/index.json: the current run of every check."""


def read_baseline(name: str, folder: Path, *, trust: tuple[Path, ...] = ()) -> Baseline:
    """Earlier results by name.

    Args:
        name: A PDF report, its record (JSON), an assessment folder; or a branch, tag or commit, with or without "git:".
        folder: The assessment folder, which is looked up in the commit.
        trust: PEM files of authorities whose signatures on a PDF count.

    Returns:
        The results.

    Raises:
        UsageError: There is no such thing, or it holds no results.
    """
    path = Path(name)
    if not name.startswith(SCHEME) and path.exists():
        claims = read_claims(path, trust=trust)
        found = Baseline(name, claims.runs, claims.integrity)
    else:
        found = _of_commit(name.removeprefix(SCHEME), folder)
    if not any(run.metrics for run in found.runs.values()):
        raise UsageError(f"--baseline {name}: holds no measured result, so there is nothing to compare with")
    return found


def _of_commit(name: str, folder: Path) -> Baseline:
    """Results as a commit has them; read from git's own store, so that no file is written and no link followed."""
    prefix = git(folder, "rev-parse", "--show-prefix")
    commit = git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if prefix is None or commit is None:
        raise UsageError(
            f"--baseline {name}: neither a file or folder nor a commit that git knows in {folder}; where CI fetches "
            "the last commit only, fetch this one too"
        )
    where = f"{name} ({commit[:12]})"
    index = _blob(folder, f"{commit}:{prefix}{INDEX}")
    if index is None:
        raise UsageError(
            f"--baseline {where}: has no {prefix}{INDEX}; were results committed, or does .gitignore leave them out?"
        )
    runs = {}
    for check, run_id in _index(index, where).items():
        path = f"{prefix}results/{check}/{run_id}.json"
        content = _blob(folder, f"{commit}:{path}") if RUN_ID.match(run_id) else None
        if content is None:
            raise UsageError(f"--baseline {where}: the index names {path}, which is not there")
        try:
            runs[check] = CheckRun.model_validate_json(content)
        except ValidationError as fault:
            raise UsageError(f"--baseline {where}: {path}: not readable: {fault.errors()[0]['msg']}") from fault
    return Baseline(where, runs, f"read from commit {commit}")


def _index(content: bytes, where: str) -> dict[str, str]:
    try:
        found = _Index.model_validate_json(content).root
    except ValidationError as fault:
        raise UsageError(f"--baseline {where}: {INDEX}: not readable: {fault.errors()[0]['msg']}") from fault
    if len(found) > MOST_RUNS:
        raise UsageError(f"--baseline {where}: {INDEX}: names {len(found)} checks, more than any assessment has")
    return dict(found)


def _blob(folder: Path, name: str) -> bytes | None:
    """Content of a file in a commit; None where there is none or it is larger than any of ours."""
    size = git(folder, "cat-file", "-s", name)
    if size is None or not size.isdigit() or int(size) > MOST_BYTES:
        return None
    return git_bytes(folder, "cat-file", "blob", name)
