"""Runs the `lakehouse` command in an almost empty environment: in this process, or as a separate one."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from unittest import mock

import pytest
from typer.main import get_command

from lakehouse_assets.cli.main import app
from lakehouse_assets.embedded.samples.archive import sample_files, upload
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.observability.telemetry.metrics import SCOPE
from lakehouse_assets_tests.paths import SAMPLES as SAMPLES_ROOT
from lakehouse_assets_tests.world import lake_settings

LAKEHOUSE = Path(sys.executable).parent / "lakehouse"
SAMPLES = SAMPLES_ROOT / "binance" / "verbatim"

Result = subprocess.CompletedProcess[str]
RunLakehouse = Callable[..., Result]


def clean_environment(tmp_path: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A PATH without this environment's programs, and folders that tests can inspect."""
    home = tmp_path / "user_home"
    temporary = tmp_path / "tmp"
    for folder in (home, temporary):
        folder.mkdir(exist_ok=True)
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(temporary), **(more or {})}


@pytest.fixture
def run_process(tmp_path: Path) -> RunLakehouse:
    """A separate process, for what a process alone shows: its start, its end and what it leaves. It takes a second."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
        return subprocess.run(
            [str(LAKEHOUSE), *arguments],
            env=clean_environment(tmp_path, env),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture
def run_lakehouse(tmp_path: Path) -> RunLakehouse:
    """The same within this process: the same environment, folder, output and status."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        with (
            _handlers_kept(),
            mock.patch.dict(os.environ, clean_environment(tmp_path, env), clear=True),
            mock.patch.object(tempfile, "tempdir", None),
            contextlib.chdir(tmp_path),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            get_command(app).main(list(arguments), prog_name="lakehouse")
        texts = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), *texts)

    return run


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Afterwards, the package's logger and the handler of SIGTERM are as they were."""
    logger = logging.getLogger(SCOPE)
    handlers, level, terminate = list(logger.handlers), logger.level, signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        logger.handlers = handlers
        logger.setLevel(level)
        signal.signal(signal.SIGTERM, terminate)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes_naming(text: str) -> set[int]:
    """Running processes, except this one, whose command line or environment contains the text."""
    pids = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            content = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in content and is_running(int(entry.name)):
            pids.add(int(entry.name))
    return pids


SYMBOLS = ("CLIAUSDT", "CLIBUSDT")
FIRST, LAST = date(2024, 1, 1), date(2024, 1, 3)
MATRIX = """
datasets:
  - {dataset: binance/um/klines/daily, intervals: [1m, 1h], symbols: {include: ["CLI*"]}}
  - {dataset: binance/um/bookTicker/daily}
"""


def publish(store: EmbeddedStore) -> None:
    files = sample_files("um", "klines", "daily", symbols=SYMBOLS, intervals=["1m", "1h"], first=FIRST, last=LAST)
    upload(store.admin_bucket("data.binance.vision"), files)


@pytest.fixture(scope="session")
def published(store: EmbeddedStore) -> None:
    """Three days of two symbols that other tests do not use."""
    publish(store)


@pytest.fixture
def environment(store: EmbeddedStore, published: None, tmp_path: Path) -> dict[str, str]:
    """Settings of a lake for this test only."""
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(MATRIX)
    return {
        **lake_settings(store, f"cli/{tmp_path.name}"),
        "LAKEHOUSE_MATRIX": str(matrix),
    }
