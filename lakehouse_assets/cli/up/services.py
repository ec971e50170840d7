"""Long-running child processes, started, watched and stopped as one group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.process import spawn_tethered

END_SECONDS = 10.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 20

# Owns the process group, and kills it when its standard input ends, that is, when this process has ended for any
# reason. A tether kills only direct children; this also kills their children.
_WATCHDOG = """\
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.buffer.read()
os.killpg(0, signal.SIGKILL)
"""


class ServiceError(LakehouseError):
    """A service exited unexpectedly, or did not become ready."""


@dataclass(frozen=True, slots=True)
class Service:
    """One running child and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class ServiceGroup:
    """Services that end with the ``with`` block, and with this process even if it is killed.

    Their children end too, since all are in one process group. `check` raises an error if a service has exited. Each
    start writes a new log; the previous one is kept as ``.log.1``.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._services: list[Service] = []
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # A separate process group: Ctrl-C in a terminal reaches only this process, which then stops the others.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WATCHDOG], stdin=subprocess.PIPE, process_group=0
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> Service:
        """Start a service whose output goes to its log."""
        if self._watchdog is None:
            raise ServiceError(f"{name} cannot be started outside the group's with block.")
        log = self._logs / f"{name.replace(' ', '_')}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("wb") as output:
            process = spawn_tethered(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                process_group=self._watchdog.pid,
            )
        service = Service(name, process, log)
        self._services.append(service)
        return service

    def check(self) -> None:
        """Raise ServiceError, with the end of its log, if a service has exited."""
        for service in self._services:
            status = service.process.poll()
            if status is not None:
                how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
                raise ServiceError(f"The {service.name} {how}. {end_of(service.log)}")

    def _end(self) -> None:
        """Terminate the group, then kill the processes that remain."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is None:
            return
        # The group id is not reused before the watchdog is reaped, so the signal cannot reach other processes.
        _signal_group(watchdog.pid, signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline and any(service.process.poll() is None for service in self._services):
            time.sleep(POLL_SECONDS)
        _signal_group(watchdog.pid, signal.SIGKILL)
        for process in (*(service.process for service in self._services), watchdog):
            process.wait()
        if watchdog.stdin is not None:
            watchdog.stdin.close()
        self._services.clear()


def end_of(log: Path) -> str:
    """The last lines of a log, below its path."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return f"The end of {log}:\n" + ("\n".join(lines[-LOG_TAIL_LINES:]) or "(empty)")


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # all have exited
