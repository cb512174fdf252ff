"""A served model as a subject: rows to requests, answers to outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import yaml

from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Origin, Subject
from assessor.errors import UsageError, nearest
from assessor.model import EndpointSpec, TargetSpec
from assessor.subjects.black_box import Source, black_box_subject
from assessor.subjects.data import RawSplit
from assessor.subjects.endpoint import Clock, Endpoint, EndpointError
from assessor.subjects.texts import prompted

FIELD = "target.model.endpoint"
PROBED = 8  # rows that are asked beforehand
LETTERS = 4  # a token, about, for what a text costs
LOGPROBS = 20  # most that chat completions give a token


class Call(NamedTuple):
    """Where a call goes."""

    url: str
    method: str


class Requests(NamedTuple):
    """How rows become outputs; and how many requests some rows take, and about what these cost."""

    ask: Callable[[np.ndarray], np.ndarray]
    plan: Callable[[np.ndarray], tuple[int, float]]
    outputs: str | None


def endpoint_subject(
    spec: TargetSpec, folder: Path, raws: Mapping[str, RawSplit], *, origin: Origin, clock: Clock | None = None
) -> tuple[Subject, str, str | None]:
    """Look whether the data fit the limits, ask for a few rows, and make the subject.

    Args:
        spec: `target` of assessor.yaml.
        folder: Where the OpenAPI document is looked up.
        raws: Data by split.
        origin: Where all this comes from.
        clock: The time.

    Returns:
        The subject, its kind and the digest of what is asked where: the model itself cannot be seen.

    Raises:
        UsageError: The address, the data or the answers do not fit.
    """
    how = spec.model.endpoint
    assert how is not None
    call = _call(how, folder)
    endpoint = Endpoint(how, field=FIELD, url=call.url, method=call.method, clock=clock or Clock())
    requests = _openai(endpoint, how, spec) if how.api == "openai" else _json(endpoint, how)
    plans = [requests.plan(raw.features) for raw in raws.values() if raw.features is not None]
    endpoint.refuse_more_than(sum(count for count, _ in plans), sum(cost for _, cost in plans))
    source = Source(
        requests.ask,
        FIELD,
        outputs=requests.outputs,
        faults=(EndpointError, ValueError, TypeError),
        remarks=(f"The model was asked at {_shown(call.url)}; what answers there can change without notice.",),
        probed=PROBED,
    )
    subject = black_box_subject(source, spec, raws, origin=origin)
    meant = how.model_dump(mode="json", include={"api", "inputs", "outputs", "body", "model"})
    asked = {"call": list(call), "spec": meant, "prompt": spec.model.prompt, "words": list(spec.model.words)}
    return subject, "endpoint", sha256_hex(canonical_json(asked))


def _shown(url: str) -> str:
    """Without what may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


# --- the address -----------------------------------------------------------------------------------------------------


def _call(how: EndpointSpec, folder: Path) -> Call:
    if how.openapi is None:
        return Call(how.url, "POST")
    field, path = f"{FIELD}.openapi", folder / how.openapi
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as fault:
        raise UsageError(f"{field}: cannot read {path}: {fault}") from fault
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise UsageError(f"{field}: {how.openapi} is no OpenAPI document of version 3")
    paths = document.get("paths")
    found = {
        str(operation.get("operationId")): Call(f"{how.url.rstrip('/')}/{str(place).lstrip('/')}", method.upper())
        for place, item in (paths.items() if isinstance(paths, dict) else ())
        if isinstance(item, dict)
        for method, operation in item.items()
        if method in {"post", "put"} and isinstance(operation, dict)
    }
    if how.operation not in found:
        known = ", ".join(sorted(found)) or "none"
        raise UsageError(
            f"{FIELD}.operation: {how.openapi} has no POST or PUT operation '{how.operation}'"
            f"{nearest(str(how.operation), found)}; it has {known}"
        )
    return found[str(how.operation)]


# --- rows in, outputs out --------------------------------------------------------------------------------------------


def _json(endpoint: Endpoint, how: EndpointSpec) -> Requests:
    def ask(rows: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(rows), how.batch):
            chunk = rows[start : start + how.batch]
            answer = endpoint.ask(_placed(how.body, how.inputs, _plain(chunk)))
            parts.append(_outputs(_found(answer, how.outputs), len(chunk), how.outputs))
        if len({part.shape[1:] for part in parts}) > 1:
            raise EndpointError(f"the answers differ in shape: {sorted({part.shape[1:] for part in parts})}")
        return np.concatenate(parts)

    def plan(rows: np.ndarray) -> tuple[int, float]:
        count = math.ceil(len(rows) / how.batch)
        return count, count * how.request_cost

    return Requests(ask, plan, None)


def _plain(rows: np.ndarray) -> list[Any]:
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise EndpointError("rows with missing or infinite values cannot be sent as JSON")
    found: list[Any] = rows.tolist()
    return found


def _placed(body: Mapping[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    """The fixed fields with a value at a JSON pointer (RFC 6901) in them."""
    made: dict[str, Any] = json.loads(json.dumps(body))
    steps, place = _steps(pointer), made
    if not steps:
        raise UsageError(f"{FIELD}.inputs: found an empty pointer, wanted a field such as /inputs")
    for step in steps[:-1]:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise UsageError(f"{FIELD}.inputs: {pointer} leads through what body: has there already")
    place[steps[-1]] = value
    return made


def _found(answer: Any, pointer: str) -> Any:
    """What an answer has at a JSON pointer (RFC 6901)."""
    value = answer
    for step in _steps(pointer):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            there = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
            raise EndpointError(f"the answer has nothing at {pointer}; there is {there[:200]}")
    return value


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _outputs(value: Any, rows: int, pointer: str) -> np.ndarray:
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as fault:
        raise EndpointError(f"the answer has at {pointer} what are no numbers: {str(value)[:100]}") from fault
    if found.ndim not in {1, 2} or len(found) != rows:
        raise EndpointError(f"{rows} rows gave outputs of shape {found.shape} at {pointer}, wanted one a row")
    return found


# --- chat completions ------------------------------------------------------------------------------------------------


def _openai(endpoint: Endpoint, how: EndpointSpec, spec: TargetSpec) -> Requests:
    prompt, words = prompted(spec)
    body = {
        **how.body,
        "model": how.model,
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": LOGPROBS,
    }

    def cost(answer: Any) -> float:
        usage = answer.get("usage") if isinstance(answer, dict) else None
        tokens = usage.get("total_tokens", 0) if isinstance(usage, dict) else 0
        return how.token_cost * tokens if isinstance(tokens, int) else 0.0

    def ask(rows: np.ndarray) -> np.ndarray:
        texts = [prompt.replace("{text}", str(text)) for text in rows.reshape(-1)]
        asked = ({**body, "messages": [{"role": "user", "content": text}]} for text in texts)
        return np.stack([_weights(endpoint.ask(one, cost), words) for one in asked])

    def plan(rows: np.ndarray) -> tuple[int, float]:
        tokens = sum(len(prompt) + len(str(text)) for text in rows.reshape(-1)) / LETTERS + len(rows)
        return len(rows), len(rows) * how.request_cost + tokens * how.token_cost

    return Requests(ask, plan, "probabilities")


def _weights(answer: Any, words: Sequence[str]) -> np.ndarray:
    """Probabilities of the words, from those of the first token; 1 for the word said where none are given.

    A token counts for the word that begins with it, without blanks around it and in any case.

    Raises:
        EndpointError: It begins none of them.
    """
    choice = _found(answer, "/choices/0")
    said = _first_tokens(choice)
    weights = np.zeros(len(words))
    for token, weight in said:
        text = token.strip().casefold()
        hit = [place for place, word in enumerate(words) if text and word.strip().casefold().startswith(text)]
        if len(hit) == 1:
            weights[hit[0]] += weight
    if not weights.sum() > 0:
        raise EndpointError(f"the answer begins with {said[0][0][:50]!r}, which begins none of the words {list(words)}")
    found: np.ndarray = weights / weights.sum()
    return found


def _first_tokens(choice: Any) -> list[tuple[str, float]]:
    given = choice.get("logprobs") if isinstance(choice, dict) else None
    if given:
        tops = _found(given, "/content/0/top_logprobs")
        try:
            found = [(str(one["token"]), math.exp(min(0.0, float(one["logprob"])))) for one in tops]
        except (TypeError, KeyError, ValueError) as fault:
            raise EndpointError(f"the answer has logprobs that cannot be read: {str(tops)[:100]}") from fault
        if found:
            return found
    return [(str(_found(choice, "/message/content")), 1.0)]
