"""Where checks are run: one after another in this process, in processes beside it, or on a Ray cluster.

An executor yields finished runs, and whoever asked stores them: workers never write results or the ledger.
`docs/runs.md` says what each one promises.
"""

from __future__ import annotations

from assessor.errors import UsageError
from assessor.executors.pool import Pool
from assessor.executors.work import Executor, Serial, Task, Told, Work

__all__ = ["Executor", "Pool", "Serial", "Task", "Told", "Work", "executor_of", "workers_of"]


def executor_of(name: str, jobs: int | None = None) -> Executor:
    """The executor that a user names.

    Args:
        name: "local", "ray" for a cluster on this machine, or "ray://HOST:PORT" for one that is there.
        jobs: How many checks are run at a time; default 1 here, all there is room for on a cluster.

    Returns:
        The executor.

    Raises:
        UsageError: There is no such executor.
    """
    if name == "local":
        return Serial() if jobs in {None, 1} else Pool(jobs or 1)
    if name == "ray" or name.startswith("ray://"):
        from assessor.executors.cluster import Cluster

        return Cluster(name if name != "ray" else None, jobs)
    raise UsageError(f"--executor: found {name}, wanted local, ray or ray://HOST:PORT")


def workers_of(executor: Executor) -> int | None:
    """How many checks an executor runs at a time; None for as many as a cluster has room for."""
    return getattr(executor, "jobs", 1)
