"""``lakehouse doctor``: check the set-up, and say how to fix what is wrong."""

from __future__ import annotations

import difflib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_settings import BaseSettings
from rich.markup import escape

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.matrix import ArchiveMatrix, load_matrix
from lakehouse_assets.cli import output
from lakehouse_assets.errors import InputError, LakehouseError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.health import Health, HealthFinding
from lakehouse_assets.settings import PREFIX, Settings, load_settings, variables
from lakehouse_assets.sync.movers import s5cmd
from lakehouse_assets.sync.movers.diagnostics import check_lake, check_records, check_source

PACKAGES = ("lakehouse-assets", "dagster", "boto3", "obstore", "deltalake", "polars")
OTHER_VARIABLES = {"LAKEHOUSE_DEBUG"}
MASK = "********"
ENDPOINTS_NOT_READ = (
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_S3_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "S3_ENDPOINT_URL",
)
"""Some clients would take their endpoint from these, and look for the exchanges' buckets there too."""

_MARKS = {Health.OK: "[green]ok[/]", Health.NOTE: "note", Health.WARNING: "[yellow]warning[/]"}
_MARKS[Health.ERROR] = "[bold red]ERROR[/]"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in force; secrets are masked. ``source`` is ``environment`` or ``default``."""

    name: str
    value: str
    source: str


def run_doctor(exchanges: str | None, *, as_json: bool) -> int:
    """Run all checks and print their findings. Returns 1 if any is an error. Raises InputError."""
    wanted = _exchanges(exchanges)
    with output.stderr().status("Checking settings, lake and sources"):
        settings, findings = _examine(wanted)
    ok = all(finding.health is not Health.ERROR for finding in findings)
    if as_json:
        output.print_json(
            {
                "ok": ok,
                "settings": [asdict(setting) for setting in settings],
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        _print(settings, findings)
    return 0 if ok else 1


def _exchanges(text: str | None) -> set[str] | None:
    if text is None:
        return None
    wanted = {name.strip() for name in text.split(",")}
    if unknown := sorted(wanted - set(EXCHANGES)):
        raise InputError(f"Unknown exchange: {', '.join(unknown)}. Known: {', '.join(EXCHANGES)}.")
    return wanted


def _examine(wanted: set[str] | None) -> tuple[list[Setting], list[HealthFinding]]:
    findings = [*_versions(), *_unknown_variables(os.environ)]
    try:
        settings = load_settings()
    except InputError as error:
        return [], [*findings, HealthFinding("settings", Health.ERROR, str(error), "correct these variables")]
    shown = list(settings_in_force(settings, os.environ))
    findings += _scratch(settings)
    findings += _telemetry(os.environ)
    findings += _dagster(os.environ)
    findings += _endpoints_not_read(os.environ)
    matrix: ArchiveMatrix | None = None
    try:
        matrix = load_matrix(settings.matrix)
        place = settings.matrix or "packaged matrix; set LAKEHOUSE_MATRIX to use your own"
        findings.append(HealthFinding("matrix", Health.OK, f"{len(matrix.entries)} datasets: {place}"))
    except LakehouseError as error:
        findings.append(HealthFinding("matrix", Health.ERROR, str(error)))
    lake: Lake | None = None
    try:
        lake = settings.lake.lake()
        findings.append(_identity(lake))
        lake_findings = list(check_lake(lake))
        findings += lake_findings
        if any(finding.health is Health.ERROR for finding in lake_findings):
            lake = None
        elif matrix is not None:
            findings += check_records(lake, [entry.dataset for entry in matrix.entries])
    except LakehouseError as error:
        findings.append(HealthFinding("lake", Health.ERROR, str(error)))
    if matrix is not None:
        findings += _sources(settings, matrix, lake, wanted)
    return shown, findings


def settings_in_force(settings: BaseSettings, environment: Mapping[str, str]) -> Iterator[Setting]:
    """Every setting of every group, named by its variable."""
    prefix = str(type(settings).model_config.get("env_prefix"))
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseSettings):
            yield from settings_in_force(value, environment)
            continue
        variable = f"{prefix}{name}".upper()
        source = "environment" if environment.get(variable) else "default"
        yield Setting(variable, _shown(value), source)


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return MASK
    return "" if value is None else str(value)


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[HealthFinding]:
    names = set(variables(Settings)) | OTHER_VARIABLES
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in names or name.startswith(f"{PREFIX}TEST_"):
            continue
        similar = difflib.get_close_matches(name, names, n=1)
        yield HealthFinding(
            f"settings: {name}",
            Health.WARNING,
            "unknown setting; it is ignored",
            f"did you mean {similar[0]}?" if similar else "see deploy/docs",
        )


def _versions() -> Iterator[HealthFinding]:
    names = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield HealthFinding("versions", Health.OK, f"Python {platform.python_version()}, {names}")
    try:
        yield HealthFinding("s5cmd", Health.OK, f"{s5cmd.version()}, {s5cmd.executable()}")
    except InputError as error:
        yield HealthFinding("s5cmd", Health.ERROR, str(error), "direct and staged copies need it")


def _endpoints_not_read(environment: Mapping[str, str]) -> Iterator[HealthFinding]:
    for name in ENDPOINTS_NOT_READ:
        if environment.get(name):
            yield HealthFinding(
                f"settings: {name}",
                Health.NOTE,
                "is set but ignored: every client is given its endpoint explicitly",
                "if it is meant for the lake, set LAKEHOUSE_LAKE_ENDPOINT_URL",
            )


def _scratch(settings: Settings) -> Iterator[HealthFinding]:
    folder = settings.sync.scratch_dir or Path(tempfile.gettempdir())
    try:
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield HealthFinding("scratch", Health.WARNING, f"{folder}: {error.strerror}", "staged copies are not possible")
        return
    enough = free >= settings.sync.scratch_bytes
    yield HealthFinding(
        "scratch",
        Health.OK if enough else Health.WARNING,
        f"{output.size(free)} free in {folder}",
        ""
        if enough
        else f"staged copies may need {output.size(settings.sync.scratch_bytes)}: free some space, or set "
        "LAKEHOUSE_SYNC_SCRATCH_DIR or LAKEHOUSE_SYNC_SCRATCH_BYTES",
    )


def _telemetry(environment: Mapping[str, str]) -> Iterator[HealthFinding]:
    endpoint = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        yield HealthFinding("telemetry", Health.NOTE, "off", "set OTEL_EXPORTER_OTLP_ENDPOINT to turn it on")
        return
    parts = urlsplit(endpoint)
    yield HealthFinding(
        "telemetry", Health.OK, f"exported to {parts.scheme}://{parts.hostname}:{parts.port or ''}".rstrip(":")
    )


def _dagster(environment: Mapping[str, str]) -> Iterator[HealthFinding]:
    home = environment.get("DAGSTER_HOME")
    if not home:
        yield HealthFinding("Dagster", Health.NOTE, "DAGSTER_HOME is not set", "lakehouse up uses its own instance")
        return
    import dagster as dg  # noqa: PLC0415 - takes two seconds

    try:
        with dg.DagsterInstance.get() as instance:
            runs = instance.get_runs_count()
            beats = instance.get_daemon_heartbeats()
            kind = type(instance.run_storage).__name__
            yield HealthFinding("Dagster", Health.OK, f"{kind} in {home}, {runs} runs")
            late = sorted(name for name, status in instance.get_daemon_statuses().items() if status.healthy is False)
    except Exception as error:  # noqa: BLE001 - an instance's storage may raise anything
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        yield HealthFinding(
            "Dagster", Health.ERROR, f"the instance in {home} cannot be used: {first_line}", "check its dagster.yaml"
        )
        return
    if not beats:
        yield HealthFinding("Dagster daemon", Health.NOTE, "never started", "sensors, schedules and backfills need it")
    elif late:
        yield HealthFinding(
            "Dagster daemon",
            Health.WARNING,
            f"no recent heartbeat from {', '.join(late)}",
            "start it: dagster-daemon run",
        )
    else:
        yield HealthFinding("Dagster daemon", Health.OK, "running")


def _identity(lake: Lake) -> HealthFinding:
    bucket = lake.bucket
    where = f"{lake.url()} at {bucket.endpoint}, region {bucket.effective_region}"
    if bucket.credentials is not None:
        return HealthFinding("lake", Health.OK, f"{where}; keys from LAKEHOUSE_LAKE_*")
    credentials = bucket.session().get_credentials()
    if credentials is None:
        return HealthFinding(
            "lake",
            Health.ERROR,
            f"{where}; no credentials",
            "set LAKEHOUSE_LAKE_ACCESS_KEY_ID and LAKEHOUSE_LAKE_SECRET_ACCESS_KEY, or configure the AWS default chain",
        )
    return HealthFinding("lake", Health.OK, f"{where}; credentials from the AWS default chain: {credentials.method}")


def _sources(
    settings: Settings, matrix: ArchiveMatrix, lake: Lake | None, wanted: set[str] | None
) -> list[HealthFinding]:
    """Check one dataset of each exchange, in parallel."""
    datasets = {}
    for entry in matrix.entries:
        if wanted is None or entry.dataset.exchange in wanted:
            datasets.setdefault(entry.dataset.exchange, entry.dataset)
    options = settings.sync.options(settings.lake.headers).transfer

    def check(dataset: Any) -> list[HealthFinding]:
        return list(check_source(dataset, settings.source.bucket(dataset.source), lake, options))

    with ThreadPoolExecutor(max(1, len(datasets))) as pool:
        return [finding for findings in pool.map(check, datasets.values()) for finding in findings]


def _print(settings: Sequence[Setting], findings: Sequence[HealthFinding]) -> None:
    console = output.stdout()
    shown = output.table("Settings from the environment; all others have their defaults", ["variable", "value"])
    for setting in settings:
        if setting.source == "environment":
            shown.add_row(setting.name, escape(setting.value))
    if shown.row_count:
        console.print(shown)
    table = output.table("", ["check", "", "finding", "what to do"])
    for finding in findings:
        table.add_row(escape(finding.about), _MARKS[finding.health], escape(finding.found), escape(finding.advice))
    console.print(table)
    errors = sum(finding.health is Health.ERROR for finding in findings)
    warnings = sum(finding.health is Health.WARNING for finding in findings)
    console.print(f"{errors} errors, {warnings} warnings.")
