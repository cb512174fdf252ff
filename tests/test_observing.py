"""What a run tells machines: lines of JSON, profiles, spans; nothing unless asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from assessor.observing import LOGGER, slowest

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


def test_spans(measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, memory = sdk.TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    project, _ = measured()
    check, whole = memory.get_finished_spans()
    assert (check.name, whole.name) == ("reliability.performance", "assessor check run")
    assert check.parent.span_id == whole.context.span_id
    found = project.runs()["reliability.performance"]
    assert check.attributes["assessor.status"] == "measured"
    assert (check.end_time - check.start_time) / 1e9 == pytest.approx(found.seconds, abs=1e-5)
