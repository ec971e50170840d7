"""The book of incidents in a real store: two writers, a lake that is away, a document of nobody's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest

from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.incident_store import BOOK, LakeIncidentStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.observability.incidents.causes import Cause, Severity
from lakehouse_assets.observability.incidents.model import DeadLetter, IncidentState
from lakehouse_assets.observability.incidents.notification import Notifier
from lakehouse_assets.observability.incidents.service import IncidentService
from lakehouse_assets_tests.observability.signals import after, at, only, signal
from lakehouse_assets_tests.world import World

FAILS = Cause.TRANSFER_FAILS


def away(lake: Lake) -> Lake:
    return Lake(replace(lake.bucket, endpoint_url="http://127.0.0.1:9"), lake.prefix)


def test_whoever_has_not_read_the_latest_version_writes_nothing(world: World) -> None:
    ours, theirs = LakeIncidentStore(world.lake, None), LakeIncidentStore(world.lake, None)
    first, second = ours.read(at(0)), theirs.read(at(0))
    book = after(signal(FAILS), minute=2)
    assert ours.write(book, first)
    assert not theirs.write(IncidentState(), second)
    assert theirs.read(at(0)).book == book
    stale = ours.read(at(0))
    assert theirs.write(IncidentState(), theirs.read(at(0)))
    assert not ours.write(book, stale)


def test_two_desks_write_one_book(world: World) -> None:
    desks = [IncidentService(LakeIncidentStore(world.lake, None), Notifier()) for _ in range(2)]
    for number in range(6):
        desks[number % 2].handle([signal(FAILS, subject=f"binance/{number}")], at(number))
    assert len(only(LakeIncidentStore(world.lake, None).read(at(9)).book).firing) == 6


def test_what_was_noted_while_the_lake_was_away_is_merged_into_what_others_wrote(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    desk = IncidentService(LakeIncidentStore(world.lake, copy), Notifier())
    desk.handle([signal(FAILS, subject="binance/before")], at(1))
    cut_off = IncidentService(LakeIncidentStore(away(world.lake), copy), Notifier())
    known = cut_off.handle([signal(FAILS, subject="binance/while")], at(2)).book
    assert {member.signal.subject for member in only(known).firing} == {"binance/before", "binance/while"}
    IncidentService(LakeIncidentStore(world.lake, None), Notifier()).handle(
        [signal(FAILS, 2, subject="binance/elsewhere")], at(3)
    )
    desk.handle([], at(4))
    book = LakeIncidentStore(world.lake, None).read(at(5)).book
    assert {member.signal.subject.partition("/")[2] for member in only(book).firing} == {"before", "while", "elsewhere"}


def test_without_a_copy_a_lake_that_is_away_is_an_error(world: World) -> None:
    with pytest.raises(StoreError, match=r"Reading s3://.*_incidents/book\.json failed: Unreachable"):
        LakeIncidentStore(away(world.lake), None).read(at(0))


def test_a_lake_and_a_disk_that_both_refuse_are_an_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = LakeIncidentStore(away(world.lake), tmp_path / "file" / "copy.json")
    with pytest.raises(StoreError, match=r"^Writing .* while the lake does not answer failed"):
        IncidentService(store, Notifier()).handle([signal(FAILS)], datetime.now(UTC))


def test_a_document_that_nobody_can_read_is_kept_beside_a_new_book(world: World) -> None:
    obstore.put(world.lake.bucket.object_store(), world.lake.key(BOOK), b'{"incidents": 7}')
    IncidentService(LakeIncidentStore(world.lake, None), Notifier()).handle([signal(FAILS)], at(2))
    assert only(LakeIncidentStore(world.lake, None).read(at(3)).book).cause is FAILS
    [kept] = [key for key in world.lake_files("_incidents/") if "unreadable" in key]
    assert world.lake_body(kept) == b'{"incidents": 7}'


def test_a_new_process_knows_what_the_lake_said_before_it_went_away(world: World, tmp_path: Path) -> None:
    IncidentService(LakeIncidentStore(world.lake, None), Notifier()).handle([signal(FAILS)], at(2))
    LakeIncidentStore(world.lake, tmp_path / "copy.json").read(at(3))
    kept = LakeIncidentStore(away(world.lake), tmp_path / "copy.json").read(at(3) + timedelta(minutes=1))
    assert only(kept.book).told is not None


@pytest.mark.parametrize("is_away", [False, True])
def test_what_a_clock_that_was_ahead_wrote_silences_no_alarm(world: World, tmp_path: Path, is_away: bool) -> None:
    year = 400 * 24 * 60
    lake = away(world.lake) if is_away else world.lake
    desk = IncidentService(LakeIncidentStore(lake, tmp_path / "copy.json"), Notifier())
    desk.handle([signal(FAILS, year)], at(year))
    # Cleared, and quiet, in that future.
    desk.handle([signal(FAILS, year + 2, firing=False)], at(year + 2))
    for minute in (0, 10, 20):
        book = desk.handle([], at(minute)).book
    assert book.live() == [], "it is resolved when it has been quiet for long enough"
    again = desk.handle([signal(FAILS, 30)], at(30)).book
    assert len(only(again).firing) == 1
    assert only(again).opened == at(30)


def test_a_message_that_waits_for_its_next_attempt_waits_an_hour_at_most_after_the_clock_was_ahead(
    world: World,
) -> None:
    book, year = IncidentState(), 400 * 24 * 60
    letter = DeadLetter(
        channel="mail", incident="i", title="t", body="b", severity=Severity.ERROR, first=at(year), again=at(year + 1),
        reason="refused",
    )  # fmt: skip
    store = LakeIncidentStore(world.lake, None)
    store.write(book.model_copy(update={"dead_letters": [letter]}), store.read(at(0)))
    [read] = store.read(at(0)).book.dead_letters
    assert (read.first, read.again) == (at(0), at(60))


@pytest.mark.parametrize("firing", [True, False])
def test_a_signal_from_a_machine_whose_clock_is_ahead_is_one_of_now(world: World, *, firing: bool) -> None:
    desk = IncidentService(LakeIncidentStore(world.lake, None), Notifier())
    desk.handle([signal(FAILS, 0)], at(5))
    book = desk.handle([signal(FAILS, 400 * 24 * 60, firing=firing)], at(6)).book
    [member] = only(book).members.values()
    assert (member.is_firing, member.cleared) == ((True, None) if firing else (False, at(6)))
    assert len(only(desk.handle([signal(FAILS, 8)], at(8)).book).firing) == 1
