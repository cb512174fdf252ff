"""Served models: asked over a real connection to a server of this test, which may be slow, wrong or broken."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from assessor import yamlfile
from assessor.assessment import measure
from assessor.contract import Need, collecting
from assessor.errors import UsageError
from assessor.model import EndpointSpec, Status, TargetSpec
from assessor.project import Project
from assessor.subjects import load_subject
from assessor.subjects.endpoint import Clock, Endpoint, EndpointError

Answer = Callable[["Served", dict[str, Any]], tuple[int, Any, dict[str, str]]]


class Served:
    """A server that gives what `answer` says and keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answer = answer
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                served.asked.append(body)
                served.headers.append(dict(self.headers))
                served.paths.append(self.path)
                code, content, headers = served.answer(served, body)
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(code)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:  # whoever asked has gone
                    return

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Served]]:
    made: list[Served] = []

    def start(answer: Answer) -> Served:
        made.append(Served(answer))
        return made[-1]

    yield start
    for one in made:
        one.server.shutdown()
        one.server.server_close()


WEIGHTS = np.array([[0.2, -0.4, 0.1], [1.0, 0.3, -0.5]])


def scores(rows: Any) -> np.ndarray:
    logits = np.asarray(rows, float) @ WEIGHTS
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return found


def model(served: Served, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
    return 200, {"outputs": scores(body["inputs"]).tolist()}, {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 2)).round(3)
    table = pd.DataFrame(rows, columns=["a", "b"]).assign(y=rng.integers(0, 3, 50))
    table.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path


def target(url: str, endpoint: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    how = {"url": url, "rate": 10_000, "retries": 2, "batch": 8, **(endpoint or {})}
    data = {"test": {"file": "t.csv", "label": "y"}}
    model = {"endpoint": how, "outputs": "probabilities"}
    return {"task": "multiclass", "model": model, "data": data, "device": "cpu", **changes}


def loaded(folder: Path, spec: dict[str, Any]) -> Any:
    return load_subject(TargetSpec.model_validate(spec), folder)[0]


def refusal(folder: Path, spec: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(folder, spec)
    return str(caught.value)


class Told:
    """A clock that nobody waits for."""

    def __init__(self) -> None:
        self.time, self.pauses = 0.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.time, self.sleep)


def asker(url: str, told: Told | None = None, **how: Any) -> Endpoint:
    spec = EndpointSpec.model_validate({"url": url, "rate": 10_000, "retries": 2, **how})
    return Endpoint(spec, field="target.model.endpoint", url=url, clock=(told or Told()).clock)


# --- as it should be -------------------------------------------------------------------------------------------------


def test_a_served_model_through_the_engine(serve: Callable[[Answer], Served], folder: Path) -> None:
    served = serve(model)
    configuration = {
        "format": 1,
        "catalog": {"id": "ai-assessment-catalog", "version": "1.1.0"},
        "system": {"name": "served", "version": "1"},
        "target": target(served.url),
    }
    files = {"assessor.yaml": yamlfile.dump(configuration).encode()}
    project = Project.create(folder / "a", files, actor="tester", action="init")
    (project.folder / "t.csv").write_bytes((folder / "t.csv").read_bytes())
    ids = ["reliability.performance", "generalization.sharpness", "robustness.noise_accuracy"]
    runs = {run.check: run for run in measure(project, ids)}
    table = pd.read_csv(folder / "t.csv")
    wanted = (scores(table[["a", "b"]]).argmax(axis=1) == table["y"]).mean()
    result = runs["reliability.performance"].result
    assert result is not None
    assert result.metric("accuracy").value == wanted
    assert any("what answers there can change without notice" in text for text in result.remarks)
    assert runs["robustness.noise_accuracy"].outcome.status is Status.MEASURED
    assert runs["generalization.sharpness"].outcome.sentence.startswith("needs a PyTorch module, for its gradients")
    assert runs["reliability.performance"].subject.kind == "endpoint"


def test_nothing_is_asked_twice(serve: Callable[[Answer], Served], folder: Path) -> None:
    served = serve(model)
    subject = loaded(folder, target(served.url))
    assert Need.RELOAD not in subject.offers
    first = subject.scores("test")
    asked = len(served.asked)
    assert asked == math.ceil(50 / 8)  # the first rows, asked beforehand, are a request of the split
    features = subject.splits["test"].features
    assert np.array_equal(subject.query_scores(features), first)
    assert len(served.asked) == asked
    assert len({json.dumps(body) for body in served.asked}) == asked


def test_pointers_body_and_headers(
    serve: Callable[[Answer], Served], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAL_KEY", "secret words")
    served = serve(lambda _, body: (200, {"d": [{"p/q": scores(body["data"]["rows"]).tolist()}]}, {}))
    how = {"inputs": "/data/rows", "outputs": "/d/0/p~1q", "body": {"data": {"kind": "x"}, "v": 2},
           "headers": {"Authorization": "TRIAL_KEY"}}  # fmt: skip
    subject = loaded(folder, target(served.url, how))
    assert subject.scores("test").shape == (50, 3)
    assert served.asked[0]["v"] == 2
    assert served.asked[0]["data"]["kind"] == "x"
    assert served.headers[0]["Authorization"] == "secret words"
    assert "secret" not in json.dumps(TargetSpec.model_validate(target(served.url, how)).model_dump(mode="json"))


DOCUMENT = {
    "openapi": "3.1.0",
    "servers": [{"url": "https://elsewhere.example"}],
    "paths": {"/v1/predict": {"post": {"operationId": "predict"}, "get": {"operationId": "look"}}},
}


def test_an_openapi_document_names_the_call(serve: Callable[[Answer], Served], folder: Path) -> None:
    served = serve(model)
    (folder / "api.yaml").write_bytes(yamlfile.dump(DOCUMENT).encode())
    how = {"openapi": "api.yaml", "operation": "predict"}
    loaded(folder, target(f"{served.url}/base", how)).scores("test")
    assert set(served.paths) == {"/base/v1/predict"}
    told = refusal(folder, target(served.url, {**how, "operation": "predct"}))
    assert "no POST or PUT operation 'predct'; did you mean 'predict'?; it has predict" in told
    (folder / "api.yaml").write_text("a: 1")
    assert "api.yaml is no OpenAPI document of version 3" in refusal(folder, target(served.url, how))
    (folder / "api.yaml").write_text("a: [")
    assert "cannot read" in refusal(folder, target(served.url, how))


# --- servers that are not as they should be --------------------------------------------------------------------------


def test_a_server_that_fails_at_times_is_asked_again(serve: Callable[[Answer], Served]) -> None:
    def flaky(served: Served, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        code = [503, 429, 200][(len(served.asked) - 1) % 3]
        return code, {"outputs": [1]} if code == 200 else {}, {"Retry-After": "7"} if code == 429 else {}

    served, told = serve(flaky), Told()
    endpoint = asker(served.url, told)
    assert endpoint.ask({"inputs": [1]}) == {"outputs": [1]}
    assert endpoint.requests == len(served.asked) == 3
    waits = [pause for pause in told.pauses if pause > 0.01]
    assert 0.5 <= waits[0] <= 1.0
    assert waits[1] == 7.0, "as Retry-After says"
    served.answer = lambda served, body: (503, {}, {})
    with pytest.raises(EndpointError, match="the server answered 503, 3 times"):
        endpoint.ask({"inputs": [2]})


def test_a_retry_after_of_days_and_dates(serve: Callable[[Answer], Served]) -> None:
    for said, wanted in (("999999", 300.0), ("Fri, 31 Dec 2100 23:59:59 GMT", 300.0), ("soon", 1.0)):
        told = Told()
        served = serve(lambda served, body, said=said: (503, {}, {"Retry-After": said}))
        with pytest.raises(EndpointError):
            asker(served.url, told, retries=1).ask({})
        assert told.pauses[0] <= wanted
        assert told.pauses[0] == wanted or said == "soon"


def test_a_slow_server(serve: Callable[[Answer], Served]) -> None:
    def slow(served: Served, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        time.sleep(0.5)
        return 200, {}, {}

    with pytest.raises(EndpointError, match=r"no answer within 0\.1 seconds, 2 times"):
        asker(serve(slow).url, timeout=0.1, retries=1).ask({})


def test_no_server() -> None:
    with pytest.raises(EndpointError, match="no connection"):
        asker("http://127.0.0.1:9", retries=0).ask({})


@pytest.mark.parametrize(
    ("code", "content", "told"),
    [
        (400, {"error": "no such field"}, "the server answered 400: {\"error\": \"no such field\"}"),
        (401, b"who?", "the server answered 401: who?"),
        (200, b"<html>", "the answer is no JSON: '<html>'"),
        (200, b"[" * 100_000, "the answer is no JSON"),
        (302, b"", "the server sends on to another address, https://elsewhere.example/, which is not followed"),
    ],
)  # fmt: skip
def test_answers_that_are_none(serve: Callable[[Answer], Served], code: int, content: Any, told: str) -> None:
    served = serve(lambda served, body: (code, content, {"Location": "https://elsewhere.example/"}))
    with pytest.raises(EndpointError) as caught:
        asker(served.url).ask({})
    assert told in str(caught.value)
    assert len(served.asked) == 1, "asking again would not help"


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ({"other": 1}, "the answer has nothing at /outputs; there is other"),
        ({"outputs": ["a"] * 8}, "the answer has at /outputs what are no numbers"),
        ({"outputs": [[0.5, 0.5]]}, "8 rows gave outputs of shape (1, 2) at /outputs, wanted one a row"),
        ({"outputs": [[0.9, 0.9, 0.9]] * 8}, "the model's outputs are no probabilities (first: row 0)"),
        ({"outputs": [[1.0, 0.0], [1.0]] * 4}, "what are no numbers"),
        ([], "the answer has nothing at /outputs; there is list"),
    ],
)
def test_outputs_that_do_not_fit(serve: Callable[[Answer], Served], folder: Path, outputs: Any, told: str) -> None:
    served = serve(lambda served, body: (200, outputs, {}))
    assert told in refusal(folder, target(served.url))


def test_outputs_that_are_no_numbers_are_no_predictions(serve: Callable[[Answer], Served], folder: Path) -> None:
    def holes(served: Served, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        found = scores(body["inputs"])
        if len(served.asked) > 1:
            found[0] = np.nan
        return 200, json.dumps({"outputs": found.tolist()}).encode(), {}

    served = serve(holes)
    subject = loaded(folder, target(served.url, {}, model={"endpoint": {"url": served.url, "rate": 1e4, "batch": 8},
                                                         "outputs": "logits"}))  # fmt: skip
    with pytest.raises(ValueError, match="gives NaN or infinite outputs for 6 of 50 test rows"):
        subject.scores("test")


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_rate_is_kept(serve: Callable[[Answer], Served]) -> None:
    told = Told()
    endpoint = asker(serve(lambda served, body: (200, 1, {})).url, told, rate=4)
    for number in range(9):
        endpoint.ask({"n": number})
    assert told.time == pytest.approx(8 / 4)


def test_limits_are_told_before_anything_is_asked(serve: Callable[[Answer], Served], folder: Path) -> None:
    served = serve(model)
    told = refusal(folder, target(served.url, {"max_requests": 6}))
    assert told == (
        "target.model.endpoint: the data need 7 requests, and max_requests is 6; raise it, or assess on fewer rows"
    )
    told = refusal(folder, target(served.url, {"request_cost": 0.5}))
    assert "the data need 7 requests, which cost about 3.5; say what may be spent at most under max_cost" in told
    told = refusal(folder, target(served.url, {"request_cost": 0.5, "max_cost": 3}))
    assert "the data cost about 3.5, and max_cost is 3" in told
    assert not served.asked


def test_limits_hold_for_what_checks_ask_too(serve: Callable[[Answer], Served], folder: Path) -> None:
    served = serve(model)
    how = {"max_requests": 8, "request_cost": 0.1, "max_cost": 10, "retries": 0}
    subject = loaded(folder, target(served.url, how))
    subject.scores("test")
    subject.query(np.ones((3, 2)))
    with pytest.raises(EndpointError, match="the limit of 8 requests is reached"):
        subject.query(np.ones((4, 2)))
    subject = loaded(folder, target(served.url, {"request_cost": 0.5, "max_cost": 3.9}))
    subject.scores("test")
    with pytest.raises(EndpointError, match=r"the limit of 3\.9 is reached \(max_cost\)"):
        subject.query(np.ones((4, 2)))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"url": "http://example.org/m"}, "found http://example.org/m, wanted https"),
        ({"headers": {"X": "NO_SUCH_VARIABLE_HERE"}}, "no such environment variable: NO_SUCH_VARIABLE_HERE"),
        ({"headers": {"X\r\nY": "HOME"}}, "has a name or a value that no header can have"),
    ],
)
def test_addresses_and_headers_that_are_refused(folder: Path, how: dict[str, Any], told: str) -> None:
    assert told in refusal(folder, target("http://127.0.0.1:9", how))


@pytest.mark.parametrize(
    "how",
    [
        {"url": "ftp://a/b"},
        {"url": "https://me:secret@a/b"},
        {"url": "file:///etc/passwd"},
        {"openapi": "a.yaml"},
        {"api": "openai"},
        {"rate": 0},
        {"request_cost": math.inf},
        {"headers": {"X": "a value"}},
    ],
)
def test_endpoints_that_no_configuration_may_have(how: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EndpointSpec.model_validate({"url": "https://a/b", **how})


# --- chat completions ------------------------------------------------------------------------------------------------


def chat(served: Served, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
    """Says "yes" with a probability that is the number in the text."""
    p = float(body["messages"][0]["content"].split()[1])
    tops = [{"token": " Yes", "logprob": math.log(p * 0.8)}, {"token": "no", "logprob": math.log((1 - p) * 0.8)},
            {"token": "perhaps", "logprob": math.log(0.2)}]  # fmt: skip
    choice = {"message": {"content": "Yes"}, "logprobs": {"content": [{"token": " Yes", "top_logprobs": tops}]}}
    return 200, {"choices": [choice], "usage": {"total_tokens": 10}}, {}


def chats(folder: Path, url: str, how: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    pd.DataFrame({"text": [f"is {p}" for p in (0.1, 0.4, 0.6, 0.9)], "y": ["n", "n", "y", "n"]}).to_csv(
        folder / "texts.csv", index=False
    )
    named = {"endpoint": {"url": url, "rate": 1e4, "api": "openai", "model": "trial", **(how or {})}, **more}
    return {
        "task": "binary",
        "classes": ["n", "y"],
        "model": {"prompt": "{text} ?", "words": ["no", "yes"], **named},
        "data": {"test": {"file": "texts.csv", "label": "y", "features": ["text"]}},
    }


def test_a_chat_chooses_among_words(serve: Callable[[Answer], Served], folder: Path) -> None:
    served = serve(chat)
    subject = loaded(folder, chats(folder, served.url))
    with collecting() as remarks:
        assert subject.scores("test")[:, 1] == pytest.approx([0.1, 0.4, 0.6, 0.9])
    assert len(remarks) == 1
    assert subject.predictions("test").tolist() == [0, 0, 1, 1]
    assert served.asked[0]["model"] == "trial"
    assert served.asked[0]["messages"] == [{"role": "user", "content": "is 0.1 ?"}]
    assert len(served.asked) == 4


def test_a_chat_without_probabilities(serve: Callable[[Answer], Served], folder: Path) -> None:
    served = serve(lambda served, body: (200, {"choices": [{"message": {"content": "Yes"}}]}, {}))
    assert loaded(folder, chats(folder, served.url)).scores("test")[:, 1].tolist() == [1.0] * 4
    served.answer = lambda served, body: (200, {"choices": [{"message": {"content": "Well"}}]}, {})
    told = refusal(folder, chats(folder, served.url))
    assert "the answer begins with 'Well', which begins none of the words ['no', 'yes']" in told


def test_what_a_chat_costs(serve: Callable[[Answer], Served], folder: Path) -> None:
    served = serve(chat)
    told = refusal(folder, chats(folder, served.url, {"token_cost": 0.5}))
    assert "4 requests, which cost about" in told
    spec = chats(folder, served.url, {"token_cost": 0.5, "max_cost": 6})
    assert not served.asked
    assert "the data cost about 9, and max_cost is 6" in refusal(folder, spec)
    spec = chats(folder, served.url, {"token_cost": 0.5, "max_cost": 12})
    with pytest.raises(UsageError, match=r"the limit of 12 is reached"):  # it took more tokens than was thought
        loaded(folder, spec)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"prompt": None}, "a language model wants prompt:"),
        ({"words": ["a", "b", "c"]}, "target.classes: found 2, wanted one name for each of the 3 words"),
    ],
)
def test_chats_that_are_not_told_what_to_say(folder: Path, more: dict[str, Any], told: str) -> None:
    assert told in refusal(folder, chats(folder, "http://127.0.0.1:9", None, **more))


def test_what_is_no_text(folder: Path) -> None:
    spec = chats(folder, "http://127.0.0.1:9")
    spec["data"]["test"] = {"file": "t.csv", "label": "y"}
    assert "wanted one text a row, found 2 values; name the column under features:" in refusal(folder, spec)
    spec["data"]["test"] = {"file": "t.csv", "label": "y", "features": ["a"]}
    assert ", wanted a text" in refusal(folder, spec)
