"""The code location: what it defines, what it needs to load, and its error messages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_shared.serdes import serialize_value
from pydantic import SecretStr

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.matrix import load_matrix
from lakehouse_assets.definitions import defs
from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.archives.source import SOURCE, source_key
from lakehouse_assets.orchestration.resources import LakeResource
from lakehouse_assets.settings import (
    DiscoverySettings,
    KeyId,
    LakeSettings,
    Profile,
    SecretKey,
    SourceSettings,
    SpendingSettings,
    SyncSettings,
    Token,
    Word,
    load_settings,
)
from lakehouse_assets_tests.dagster_internals import RepositorySnap
from lakehouse_assets_tests.paths import ROOT

GROUPS = {
    "binance/spot/klines/daily": "binance/spot",
    "binance/um/klines/daily": "binance/um",
    "binance/um/klines/monthly": "binance/um",
    "binance/um/fundingRate/monthly": "binance/um",
    "binance/um/metrics/daily": "binance/um",
    "binance/cm/klines/daily": "binance/cm",
    "binance/cm/aggTrades/daily": "binance/cm",
}
"""Archive assets of the packaged matrix. Renaming one orphans its history: change this only on purpose."""

MATRIX = """\
datasets:
  - {dataset: binance/um/metrics/daily, first_period: 2024-01-01}
  - {dataset: binance/um/fundingRate/monthly, first_period: 2024-01}
  - {dataset: binance/option/EOHSummary/daily}
"""


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("The code location opened a network connection.")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "matrix.yaml"
    path.write_text(MATRIX, encoding="utf-8")
    monkeypatch.setenv("LAKEHOUSE_MATRIX", str(path))
    return path


def load() -> dg.Definitions:
    made = defs()
    assert isinstance(made, dg.Definitions)
    return made


def archive_nodes(made: dg.Definitions) -> dict[str, Any]:
    """Nodes of the archive assets, whose keys are the datasets' names."""
    graph = made.resolve_asset_graph()
    return {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys() if _is_dataset(key)}


def _is_dataset(key: dg.AssetKey) -> bool:
    return key.path[-1] in {"daily", "monthly"}


# Loading


@pytest.mark.usefixtures("no_network")
def test_definitions_load_without_settings_and_without_a_network() -> None:
    dg.Definitions.validate_loadable(load())


def test_dagster_validates_the_workspace_in_an_empty_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "dagster"), "definitions", "validate", "-w", "workspace.yaml"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "lakehouse" in done.stderr + done.stdout


# What is defined


def test_the_packaged_matrix_defines_these_assets() -> None:
    assert {name: node.group_name for name, node in archive_nodes(load()).items()} == GROUPS


def test_there_is_one_archive_asset_per_entry_of_the_matrix() -> None:
    assert set(archive_nodes(load())) == {entry.dataset.name for entry in load_matrix().entries}


def test_every_exchange_has_one_source_upstream_of_its_archives_and_of_its_catalog() -> None:
    graph = load().resolve_asset_graph()
    sources = {source_key(name) for name in EXCHANGES}
    assert {key for key in graph.get_all_asset_keys() if graph.get(key).is_external} == sources
    for name, node in archive_nodes(load()).items():
        assert node.parent_keys == {source_key("binance")}, name
    for name in EXCHANGES:
        assert graph.get(dg.AssetKey(["catalog", name])).parent_keys == {source_key(name)}


def test_no_dataset_has_the_name_of_a_source() -> None:
    markets = {publication.market for exchange in EXCHANGES.values() for publication in exchange.publications}
    assert SOURCE not in markets


def test_no_check_of_an_archive_is_partitioned() -> None:
    graph = load().resolve_asset_graph()
    for name, node in archive_nodes(load()).items():
        checks = {check.name: graph.get(check).partitions_def for check in node.check_keys}
        assert checks == {"complete": None, "expected": None, "published": None}, name


@pytest.mark.usefixtures("matrix")
def test_partitions_are_the_periods_that_the_exchange_publishes() -> None:
    nodes = archive_nodes(load())
    daily, monthly, ended = (
        nodes[name].partitions_def
        for name in (
            "binance/um/metrics/daily",
            "binance/um/fundingRate/monthly",
            "binance/option/EOHSummary/daily",
        )
    )
    assert daily.get_first_partition_key() == "2024-01-01"
    assert monthly.get_first_partition_key() == "2024-01"
    assert ended.get_last_partition_key() == "2023-10-23"
    assert {partitions.timezone for partitions in (daily, monthly, ended)} == {"UTC"}


@pytest.mark.usefixtures("matrix")
def test_another_matrix_defines_other_assets() -> None:
    assert set(archive_nodes(load())) == {
        "binance/um/metrics/daily",
        "binance/um/fundingRate/monthly",
        "binance/option/EOHSummary/daily",
    }


def test_there_is_one_discovery_sensor_per_exchange_and_it_is_off_until_started() -> None:
    sensors = [sensor for sensor in load().sensors or [] if sensor.name.endswith("_discovery")]
    assert [(sensor.name, sensor.default_status) for sensor in sensors] == [
        ("binance_discovery", dg.DefaultSensorStatus.STOPPED)
    ]


# Secrets


@pytest.mark.parametrize(("setting", "expected"), [("true", "RUNNING"), ("false", "STOPPED"), ("", "STOPPED")])
def test_sensors_run_by_default_if_the_setting_says_so(
    setting: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_SENSORS_RUNNING", setting)
    statuses = {sensor.name: sensor.default_status.value for sensor in defs().sensors or ()}
    assert statuses == {"binance_discovery": expected, "tables_follow": expected, "incidents": "RUNNING"}


# Dagster reads a deprecated property of every schedule.
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")
def test_secrets_are_named_in_the_definitions_but_not_written_there(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "LAKEHOUSE_LAKE_BUCKET": "the-lake",
        "LAKEHOUSE_LAKE_ACCESS_KEY_ID": "access-key-of-the-lake",
        "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": "secret-key-of-the-lake",
        "LAKEHOUSE_LAKE_SESSION_TOKEN": "session-token-of-the-lake",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    made = load()
    text = serialize_value(RepositorySnap.from_def(made.get_repository_def())) + repr(made) + repr(made.resources)
    for name, value in secrets.items():
        if name != "LAKEHOUSE_LAKE_BUCKET":  # it is in the assets' descriptions
            assert value not in text
            assert name in text


def test_resources_read_their_values_when_a_run_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BUCKET": "early", "ACCESS_KEY_ID": "early", "SECRET_ACCESS_KEY": "early"}.items():
        monkeypatch.setenv(f"LAKEHOUSE_LAKE_{name}", value)
    resources = load().resources
    for name, value in {"BUCKET": "late", "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key"}.items():
        monkeypatch.setenv(f"LAKEHOUSE_LAKE_{name}", value)
    with dg.build_resources({"lake": resources["lake"]}) as started:
        resource: LakeResource = started.lake
        bucket = resource.lake().bucket
    assert (bucket.name, bucket.credentials.access_key_id, bucket.credentials.secret_access_key) == (
        "late",
        "id",
        "key",
    )


def test_a_run_without_a_lake_says_which_variable_is_missing() -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="LAKEHOUSE_LAKE_BUCKET"):
        dg.build_resources({"lake": load().resources["lake"]}).__enter__()


# Invalid settings and matrices


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("datasets: [{dataset: binance/um/clines/daily}]", "clines"),
        ("datasets: [{dataset: binance/um/klines/daily}]", "intervals"),
        ("datasets: [", "matrix.yaml"),
        ("", "matrix.yaml"),
    ],
)
def test_an_invalid_matrix_is_reported_in_one_line(matrix: Path, text: str, complaint: str) -> None:
    matrix.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        defs()
    message = str(raised.value)
    assert message.startswith("matrix.yaml")
    assert complaint in message
    assert "\n" not in message


def test_a_missing_matrix_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKEHOUSE_MATRIX", str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match=r"none\.yaml cannot be read: No such file"):
        defs()


def _bad_values() -> list[tuple[str, str]]:
    """Every variable whose value is validated on reading, with an invalid value."""
    bad = {
        "BUCKET": "no bucket",
        "NAME": "r.x",
        "ENDPOINT_URL": "ftp://example.org",
        "REGION": "eu west",
    }
    cases = []
    for group in (LakeSettings, SourceSettings, SyncSettings, DiscoverySettings, SpendingSettings):
        prefix = str(group.model_config.get("env_prefix"))
        for field, info in group.model_fields.items():
            kinds = set(typing.get_args(info.annotation)) or {info.annotation}
            text = {Word, Profile, Token, SecretKey, KeyId} & kinds
            if text:
                cases.append((f"{prefix}{field}".upper(), "of\ttwo"))
            elif field.upper() in bad:
                cases.append((f"{prefix}{field}".upper(), bad[field.upper()]))
            elif not kinds & {str, SecretStr, Path}:
                cases.append((f"{prefix}{field}".upper(), "not-a-value"))
    return cases


@pytest.mark.parametrize(("variable", "value"), _bad_values())
def test_an_invalid_setting_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as raised:
        defs()
    assert f"{variable}: " in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LAKEHOUSE_LAKE_MAX_ATTEMPTS", "0"),
        ("LAKEHOUSE_SYNC_WORKERS", "0"),
        ("LAKEHOUSE_SYNC_STALL_SECONDS", "0"),
        ("LAKEHOUSE_DISCOVERY_BUDGET_SECONDS", "46"),
        ("LAKEHOUSE_DISCOVERY_TICK_SECONDS", "1"),
    ],
)
def test_a_number_out_of_its_range_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=f"{variable}: Input should be greater|{variable}: Input should be less"):
        load_settings()


def test_half_a_credential_or_a_dotted_prefix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_LAKE_BUCKET", "lake")
    monkeypatch.setenv("LAKEHOUSE_LAKE_PREFIX", "a/../b")
    with pytest.raises(InputError, match="LAKEHOUSE_LAKE_PREFIX"):
        load_settings().lake.lake()
    monkeypatch.delenv("LAKEHOUSE_LAKE_PREFIX")
    monkeypatch.setenv("LAKEHOUSE_LAKE_ACCESS_KEY_ID", "half")
    with pytest.raises(InputError, match="LAKEHOUSE_LAKE_SECRET_ACCESS_KEY"):
        load_settings().lake.lake()


def test_a_missing_scratch_folder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKEHOUSE_SYNC_SCRATCH_DIR", str(tmp_path / "none"))
    with pytest.raises(InputError, match="LAKEHOUSE_SYNC_SCRATCH_DIR"):
        load_settings().sync.options()


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, _ in _bad_values():
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("LAKEHOUSE_MATRIX", "")
    dg.Definitions.validate_loadable(load())
