"""The folder of ``lakehouse up``: Dagster's home, the embedded store, logs, and a lock."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lakehouse_assets.errors import InputError

LOCATION = "lakehouse"
"""Name of the code location. Dagster stores run history and sensor state under this name."""

_LONGEST_SOCKET = 100
"""Bytes of a socket's path; the kernel allows 107."""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below an absolute ``root``."""

    root: Path

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME.

        It is not ``root``, because Dagster's telemetry uploader moves and sends every file in $DAGSTER_HOME/logs, even
        with telemetry disabled (dagster 1.13.27).
        """
        return self.root / "dagster"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def workspace(self) -> Path:
        return self.root / "workspace.yaml"

    @property
    def code_socket(self) -> Path:
        """The code server's socket. Unlike a port, it is closed to other users of the machine."""
        return self.root / "code.sock"


@contextmanager
def open_home(folder: Path) -> Generator[Home]:
    """Create the folder if needed, lock it, and write Dagster's configuration into it.

    Raises InputError if another process has locked it, or if it cannot be used.
    """
    root = folder.expanduser().resolve()
    home = Home(root)
    if len(os.fsencode(home.code_socket)) > _LONGEST_SOCKET:
        raise InputError(f"The path {root} is too long for a Unix socket; choose a shorter --home.")
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for subfolder in (home.logs, home.dagster):
            subfolder.mkdir(exist_ok=True)
        lock = (root / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"The folder {root} cannot be used: {error.strerror}; choose another --home.") from error
    with lock:
        _take(lock.fileno(), root)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        _write_configuration(home)
        yield home


def _take(lock: int, root: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = (root / "lock").read_text(encoding="utf-8").strip()
        raise InputError(
            f"Another `lakehouse up` (process {owner or 'unknown'}) uses {root}; stop it, or choose another --home."
        ) from None


def instance_configuration() -> str:
    """The packaged dagster.yaml. Its first line marks files that `lakehouse up` may overwrite."""
    return resources.files(__package__ or "").joinpath("dagster.yaml").read_text(encoding="utf-8")


def _write_configuration(home: Home) -> None:
    wanted = instance_configuration()
    mark = wanted.splitlines()[0]
    path = home.dagster / "dagster.yaml"
    if not path.exists() or mark in path.read_text(encoding="utf-8").splitlines():
        path.write_text(wanted, encoding="utf-8")
    # JSON is valid YAML and quotes any path.
    server = {"socket": str(home.code_socket), "location_name": LOCATION}
    home.workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}) + "\n", encoding="utf-8")
    home.code_socket.unlink(missing_ok=True)
