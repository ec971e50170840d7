"""Long-running child processes: one group, started, watched and ended together."""

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

# Holds the group's id as long as it lives, and kills the group when its standard input ends:
# that is when this process is gone, however it went. The tether reaches children, this also theirs.
_WATCHDOG = """\
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.buffer.read()
os.killpg(0, signal.SIGKILL)
"""


class ServiceError(LakehouseError):
    """A service ended by itself, or did not become ready."""


@dataclass(frozen=True, slots=True)
class Service:
    """One running child and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class ServiceGroup:
    """Services that end with the ``with`` block, and with this process even when it is killed.

    Their own children end too: all are of one process group. A service ended before its block
    did is raised by `check`. Logs are new with every start; the one before is kept as ``.log.1``.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._services: list[Service] = []
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # Its own group: Ctrl-C in a terminal reaches this process alone, which ends the others in order.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WATCHDOG], stdin=subprocess.PIPE, process_group=0
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> Service:
        """Start a service; what it prints goes to its log."""
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
        """Raise ServiceError, with the end of its log, when a service has ended."""
        for service in self._services:
            status = service.process.poll()
            if status is not None:
                how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
                raise ServiceError(f"The {service.name} {how}. {end_of(service.log)}")

    def _end(self) -> None:
        """Ask the group to end, then kill what is left of it."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is None:
            return
        # The group's id stays taken until the watchdog is waited for, so no stranger is hit.
        _signal_group(watchdog.pid, signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline and any(each.process.poll() is None for each in self._services):
            time.sleep(POLL_SECONDS)
        _signal_group(watchdog.pid, signal.SIGKILL)
        for process in (*(each.process for each in self._services), watchdog):
            process.wait()
        if watchdog.stdin is not None:
            watchdog.stdin.close()
        self._services.clear()


def end_of(log: Path) -> str:
    """The last lines of a log, introduced by its name."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return f"The end of {log}:\n" + ("\n".join(lines[-LOG_TAIL_LINES:]) or "(empty)")


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # all gone
