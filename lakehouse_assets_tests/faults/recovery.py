"""Assertions about the lake after a kill, and after the sync that follows it."""

from __future__ import annotations

import signal
import time

import polars as pl

from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets_tests.faults.table import result_text, write_line
from lakehouse_assets_tests.faults.victim import SIDECAR, WORKERS, Archive, Files, Victim, objects

STANDSTILL_SECONDS = 0.4


def left_by(victim: Victim, archive: Archive) -> Files:
    """The lake's archive files after the victim's death, once no process writes any more."""
    assert victim.end() == -signal.SIGKILL
    at_once = left = archive.in_lake()
    time.sleep(STANDSTILL_SECONDS)
    while (later := archive.in_lake()) != left:
        left = later
        time.sleep(STANDSTILL_SECONDS)
    # The store only finishes requests that it already has.
    assert len(left) - len(at_once) <= WORKERS
    return left


def assert_nothing_wrong_is_present(archive: Archive, left: Files) -> None:
    """Neither the manifest nor the classification counts an object as present that the lake lacks."""
    complete = archive.complete(left)
    with_sidecar = {
        key for key in objects(complete) if f"{key}{SIDECAR}" in complete or f"{key}{SIDECAR}" not in archive.files
    }
    assert archive.world.engine().check(archive.scope).total("present") == len(with_sidecar)
    rows = archive.world.manifest().read(()).filter(pl.col("state") == "present")
    recorded = {key: etag for key, etag in rows.select("key", "source_etag").iter_rows() if etag == archive.files[key]}
    assert recorded.keys() <= with_sidecar


def assert_a_second_sync_does_the_rest(archive: Archive, left: Files, *, fault: str, injected: int = 1) -> None:
    """The second sync completes the lake and rewrites no complete object, by its counts and by last-modified times."""
    complete = archive.complete(left)
    report = archive.world.engine().sync(archive.scope)
    assert {period.state for period in report.periods} == {PeriodState.COMPLETE}
    expected, done = objects(archive.files), objects(complete)
    assert report.total("copied") == len(expected) - len(done)
    assert report.total("sidecars_copied") == len(archive.files) - len(expected) - (len(complete) - len(done))
    after = archive.in_lake()
    assert {key: etag for key, (etag, _modified) in after.items()} == dict(archive.files)
    assert {key: after[key] for key in complete} == dict(complete)
    assert_the_manifest_is_complete(archive)
    write_line(fault, injected, f"{len(complete)}/{len(archive.files)} files complete", result_text(report))


def assert_the_manifest_is_complete(archive: Archive) -> None:
    """Every object and sidecar is recorded as present, with the content that is published and in the lake."""
    rows = archive.world.manifest().read(())
    assert set(rows["state"]) == {"present"}
    for side in ("source", "lake"):
        sidecars = rows.filter(pl.col(f"sidecar_{side}_etag").is_not_null()).select(
            pl.col("key") + SIDECAR, f"sidecar_{side}_etag"
        )
        recorded = dict(rows.select("key", f"{side}_etag").iter_rows()) | dict(sidecars.iter_rows())
        assert recorded == dict(archive.files)
