"""Faults of source, lake and network: no loss stays unreported, and a second sync repairs it.

In every trial the first run is complete or names what is missing, no wrong object is marked as present, and a run
without faults completes the lake.
"""

from __future__ import annotations

import polars as pl
import pytest

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets_tests.faults.proxy import (
    LISTS,
    READS,
    WRITES,
    Corrupt,
    Garbled,
    Hang,
    Latency,
    Meanwhile,
    Refusal,
    Reset,
    Rule,
    Short,
    Truncated,
)
from lakehouse_assets_tests.faults.trial import trial
from lakehouse_assets_tests.world import World, body_of

WAYS = [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED]
THROUGH_US = [SyncMode.RELAY, SyncMode.STAGED]
ARCHIVE = "archive/"


@pytest.mark.parametrize("mode", WAYS)
def test_slow_down_on_every_fourth_write_ends_complete(world: World, mode: SyncMode) -> None:
    with trial(f"503 SlowDown, every 4th write ({mode})", world, Rule(Refusal(503, "SlowDown"), WRITES, every=4)) as t:
        report = t.first(mode)
        assert t.injected >= 14
        assert (report.total("present"), report.total("copied")) == (28, 28)
        assert t.second(mode).total("copied") == 0


def test_a_lake_that_stays_slow_gets_fewer_and_later_requests(world: World) -> None:
    """s5cmd does not retry in this test: our own retries copy the rest."""
    rule = Rule(Refusal(503, "SlowDown"), WRITES, ARCHIVE, most=20)
    with trial("503 SlowDown, s5cmd gives up", world, rule) as t:
        report = t.first(SyncMode.DIRECT, retries=0)
        assert t.injected == 20
        assert report.total("copied") == 28
        t.second()


def test_errors_on_listing_pages_are_retried(world: World) -> None:
    rule = Rule(Refusal(500, "InternalError"), LISTS, every=3)
    with trial("500 on every 3rd listing page", world, rule, page=5) as t:
        report = t.first()
        assert t.injected >= 3
        assert report.total("copied") == 28
        t.second()


def test_a_listing_that_keeps_failing_ends_the_sync_with_its_name_and_copies_nothing(world: World) -> None:
    rule = Rule(Refusal(500, "InternalError"), LISTS, first=6)
    with trial("500 on all listing pages", world, rule, page=5, max_attempts=1) as t:
        error = t.first()
        assert isinstance(error, StoreError)
        assert "Listing s3://" in str(error)
        assert t.etags() == {}
        t.second()


@pytest.mark.parametrize("mode", THROUGH_US)
@pytest.mark.parametrize(("word", "fault"), [("truncated", Truncated()), ("reset", Reset())])
def test_broken_answers_to_reads_end_complete(world: World, mode: SyncMode, word: str, fault: Truncated) -> None:
    with trial(f"{word}, every 3rd read ({mode})", world, Rule(fault, READS, "data/futures", every=3)) as t:
        report = t.first(mode)
        assert t.injected >= 18
        assert report.total("copied") == 28
        t.second(mode)


def test_a_short_read_without_an_error_is_not_stored_as_complete(world: World) -> None:
    with trial("half a body, declared as complete (relay)", world, Rule(Short(), READS, "AUSDT-1m", most=7)) as t:
        report = t.first(SyncMode.RELAY, attempts=1)
        assert report.total("present") < 28
        short = [failure for period in report.periods for failure in period.failures]
        assert short
        assert all("ShortRead" in failure.reason for failure in short)
        t.second(SyncMode.RELAY)


@pytest.mark.parametrize("mode", WAYS)
def test_writes_whose_answer_is_lost_end_complete(world: World, mode: SyncMode) -> None:
    rule = Rule(Reset(done=True), WRITES, ARCHIVE, every=4)
    with trial(f"answer lost, every 4th write ({mode})", world, rule) as t:
        report = t.first(mode)
        assert t.injected >= 14
        assert report.total("present") == 28
        t.second(mode)


@pytest.mark.parametrize("mode", WAYS)
def test_latency_costs_time_and_nothing_else(world: World, mode: SyncMode) -> None:
    rule = Rule(Latency(0.3), (*READS, *WRITES), "data/futures")
    with trial(f"0.3 s latency ({mode})", world, rule) as t:
        assert t.first(mode).total("copied") == 28
        t.second(mode)


def test_a_second_sync_catches_up_with_a_listing_that_changed_while_it_was_read(world: World) -> None:
    """Objects are added, removed and rewritten between two pages of one folder."""
    with trial("listing changes while being read", world, page=3) as t:
        gone, rewritten, late = t.keys[5], t.keys[6], world.key("AUSDT", "2024-03-02")

        def change() -> None:
            t.withdraw(gone)
            t.rewrite(rewritten)
            t.rewrite(late)

        t.proxy.rules = [Rule(Meanwhile(change), LISTS, first=8, most=1)]
        report = t.first()
        assert t.injected == 1
        missing = sum(period.missing_total for period in report.periods)
        assert report.total("present") + missing == report.total("expected") == 27
        t.second()


@pytest.mark.parametrize("mode", WAYS)
def test_objects_that_are_withdrawn_or_rewritten_between_listing_and_copy_are_reported(
    world: World, mode: SyncMode
) -> None:
    with trial(f"deleted and rewritten before the copy ({mode})", world) as t:
        gone, rewritten = t.keys[0], t.keys[10]

        def change() -> None:
            t.withdraw(gone)
            t.rewrite(rewritten)

        report = t.first(mode, at_listed=change)
        t.injected = 2
        assert report.total("expected") == 27
        assert gone not in t.etags()
        row = t.row(rewritten)
        if row["state"] == "present":
            assert t.world.lake_body(f"archive/binance/{rewritten}") == body_of(rewritten, 2, 400)
        else:
            assert "Rewritten: " in row["error"] or "Corrupt: the bytes that came" in row["error"]
        t.second(mode)
        assert t.row(rewritten)["state"] == "present"


def test_a_lake_that_refuses_writes_gets_one_attempt_per_object_by_one_mode(world: World) -> None:
    rule = Rule(Refusal(403, "AccessDenied"), WRITES, ARCHIVE)
    with trial("lake refuses writes, 403", world, rule) as t:
        report = t.first(SyncMode.AUTO)
        assert {period.state for period in report.periods} == {PeriodState.INCOMPLETE}
        assert all("AccessDenied" in f.reason for p in report.periods for f in p.failures)
        # 56 files directly, and the probe's two.
        assert t.proxy.counts(ARCHIVE).total() <= 56 + 2
        assert t.proxy.counts(ARCHIVE)["PutObject"] == 1
        assert t.second().copied_by_mode == {"direct": 28}


@pytest.mark.parametrize("mode", WAYS)
def test_a_lake_that_dies_in_the_middle_loses_only_what_was_not_written(world: World, mode: SyncMode) -> None:
    with trial(f"lake dies in the middle ({mode})", world, max_attempts=1) as t:
        t.proxy.rules = [Rule(Meanwhile(t.proxy.die_from_within), WRITES, ARCHIVE, first=20, most=1)]
        error = t.first(mode, retries=1, workers=4)
        assert isinstance(error, StoreError)
        assert "Unreachable" in str(error)
        t.proxy.open()
        report = t.second(mode, faulty=True)
        assert report.total("copied") < 28, "what had been written was copied again"


def test_a_source_that_dies_in_the_middle_is_named(world: World) -> None:
    with trial("source dies in the middle (relay)", world, lake=False, max_attempts=1) as t:
        t.proxy.rules = [Rule(Meanwhile(t.proxy.die_from_within), READS, first=20, most=1)]
        error = t.first(workers=4)
        assert isinstance(error, StoreError)
        assert world.source.name in str(error)
        assert "Unreachable" in str(error)
        present = t.rows().filter(pl.col("state") == "present")
        assert present.height > 0
        assert present["sha256"].null_count() == 0, "what had been copied was recorded without its digests"
        # One may have been written when the source was lost, without being reported.
        written = {key for key in t.etags() if not key.endswith(".CHECKSUM")}
        assert set(present["key"]) <= written
        t.proxy.open()
        assert t.second(faulty=True).total("copied") == 28 - len(written)


@pytest.mark.parametrize("mode", WAYS)
def test_credentials_that_expire_during_a_sync_are_named_and_not_retried_repeatedly(
    world: World, mode: SyncMode
) -> None:
    rule = Rule(Refusal(400, "ExpiredToken"), WRITES, ARCHIVE, first=20)
    with trial(f"credentials expire in the middle ({mode})", world, rule) as t:
        report = t.first(mode)
        assert 0 < report.total("present") < 28
        reasons = {failure.reason for period in report.periods for failure in period.failures}
        assert any("ExpiredToken" in reason and "renew them" in reason for reason in reasons)
        t.second(mode)


def test_a_wrong_clock_is_named(world: World) -> None:
    rule = Rule(Refusal(403, "RequestTimeTooSkewed"), WRITES, ARCHIVE)
    with trial("clock skew", world, rule) as t:
        report = t.first()
        reasons = {failure.reason for period in report.periods for failure in period.failures}
        assert any("RequestTimeTooSkewed" in reason and "set this machine's clock" in reason for reason in reasons)
        t.second()


def test_a_hanging_lake_ends_the_sync_in_time(world: World) -> None:
    rule = Rule(Hang(), WRITES, ARCHIVE, first=20)
    with trial("lake hangs (direct)", world, rule) as t:
        report = t.first(SyncMode.DIRECT, stall_seconds=1.0, attempts=2)
        assert 0 < report.total("present") < 28
        assert any("Stalled" in f.reason for p in report.periods for f in p.failures)
        t.second()


def test_a_hanging_source_ends_the_relay_in_time(world: World) -> None:
    rule = Rule(Hang(), READS, "data/futures", first=20)
    with trial("source hangs (relay)", world, rule, lake=False, max_attempts=1) as t:
        report = t.first(SyncMode.RELAY, stall_seconds=1.0, attempts=1, workers=8)
        assert 0 < report.total("present") < 28
        t.second()


@pytest.mark.parametrize("mode", THROUGH_US)
def test_corrupt_bytes_of_the_right_length_are_a_mismatch_and_replaced(world: World, mode: SyncMode) -> None:
    with trial(f"corrupt bytes, right length ({mode})", world) as t:
        key, [sound, *_others] = t.keys[0], t.keys[1:]
        t.proxy.rules = [Rule(Corrupt(), READS, key, whole_key=True)]
        assert t.first(mode).total("copied") == 28
        row = t.row(key)
        assert (row["integrity"], row["copy_differs"]) == ("mismatch", True)
        assert t.row(sound)["integrity"] == "verified"
        assert t.second(mode).total("copied") == 1
        assert t.row(key)["integrity"] == "verified"
        assert world.lake_body(t.row(key)["superseded_key"]) != t.bodies[key], "the corrupt bytes are preserved"


@pytest.mark.parametrize("which", ["object", "sidecar"])
def test_bytes_that_change_on_their_way_are_not_a_copy(world: World, which: str) -> None:
    with trial(f"{which} corrupt on the way to the lake (relay)", world) as t:
        key = t.keys[0]
        file = key if which == "object" else f"{key}.CHECKSUM"
        place = world.lake.key(f"archive/binance/{file}")
        t.proxy.rules = [Rule(Garbled(), ("PutObject",), place, whole_key=True)]
        report = t.first(SyncMode.RELAY)
        [failure] = [failure for period in report.periods for failure in period.failures]
        assert (failure.key, "the bytes that were sent" in failure.reason) == (file, True)
        assert (t.row(key)["state"], report.total("present")) == ("failed", 27)
        t.second(SyncMode.RELAY)
        assert world.lake_body(f"archive/binance/{key}") == t.bodies[key]


def test_bytes_that_never_match_their_etag_are_not_fetched_forever(world: World) -> None:
    with trial("corrupt bytes on every read (relay)", world, symbols=("AUSDT",)) as t:
        key = t.keys[0]
        t.proxy.rules = [Rule(Corrupt(), READS, key, whole_key=True)]
        copied = [t.first(SyncMode.RELAY, heal=False).total("copied") for _run in range(4)]
        assert copied == [7, 1, 0, 0]
        row = t.row(key)
        assert (row["state"], row["integrity"], row["copy_differs"]) == ("present", "mismatch", True)
        t.proxy.heal()
        t.rewrite(key)
        t.results[1:] = ["mismatch, copied once more and then left"]
        assert t.second(SyncMode.RELAY).total("copied") == 1
        assert t.row(key)["integrity"] == "verified"


@pytest.mark.parametrize("mode", THROUGH_US)
def test_a_corrupt_sidecar_is_fetched_again(world: World, mode: SyncMode) -> None:
    with trial(f"corrupt sidecar ({mode})", world, Rule(Corrupt(), READS, ".CHECKSUM", most=1)) as t:
        assert t.first(mode).total("sidecars_copied") == 28
        assert t.injected == 1
        assert set(t.rows()["integrity"]) == {"verified"}
        t.second(mode)
