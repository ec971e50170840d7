"""SIGKILL at named points and at random moments of a sync, then a second sync: nothing is lost or done twice."""

from __future__ import annotations

import time

import pytest
from deltalake import DeltaTable

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets_tests.faults.recovery import (
    assert_a_second_sync_does_the_rest,
    assert_nothing_wrong_is_present,
    assert_the_manifest_is_complete,
    left_by,
)
from lakehouse_assets_tests.faults.victim import SIDECAR, Archive, Victim
from lakehouse_assets_tests.world import KLINES

MANIFEST = Dataset.parse(KLINES).manifest_prefix


def test_a_sync_killed_after_the_listing_leaves_nothing_and_the_next_does_everything(archive: Archive) -> None:
    left = left_by(Victim(archive, "listed"), archive)
    assert left == {}
    assert_nothing_wrong_is_present(archive, left)
    assert_a_second_sync_does_the_rest(archive, left, fault="killed after the listing")


@pytest.mark.parametrize("files", [1, 150])
def test_a_sync_killed_in_a_batch_stops_there_and_the_next_does_the_rest(archive: Archive, files: int) -> None:
    left = left_by(Victim(archive, f"moving:{files}"), archive)
    assert files <= len(left) < len(archive.files)
    assert_nothing_wrong_is_present(archive, left)
    assert_a_second_sync_does_the_rest(archive, left, fault=f"killed at file {files}")


def test_a_sync_killed_before_its_commit_leaves_all_objects_and_the_next_only_records_them(archive: Archive) -> None:
    for point, written in (
        ("moved", []),
        ("committing", []),
        ("commit:create", []),
        ("commit:parquet", ["0.json"]),
        ("commit:log", ["0.json", "parquet"]),
    ):
        left = left_by(Victim(archive, point), archive)
        assert left.keys() == archive.files.keys()
        assert manifest_files(archive) == written
        assert archive.world.manifest().read(()).is_empty()
        assert_nothing_wrong_is_present(archive, left)
    assert_a_second_sync_does_the_rest(archive, left, fault="killed at 5 steps to the commit", injected=5)


def test_after_a_kill_between_commit_and_answer_the_next_sync_commits_nothing(small: Archive) -> None:
    left = left_by(Victim(small, "commit:answer"), small)
    assert_the_manifest_is_complete(small)
    assert_a_second_sync_does_the_rest(small, left, fault="killed before the commit was answered")
    assert table(small).version() == 1


def test_after_a_kill_at_any_moment_the_next_sync_does_the_rest(
    archive: Archive, usual_seconds: float, moment: float
) -> None:
    victim = Victim(archive)
    assert victim.wait_for("listing")
    time.sleep(usual_seconds * moment)
    victim.kill()
    left = left_by(victim, archive)
    assert_nothing_wrong_is_present(archive, left)
    assert_a_second_sync_does_the_rest(archive, left, fault=f"killed after {moment:.0%} of its time")


def test_a_sidecar_in_the_lake_without_its_object_is_not_copied_again(small: Archive) -> None:
    small.world.engine().sync(small.scope)
    key = next(key for key in small.files if f"{key}{SIDECAR}" in small.files)
    small.world.delete_in_lake(f"archive/binance/{key}")
    assert_a_second_sync_does_the_rest(small, small.in_lake(), fault="an object without its sidecar's company")


def manifest_files(archive: Archive) -> list[str]:
    """Kinds of files in the manifest: versions of its log (``0.json``) and ``parquet``."""
    return sorted({_kind(name) for name in archive.in_lake(MANIFEST)})


def _kind(name: str) -> str:
    stem, _, suffix = name.removeprefix("_delta_log/").rpartition(".")
    return f"{int(stem)}.{suffix}" if stem.isdigit() else suffix


def table(archive: Archive) -> DeltaTable:
    return DeltaTable(archive.world.lake.url(MANIFEST), storage_options=archive.world.lake.delta_options)
