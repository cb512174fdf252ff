"""Ray clusters of more than one node, and such as were there before the run."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent / "clustered.py"
PATIENCE = 90  # seconds


def environment() -> Mapping[str, str]:
    """With a token of its own, which Ray wants of all who join a cluster; its nodes know the tests' own checks."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "GRPC_ENABLE_FORK_SUPPORT": "0"}
    return {**ours, **token, "PYTHONPATH": str(SCRIPT.parent)}


def done(folder: Path, what: str, given: Mapping[str, str]) -> None:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(folder), what]
    ended = subprocess.run(command, env=dict(given), capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.splitlines()[-1] == "equal"


class Head(NamedTuple):
    """A cluster of one node, by the port of the cluster and that of its server for clients."""

    port: int
    clients: int
    environment: Mapping[str, str]


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A cluster begun as its administrator would: by `ray start`."""
    pytest.importorskip("ray")
    given, (port, clients) = environment(), free_ports()
    ray = Path(sys.executable).with_name("ray")
    settings = {
        "port": port,
        "ray-client-server-port": clients,
        "node-ip-address": "127.0.0.1",
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
        "include-dashboard": "false",
    }
    told = [f"--{name}={value}" for name, value in settings.items()]
    with (tmp_path_factory.mktemp("head") / "log").open("w") as log:
        command = [str(ray), "start", "--head", "--block", "--disable-usage-stats", *told]
        process = subprocess.Popen(command, env=dict(given), stdout=log, stderr=log)
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit and not (answers(port) and answers(clients)):
            time.sleep(0.2)
        yield Head(port, clients, given)
        process.terminate()
        process.wait(PATIENCE)


def test_a_cluster_that_is_there_is_reached_by_the_port_for_clients(head: Head, tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    done(tmp_path, f"ray://127.0.0.1:{head.clients}", head.environment)


def test_a_cluster_that_is_there_is_reached_from_one_of_its_nodes(head: Head, tmp_path: Path) -> None:
    done(tmp_path, f"127.0.0.1:{head.port}", head.environment)


def test_the_work_of_a_node_that_is_lost_is_done_by_another(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    done(tmp_path, "node", environment())
