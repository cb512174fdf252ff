"""What a run tells machines: lines of JSON, profiles, spans; nothing unless asked."""

from __future__ import annotations

import gzip
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from executing import PARTS, SYSTEM, TABLE, TARGET, RoomParams, check, spreading

from assessor import contract, tracing
from assessor.assessment import HERE, Measurement, Place
from assessor.contract import Check
from assessor.engine import Job
from assessor.executors import Executor, Pool
from assessor.executors.cluster import Cluster, _environment
from assessor.model import CheckRun, TargetSpec
from assessor.observing import LOGGER, logging_to, slowest, spanned

Make = Callable[..., Any]


@pytest.fixture
def measured(make_folder: Make, run: Any) -> Callable[..., Any]:
    project = make_folder()

    def call(*options: object) -> Any:
        done = run("check", "run", "reliability.performance", *options, "--project", project.folder)
        assert done.code == 0, done
        return project, done

    return call


def test_lines_of_json(measured: Callable[..., Any], tmp_path: Any) -> None:
    path = tmp_path / "log.jsonl"
    project, _ = measured("--log-json", path)
    measured("--log-json", path)
    begun, finished, stored = (json.loads(line) for line in path.read_text().splitlines())
    found = project.runs()["reliability.performance"]
    assert (begun["event"], begun["check"]) == ("check begun", "reliability.performance")
    here = {"worker": "MainProcess", "pid": os.getpid(), "node": platform.node()}
    assert here.items() <= begun.items()
    assert here.items() <= finished.items()
    assert begun["time"] < finished["time"] < stored["time"]
    assert finished["event"] == "check finished"
    assert (finished["seconds"], finished["peak_memory_bytes"]) == (found.seconds, found.peak_memory_bytes)
    assert (finished["status"], finished["device"], finished["key"]) == ("measured", "cpu", found.key)
    assert stored["event"] == "check stored"
    assert stored["time"].endswith("Z")
    assert not LOGGER.handlers
    assert LOGGER.level == logging.NOTSET


def test_a_log_that_cannot_be_written_is_a_usage_error(make_folder: Make, run: Any, tmp_path: Any) -> None:
    done = run("check", "run", "--log-json", tmp_path / "none" / "x", "--project", make_folder().folder)
    assert done.code == 2
    assert "--log-json: cannot write" in done.err


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_profile_of_each_check(measured: Callable[..., Any], jobs: int) -> None:
    project, done = measured("--profile", "--jobs", jobs)
    path = project.folder / ".assessor" / "profile" / "reliability.performance.prof"
    assert path.exists()
    found = slowest(path)
    assert len(found) == 5
    assert found == sorted(found, reverse=True)
    assert found[0][1] in done.out


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the spans that were ended, in that order."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, memory = sdk.TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return memory.get_finished_spans


def test_spans(measured: Callable[..., Any], spans: Any) -> None:
    project, _ = measured()
    one, whole = spans()
    assert (one.name, whole.name) == ("reliability.performance", "assessor check run")
    assert one.parent.span_id == whole.context.span_id
    found = project.runs()["reliability.performance"]
    assert one.attributes["assessor.status"] == "measured"
    assert (one.end_time - one.start_time) / 1e9 == pytest.approx(found.seconds, abs=1e-5)


# --- in whatever process a check is run ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    ray: Any = pytest.importorskip("ray")
    environment = {**_environment(), "PYTHONPATH": str(Path(__file__).parent)}
    options = {"include_dashboard": False, "log_to_driver": False, "runtime_env": {"env_vars": environment}}
    ray.init("local", num_cpus=2, object_store_memory=100 * 2**20, **options)
    yield Cluster(None, 2)
    ray.shutdown()


@pytest.fixture(
    params=["here", pytest.param("pool", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.slow)]
)
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "ray":
        found: Executor = request.getfixturevalue("cluster")
        return found
    return HERE if request.param == "here" else Pool(2)


class Folder:
    """A system, and what is measured of it with a log."""

    def __init__(self, path: Path, target: dict[str, Any] = TABLE) -> None:
        self.path, self.target = path, TargetSpec.model_validate(target)
        self.log, self.profile = path / "log.jsonl", path / "profile"
        (path / "system.py").write_text(SYSTEM)
        (path / "table.csv").write_text("y,p\n" + "".join(f"{k % 2},{int(k % 3 == 0)}\n" for k in range(30)))
        (path / "room").mkdir()

    def run(self, checks: list[Check], executor: Executor, *, pause: float = 0.0) -> list[dict[str, Any]]:
        """The lines of the log."""
        place = Place(self.path, self.path / "kept", dict[str, CheckRun], lambda run: None)
        params = RoomParams(room=str(self.path / "room"), pause=pause)
        jobs = [Job(found, params, None, seed, ()) for seed, found in enumerate(checks)]
        self.log.unlink(missing_ok=True)
        with logging_to(self.log), spanned("all"):
            runs = Measurement(place, self.target, executor=executor, profile=self.profile).run(jobs, [])
        assert all(run.metrics for run in runs), [run.outcome for run in runs]
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_parts_are_logged_with_their_worker(folder: Folder, executor: Executor) -> None:
    lines = folder.run([check("trial.a"), check("trial.b")], executor, pause=0.01)
    for name in ("trial.a", "trial.b"):
        mine = [line for line in lines if line["check"] == name]
        events = ["check begun", *["part kept"] * PARTS, "check profiled", "check finished"]
        assert [line["event"] for line in mine] == events
        (pid,) = {line["pid"] for line in mine}
        assert (pid == os.getpid()) is (executor is HERE)
        assert {line["node"] for line in mine} == {platform.node()}
        kept = [line for line in mine if line["event"] == "part kept"]
        assert [(line["part"], line["done"], line["total"]) for line in kept] == [
            ("parts", k, PARTS) for k in range(PARTS)
        ]
        assert all(line["seconds"] >= 0.01 for line in kept)
        assert [line["time"] for line in mine[:-1]] == sorted(line["time"] for line in mine[:-1])
    again = [line["event"] for line in folder.run([check("trial.a")], HERE)]
    assert again == ["check begun", *["part found"] * PARTS, "check profiled", "check finished"]


def test_parts_have_spans_within_their_check(folder: Folder, executor: Executor, spans: Any) -> None:
    folder.run([spreading("trial.a")], executor, pause=0.01)
    *parts, one, whole = spans()
    assert (one.name, whole.name) == ("trial.a", "all")
    assert one.parent.span_id == whole.context.span_id
    assert [part.name for part in parts] == ["parts"] * PARTS
    assert {part.parent.span_id for part in parts} == {one.context.span_id}
    assert sorted(part.attributes["assessor.done"] for part in parts) == list(range(PARTS))
    for part in parts:
        assert part.end_time - part.start_time >= 1e7
        assert one.start_time - 1e6 <= part.start_time < part.end_time <= one.end_time + 1e6


def test_profiles_come_to_the_folder_from_wherever_the_check_was(folder: Folder, executor: Executor) -> None:
    folder.run([check("trial.a")], executor)
    found = slowest(folder.profile / "trial.a.prof")
    assert len(found) == 5
    assert all(seconds >= 0 for seconds, _ in found)


def test_nothing_is_sent_where_nobody_watches(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    monkeypatch.setattr("assessor.observing.Watch.seen", lambda *_: pytest.fail("told"))
    place = Place(folder.path, folder.path / "kept", dict[str, CheckRun], lambda run: None)
    job = Job(check("trial.a"), RoomParams(room=str(folder.path / "room")), None, 0, ())
    Measurement(place, folder.target).run([job], [])


def test_batches_other_than_asked_for_are_logged(folder: Folder) -> None:
    def measure(subject: Any, params: Any, seed: int) -> Any:
        contract.remark_batches(17)
        return check("trial.b").measure(subject, params, seed)

    _first, second, *_ = folder.run([Check(check("trial.a").info, RoomParams, measure)], HERE)
    assert (second["event"], second["rows"], second["check"]) == ("batches halved", 17, "trial.a")


# --- what torch does -------------------------------------------------------------------------------------------------


def test_operations_of_torch_are_traced_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """A check that goes on for longer than is traced is not slowed, and its trace is not longer."""
    import torch

    monkeypatch.setattr(tracing, "SECONDS", 0.2)
    found: list[bytes] = []
    with tracing.traced(found):
        begun = time.monotonic()
        while time.monotonic() - begun < 0.5:
            x = torch.ones(64, 64, requires_grad=True)
            (x @ x).sum().backward()
            time.sleep(0.005)
    (content,) = found
    trace = json.loads(gzip.decompress(content))
    operations = [item for item in trace["traceEvents"] if item.get("cat") == "cpu_op"]
    assert {"aten::mm"} <= {item["name"] for item in operations}
    first, last = (end(item["ts"] for item in operations) for end in (min, max))
    assert 0.05e6 < last - first < 0.35e6
    assert capfd.readouterr().err == ""


def test_no_trace_of_nothing_and_none_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    found: list[bytes] = []
    with tracing.traced(found):
        time.sleep(0.01)
    assert found == []
    monkeypatch.setattr(tracing, "MOST", 100)
    with tracing.traced(found):
        torch.ones(3).sum()
    assert found == []


def test_both_profiles_are_named(make_folder: Make, run: Any) -> None:
    project = make_folder(target=TARGET)
    (project.folder / "system.py").write_text(SYSTEM)
    done = run("check", "run", "robustness.noise_accuracy", "--profile", "--project", project.folder)
    assert done.code == 0, done
    folder = project.folder / ".assessor" / "profile"
    assert f"robustness.noise_accuracy  {folder / 'robustness.noise_accuracy.prof'}" in done.out
    assert str(folder / "robustness.noise_accuracy.trace.json.gz") in done.out
    assert (folder / "robustness.noise_accuracy.trace.json.gz").stat().st_size > 1000
