"""The frames between plan, movers, classification and manifest: every stage adds exactly its documented columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.exceptions import SchemaError

from lakehouse_assets.archive.listing import OBJECT_SCHEMA, Listing
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.states import ObjectState
from lakehouse_assets.lake.withdrawal import IMPLAUSIBLE_SCHEMA, WithdrawalLimits
from lakehouse_assets.sync import reconcile
from lakehouse_assets.sync.integrity.columns import INTEGRITY_SCHEMA, with_integrity
from lakehouse_assets.sync.integrity.sightings import LOST_SCHEMA, lost_of, without_lost
from lakehouse_assets.sync.integrity.verify import FINDING_SCHEMA, Finding
from lakehouse_assets.sync.movers import outcomes
from lakehouse_assets.sync.movers.base import COPY_SCHEMA, OUTCOME_SCHEMA
from lakehouse_assets.sync.plan import PLAN_SCHEMA, SIDES_SCHEMA, STATE_SCHEMA, Plan, join_sides, make_plan

KLINES = "binance/um/klines/daily"
NOW = datetime(2024, 6, 1, tzinfo=UTC)
STAGES: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], pl.Schema, set[str]]] = {
    "with_copied": (lambda rows: outcomes.with_copied(rows, lake_has_md5=True), outcomes.COPIED_SCHEMA, set()),
    "with_overtaken": (lambda rows: outcomes.with_overtaken(rows, lake_has_md5=True), outcomes.OVERTAKEN_SCHEMA, set()),
    "with_faults": (lambda rows: outcomes.with_faults(rows, lake_has_md5=True), outcomes.FAULT_SCHEMA, set()),
    "with_copied_as_present": (outcomes.with_copied_as_present, pl.Schema(), {"state", "sidecar_state"}),
    "existing": (reconcile.existing, pl.Schema(), set()),
    "with_result": (reconcile.with_result, reconcile.RESULT_SCHEMA, set()),
    "with_taken_over": (reconcile.with_taken_over, reconcile.TAKEN_OVER_SCHEMA, set()),
    "with_content": (lambda rows: reconcile.with_content(rows, NOW), reconcile.CONTENT_SCHEMA, set()),
    "with_copy_record": (
        lambda rows: reconcile.with_copy_record(rows, NOW, "run"),
        reconcile.COPY_RECORD_SCHEMA,
        set(),
    ),
    "with_withdrawal": (lambda rows: reconcile.with_withdrawal(rows, NOW), reconcile.WITHDRAWAL_SCHEMA, set()),
    "with_integrity": (lambda rows: with_integrity(rows, NOW), INTEGRITY_SCHEMA, set()),
}
"""The stages of classify() in order: how each is called, the columns that it adds, and those that it replaces."""


def etag(content: str) -> str:
    return hashlib.md5(content.encode()).hexdigest()


def objects(contents: dict[str, str]) -> pl.DataFrame:
    """A listing with one object per symbol, from the content by symbol."""
    rows = [
        {
            "period": "2024-05-31",
            "symbol": symbol,
            "interval": "1m",
            "key": f"data/{symbol}.zip",
            "size": 400,
            "etag": etag(content),
            "last_modified": NOW - timedelta(hours=1),
            "sidecar_size": 90,
            "sidecar_etag": etag(f"{content}'s sidecar"),
            "sidecar_last_modified": NOW - timedelta(hours=1),
        }
        for symbol, content in contents.items()
    ]
    return pl.DataFrame(rows, schema=OBJECT_SCHEMA)


@pytest.fixture
def plan() -> Plan:
    """An object of each state."""
    source = objects({"MISSING": "a", "CHANGED": "new", "PRESENT": "b"})
    lake = objects({"CHANGED": "old", "PRESENT": "b", "WITHDRAWN": "c"})
    entry = DatasetEntry.model_validate({"dataset": KLINES, "intervals": ["1m"]})
    return make_plan(
        Listing(source, (), 1),
        Listing(lake, (), 1),
        MANIFEST_SCHEMA.to_frame(),
        entry=entry,
        limits=WithdrawalLimits(),
        now=NOW,
    )


@pytest.fixture
def rows(plan: Plan) -> pl.DataFrame:
    """Plan rows with the outcome of every copy."""
    moved = plan.copies().select("key", "etag", former_etag="lake_etag", mode=pl.lit("relay"), md5="etag")
    return outcomes.with_outcomes(plan.rows, moved.match_to_schema(OUTCOME_SCHEMA, missing_columns="insert"))


def test_a_plan_has_the_columns_of_both_listings_and_of_the_manifest(plan: Plan) -> None:
    assert plan.rows.schema == PLAN_SCHEMA
    assert PLAN_SCHEMA.names() == [*SIDES_SCHEMA, *STATE_SCHEMA, *IMPLAUSIBLE_SCHEMA]
    assert plan.copies().schema == COPY_SCHEMA
    assert plan.disputed().schema == outcomes.FILE_SCHEMA
    states = dict(plan.rows.select("symbol", "state").iter_rows())
    assert states == {state.name: state.value for state in ObjectState}


def test_listings_with_other_columns_or_types_are_refused() -> None:
    listing, manifest = objects({"A": "a"}), MANIFEST_SCHEMA.to_frame()
    assert join_sides(listing, listing, manifest).schema == SIDES_SCHEMA
    with pytest.raises(SchemaError):
        join_sides(listing, listing.with_columns(size=pl.col("size").cast(pl.String)), manifest)
    with pytest.raises(SchemaError):
        join_sides(listing, listing, manifest.drop("missed_at"))


def test_outcomes_are_added_for_objects_and_sidecars(plan: Plan, rows: pl.DataFrame) -> None:
    assert added(plan.rows, rows) == outcomes.TRIED_SCHEMA
    assert outcomes.unexpected(rows).schema == outcomes.FILE_SCHEMA


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_adds_exactly_its_documented_columns(rows: pl.DataFrame, stage: str) -> None:
    for earlier in list(STAGES)[: list(STAGES).index(stage)]:
        rows = STAGES[earlier][0](rows)
    run, adds, replaces = STAGES[stage]
    before, rows = rows, run(rows)
    assert added(before, rows) == adds
    kept = [column for column in before.columns if column not in replaces]
    assert rows.select(kept).equals(before.join(rows.select("key"), on="key", how="semi").select(kept))


def test_all_stages_make_classified_rows_which_make_manifest_rows(rows: pl.DataFrame) -> None:
    classified = reconcile.classify(rows, lake_has_md5=True, now=NOW, run_id="run")
    for run, _, _ in STAGES.values():
        rows = run(rows)
    assert rows.equals(classified)
    assert classified.schema == reconcile.CLASSIFIED_SCHEMA
    assert reconcile.manifest_rows(classified).schema == MANIFEST_SCHEMA


def test_a_finding_fits_its_frame_and_the_manifest() -> None:
    finding = Finding("k", "verified", None, False, "s", "m", "s", NOW, "e", "e", None)
    frame = pl.DataFrame([finding], schema=FINDING_SCHEMA, orient="row")
    assert frame.row(0) == finding
    assert all(MANIFEST_SCHEMA[name] == dtype for name, dtype in frame.schema.items())


def test_a_lost_copy_is_recorded_with_the_columns_of_the_manifest(rows: pl.DataFrame) -> None:
    recorded = reconcile.manifest_rows(reconcile.classify(rows, lake_has_md5=True, now=NOW, run_id="run"))
    lost = lost_of(recorded, objects({"PRESENT": "other"}))
    assert lost.schema == LOST_SCHEMA
    assert without_lost(recorded, lost).schema == MANIFEST_SCHEMA


def added(before: pl.DataFrame, after: pl.DataFrame) -> pl.Schema:
    return pl.Schema({name: dtype for name, dtype in after.schema.items() if name not in before.columns})
