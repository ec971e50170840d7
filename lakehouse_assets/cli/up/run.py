"""``lakehouse up``: Dagster's webserver, daemon and code server on loopback, with a lake."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.markup import escape

from lakehouse_assets.archive.matrix import ArchiveMatrix, load_matrix
from lakehouse_assets.cli import output
from lakehouse_assets.cli.up.home import LOCATION, Home, open_home
from lakehouse_assets.cli.up.loopback import keep_to_loopback
from lakehouse_assets.cli.up.services import ServiceError, ServiceGroup, end_of
from lakehouse_assets.cli.up.webserver import ServiceState, Webserver
from lakehouse_assets.embedded.ports import is_free
from lakehouse_assets.errors import InputError
from lakehouse_assets.loopback import LOOPBACK
from lakehouse_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from lakehouse_assets.embedded.seaweedfs import EmbeddedStore

READY_SECONDS = 180.0
POLL_SECONDS = 0.2
WATCH_SECONDS = 0.5
CODE = "lakehouse_assets.definitions"
_SENSORS = "LAKEHOUSE_SENSORS_RUNNING"
"""Unlike in other deployments, sensors run unless the variable says otherwise."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_up(*, port: int, home: Path) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns 0. Raises InputError, and ServiceError if a service exits by itself."""
    settings = load_settings()
    matrix = load_matrix(settings.matrix)
    if settings.lake.bucket is not None:
        settings.lake.lake()  # raises InputError before anything starts
    for number in _SIGNALS:
        signal.signal(number, _stop)
    try:
        with ExitStack() as stack:
            opened = stack.enter_context(open_home(home))
            if not is_free(port):
                raise InputError(f"Port {port} is taken; choose another with --port.")
            try:
                _Up(stack, opened, port, settings, matrix).serve()
            except KeyboardInterrupt:
                _say("Stopping ...")
    except KeyboardInterrupt:
        pass  # while opening the folder
    return 0


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """Ignore further signals: stopping takes only seconds and must not be interrupted."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


class _Up:
    """One ``lakehouse up``. ``stack`` stops everything that it starts, in reverse order."""

    def __init__(self, stack: ExitStack, home: Home, port: int, settings: Settings, matrix: ArchiveMatrix) -> None:
        self._stack = stack
        self._home = home
        self._port = port
        self._settings = settings
        self._matrix = matrix
        self._store: EmbeddedStore | None = None
        self._facts: list[tuple[str, str]] = [("Dagster UI", f"http://{LOOPBACK}:{port}")]

    def serve(self) -> None:
        environment = self._lake() | {"DAGSTER_HOME": str(self._home.dagster)}
        # An empty variable counts as unset.
        environment[_SENSORS] = environment.get(_SENSORS) or "true"
        _say("Starting Dagster ...")
        services = self._stack.enter_context(ServiceGroup(self._home.logs))
        self._start_services(services, environment)
        webserver = Webserver(f"http://{LOOPBACK}:{self._port}")
        state = _wait_until_ready(services, webserver)
        self._facts.append(("Sensors", _sensor_states(state)))
        for name, value in self._facts:
            _say(f"{name:<15} {value}")
        _say(f"Logs are in {self._home.logs}. Stop with Ctrl-C.")
        while True:
            services.check()
            if self._store is not None and self._store.pid is None:
                raise ServiceError(f"The embedded store exited. {end_of(self._home.store / 'log' / 'weed.INFO')}")
            time.sleep(WATCH_SECONDS)

    def _lake(self) -> dict[str, str]:
        """The services' environment; starts the embedded store if no lake is configured."""
        if self._settings.lake.bucket is not None:
            self._facts.append(("Lake", self._settings.lake.url))
            return dict(os.environ)
        # Imported only if no lake is configured, since it needs the extra `embedded`.
        from lakehouse_assets.cli.up.embedded_lake import (  # noqa: PLC0415
            embedded_environment,
            publish_samples,
            source_buckets,
        )
        from lakehouse_assets.embedded.seaweedfs import EmbeddedStore  # noqa: PLC0415

        keep_to_loopback()
        _say("No lake is configured (LAKEHOUSE_LAKE_BUCKET): starting an embedded one ...")
        store = self._store = self._stack.enter_context(
            EmbeddedStore(self._home.store, source_buckets=source_buckets(self._matrix))
        )
        record = self._home.store / "sample_archive.json"
        if not record.exists():
            _say("Publishing a sample archive ...")
        samples = publish_samples(store, self._matrix, record, datetime.now(UTC).date())
        self._facts += [
            ("Lake", f"embedded, kept in {self._home.store}, served at {store.endpoint_url}"),
            ("Sample archive", f"{samples} (generated; no request goes to an exchange)"),
        ]
        return embedded_environment(store, os.environ)

    def _sweep(self) -> None:
        from lakehouse_assets.cli.up.orphans import sweep_orphans  # noqa: PLC0415 - imports Dagster

        swept = sweep_orphans(self._home.dagster)
        if swept:
            self._facts.append(
                ("Swept", f"{swept} runs that were in progress when `lakehouse up` last ended were marked as failed")
            )

    def _start_services(self, services: ServiceGroup, environment: dict[str, str]) -> None:
        # -P: a folder called dagster in the working directory must not shadow the package.
        python = [sys.executable, "-P", "-m"]
        workspace = ["-w", str(self._home.workspace)]
        socket = str(self._home.code_socket)
        # Before any service: this creates the databases, and two processes creating them at once damage them.
        self._sweep()
        services.start(
            "code server",
            [*python, "dagster", "code-server", "start", "-m", CODE, "--socket", socket, "--location-name", LOCATION],
            environment,
        )
        _wait_for_socket(services, self._home.code_socket)
        services.start(
            "webserver",
            [*python, "dagster_webserver", "-h", LOOPBACK, "-p", str(self._port), *workspace],
            environment,
        )
        from lakehouse_assets.orchestration.dagster_internals import DAEMON_MODULE  # noqa: PLC0415 - imports Dagster

        services.start("daemon", [*python, DAEMON_MODULE, "run", *workspace], environment)


def _sensor_states(state: ServiceState) -> str:
    words = (f"{sensor.name} {'running' if sensor.running else 'stopped'}" for sensor in state.sensors)
    return ", ".join(words) or "none"


def _wait_for_socket(services: ServiceGroup, socket: Path) -> None:
    """Wait for the code server, since the other services look for it only when they start."""
    from lakehouse_assets.orchestration.dagster_internals import is_code_server_serving  # noqa: PLC0415

    deadline = time.monotonic() + READY_SECONDS
    while not is_code_server_serving(socket):
        services.check()
        if time.monotonic() > deadline:
            raise ServiceError(f"The code server did not answer within {READY_SECONDS:.0f} s.")
        time.sleep(POLL_SECONDS)


def _wait_until_ready(services: ServiceGroup, webserver: Webserver) -> ServiceState:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        services.check()
        state = webserver.state()
        if state.load_error:
            raise ServiceError(f"The code location cannot be loaded: {state.load_error.strip()}")
        if state.waiting_for is None:
            return state
        if time.monotonic() > deadline:
            raise ServiceError(f"Not ready after {READY_SECONDS:.0f} s: still waiting for {state.waiting_for}.")
        time.sleep(POLL_SECONDS)


def _say(line: str) -> None:
    output.stdout().print(escape(line), soft_wrap=True)
