"""The process that opens strangers' models: what it cannot do, and what its parent makes of whatever it does."""

from __future__ import annotations

import gc
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assessor import footprint
from assessor.confinement import is_without_network
from assessor.footprint import Peak
from assessor.frames import receive, send
from assessor.subjects.child import Child, ChildError

TRIED = """
import os, socket, subprocess, sys
from pathlib import Path
port, folder, confined = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "confined"
def tried(name, act):
    try:
        act()
    except BaseException as fault:
        print(name, "refused", type(fault).__name__)
    else:
        print(name, "done")
if confined:
    from assessor.confinement import confine
    print(*confine([folder / "named"], memory=2**31))
tried("connect", lambda: socket.create_connection(("127.0.0.1", port)).close())
tried("local", lambda: socket.socket(socket.AF_UNIX).close())
tried("program", lambda: subprocess.run([sys.executable, "-c", ""], check=True))
tried("secret", lambda: (folder / "secret").read_text())
tried("list", lambda: os.listdir(folder))
tried("write", lambda: (folder / "new").write_text("x"))
tried("parent", lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes())
tried("kill", lambda: os.kill(os.getppid(), 0))
tried("memory", lambda: bytearray(2**31))
tried("named", lambda: (folder / "named").read_text())
tried("python", lambda: __import__("decimal"))
"""


def attempts(folder: Path, mode: str) -> dict[str, str]:
    """What a process could do, by name."""
    (folder / "secret").write_text("s")
    (folder / "named").write_text("n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        arguments = [str(server.getsockname()[1]), str(folder), mode]
        done = subprocess.run(
            [sys.executable, "-I", "-c", TRIED, *arguments], capture_output=True, text=True, check=True, timeout=60
        )
    lines = done.stdout.splitlines()
    found = dict(line.split(" ", 1) for line in lines if " " in line and line.split()[1] in {"done", "refused"})
    return {**found, "in force": lines[0]} if mode == "confined" else found


def _accept(server: socket.socket) -> None:
    try:
        server.accept()[0].close()
    except OSError:
        return


NEVER = ("connect", "local", "program", "secret", "list", "write", "parent", "kill", "memory")


@pytest.mark.slow
def test_a_confined_process_reaches_nothing_but_what_is_named(tmp_path: Path) -> None:
    free = attempts(tmp_path, "free")
    assert set(free.values()) == {"done"}, "the attempts themselves must work, or their refusal shows nothing"
    (tmp_path / "new").unlink()
    found = attempts(tmp_path, "confined")
    assert found["in force"] == "limits network files calls"
    assert {name: found[name].split()[0] for name in NEVER} == dict.fromkeys(NEVER, "refused")
    assert found["named"] == found["python"] == "done"
    assert not (tmp_path / "new").exists()


class Scripted(torch.nn.Module):
    """Does what the first value of the rows says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        what = int(x.flatten()[0].item())
        if what == 1:
            while bool((x >= 0).any()):
                x = x + 1
        if what == 2:
            raise RuntimeError("no such row")
        if what == 3:
            return torch.zeros([1 << 40])
        if what == 4:
            return x[:1]
        if what == 5:
            return x * torch.inf
        if what == 6:
            return x + x[0].repeat([25 << 20]).sum() * 0  # 200 MiB meanwhile
        return x


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scripted") / "m.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Scripted()), str(path))
    return path


@pytest.fixture(scope="module")
def child(scripted: Path) -> Any:
    found = Child("torchscript", scripted, options={}, seconds=300)
    yield found
    found.close()


def rows(first: float, n: int = 3) -> np.ndarray:
    found = np.zeros((n, 2), np.float32)
    found[0, 0] = first
    return found


def test_answers_are_those_of_the_model(child: Child) -> None:
    asked = rows(0, 5) + np.arange(5, dtype=np.float32)[:, None] * 0.25
    assert np.array_equal(child.ask(asked), asked.astype(np.float64))
    assert set(child.confinement) == {"limits", "network", "files", "calls"}


def test_many_rows_go_in_batches(child: Child) -> None:
    many = np.full((1 << 20, 8), -0.5, np.float32)  # 32 MiB: more than one question
    assert np.array_equal(child.ask(many), many.astype(np.float64))


@pytest.mark.parametrize(("first", "told"), [(2, "no such row"), (3, "memory"), (4, "3 rows gave outputs of shape")])
def test_what_goes_wrong_there_is_told_here(child: Child, first: int, told: str) -> None:
    with pytest.raises(ChildError, match=told):
        child.ask(rows(first))
    assert len(child.ask(rows(0))) == 3, "it goes on"


def test_texts_are_no_rows(child: Child) -> None:
    with pytest.raises(TypeError, match="takes numbers, found inputs of type <U1"):
        child.ask(np.array([["a"]]))


def test_its_memory_counts_while_it_is_held(child: Child) -> None:
    """The peak of a call, the one before forgotten: as a check after a hungry one must not pay for it."""

    def held(first: float) -> int:
        peak = Peak.begun("cpu")
        child.ask(rows(first))
        return peak.size

    before, most, after = held(0), held(6), held(0)
    assert 190 * 2**20 < most - before < 300 * 2**20
    assert after < most - 150 * 2**20
    assert child._process.pid in footprint._children


def test_it_gets_no_secrets(child: Child) -> None:
    names = {item.split(b"=")[0] for item in Path(f"/proc/{child._process.pid}/environ").read_bytes().split(b"\0")}
    assert names - {b""} <= {b"LANG", b"LC_ALL", b"LD_LIBRARY_PATH", b"PATH", b"OMP_NUM_THREADS", b"OMP_WAIT_POLICY",
                             b"CUDA_VISIBLE_DEVICES"}  # fmt: skip


@pytest.mark.slow
def test_one_that_never_answers_or_dies(scripted: Path) -> None:
    slow = Child("torchscript", scripted, options={}, seconds=1.0)
    with pytest.raises(ChildError, match="no answer within 1 seconds"):
        slow.ask(rows(1))
    killed = Child("torchscript", scripted, options={})
    os.kill(killed._process.pid, signal.SIGKILL)
    with pytest.raises(ChildError, match=r"its process broke off \(signal 9\)"):
        killed.ask(rows(0))
    process = killed._process
    del killed
    gc.collect()
    assert process.poll() is not None


@pytest.mark.slow
def test_it_ends_with_its_subject(scripted: Path) -> None:
    found = Child("torchscript", scripted, options={})
    process = found._process
    assert process.poll() is None
    del found
    gc.collect()
    assert process.poll() == -signal.SIGKILL
    assert process.pid not in footprint._children


def message(head: bytes, body: bytes = b"") -> io.BytesIO:
    return io.BytesIO(struct.pack(">QQ", len(head), len(body)) + head + body)


@pytest.mark.parametrize(
    "stream",
    [
        message(b'{"dtype": "|O", "shape": [1]}', b"\0" * 8),
        message(b'{"dtype": "<f8", "shape": [9]}', b"\0" * 8),
        message(b'{"dtype": "nonsense", "shape": [1]}', b"\0" * 8),
        message(b'{"dtype": "<f8"}', b"\0" * 8),
        message(b"[]"),
        message(b"{"),
        message(b"\xff"),
        io.BytesIO(struct.pack(">QQ", 1 << 60, 0)),
        io.BytesIO(struct.pack(">QQ", 2, 1 << 60) + b"{}"),
        io.BytesIO(b"\0"),
        message(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ],
)
def test_an_answer_that_is_none(stream: io.BytesIO) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, EOFError, RecursionError)):
        receive(stream)


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u1", "?"])
def test_arrays_come_as_they_went(dtype: str) -> None:
    stream = io.BytesIO()
    sent = np.arange(12).reshape(3, 2, 2).astype(dtype)[:, ::-1]
    send(stream, {"a": 1}, sent)
    stream.seek(0)
    head, found = receive(stream)
    assert head == {"a": 1}
    assert found is not None
    assert np.array_equal(found, sent)
    assert found.dtype == sent.dtype


@pytest.mark.parametrize(
    ("in_force", "held"),
    [((), False), (("limits", "files"), False), (("limits", "network"), True), (("calls",), True)],
)
def test_which_measures_keep_from_the_network(in_force: tuple[str, ...], held: bool) -> None:
    assert is_without_network(in_force) is held
