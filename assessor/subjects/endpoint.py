"""A model behind HTTP, asked within limits: rate, time, number of requests, cost. Nothing is asked twice."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from assessor.errors import UsageError
from assessor.model import EndpointSpec

LOCAL = ("127.0.0.1", "::1", "localhost")
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Status codes after which the same request may get an answer later; RFC 9110 section 15."""
LONGEST = 300.0  # seconds that are waited at most, whatever Retry-After says
ANSWER = 1 << 26  # bytes of an answer


class EndpointError(Exception):
    """The server gave no answer that can be used."""


class Clock(NamedTuple):
    """Time as the asker sees it: a clock that only goes forward, and waiting."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


CLOCK = Clock()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Only to the same scheme, host and port: the headers go with it."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()
        if _origin(newurl) != _origin(req.full_url):
            raise EndpointError(f"the server sends on to another address, {newurl[:200]}, which is not followed")
        raise EndpointError(f"the server sends on to {newurl[:200]}; name this address as url")


class Endpoint:
    """Sends requests as JSON and gives the answers.

    Attributes:
        requests: Requests sent so far, tries again included.
        cost: What they cost so far.
    """

    def __init__(self, spec: EndpointSpec, *, field: str, url: str, method: str = "POST", clock: Clock = CLOCK) -> None:
        """Look whether the address may be asked and the headers are there.

        Args:
            spec: How it is asked, and how much.
            field: How messages call it.
            url: Address of the call.
            method: Of the requests.
            clock: The time.

        Raises:
            UsageError: The address is not safe, or a variable of a header is not set.
        """
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname not in LOCAL and not spec.insecure:
            raise UsageError(
                f"{field}.url: found {url}, wanted https; data sent by http can be read on the way (insecure: true "
                "allows it)"
            )
        self._spec, self._field, self._url, self._method, self._clock = spec, field, url, method, clock
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **_headers(spec, field)}
        context = ssl.create_default_context()
        proxies: dict[str, str] | None = {} if parts.hostname in LOCAL else None  # None: those of the environment
        handlers = (_NoRedirects(), urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context))
        self._open = urllib.request.build_opener(*handlers).open
        self._answers: dict[bytes, Any] = {}
        self._next = 0.0
        self.requests = 0
        self.cost = 0.0

    def ask(self, body: Mapping[str, Any], cost: Callable[[Any], float] = lambda answer: 0.0) -> Any:
        """The answer to a request, sent once: the same request gets the same answer from then on.

        Args:
            body: What is sent as JSON.
            cost: What an answer costs besides `request_cost`.

        Returns:
            The answer's JSON.

        Raises:
            EndpointError: There is none, or a limit is reached.
        """
        content = json.dumps(body, sort_keys=True, allow_nan=False).encode()
        key = hashlib.sha256(content).digest()
        if key not in self._answers:
            answer = self._persistent(content)
            self.cost += cost(answer)
            self._answers[key] = answer
        return self._answers[key]

    def refuse_more_than(self, requests: int, cost: float) -> None:
        """Refuse a plan that is over the limits before anything is sent.

        Args:
            requests: How many are needed.
            cost: What they cost.

        Raises:
            UsageError: It is.
        """
        spec, field = self._spec, self._field
        if requests > spec.max_requests:
            raise UsageError(
                f"{field}: the data need {requests} requests, and max_requests is {spec.max_requests}; raise it, or "
                "assess on fewer rows"
            )
        if spec.max_cost is None and cost:
            raise UsageError(
                f"{field}: the data need {requests} requests, which cost about {cost:.4g}; say what may be spent at "
                "most under max_cost, and run it again"
            )
        if spec.max_cost is not None and cost > spec.max_cost:
            raise UsageError(
                f"{field}: the data cost about {cost:.4g}, and max_cost is {spec.max_cost:g}; raise it, or assess on "
                "fewer rows"
            )

    def _persistent(self, content: bytes) -> Any:
        for tried in range(self._spec.retries + 1):
            try:
                return self._once(content)
            except _Later as later:
                if tried == self._spec.retries:
                    raise EndpointError(f"{later.why}, {tried + 1} times") from later
                pause = 2.0**tried * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, no secret
                self._clock.sleep(min(LONGEST, max(pause, later.seconds)))
        raise AssertionError

    def _once(self, content: bytes) -> Any:
        spec = self._spec
        if self.requests >= spec.max_requests:
            raise EndpointError(f"the limit of {spec.max_requests} requests is reached (max_requests)")
        if spec.max_cost is not None and self.cost + spec.request_cost > spec.max_cost:
            raise EndpointError(f"the limit of {spec.max_cost:g} is reached (max_cost)")
        if (wait := self._next - self._clock.now()) > 0:
            self._clock.sleep(wait)
        self._next = self._clock.now() + 1 / spec.rate
        self.requests += 1
        self.cost += spec.request_cost
        request = urllib.request.Request(self._url, content, self._headers, method=self._method)  # noqa: S310 - http(s)
        try:
            with self._open(request, timeout=spec.timeout) as answer:
                text = answer.read(ANSWER + 1)
        except urllib.error.HTTPError as fault:
            with fault:
                if fault.code in AGAIN:
                    raise _Later(f"the server answered {fault.code}", _asked_to_wait(fault.headers)) from fault
                said = fault.read(300).decode("utf-8", "replace")
            raise EndpointError(f"the server answered {fault.code}: {said}") from fault
        except TimeoutError as fault:
            raise _Later(f"no answer within {spec.timeout:g} seconds") from fault
        except (urllib.error.URLError, http.client.HTTPException, OSError) as fault:
            reason = getattr(fault, "reason", fault)
            if isinstance(reason, TimeoutError):
                raise _Later(f"no answer within {spec.timeout:g} seconds") from fault
            raise _Later(f"no connection ({reason})") from fault
        if len(text) > ANSWER:
            raise EndpointError(f"the answer is longer than {ANSWER} bytes")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as fault:
            raise EndpointError(f"the answer is no JSON: {text[:100].decode('utf-8', 'replace')!r}") from fault


class _Later(Exception):  # noqa: N818 - says what it is
    """No answer now; perhaps later."""

    def __init__(self, why: str, seconds: float = 0.0) -> None:
        super().__init__(why)
        self.why, self.seconds = why, seconds


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _headers(spec: EndpointSpec, field: str) -> dict[str, str]:
    missing = sorted({name for name in spec.headers.values() if name not in os.environ})
    if missing:
        raise UsageError(f"{field}.headers: no such environment variable: {', '.join(missing)}")
    found = {header: os.environ[name] for header, name in spec.headers.items()}
    for header, value in found.items():
        if not header.isascii() or any(sign in header + value for sign in "\r\n\0"):
            raise UsageError(f"{field}.headers: {header} has a name or a value that no header can have")
    return found


def _asked_to_wait(headers: Any) -> float:
    """Seconds of Retry-After, a number or a date; RFC 9110 section 10.2.3."""
    said = str(headers.get("Retry-After", "")).strip()
    if said.isdigit():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
