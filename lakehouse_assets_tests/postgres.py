"""A real Postgres on loopback for Dagster's database: a new cluster in a temporary folder, stopped after the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from lakehouse_assets.embedded.ports import reserve_block
from lakehouse_assets.loopback import LOOPBACK
from lakehouse_assets.process import spawn_tethered

# Read on import, since tests do not see variables of this project.
_REQUIRED = os.environ.get("LAKEHOUSE_TEST_REQUIRE_SERVERS") == "1"
_DEBIAN = Path("/usr/lib/postgresql")
_UNPRIVILEGED = "nobody"
START_SECONDS = 60.0
USER = "dagster"


@dataclass(frozen=True)
class Postgres:
    """A server that trusts every client on loopback."""

    port: int

    def new_database(self, template: str = "template1") -> str:
        """Create a copy of a database that has no connections, by default an empty one; returns its name."""
        name = f"d{uuid.uuid4().hex[:12]}"
        # Without the log of each file's contents, which would be for a replica.
        self.execute("postgres", f"create database {name} template {template} strategy file_copy")
        return name

    def execute(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(host=LOOPBACK, port=self.port, user=USER, dbname=database)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def variables(self, database: str) -> dict[str, str]:
        """Environment variables for a dagster.yaml that reads them, as the deployed one does."""
        return {
            "DAGSTER_PG_HOST": LOOPBACK,
            "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_DB": database,
            "DAGSTER_PG_USERNAME": USER,
            "DAGSTER_PG_PASSWORD": "trusted",
            "PGSSLMODE": "disable",
        }


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Without Postgres, skips the test, or fails it if servers are required."""
    programs = _programs()
    # Not pytest's own folder: Postgres refuses to run as root, and another user cannot enter that folder.
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-postgres-"))
    block = reserve_block()
    try:
        identity = _identity(folder)
        new = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run([*identity, *new], check=True, capture_output=True, cwd=folder)
        port = block.ports[0]
        argv = [*identity, str(programs / "postgres"), "-D", str(folder / "data"), "-h", LOOPBACK, "-p", str(port)]
        # The cluster is temporary, so nothing needs to reach the disk.
        argv += ["-k", str(folder), "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=100"]
        with (folder / "log").open("wb") as log:
            process = spawn_tethered(argv, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            server = Postgres(port)
            _wait(server, process, folder / "log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        block.release()
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """The newest Postgres of Debian's packages, else the one on PATH."""
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    how = "Postgres is not installed; for this test: apt-get install postgresql"
    if _REQUIRED:
        pytest.fail(how)
    pytest.skip(how)


def _identity(folder: Path) -> list[str]:
    """Postgres does not run as root, so root's tests run it as another user, who owns the folder."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_UNPRIVILEGED)
    os.chown(folder, user.pw_uid, user.pw_gid)
    # A change of user removes the tether, hence --pdeathsig. With SIGINT, Postgres shuts down fast and cleanly.
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=INT", "--"]


def _wait(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            server.execute("postgres", "select 1")
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.1)
        else:
            return
