"""A loopback relay in front of a store that calls back at a chosen request, before or after forwarding it.

Signatures hold: the Host header stays as the client wrote it, and the store signs with what it reads.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Strike:
    """A request by ``method`` and ``path`` (a regular expression); ``answered``: the store gets it first."""

    method: str
    path: str
    answered: bool = False

    def is_asked_by(self, chunk: bytes) -> bool:
        line = chunk.partition(b"\r\n")[0].decode(errors="replace")
        return re.match(rf"{self.method} \S*{self.path}\S* HTTP/", line) is not None


STRIKES = {
    "create": Strike("PUT", r"/_delta_log/0{20}\.json"),
    "parquet": Strike("PUT", r"\.parquet"),
    "log": Strike("PUT", r"/_delta_log/0{19}[1-9]\.json"),
    "answer": Strike("PUT", r"/_delta_log/0{19}[1-9]\.json", answered=True),
}
"""Points at which a manifest commit can be interrupted: before the table is created, before its rows are written,
between rows and log, and after the log is written but before the client has the answer."""


class Relay:
    """Forwards requests to ``endpoint_url`` until one matches; then calls ``on_strike``."""

    def __init__(self, endpoint_url: str, strike: Strike, on_strike: Callable[[], None]) -> None:
        parts = urlsplit(endpoint_url)
        self._store = (str(parts.hostname), int(parts.port or 80))
        self._strike = strike
        self._on_strike = on_strike
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _address = self._listener.accept()
            store = socket.create_connection(self._store)
            answers = threading.Event()
            threading.Thread(target=self._requests, args=(client, store, answers), daemon=True).start()
            threading.Thread(target=self._answers, args=(store, client, answers), daemon=True).start()

    def _requests(self, client: socket.socket, store: socket.socket, struck: threading.Event) -> None:
        while chunk := client.recv(_CHUNK):
            if self._strike.is_asked_by(chunk):
                if not self._strike.answered:
                    self._on_strike()
                struck.set()
            store.sendall(chunk)
        store.shutdown(socket.SHUT_WR)

    def _answers(self, store: socket.socket, client: socket.socket, struck: threading.Event) -> None:
        while chunk := store.recv(_CHUNK):
            if struck.is_set():
                self._on_strike()
            client.sendall(chunk)
