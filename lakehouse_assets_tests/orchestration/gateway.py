"""A proxy in front of the source: records listings, delays them, or refuses them.

The source is read anonymously, so requests are passed on as they are.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Gateway:
    def __init__(self, endpoint_url: str) -> None:
        self._upstream = urlsplit(endpoint_url).netloc
        self.listed: list[str] = []
        self.answered = 0
        self.delay = 0.0
        self.refusal: tuple[int, str] | None = None
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                gateway.pass_on(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"

    def pass_on(self, request: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(request.path).query)
        self.listed += query.get("prefix", [])
        time.sleep(self.delay)
        self.answered += 1
        if self.refusal:
            status, code = self.refusal
            body = f"<Error><Code>{code}</Code><Message>closed for maintenance</Message></Error>".encode()
        else:
            upstream = http.client.HTTPConnection(self._upstream, timeout=30)
            try:
                upstream.request("GET", request.path)
                answer = upstream.getresponse()
                status, body = answer.status, answer.read()
            finally:
                upstream.close()
        request.send_response(status)
        request.send_header("Content-Type", "application/xml")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    @contextmanager
    def running(self) -> Iterator[Gateway]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
