"""Every publication of every exchange, end to end: perfect objects at their real keys, with the exchange's sidecars,
are mirrored and built into tables. No problem is reported, and each row reads back as it was written.

The publications are those of the registry: a new one is tested, too, and fails without rows and symbols.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator

import dagster as dg
import pytest
from polars.testing import assert_frame_equal

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets.tables.quality.rows import Level, summarize
from lakehouse_assets.tables.query import read_table
from lakehouse_assets.tables.report import BuildState
from lakehouse_assets.tables.schema import TABLES
from lakehouse_assets.tables.write.build import TableBuilder
from lakehouse_assets_tests.orchestration.tables.file_forms import Kind
from lakehouse_assets_tests.orchestration.tables.perfect_rows import KINDS
from lakehouse_assets_tests.orchestration.tables.publications import PUBLICATIONS, WITHOUT_TABLE, Exchanges, Publication
from lakehouse_assets_tests.orchestration.watcher import resources_of

ONE_OF_EACH_EXCHANGE = {
    name.split("/")[0]: name for name in reversed(PUBLICATIONS) if name.rsplit("/", 1)[0] not in WITHOUT_TABLE
}


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedStore]:
    """Buckets for these tests alone, since they use the exchanges' own symbols."""
    with EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]) as running:
        yield running


@pytest.fixture(scope="module")
def exchanges(store: EmbeddedStore) -> Exchanges:
    return Exchanges(store)


def test_every_table_has_perfect_rows_and_publications_without_a_table_are_listed() -> None:
    published = {name.rsplit("/", 1)[0] for name in PUBLICATIONS}
    tables = {schema.name for schema in TABLES}
    assert {"/".join(key) for key in KINDS} == tables
    assert published - tables == WITHOUT_TABLE
    assert tables <= published


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_perfect_objects_of_a_publication_are_mirrored_and_built_into_a_table_without_problems(
    exchanges: Exchanges, name: str
) -> None:
    publication = Publication(Dataset.parse(name))
    exchanges.publish(publication.dataset, publication.bodies)
    assert_mirrored(exchanges, publication)
    if publication.kind is not None:
        assert_tabled(exchanges, publication, publication.kind)


def assert_mirrored(exchanges: Exchanges, publication: Publication) -> None:
    """Every object is copied byte for byte, with its sidecar, and there are no unrecognized keys."""
    dataset, world = publication.dataset, exchanges.world(publication.dataset)
    report = exchanges.engine(dataset).sync(Scope(entry=publication.entry, periods=tuple(publication.periods)))
    assert report.unrecognized == ()
    assert [period.state for period in report.periods] == [PeriodState.COMPLETE] * len(publication.periods)
    objects = world.manifest(dataset.name).read([])
    assert dict(objects.select("key", "lake_etag").iter_rows()) == {
        key: hashlib.md5(body).hexdigest() for key, body in publication.bodies.items()
    }
    assert set(objects["state"]) == {"present"}
    assert set(objects["mode"]) == {"direct" if dataset.source.server_side_copy else "relay"}
    assert objects["sidecar_lake_etag"].null_count() == (0 if dataset.source.checksum else objects.height)


def assert_tabled(exchanges: Exchanges, publication: Publication, kind: Kind) -> None:
    """The table is built from all objects and has exactly the rows that were published."""
    dataset, world, table = publication.dataset, exchanges.world(publication.dataset), publication.table.table
    report = TableBuilder(world.source, world.lake, publication.table).build(publication.table_periods)
    assert [period.period for period in report.periods] == publication.table_periods
    assert {period.state for period in report.periods} == {BuildState.WRITTEN}
    assert [problem for period in report.periods for problem in period.problems] == []
    summary = summarize(report.quality)
    assert summary.level is Level.OK, summary.worst.to_dicts()
    objects = world.manifest(dataset.name).read([])
    assert set(objects["integrity"]) == {"verified" if dataset.source.checksum else "etag_verified"}

    expected = publication.rows(kind)
    assert sorted(expected.columns) == sorted([*table.schema.polars, "period"])
    rows = read_table(table.name, lake=world.lake, columns=[*table.schema.polars, "period"]).collect()
    order = rows.columns
    assert_frame_equal(rows.sort(order), expected.select(order).sort(order), check_exact=True)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.mark.parametrize("name", ONE_OF_EACH_EXCHANGE.values())
def test_all_checks_of_dagster_s_assets_pass_on_perfect_objects(
    store: EmbeddedStore, instance: dg.DagsterInstance, name: str
) -> None:
    publication = Publication(Dataset.parse(name))
    exchanges = Exchanges(store)
    exchanges.publish(publication.dataset, publication.bodies)
    runs = {
        build_archive_asset(publication.entry, "s3://lake"): (
            list(map(str, publication.periods)),
            {"complete", "published", "expected"},
        ),
        build_table_asset(publication.table, "s3://lake"): (
            publication.table_periods,
            {"files", "quality", "expected"},
        ),
    }
    for asset, (periods, checks) in runs.items():
        result = dg.materialize(
            [asset],
            instance=instance,
            resources=resources_of(exchanges.world(publication.dataset)),
            tags=range_tags(periods[0], periods[-1]),
        )
        evaluations = result.get_asset_check_evaluations()
        assert [evaluation.description for evaluation in evaluations if not evaluation.passed] == []
        assert {evaluation.check_name for evaluation in evaluations} == checks
        assert sorted(instance.get_materialized_partitions(asset.key)) == periods
        logged = instance.all_logs(result.run_id)
        warned = [event.message for event in logged if event.level >= logging.WARNING]
        expected_warnings = not publication.dataset.source.server_side_copy and "complete" in checks
        assert len(warned) == expected_warnings, warned
