"""Several GPUs and several workers: each process of a pool sees one. GPUs are names in the environment here."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from executing import TABLE, RoomParams, check

from assessor.assessment import Measurement, Place
from assessor.contract import Better, Metric, Result, Subject
from assessor.engine import Job
from assessor.executors import Pool
from assessor.executors.cluster import share_of_gpu
from assessor.executors.pool import gpu_of
from assessor.model import CheckRun, TargetSpec

NAME = "CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("named", "count", "seen"),
    [
        (None, 0, (None, None, None)),
        (None, 1, (None, None, None)),
        (None, 2, ("0", "1", "0")),
        ("3,5", 8, ("3", "5", "3")),
        ("3, 5", 8, ("3", "5", "3")),
        ("GPU-8932f937,GPU-1b2d4e7a", 0, ("GPU-8932f937", "GPU-1b2d4e7a", "GPU-8932f937")),
        ("GPU-8932f937", 2, (None, None, None)),
        ("", 2, (None, None, None)),
        ("-1", 2, (None, None, None)),
        ("2,1,-1,0", 4, ("2", "1", "2")),
    ],
)
def test_workers_take_turns(named: str | None, count: int, seen: tuple[str | None, ...]) -> None:
    assert tuple(gpu_of(number, named, count) for number in range(3)) == seen


@pytest.mark.parametrize(("there", "most"), [(1, 4), (2, 2), (2, 3), (4, 6), (3, 10)])
def test_a_cluster_has_room_for_all_that_are_wanted(there: int, most: int) -> None:
    share = share_of_gpu(there, most)
    assert there * int(1 / share + 1e-9) >= most
    assert share_of_gpu(0, most) == share_of_gpu(there, None) == 1.0


def looking(subject: Subject, params: RoomParams, seed: int) -> Result:
    """Notes what its process sees and waits for the other's note; seed 0 dies if it is to, the other waits on."""
    room, wanted = Path(params.room), 2 + params.deaths * seed
    (room / f"{seed}-{os.getpid()}").write_text(os.environ.get(NAME, "not set"))
    limit = time.monotonic() + 20
    while time.monotonic() < limit and len(list(room.iterdir())) < wanted:
        time.sleep(0.02)
    if seed == 0 and len(list(room.iterdir())) == 1 + params.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return Result(metrics=(Metric(name="one", value=1.0, n=1, better=Better.NONE, method="made up"),))


def seen_by_workers(path: Path, device: str, **params: int) -> list[tuple[str, str]]:
    """Which check it was, and what its process saw, for each process of a pool of two."""
    (path / "table.csv").write_text("y,p\n" + "".join(f"{k % 2},{int(k % 3 == 0)}\n" for k in range(30)))
    room = path / "room"
    room.mkdir()
    target = TargetSpec.model_validate({**TABLE, "device": device})
    stored: dict[str, CheckRun] = {}
    place = Place(path, path / "kept", lambda: stored, lambda run: None)
    given = RoomParams(room=str(room), **params)
    jobs = [Job(replace(check(f"trial.look_{k}"), measure=looking), given, None, k, ()) for k in range(2)]
    Measurement(place, target, executor=Pool(2)).run(jobs, [])
    return [(file.name[0], file.read_text()) for file in room.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("named", "device", "seen"),
    [
        ("GPU-8932f937,GPU-1b2d4e7a", "auto", ["GPU-1b2d4e7a", "GPU-8932f937"]),
        ("", "auto", ["", ""]),
        ("0,1", "cpu", ["0,1", "0,1"]),
    ],
)
def test_processes_see_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, device: str, seen: list[str]
) -> None:
    monkeypatch.setenv(NAME, named)
    assert sorted(gpu for _, gpu in seen_by_workers(tmp_path, device)) == seen
    assert os.environ[NAME] == named


@pytest.mark.slow
def test_a_process_in_the_place_of_a_dead_one_sees_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "7,9")
    found = seen_by_workers(tmp_path, "auto", deaths=1)
    (died, again), (lived,) = ([gpu for which, gpu in found if which == seed] for seed in "01")
    assert died == again != lived
