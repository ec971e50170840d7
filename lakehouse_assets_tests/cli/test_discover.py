"""`lakehouse discover` against the embedded store: once as a process, then in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.matrix import load_matrix
from lakehouse_assets.cli.discover import DiscoverOptions, matrix_yaml, run_discover
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.catalog_store import write_catalog
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.archive.catalog.catalogs import catalog_of, span
from lakehouse_assets_tests.cli.conftest import RunLakehouse, publish
from lakehouse_assets_tests.cli.test_plan_and_sync import in_lake


@pytest.fixture(scope="session")
def store() -> Iterator[EmbeddedStore]:
    """A store for this file only, since a catalog shows everything that other tests publish in a shared one."""
    with EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]) as running:
        yield running


@pytest.fixture(scope="session")
def published(store: EmbeddedStore) -> None:
    """Publish in this file's store, which replaces the shared one."""
    publish(store)


COMMAND = ("discover", "binance", "--market", "um", "--data-type", "klines", "--exact")


def test_discover_shows_datasets_and_differences_and_writes_nothing_to_the_lake(
    run_lakehouse: RunLakehouse, store: EmbeddedStore, environment: dict[str, str], tmp_path: Path
) -> None:
    result = run_lakehouse(*COMMAND, "--json", env=environment)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    [dataset] = document["datasets"]
    assert (dataset["dataset"], dataset["exact"]) == ("um/klines/daily", True)
    assert set(dataset["intervals"]) >= {"1m", "1h"}
    assert dataset["objects"] >= 12
    assert (document["exchange"], document["depth"], document["changes"]) == ("binance", "exact", None)
    assert "wanted, not published" not in {row["kind"] for row in document["against_matrix"]}
    shown = run_lakehouse(*COMMAND, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert "um/klines/daily" in shown.stdout
    assert in_lake(store, f"cli/{tmp_path.name}") == {}


def discover(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, **changed: object) -> int:
    """Run in this process, which saves two seconds per call."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fields: dict[str, object] = {
        "exchange": "binance",
        "market": "um",
        "data_type": "klines",
        "exact": True,
        "concurrency": 8,
        "write_matrix": None,
        "force": False,
    }
    return run_discover(DiscoverOptions(**(fields | changed)), as_json=False)


def test_without_a_lake_no_changes_since_the_last_catalog_are_shown(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without = {name: value for name, value in environment.items() if "_LAKE_" not in name}
    assert discover(without, monkeypatch, data_type=None, exact=False) == 0
    shown = capsys.readouterr().out
    assert "um/bookTicker/daily" in shown  # in the matrix, but not published in this store
    assert "Since the catalog" not in shown


def test_with_a_catalog_in_the_lake_changes_since_it_are_shown(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert discover(environment, monkeypatch) == 0
    lake = load_settings().lake.lake()
    row = span("um/klines/daily", "OLDUSDT", "2022-01-01", "2022-06-30", interval="1m")
    write_catalog(lake, catalog_of("binance", pl.DataFrame([row])))
    capsys.readouterr()
    assert discover(environment, monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "Since the catalog of 2022-07-01 12:00 UTC" in shown
    assert "new symbol" in shown
    assert "CLIAUSDT" in shown


def test_a_damaged_catalog_in_the_lake_hides_only_the_changes(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    store: EmbeddedStore,
) -> None:
    place = f"{environment['LAKEHOUSE_LAKE_PREFIX']}/_catalog/binance/spans/_delta_log/{0:020}.json"
    bucket = environment["LAKEHOUSE_LAKE_BUCKET"]
    store.admin_bucket(bucket).boto3_client().put_object(Bucket=bucket, Key=place, Body=b"no commit")
    assert discover(environment, monkeypatch) == 0
    shown = capsys.readouterr()
    assert "Compared with the matrix: no difference" in shown.out
    assert "Changes since the last catalog cannot be shown: " in shown.err


def test_a_written_matrix_loads_and_overwrites_a_file_only_with_force(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "found.yaml"
    assert discover(environment, monkeypatch, write_matrix=path) == 0
    [entry] = load_matrix(path).entries
    assert entry.dataset.name == "binance/um/klines/daily"
    assert {"1m", "1h"} <= set(entry.intervals)
    capsys.readouterr()
    assert discover(environment | {"LAKEHOUSE_MATRIX": str(path)}, monkeypatch) == 0
    assert "Compared with the matrix: no difference." in capsys.readouterr().out

    path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"found\.yaml already exists; .* with --force\.$"):
        discover(environment, monkeypatch, write_matrix=path)
    assert path.read_text(encoding="utf-8") == "mine"
    monkeypatch.delenv("LAKEHOUSE_MATRIX")
    without = {name: value for name, value in environment.items() if name != "LAKEHOUSE_MATRIX"}
    assert discover(without, monkeypatch, write_matrix=path, force=True) == 0
    assert load_matrix(path).entries == (entry,)
    assert list(tmp_path.glob(".found*")) == []
    with pytest.raises(InputError, match=r"name a file in an existing folder\.$"):
        discover(without, monkeypatch, write_matrix=tmp_path / "no" / "m.yaml")


def test_a_matrix_of_every_publication_of_every_exchange_loads(tmp_path: Path) -> None:
    for exchange in EXCHANGES.values():
        rows = [
            span(
                f"{publication.market}/{publication.data_type}/{publication.cadence}",
                "BTCUSDT",
                publication.first.isoformat(),
                (publication.ended or publication.first).isoformat(),
                interval=interval,
                exchange=exchange.name,
            )
            for publication in exchange.publications
            for interval in publication.intervals or (None,)
        ]
        catalog = catalog_of(exchange.name, pl.DataFrame(rows))
        path = tmp_path / f"{exchange.name}.yaml"
        path.write_text(matrix_yaml(catalog.matrix(), catalog), encoding="utf-8")
        loaded = load_matrix(path)
        assert loaded.entries == catalog.matrix().entries
        assert len(loaded.entries) == len(exchange.publications)
