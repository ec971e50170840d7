"""A proxy before an object store that injects faults by rule and counts every request.

It keeps the Host header, so that signatures hold, and reads each request and each answer completely
before it passes it on. It runs in a thread of its own on a free loopback port.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

WRITES = ("PutObject", "CopyObject", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")
READS = ("GetObject",)
LISTS = ("ListObjects",)

_BODILESS = {204, 304}
_OTHER = bytes(byte ^ 0x55 for byte in range(256))


@dataclass(slots=True)
class Request:
    """One request as received; ``key`` is without the bucket, percent-decoded."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.target).path).partition("/")[2].partition("/")[2]

    @property
    def operation(self) -> str:
        """S3's name of the operation."""
        query = dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))
        copies = self.header("x-amz-copy-source") is not None
        if not self.key:
            return "ListObjects" if self.method == "GET" and ("list-type" in query or not query) else "OfBucket"
        if "uploads" in query:
            return "CreateMultipartUpload"
        if "uploadId" in query:
            return {
                "PUT": "UploadPartCopy" if copies else "UploadPart",
                "POST": "CompleteMultipartUpload",
                "DELETE": "AbortMultipartUpload",
            }.get(self.method, "ListParts")
        if self.method == "PUT":
            return "CopyObject" if copies else "PutObject"
        return {"GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(self.method, self.method)


@dataclass(slots=True)
class Answer:
    """One answer as sent; Content-Length is that of the body, unless ``length`` overrides it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    length: int | None = None
    cut: bool = False

    def encoded(self, *, bodiless: bool) -> bytes:
        length = len(self.body) if self.length is None else self.length
        lines = [f"HTTP/1.1 {self.status} -", *(f"{name}: {value}" for name, value in self.headers)]
        if self.status not in _BODILESS:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if bodiless else self.body)


Forward = Callable[[Request], "asyncio.Future[Answer]"]


class Fault(Protocol):
    """What a rule does instead of forwarding a request."""

    async def strike(self, request: Request, forward: Forward) -> Answer | None:
        """The answer; None resets the connection."""
        ...


@dataclass(frozen=True)
class Refusal:
    """An S3 error, without forwarding the request."""

    status: int
    code: str

    async def strike(self, request: Request, forward: Forward) -> Answer:
        return refusal(self.status, self.code)


@dataclass(frozen=True)
class Reset:
    """The connection ends without an answer; with ``done`` the store executes the request first."""

    done: bool = False

    async def strike(self, request: Request, forward: Forward) -> None:
        if self.done:
            await forward(request)


@dataclass(frozen=True)
class Truncated:
    """Half of the body, then the connection ends."""

    async def strike(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        length = len(answer.body)
        return Answer(answer.status, answer.headers, answer.body[: length // 2], length=length, cut=True)


@dataclass(frozen=True)
class Short:
    """Half of the body, with the Content-Length of that half."""

    async def strike(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        return Answer(answer.status, answer.headers, answer.body[: len(answer.body) // 2])


@dataclass(frozen=True)
class Corrupt:
    """The answer's body with other bytes of the same length."""

    async def strike(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        if answer.status not in {200, 206}:
            return answer
        return Answer(answer.status, answer.headers, answer.body.translate(_OTHER))


@dataclass(frozen=True)
class Garbled:
    """The request's body reaches the store with other bytes of the same length."""

    async def strike(self, request: Request, forward: Forward) -> Answer:
        return await forward(replace(request, body=request.body.translate(_OTHER)))


@dataclass(frozen=True)
class Latency:
    seconds: float

    async def strike(self, request: Request, forward: Forward) -> Answer:
        await asyncio.sleep(self.seconds)
        return await forward(request)


@dataclass(frozen=True)
class Hang:
    """No answer; the connection stays open until the client or the proxy closes it."""

    async def strike(self, request: Request, forward: Forward) -> None:
        await asyncio.sleep(3600)


@dataclass(frozen=True)
class RefusesHeader:
    """A store that rejects a header that it does not support."""

    name: str
    status: int = 501
    code: str = "NotImplemented"

    async def strike(self, request: Request, forward: Forward) -> Answer:
        if request.header(self.name) is None:
            return await forward(request)
        return refusal(self.status, self.code)


@dataclass(frozen=True)
class IgnoresCondition:
    """A store that ignores If-None-Match, If-Match and x-amz-copy-source-if-match, and writes or copies anyway.
    ``client`` (boto3) executes the request, since the signature of the original one covers its condition."""

    client: Any
    bucket: str

    async def strike(self, request: Request, forward: Forward) -> Answer:
        if not any(request.header(name) for name in ("if-none-match", "if-match", "x-amz-copy-source-if-match")):
            return await forward(request)
        etag = await asyncio.get_running_loop().run_in_executor(None, self._done, request)
        copied = f"<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>".encode()
        return Answer(200, [("ETag", etag)], copied if request.operation == "CopyObject" else b"")

    def _done(self, request: Request) -> str:
        place = {"Bucket": self.bucket, "Key": request.key}
        if (source := request.header("x-amz-copy-source")) is not None:
            return self.client.copy_object(**place, CopySource=unquote(source))["CopyObjectResult"]["ETag"]
        return self.client.put_object(**place, Body=request.body)["ETag"]


@dataclass(frozen=True)
class Meanwhile:
    """Runs a hook, then forwards the request."""

    happens: Callable[[], object]

    async def strike(self, request: Request, forward: Forward) -> Answer:
        await asyncio.get_running_loop().run_in_executor(None, self.happens)
        return await forward(request)


@dataclass
class Rule:
    """Injects a fault into every ``every``-th request of the operations whose key contains (or is) ``key``, starting
    with the ``first`` one (counted from 1), at most ``most`` times."""

    fault: Fault
    operations: tuple[str, ...]
    key: str = ""
    every: int = 1
    first: int = 1
    most: int | None = None
    whole_key: bool = False
    met: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def strikes(self, request: Request) -> bool:
        if request.operation not in self.operations or self.key not in request.key:
            return False
        if self.whole_key and request.key != self.key:
            return False
        self.met += 1
        if self.met < self.first or (self.met - self.first) % self.every:
            return False
        if self.most is not None and self.struck >= self.most:
            return False
        self.struck += 1
        return True


class Proxy:
    """``rules`` may be changed at any time; the first one that matches applies. ``page`` lowers the page size of
    anonymous listings, so that few keys make many pages."""

    def __init__(self, behind: str, *rules: Rule, page: int | None = None) -> None:
        parts = urlsplit(behind)
        self._behind = (parts.hostname or "", parts.port or 80)
        self._page = page
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.rules: list[Rule] = list(rules)
        self.requests: list[Request] = []

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def struck(self) -> int:
        """Number of injected faults, over all rules."""
        return sum(rule.struck for rule in self.rules)

    def counts(self, key: str = "") -> Counter[str]:
        """Number of requests per operation, for keys that contain ``key``."""
        return Counter(request.operation for request in list(self.requests) if key in request.key)

    def heal(self) -> None:
        """Inject no more faults; the number of injected ones stays."""
        for rule in self.rules:
            rule.most = 0

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        pool = ThreadPoolExecutor(4)
        self._loop.set_default_executor(pool)
        thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        thread.start()
        try:
            self.open()
            yield self
        finally:
            self.die()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            pool.shutdown()
            self._loop.close()

    def open(self) -> None:
        """Listen; after :meth:`die`, on the same port as before."""

        async def start() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=2**20, backlog=1024)
            self._port = self._server.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)

    def die(self) -> None:
        """Behave like a killed server: close open connections, refuse new ones."""

        async def stop() -> None:
            if self._server is not None:
                self._server.close()
            me = asyncio.current_task()
            tasks = [task for task in self._tasks if task is not me]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(10)

    def die_from_within(self) -> None:
        """Like :meth:`die`, for a rule's hook: returns before all connections are closed."""
        self._loop.call_soon_threadsafe(self._kill)

    def _kill(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            while (request := await _read_request(reader, writer)) is not None:
                self.requests.append(request)
                answer = await self._answer(request)
                if answer is None:
                    break
                writer.write(answer.encoded(bodiless=request.method == "HEAD"))
                await writer.drain()
                if answer.cut:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a client went away, or the proxy died
        finally:
            if task is not None:
                self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, request: Request) -> Answer | None:
        fault = next((rule.fault for rule in self.rules if rule.strikes(request)), None)
        try:
            return await (self._forward(request) if fault is None else fault.strike(request, self._forward))
        except (ConnectionError, asyncio.IncompleteReadError):
            return None  # the store itself is gone

    async def _forward(self, request: Request) -> Answer:
        target = request.target
        if self._page is not None and request.operation == "ListObjects" and request.header("authorization") is None:
            target = re.sub(r"\bmax-keys=\d+", f"max-keys={self._page}", target)
        reader, writer = await asyncio.open_connection(*self._behind, limit=2**20)
        try:
            kept = [(n, v) for n, v in request.headers if n.lower() not in {"connection", "expect"}]
            lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in kept)]
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + request.body)
            await writer.drain()
            return await _read_answer(reader, bodiless=request.method == "HEAD")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def refusal(status: int, code: str) -> Answer:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>injected {code}</Message></Error>'.encode()
    return Answer(status, [("Content-Type", "application/xml")], body)


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]]] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    return first, [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


async def _read_body(reader: asyncio.StreamReader, headers: list[tuple[str, str]], *, to_end: bool) -> bytes:
    values = {name.lower(): value for name, value in headers}
    if "chunked" in values.get("transfer-encoding", "").lower():
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readline()
        return b"".join(parts)
    if (length := values.get("content-length")) is not None:
        return await reader.readexactly(int(length))
    return await reader.read() if to_end else b""


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    head = await _read_head(reader)
    if head is None:
        return None
    first, headers = head
    method, target, _version = first.split(" ", 2)
    if any(name.lower() == "expect" for name, _ in headers):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await _read_body(reader, headers, to_end=False)
    # A chunked body is forwarded in one piece.
    plain = [(name, value) for name, value in headers if name.lower() != "transfer-encoding"]
    if len(plain) != len(headers):
        plain.append(("Content-Length", str(len(body))))
    return Request(method, target, plain, body)


async def _read_answer(reader: asyncio.StreamReader, *, bodiless: bool) -> Answer:
    head = await _read_head(reader)
    if head is None:
        raise ConnectionResetError("the store sent no answer")
    first, headers = head
    status = int(first.split(" ", 2)[1])
    if status == 100:
        return await _read_answer(reader, bodiless=bodiless)
    own = [(n, v) for n, v in headers if n.lower() not in {"content-length", "transfer-encoding", "connection"}]
    if bodiless:
        declared = next((int(v) for n, v in headers if n.lower() == "content-length"), 0)
        return Answer(status, own, b"", length=declared)
    if status in _BODILESS:
        return Answer(status, own, b"")
    return Answer(status, own, await _read_body(reader, headers, to_end=True))
