"""Where checks are run: one after another in this process, in processes beside it, or on a Ray cluster.

An executor yields finished runs, and whoever asked stores them: workers never write results or the ledger.
`docs/runs.md` says what each one promises.
"""

from __future__ import annotations

import os
import re

from assessor.errors import UsageError
from assessor.executors.pool import Pool
from assessor.executors.work import Executor, Serial, Task, Told, Work, cores
from assessor.messages import _

__all__ = ["Executor", "Pool", "Serial", "Task", "Told", "Work", "executor_of", "hint_of_threads", "workers_of"]


def executor_of(name: str, jobs: int | None = None) -> Executor:
    """The executor that a user names.

    Args:
        name: "local", "ray" for a cluster on this machine, "ray://HOST:PORT" for one that is there, by the port of its
            server for clients, or "HOST:PORT" for one that this machine is a node of.
        jobs: How many checks are run at a time; default 1 here, all there is room for on a cluster.

    Returns:
        The executor.

    Raises:
        UsageError: There is no such executor.
    """
    if name == "local":
        return Serial() if jobs in {None, 1} else Pool(jobs or 1)
    if name == "ray" or re.fullmatch(r"(ray://)?[^/:]+:\d+", name):
        from assessor.executors.cluster import Cluster

        return Cluster(name if name != "ray" else None, jobs)
    raise UsageError(f"--executor: found {name}, wanted local, ray, ray://HOST:PORT, or HOST:PORT on a node of it")


def hint_of_threads(executor: Executor) -> str | None:
    """What makes several workers on one machine faster, where nobody has said how many threads each may take."""
    if workers_of(executor) == 1 or "OMP_NUM_THREADS" in os.environ or cores() == 1:
        return None
    return _(
        "each of the workers computes with all {cores} cores; OMP_NUM_THREADS=1 before the command is faster, for all "
        "runs alike, since results record the number of threads",
        cores=cores(),
    )


def workers_of(executor: Executor) -> int | None:
    """How many checks an executor runs at a time; None for as many as a cluster has room for."""
    return getattr(executor, "jobs", 1)
