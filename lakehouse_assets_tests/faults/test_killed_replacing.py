"""SIGKILL while rewritten objects are replaced: their former bytes are in the lake at every moment."""

from __future__ import annotations

import time

import polars as pl
import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets_tests.faults.recovery import (
    assert_a_second_sync_does_the_rest,
    assert_nothing_wrong_is_present,
    left_by,
)
from lakehouse_assets_tests.faults.victim import Archive, Victim, objects, publish
from lakehouse_assets_tests.world import KLINES, World, days

DATASET = Dataset.parse(KLINES)
PATIENCE_SECONDS = 60.0


@pytest.fixture
def rewritten(world: World) -> tuple[Archive, Archive]:
    """An archive whose files were all mirrored and then rewritten: before and after."""
    periods = days("2024-03-01", "2024-03-10")
    before = publish(world, 8, periods, with_sidecars=8)
    world.engine().sync(before.scope)
    return before, publish(world, 8, periods, with_sidecars=8, version=2)


def assert_former_bytes_are_somewhere(before: Archive, *, moved: bool = False) -> None:
    """Former bytes are in place or below ``_superseded/``; with ``moved`` all of them are below it."""
    in_place, aside = before.in_lake(), before.in_lake("_superseded")
    for key, etag in before.files.items():
        place = DATASET.superseded_key(key, etag).removeprefix("_superseded/")
        kept = aside.get(place, ("", None))[0] == etag
        assert kept or (not moved and in_place[key][0] == etag), key


@pytest.mark.parametrize("kept", [1, 80])
def test_a_kill_while_former_bytes_are_copied_aside_loses_none(rewritten: tuple[Archive, Archive], kept: int) -> None:
    before, now = rewritten
    victim = Victim(now)
    assert victim.wait_for("listed")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(now.in_lake("_superseded")) < kept:
        assert time.monotonic() < deadline
    victim.kill()
    left = left_by(victim, now)
    assert_former_bytes_are_somewhere(before)
    assert_nothing_wrong_is_present(now, left)
    assert_a_second_sync_does_the_rest(now, left, fault=f"killed while former bytes are kept, at {kept}")
    assert_former_bytes_are_somewhere(before, moved=True)


@pytest.mark.parametrize("point", ["moving:1", "moving:80", "committing", "commit:log"])
def test_a_kill_while_objects_are_replaced_loses_no_former_bytes(
    rewritten: tuple[Archive, Archive], point: str
) -> None:
    before, now = rewritten
    left = left_by(Victim(now, point), now)
    assert_former_bytes_are_somewhere(before, moved=True)
    assert_nothing_wrong_is_present(now, left)
    assert_a_second_sync_does_the_rest(now, left, fault=f"killed while replacing, at {point}")
    assert_former_bytes_are_somewhere(before, moved=True)


def test_the_next_sync_records_what_a_killed_one_replaced(rewritten: tuple[Archive, Archive]) -> None:
    before, now = rewritten
    left_by(Victim(now, "committing"), now)
    now.world.engine().sync(now.scope, run_id="second")
    rows = now.world.manifest().read(())
    assert dict(rows.select("key", "former_etag").iter_rows()) == {key: before.files[key] for key in objects(now.files)}
    places = {key: DATASET.superseded_key(key, before.files[key]) for key in objects(now.files)}
    assert dict(rows.select("key", "superseded_key").iter_rows()) == places
    assert set(rows["run_id"]) == {"second"}
    assert rows.filter(pl.col("synced_at") < pl.col("lake_last_modified")).is_empty()
