"""Real receivers of notifications on loopback: an SMTP server, a webhook, Debian's Alertmanager."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from lakehouse_assets.process import spawn_tethered
from lakehouse_assets_tests.observability.servers import program

BINARY = "prometheus-alertmanager"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Webhook:
    """Answers every POST with ``status``, and keeps its path and document."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[str, Any]] = []

    @contextmanager
    def running(self) -> Iterator[Webhook]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.status == 200:
                    outer.received.append((self.path, json.loads(body)))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            yield self
            server.shutdown()

    @property
    def titles(self) -> list[str]:
        return [document["title"] for _, document in self.received]


class Mailbox:
    """An SMTP server on loopback that keeps the mails it accepts."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients.append(envelope.rcpt_tos)
        return "250 OK"

    @contextmanager
    def running(self) -> Iterator[Mailbox]:
        self.port = free_port()
        controller = Controller(self, hostname="127.0.0.1", port=self.port)
        controller.start()
        try:
            yield self
        finally:
            controller.stop()


@contextmanager
def alertmanager(home: Path, webhook: Webhook, mailbox: Mailbox) -> Iterator[str]:
    """The URL of an Alertmanager that groups by exchange and sends to both receivers at once."""
    binary = program(BINARY)
    port = free_port()
    config = home / "alertmanager.yml"
    config.write_text(
        f"""\
route: {{receiver: all, group_by: [exchange], group_wait: 100ms, group_interval: 200ms, repeat_interval: 1h}}
receivers:
  - name: all
    webhook_configs: [{{url: "http://127.0.0.1:{webhook.port}/alerts", send_resolved: true}}]
    email_configs:
      - {{to: oncall@example.org, from: am@example.org, smarthost: "127.0.0.1:{mailbox.port}", require_tls: false}}
""",
        encoding="utf-8",
    )
    with (home / "alertmanager.log").open("wb") as log:
        process = spawn_tethered(
            [
                binary,
                f"--config.file={config}",
                f"--storage.path={home / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(lambda: _is_ready(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
