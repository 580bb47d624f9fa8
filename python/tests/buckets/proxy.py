"""A proxy before an S3 server that counts what passes and breaks what it is told to.

Requests go on as they came, the Host header included: a client signs the proxy's address, and the server verifies what it is
told. Bodies are streamed, and counted where the server sees them.

    with Proxy(os.environ["AWS_ENDPOINT_URL"], seed=1) as proxy:
        proxy.break_with(Rule(Fault.UNANSWERED, method="PUT", kind="commits", times=1))
        …                                      # a client of proxy.endpoint
        assert proxy.injected[Fault.UNANSWERED] == 1
        assert proxy.traffic("GET", "chunks").received == 0
"""

from __future__ import annotations

import asyncio
import enum
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

_FOLDERS = ("chunks", "gc", "pins", "projects")
# Of one connection, not of the message; and what either side sets for itself.
_NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "expect"}
_BUFFER_BYTES = 1 << 20


class Fault(enum.Enum):
    """What may befall a request."""

    ERROR = "500, and the server was not asked"
    SLOW_DOWN = "503 SlowDown, and the server was not asked"
    UNANSWERED = "done, and the connection closed without a word"
    CUT = "half of the answer's body, then the connection closed"
    TORN = "the connection reset when half of the body was sent"
    CONFLICT = "409 ConditionalRequestConflict to a conditional write that was not tried"
    WON_AND_LOST = "a conditional write that is done and answered by 412, as if it had been sent twice"
    SLOW = "late"


@dataclass(frozen=True)
class Rule:
    """Which requests a fault befalls: those of a method (see :func:`what_it_is`) and a kind, each with a chance of ``rate``,
    and of each method and kind ``times`` at most. What is slow is late by so many ``seconds``."""

    fault: Fault
    method: str | None = None
    kind: str | None = None
    rate: float = 1.0
    times: int | None = None
    seconds: float = 0.5


@dataclass
class Traffic:
    """Requests, and the bytes of bodies that went to the server (``sent``) and came from it (``received``)."""

    requests: int = 0
    sent: int = 0
    received: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.requests + other.requests, self.sent + other.sent, self.received + other.received)


class Proxy:
    """See the module. Runs in a thread of its own; every method may be called from any thread."""

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self._rules: list[Rule] = []
        self._hits: Counter[tuple[Rule, str, str]] = Counter()
        self._traffic: dict[tuple[str, str], Traffic] = {}
        self.injected: Counter[Fault] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s3-proxy", daemon=True)
        self._port = 0

    # ---- for tests ---------------------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """Where clients find it: what ``AWS_ENDPOINT_URL`` is to be."""
        return f"http://127.0.0.1:{self._port}"

    def break_with(self, *rules: Rule) -> None:
        """From now on these rules hold, the first that fits a request; none: no fault. What others made wait goes on."""
        self._rules, self._hits = list(rules), Counter()

    def traffic(self, method: str | None = None, *kinds: str) -> Traffic:
        """What passed since the last :meth:`forget`: of a method, of these kinds; all unless given."""
        fitting = (
            traffic
            for (its_method, kind), traffic in list(self._traffic.items())
            if method in (None, its_method) and (not kinds or kind in kinds)
        )
        return sum(fitting, Traffic())

    def forget(self) -> None:
        """Counts from nothing."""
        self._traffic = {}
        self.injected.clear()

    def away(self) -> None:
        """Closes every connection, and refuses new ones until :meth:`back`."""
        self._wait(self._stop_listening())

    def back(self) -> None:
        """Listens again, where it did."""
        self._wait(self._listen())

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._wait(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # ---- in its thread -----------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        # A connection that is used once is never found closed, which aiohttp would hide by sending the request again.
        self._client = ClientSession(
            connector=TCPConnector(limit=0, force_close=True),
            auto_decompress=False,
            read_bufsize=_BUFFER_BYTES,
            timeout=ClientTimeout(total=None),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        server = web.Server(self._handle, access_log=None, auto_decompress=False, read_bufsize=_BUFFER_BYTES)
        self._runner = web.ServerRunner(server, shutdown_timeout=0)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=1024)
        await site.start()
        self._site = site
        self._port = self._runner.addresses[0][1]

    async def _stop_listening(self) -> None:
        await self._site.stop()
        server = self._runner.server
        assert server is not None
        for connection in list(server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        method, kind = what_it_is(request)
        traffic = self._traffic.setdefault((method, kind), Traffic())
        rule = self._choose(request, method, kind)
        fault = None if rule is None else rule.fault
        if fault is Fault.ERROR:
            return refusal(500, "InternalError")
        if fault is Fault.SLOW_DOWN:
            return refusal(503, "SlowDown")
        if fault is Fault.CONFLICT:
            return refusal(409, "ConditionalRequestConflict")
        if rule is not None and fault is Fault.SLOW:
            await self._wait_as_told(rule)
        traffic.requests += 1
        try:
            return await self._pass_on(request, traffic, fault)
        except (ClientError, ConnectionError):
            # One of the two hung up; whoever is left is told by the same.
            return hung_up(request)

    async def _wait_as_told(self, rule: Rule) -> None:
        end = self._loop.time() + rule.seconds
        while rule in self._rules and self._loop.time() < end:
            await asyncio.sleep(0.02)

    async def _pass_on(self, request: web.BaseRequest, traffic: Traffic, fault: Fault | None) -> web.StreamResponse:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON]
        most = request.content_length // 2 if fault is Fault.TORN and request.content_length else None
        body = pieces(request, traffic, most) if request.can_read_body else None
        url = URL(self._upstream + request.raw_path, encoded=True)
        async with self._client.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            if fault is Fault.UNANSWERED or fault is Fault.WON_AND_LOST:
                await answer.read()
                if fault is Fault.WON_AND_LOST and answer.ok:
                    return refusal(412, "PreconditionFailed")
                return hung_up(request)
            return await give_back(request, answer, traffic, fault)

    def _choose(self, request: web.BaseRequest, method: str, kind: str) -> Rule | None:
        is_conditional = "If-None-Match" in request.headers or "If-Match" in request.headers
        possible = {
            Fault.CUT: request.method == "GET",
            Fault.TORN: request.method in ("PUT", "POST") and bool(request.content_length),
            Fault.CONFLICT: request.method == "PUT" and is_conditional,
            Fault.WON_AND_LOST: request.method == "PUT" and is_conditional,
        }
        for rule in self._rules:
            if (
                rule.method in (None, method)
                and rule.kind in (None, kind)
                and possible.get(rule.fault, True)
                and (rule.times is None or self._hits[rule, method, kind] < rule.times)
                and self._random.random() < rule.rate
            ):
                self._hits[rule, method, kind] += 1
                self.injected[rule.fault] += 1
                return rule
        return None


def what_it_is(request: web.BaseRequest) -> tuple[str, str]:
    """The method, and the kind of object: ``chunks``, ``parts``, ``commits``, …, ``run`` for births.

    ``LIST`` is a listing. A deletion of several objects is a POST that names them in its body: ``DELETE`` of ``many``.
    """
    address = urlsplit(request.raw_path)
    query = parse_qs(address.query, keep_blank_values=True)
    if request.method == "GET" and "list-type" in query:
        return "LIST", kind_of(query.get("prefix", [""])[0])
    if request.method == "POST" and "delete" in query:
        return "DELETE", "many"
    return request.method, kind_of(unquote(address.path))


def kind_of(key: str) -> str:
    """The folder of a store that an object is in."""
    names = key.strip("/").split("/")
    for at, name in enumerate(names):
        if name in _FOLDERS:
            return name
        if name == "runs":
            return names[at + 2] if len(names) > at + 2 else "runs"
    return names[-1]


async def pieces(request: web.BaseRequest, traffic: Traffic, most: int | None) -> AsyncIterator[bytes]:
    """The body as it comes; with ``most``, the connection is reset after so many bytes."""
    async for piece in request.content.iter_any():
        traffic.sent += len(piece)
        yield piece
        if most is not None:
            most -= len(piece)
            if most <= 0:
                raise ConnectionResetError("as was asked for")


async def give_back(
    request: web.BaseRequest, answer: ClientResponse, traffic: Traffic, fault: Fault | None
) -> web.StreamResponse:
    """Hands an answer on, or its first half."""
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in answer.headers.items():
        if name.lower() not in _NOT_PASSED_ON:
            response.headers.add(name, value)
    if "Content-Length" not in answer.headers and request.method != "HEAD":
        response.enable_chunked_encoding()
    await response.prepare(request)
    left = (answer.content_length or 2) // 2 if fault is Fault.CUT else None
    async for piece in answer.content.iter_any():
        traffic.received += len(piece)
        if left is not None and len(piece) >= left:
            await response.write(piece[:left])
            return hung_up(request)
        left = None if left is None else left - len(piece)
        await response.write(piece)
    await response.write_eof()
    return response


def refusal(status: int, code: str) -> web.Response:
    """What S3 says when it does not do something."""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>as was asked for</Message></Error>'
    )
    return web.Response(status=status, text=text, content_type="application/xml")


def hung_up(request: web.BaseRequest) -> web.Response:
    """Closes the client's connection at once. What is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def mixed(faults: Iterable[Fault], rate: float) -> list[Rule]:
    """Each of these faults at a rate."""
    return [Rule(fault, rate=rate) for fault in faults]
