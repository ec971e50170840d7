"""Prometheus and vmagent as real processes, which receive OTLP and answer queries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lakehouse_assets.embedded.ports import reserve_block
from lakehouse_assets.loopback import LOOPBACK
from lakehouse_assets.process import spawn_tethered
from lakehouse_assets_tests.paths import DEPLOY

# Read on import, since tests run without the variables of this project.
_FOLDER = os.environ.get("LAKEHOUSE_TEST_SERVERS", "")
_REQUIRED = os.environ.get("LAKEHOUSE_TEST_REQUIRE_SERVERS") == "1"

AGGREGATION = DEPLOY / "telemetry/vmagent-aggregation.yaml"
DEADLINE_SECONDS = 20.0


def program(name: str) -> str:
    """The path of a server's program. If it is missing, the test is skipped, or fails where servers are required."""
    path = shutil.which(name, path=os.pathsep.join([_FOLDER, os.environ["PATH"]]))
    if path is None:
        reason = f"{name} is not installed; for this test: export LAKEHOUSE_TEST_SERVERS=$(.ci/servers)"
        if _REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@dataclass(frozen=True)
class Backend:
    """``endpoint`` receives OTLP metrics; :meth:`query` queries Prometheus."""

    endpoint: str
    prometheus: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process that sends its metrics here, and sends nothing else."""
        return {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": self.endpoint}

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression; AssertionError if Prometheus rejects it."""
        address = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        result = body["data"]["result"]
        if body["data"]["resultType"] == "scalar":
            return [{"metric": {}, "value": result}]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Every rule in Prometheus, evaluated at least once."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            with urllib.request.urlopen(f"{self.prometheus}/api/v1/rules", timeout=30) as answer:
                groups = json.load(answer)["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            if all(rule["health"] != "unknown" for rule in rules) or time.monotonic() > deadline:
                return rules
            time.sleep(0.2)

    def value(self, expression: str) -> float | None:
        """The one value of an expression; None without data."""
        rows = self.query(expression)
        assert len(rows) <= 1, f"{expression} has {len(rows)} results"
        return float(rows[0]["value"][1]) if rows else None

    def until(self, expression: str, holds: Callable[[float | None], bool]) -> float | None:
        """Query until ``holds`` accepts the value or time is up; returns the last value."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not holds(value := self.value(expression)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return value


@contextmanager
def backend(folder: Path, *, rules: Sequence[Path] = (), alertmanager: str | None = None) -> Iterator[Backend]:
    """vmagent in front of Prometheus on loopback, stopped at the end of the block. ``alertmanager`` is host:port."""
    prometheus, vmagent = program("prometheus"), program("vmagent")
    configuration: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
    }
    if alertmanager:
        configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps(configuration))
    aggregation = folder / "aggregation.yaml"
    aggregation.write_text(AGGREGATION.read_text().replace("interval: 5s", "interval: 1s"))
    with ExitStack() as running:
        block = reserve_block()
        running.callback(block.release)
        store, agent = (f"{LOOPBACK}:{port}" for port in block.ports[:2])
        running.enter_context(
            _server(
                [
                    prometheus,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address={store}",
                    "--web.enable-remote-write-receiver",
                ],
                f"http://{store}/-/ready",
                folder / "prometheus.log",
            )
        )
        running.enter_context(
            _server(
                [
                    vmagent,
                    f"-httpListenAddr={agent}",
                    f"-remoteWrite.url=http://{store}/api/v1/write",
                    f"-remoteWrite.tmpDataPath={folder / 'queue'}",
                    "-remoteWrite.forcePromProto",
                    "-remoteWrite.flushInterval=200ms",
                    f"-remoteWrite.streamAggr.config={aggregation}",
                    "-opentelemetry.usePrometheusNaming",
                ],
                f"http://{agent}/health",
                folder / "vmagent.log",
            )
        )
        yield Backend(f"http://{agent}/opentelemetry/v1/metrics", f"http://{store}")


@contextmanager
def _server(argv: list[str], ready: str, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = spawn_tethered(argv, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait(process, ready, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(ready, timeout=5):
                return
        except (OSError, urllib.error.HTTPError):
            time.sleep(0.1)
    raise AssertionError(f"{ready} does not answer: {log.read_text()[-2000:]}")
