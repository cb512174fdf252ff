"""Runs side by side: the same numbers as one after another, whatever dies meanwhile; every check stored once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from executing import PARTS, SYSTEM, TABLE, TARGET, TRAINED, TRAINED_TARGET, TRAINING, RoomParams, check, spreading

from assessor import ledger
from assessor.assessment import HERE, Measurement, Place
from assessor.engine import Job
from assessor.errors import UsageError
from assessor.executors import Executor, Pool, Serial, executor_of, hint_of_threads, pool
from assessor.executors.cluster import Cluster, Desk, _environment
from assessor.executors.dispatch import Dispatcher
from assessor.model import CheckRun, TargetSpec
from assessor.project import Project
from assessor.registry import load_checks
from assessor.verify import verify

VOLATILE = {"started", "seconds", "peak_memory_bytes"}
REAL = ("reliability.performance", "robustness.pgd_accuracy", "generalization.gap", "uncertainty.calibration")


class Folder:
    """A system with a module of its own, and what was measured of it."""

    def __init__(self, path: Path, target: dict[str, Any] = TABLE, **changes: Any) -> None:
        self.path, self.room, self.saved = path, path / "room", []  # type: Path, Path, list[CheckRun]
        (path / "system.py").write_text(SYSTEM)
        (path / "table.csv").write_text("y,p\n" + "".join(f"{k % 2},{int(k % 3 == 0)}\n" for k in range(30)))
        self.room.mkdir()
        self.target = TargetSpec.model_validate({**target, **changes})
        self.told: list[tuple[str, int, int, str]] = []

    def run(self, jobs: list[Job], executor: Executor = HERE, fresh: bool = False) -> list[dict[str, Any]]:
        stored: dict[str, CheckRun] = {}
        place = Place(self.path, self.path / "kept", lambda: stored, self.saved.append)

        def step(what: str, done: int, total: int, part: str = "") -> None:
            self.told.append((what, done, total, part))

        runs = Measurement(place, self.target, fresh=fresh, step=step, executor=executor).run(jobs, [])
        return [run.model_dump(mode="json", exclude=VOLATILE) for run in runs]

    def parts(self, **params: Any) -> list[Job]:
        given = RoomParams(room=str(self.room), **params)
        return [Job(check(f"trial.parts_{seed}"), given, None, seed, ()) for seed in range(4)]

    def spread(self, seed: int = 0, **params: Any) -> list[Job]:
        return [Job(spreading(), RoomParams(room=str(self.room), **params), None, seed, ())]

    def pids(self) -> set[str]:
        return {file.name.split("-")[2] for file in self.room.iterdir() if not file.name.startswith("death")}

    def clear(self) -> None:
        for folder in (self.room, self.path / "kept"):
            for file in folder.glob("*"):
                file.unlink()
        self.saved.clear()

    def computed(self) -> list[tuple[str, str]]:
        """Seed and number of each part that was begun, as often as it was."""
        names = [tuple(file.name.split("-")[:2]) for file in self.room.iterdir() if not file.name.startswith("death")]
        return sorted(names)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def module(tmp_path: Path) -> Folder:
    return Folder(tmp_path, TARGET)


def real() -> list[Job]:
    checks = load_checks()
    return [Job(checks[name], checks[name].params(), None, 0, ()) for name in REAL]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of this machine with two workers, used by all tests of this module."""
    ray: Any = pytest.importorskip("ray")
    environment = {**_environment(), "PYTHONPATH": str(Path(__file__).parent)}
    ray.init(
        "local",
        num_cpus=2,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    yield Cluster(None, 2)
    ray.shutdown()


# --- which executor --------------------------------------------------------------------------------------------------


def test_the_executor_is_named() -> None:
    assert isinstance(executor_of("local"), Serial)
    assert isinstance(executor_of("local", 1), Serial)
    assert executor_of("local", 3) == Pool(3)
    assert executor_of("ray") == Cluster(None, None)
    assert executor_of("ray://head:10001", 4) == Cluster("ray://head:10001", 4)
    assert executor_of("10.0.0.7:6379") == Cluster("10.0.0.7:6379", None)
    for name in ("slurm", "ray://head", "ray:/head:1"):
        with pytest.raises(UsageError, match=f"found {name}, wanted local, ray, ray://HOST:PORT, or HOST:PORT"):
            executor_of(name)


def test_a_hint_on_threads_where_nobody_has_set_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.executors.cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert hint_of_threads(Pool(2)) is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert hint_of_threads(Serial()) is None
    for executor in (Pool(2), Cluster(None, None)):
        assert "all 4 cores; OMP_NUM_THREADS=1 before the command is faster" in str(hint_of_threads(executor))


def test_all_checks_can_be_sent() -> None:
    import pickle

    for name, found in load_checks().items():
        assert pickle.loads(pickle.dumps(found)).id == name


# --- a pool of processes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pool_measures_the_same(module: Folder) -> None:
    alone = module.run(real(), fresh=True)
    assert [run["check"] for run in alone] == list(REAL)
    assert all(run["metrics"] for run in alone)
    module.saved.clear()
    assert module.run(real(), Pool(2), fresh=True) == alone
    assert sorted(run.check for run in module.saved) == sorted(REAL)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_parts_count(folder: Folder) -> None:
    alone = folder.run(folder.parts())
    folder.clear()
    jobs = folder.parts(deaths=2)
    killed = folder.run(jobs, Pool(2))
    assert [run["metrics"] for run in killed] == [run["metrics"] for run in alone]
    assert len(list(folder.room.glob("death-*"))) == 2
    assert sorted(run.check for run in folder.saved) == [job.check.id for job in jobs]
    again = [name for name in set(folder.computed()) if folder.computed().count(name) > 1]
    assert {number for _, number in again} <= {"3"}  # of each killed check one part at most was made twice
    assert len(folder.computed()) == 4 * PARTS + 2


@pytest.mark.slow
def test_a_worker_that_always_dies_ends_the_run(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"trial\.parts_0: its worker process died 4 times"):
        folder.run(folder.parts(deaths=99)[:1], Pool(2))
    assert len(list(folder.room.glob("death-*"))) == 4


@pytest.mark.slow
def test_what_measures_time_runs_alone_and_here(folder: Folder) -> None:
    jobs = folder.parts(pause=0.05)
    jobs[1] = Job(check("trial.clock", repeatable=False), jobs[1].params, None, 1, ())
    folder.run(jobs, Pool(2))
    made = {file.name.split("-")[0]: int(file.name.split("-")[2]) for file in folder.room.iterdir()}
    assert made["1"] == os.getpid()
    assert os.getpid() not in {made["0"], made["2"], made["3"]}
    assert folder.saved[-1].check == "trial.clock"
    assert ("trial.clock", 3, 4, "parts") not in folder.told
    assert folder.told[-1] == ("done", 4, 4, "")


@pytest.mark.slow
def test_all_workers_are_told_of_in_one_display(folder: Folder) -> None:
    folder.run(folder.parts(pause=0.02), Pool(2))
    assert any(", " in what for what, *_ in folder.told)
    assert ("trial.parts_3", PARTS - 1, PARTS, "parts") in folder.told
    assert [done for _, done, total, part in folder.told if not part] == sorted(
        done for _, done, total, part in folder.told if not part
    )


@pytest.mark.slow
def test_a_run_that_is_cancelled_keeps_what_is_done_and_leaves_no_process(folder: Folder) -> None:
    jobs = folder.parts(pause=0.02)
    slow = folder.parts(pause=30.0)
    order = [jobs[0], slow[1], slow[2]]

    def interrupt(run: CheckRun) -> None:
        folder.saved.append(run)
        raise KeyboardInterrupt

    place = Place(folder.path, folder.path / "kept", dict, interrupt)
    with pytest.raises(KeyboardInterrupt):
        Measurement(place, folder.target, executor=Pool(2)).run(order, [])
    assert [run.check for run in folder.saved] == ["trial.parts_0"]
    pids = {int(file.name.split("-")[2]) for file in folder.room.iterdir()}
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.slow
def test_a_model_that_is_another_each_time_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path, TARGET, model={"load": "system:other"})
    with pytest.raises(UsageError, match="model or data are not the same when they are loaded once more"):
        folder.run(folder.parts(), Pool(2))


def test_gpus_are_given_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    seen = []
    for number in range(3):
        with pool._seeing_one_gpu(number):
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["3", "5", "3"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


@pytest.mark.slow
def test_jobs_on_the_command_line(make_folder: Callable[..., Any], run: Any) -> None:
    project = make_folder()
    done = run("check", "run", "reliability.performance", "--jobs", 2, "--project", project.folder)
    assert done.code == 0, done
    assert list(project.runs()) == ["reliability.performance"]
    assert run("check", "run", "--executor", "slurm", "--project", project.folder).code == 2


# --- work of one check by several workers ----------------------------------------------------------------------------


def test_one_check_is_done_by_all_workers_and_gives_the_same(folder: Folder) -> None:
    (alone,) = folder.run(folder.spread())
    folder.clear()
    jobs = folder.spread(meet=30.0) + folder.parts()[3:]  # the second has the second worker begin
    found, _ = folder.run(jobs, Pool(2))
    assert found["metrics"] == alone["metrics"]
    assert found["remarks"] == alone["remarks"] == ["said by each"]
    assert len({file.name.split("-")[2] for file in folder.room.glob("0-*")}) == 2
    assert len(folder.computed()) == 2 * PARTS
    assert ("trial.spread", PARTS - 1, PARTS, "parts") in folder.told


@pytest.mark.slow
def test_pieces_of_a_worker_that_died_are_done_by_others(folder: Folder) -> None:
    alone = folder.run(folder.spread(pause=0.05))
    folder.clear()
    found = folder.run(folder.spread(pause=0.05, deaths=2), Pool(2))
    assert found[0]["metrics"] == alone[0]["metrics"]
    assert len(list(folder.room.glob("death-*"))) == 2
    assert len(folder.saved) == 1
    assert sum(number != "3" for _, number in folder.computed()) <= PARTS + 1  # what was kept is not made again


@pytest.mark.slow
def test_what_a_piece_raises_is_raised_in_its_check(folder: Folder) -> None:
    alone = folder.run(folder.spread(seed=9))
    assert alone[0]["outcome"]["sentence"] == "not this one"
    folder.clear()
    assert folder.run(folder.spread(seed=9), Pool(2)) == alone


@pytest.mark.slow
def test_models_trained_by_several_workers_give_the_same_attack(tmp_path: Path) -> None:
    folder = Folder(tmp_path, TARGET, model={"load": "system:estimator"})
    found = load_checks()["privacy.membership_inference"]
    jobs = [Job(found, found.params(), None, 0, ())]
    alone = folder.run(jobs, fresh=True)
    assert alone[0]["metrics"]
    assert alone == folder.run(jobs, Pool(2), fresh=True)
    kinds = {what for what, *_, part in folder.told if part == "shadow models"}
    assert kinds == {"privacy.membership_inference"}


# --- who does what ---------------------------------------------------------------------------------------------------


class Hired:
    """Workers without processes: what they are sent is noted, and what they say is said for them."""

    def __init__(self, *said: tuple[int, Any]) -> None:
        self.said = list(said)
        self.sent: list[Any] = []
        self.begun: list[int] = []
        self.stopped: list[set[int]] = []

    def begin(self, number: int) -> int:
        self.begun.append(number)
        return len(self.begun)

    def send(self, worker: int, message: Any) -> None:
        self.sent.append((worker, *message))

    def heard(self) -> list[tuple[int, Any]]:
        return [self.said.pop(0)]

    def stop(self, busy: set[int]) -> None:
        self.stopped.append(busy)


def dispatched(crew: Hired, jobs: list[Job]) -> list[Any]:
    return list(Dispatcher(crew, 2, lambda *_: None).runs(jobs))


def test_only_who_is_here_is_given_something() -> None:
    first, second = (Job(check(f"trial.{name}"), RoomParams(), None, 0, ()) for name in ("first", "second"))
    crew = Hired((2, ("here",)), (2, ("run", "of the first")), (2, ("run", "of the second")))
    assert dispatched(crew, [first, second]) == ["of the first", "of the second"]
    assert crew.sent == [(2, "job", first), (2, "job", second)]
    assert (crew.begun, crew.stopped) == ([0, 1], [set()])


def test_pieces_of_a_dead_worker_are_begun_anew_with_its_check_and_late_ones_count_for_nobody() -> None:
    job = Job(spreading(), RoomParams(), None, 0, ())
    crew = Hired(
        *((worker, ("here",)) for worker in (1, 2)),
        (1, ("spread", ["a", "b", "c"])),  # "a" goes to the first itself, "b" to the second
        (1, None),
        (2, ("item", b"late")),  # of the dead one: the second is free, and is given the check
        (2, ("spread", ["a", "b"])),
        (2, ("item", b"A")),
        (3, ("here",)),  # in the place of the first, too late for a piece
        (2, ("item", b"B")),
        (2, ("run", "all")),
    )
    assert dispatched(crew, [job]) == ["all"]
    assert crew.begun == [0, 1, 0]
    assert crew.sent == [
        (1, "job", job),
        (1, "item", "a"),
        (2, "item", "b"),
        (2, "job", job),
        (2, "item", "a"),
        (2, "item", "b"),
        (2, "spread", [b"A", b"B"]),
    ]


def test_workers_that_die_while_they_load_end_a_run() -> None:
    crew = Hired(*((worker, None) for worker in (1, 2, 3, 4)))
    with pytest.raises(UsageError, match="4 worker processes died while they loaded model and data"):
        dispatched(crew, [Job(check(), RoomParams(), None, 0, ())])
    assert crew.stopped == [set()]


def test_messages_lie_on_the_desk_until_the_next_are_asked_for_and_none_is_there_twice() -> None:
    async def said() -> list[Any]:
        desk = Desk({"old": b"0"})
        for number in (1, 2, 2, 1, 3):
            await desk.send(7, number, 0, ("part", number))
        await desk.send(8, 1, 0, ("kept", "new", b"1"))
        found = [await desk.taken(0, 0, 0), await desk.taken(0, 0, 0), await desk.taken(0, 3, 0)]
        found += [await desk.taken(0, 0, 0), await desk.taken(0, 4, 0), await desk.read("old"), await desk.read("new")]
        waiting = asyncio.create_task(desk.taken(7, 0, 60))
        await asyncio.sleep(0)
        await desk.send(0, 1, 7, ("job", "a"))
        return [*found, await waiting]

    parts, kept = [(7, ("part", number)) for number in (1, 2, 3)], (8, ("kept", "new", b"1"))
    assert asyncio.run(said()) == [
        *[(0, [*parts, kept])] * 2,
        *[(3, [kept])] * 2,  # who asks with an older number had its answer lost; what is gone was taken
        (4, []),
        b"0",
        b"1",
        (0, [(0, ("job", "a"))]),
    ]


# --- Ray -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_measures_the_same(module: Folder, cluster: Any) -> None:
    alone = module.run(real(), fresh=True)
    module.saved.clear()
    assert module.run(real(), cluster, fresh=True) == alone
    assert sorted(run.check for run in module.saved) == sorted(REAL)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(int(os.environ.get("RAY_KILLS", "1"))))
def test_ray_begins_anew_what_was_killed(folder: Folder, cluster: Any, attempt: int) -> None:
    """A worker is killed from outside in the middle of a check, each time at another moment."""
    jobs = folder.parts(pause=0.05)
    alone = folder.run(jobs)
    folder.clear()
    killed: list[int] = []

    def kill() -> None:
        limit = time.monotonic() + 60
        while time.monotonic() < limit and not killed:
            time.sleep(0.01)
            begun = [file.name.split("-") for file in folder.room.iterdir()]
            for _, number, pid in begun:
                if int(number) == attempt % (PARTS - 1):
                    time.sleep(0.007 * (attempt % 7))
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(int(pid))
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    found = folder.run(jobs, cluster)
    killer.join()
    assert killed
    assert found == alone
    assert sorted(run.check for run in folder.saved) == [job.check.id for job in jobs]
    made = folder.computed()
    assert PARTS * 4 <= len(made) <= PARTS * 4 + 1, "more than the part that was being made was lost"
    assert len(list((folder.path / "kept").glob("*.json"))) == PARTS * 4


@pytest.mark.slow
def test_a_killed_worker_leaves_one_result_and_one_line_of_each_check(
    make_folder: Callable[..., Project], run: Run, cluster: Any
) -> None:
    """The whole way: command line, spread checks, a worker killed while it trains, results, ledger."""
    alone, project = (make_folder(name, target=TRAINED_TARGET) for name in ("alone", "ray"))
    for one in (alone, project):
        (one.folder / "system.py").write_text(TRAINED)
    wanted = [*TRAINING, "reliability.performance"]
    assert run("check", "run", *wanted, "--project", alone.folder).code == 0
    room = project.folder / "room"
    room.mkdir()
    killed: list[int] = []

    def kill() -> None:
        limit = time.monotonic() + 60
        while time.monotonic() < limit and len(list(room.iterdir())) < 7:
            time.sleep(0.01)
        newest = max(room.iterdir(), key=lambda file: file.name.split("-")[1])
        killed.append(int(newest.name.split("-")[0]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    done = run("check", "run", *wanted, "--executor", "ray", "--jobs", 2, "--project", project.folder)
    killer.join()
    assert done.code == 0, done
    assert killed[0] != os.getpid()
    assert len({file.name.split("-")[0] for file in room.iterdir()}) >= 3
    actions = [entry.action for entry in ledger.entries(project.ledger_bytes())]
    assert sorted(actions) == sorted(["init", *(f"check run {name}" for name in wanted)])
    assert [len(list((project.folder / "results" / name).iterdir())) for name in wanted] == [1] * len(wanted)
    assert {finding.status for finding in verify(project.folder)} == {"ok"}
    found, serial = (
        {name: one.model_dump(mode="json", exclude=VOLATILE) for name, one in each.runs().items()}
        for each in (project, alone)
    )
    different = {
        (name, field): (found[name][field], serial[name][field])
        for name in wanted
        for field in serial[name]
        if found[name].get(field) != serial[name][field]
    }
    assert not different


@pytest.mark.slow
def test_one_check_is_done_by_all_workers_of_ray(folder: Folder, cluster: Any) -> None:
    (alone,) = folder.run(folder.spread())
    folder.clear()
    (found,) = folder.run(folder.spread(meet=30.0), cluster)
    assert found["metrics"] == alone["metrics"]
    assert len(folder.pids()) >= 2
    assert len(folder.computed()) == PARTS


@pytest.mark.slow
def test_a_check_that_kills_each_of_its_workers_ends_a_run_on_ray(folder: Folder, cluster: Any) -> None:
    with pytest.raises(UsageError, match="its worker process died 4 times"):
        folder.run(folder.parts(deaths=99)[:1], cluster)


@pytest.mark.slow
def test_a_piece_that_kills_each_of_its_workers_ends_a_run(folder: Folder, cluster: Any) -> None:
    for executor in (Pool(2), cluster):
        with pytest.raises(UsageError, match=r"trial\.spread: its worker process died 4 times"):
            folder.run(folder.spread(deaths=99), executor)
        assert len(list(folder.room.glob("death-*"))) == 4
        folder.clear()


@pytest.mark.slow
def test_a_run_on_ray_that_is_cancelled_keeps_what_is_done_and_ends_what_runs(folder: Folder, cluster: Any) -> None:
    jobs, slow = folder.parts(pause=0.3), folder.spread(seed=5, pause=60.0)

    def interrupt(run: CheckRun) -> None:
        limit = time.monotonic() + 60
        while time.monotonic() < limit and not list(folder.room.glob("5-*")):
            time.sleep(0.02)  # until a piece of the slow one is being done
        folder.saved.append(run)
        raise KeyboardInterrupt

    place = Place(folder.path, folder.path / "kept", dict, interrupt)
    with pytest.raises(KeyboardInterrupt):
        Measurement(place, folder.target, executor=cluster).run([jobs[0], *slow], [])
    assert [run.check for run in folder.saved] == ["trial.parts_0"]
    pids = {int(file.name.split("-")[2]) for file in folder.room.glob("5-*")}
    assert pids
    limit = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_without_ray_the_extra_is_named(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assessor.executors.cluster.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--executor ray: install .*ai-assessor\[ray\]"):
        folder.run(folder.parts()[:1], Cluster())
