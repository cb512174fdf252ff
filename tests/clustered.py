"""Run by tests in a process of its own, with a token of its own: runs on Ray clusters that begin before the run.

python clustered.py FOLDER node     a node is taken away while it works
python clustered.py FOLDER ADDRESS  a cluster that is there already
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from executing import PARTS
from test_executors import Folder

from assessor.executors.cluster import Cluster, _environment

PATIENT = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 10}


def equal_on(folder: Folder, address: str) -> None:
    """Runs give the same there as here, once each."""
    jobs = [*folder.parts(pause=0.05), *folder.spread(seed=6)]
    alone = folder.run(jobs)
    folder.clear()
    assert folder.run(jobs, Cluster(address, 2)) == alone
    assert sorted(run.check for run in folder.saved) == sorted(job.check.id for job in jobs)
    assert str(os.getpid()) not in folder.pids()
    assert len(folder.computed()) == PARTS * len(jobs), sorted(file.name for file in folder.room.iterdir())


def lose_a_node(folder: Folder) -> None:
    """Of two nodes one is killed with all its processes, in the middle of checks."""
    from ray.cluster_utils import Cluster as Nodes

    jobs = folder.parts(pause=0.2)
    alone = folder.run(jobs)
    folder.clear()
    given = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args={**given, "_system_config": PATIENT})
    second = nodes.add_node(**given)
    lost: list[str] = []
    killer = threading.Thread(target=remove, args=(nodes, second, folder, lost))
    killer.start()
    found = folder.run(jobs, Cluster(nodes.address, 2))
    killer.join()
    nodes.shutdown()
    assert lost, "no work was on the node"
    assert found == alone
    assert sorted(run.check for run in folder.saved) == [job.check.id for job in jobs]
    assert PARTS * 4 <= len(folder.computed()) <= PARTS * 4 + 1, "more than the part that was being made was lost"


def remove(nodes: Any, node: Any, folder: Folder, lost: list[str]) -> None:
    """Kill a node as soon as one of its workers has begun the third part of a check."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit and not lost:
        time.sleep(0.01)
        raylets = {process.process.pid for process in node.all_processes["raylet"]}
        begun = [file.name.split("-") for file in folder.room.iterdir()]
        lost += [pid for _, number, pid in begun if number == "2" and parent(pid) in raylets]
    nodes.remove_node(node, allow_graceful=False)


def parent(pid: str) -> int:
    """The process that started one; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    place = Folder(Path(sys.argv[1]))
    os.environ |= _environment()
    if sys.argv[2] == "node":
        lose_a_node(place)
    else:
        equal_on(place, sys.argv[2])
    print("equal")
