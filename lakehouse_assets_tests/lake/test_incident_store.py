"""The incident state in a real store: two writers, an unavailable lake, an unreadable document."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest

from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.incident_store import STATE_KEY, LakeIncidentStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.observability.incidents.causes import Cause, Severity
from lakehouse_assets.observability.incidents.model import DeadLetter, IncidentState
from lakehouse_assets.observability.incidents.notification import Notifier
from lakehouse_assets.observability.incidents.service import IncidentService
from lakehouse_assets_tests.observability.signals import after, at, only, signal
from lakehouse_assets_tests.world import World

FAILS = Cause.TRANSFER_FAILS


def unavailable(lake: Lake) -> Lake:
    return Lake(replace(lake.bucket, endpoint_url="http://127.0.0.1:9"), lake.prefix)


def test_a_writer_without_the_latest_version_writes_nothing(world: World) -> None:
    ours, theirs = LakeIncidentStore(world.lake, None), LakeIncidentStore(world.lake, None)
    first, second = ours.read(at(0)), theirs.read(at(0))
    state = after(signal(FAILS), minute=2)
    assert ours.write(state, first)
    assert not theirs.write(IncidentState(), second)
    assert theirs.read(at(0)).state == state
    stale = ours.read(at(0))
    assert theirs.write(IncidentState(), theirs.read(at(0)))
    assert not ours.write(state, stale)


WRITTEN_BY_AN_OLDER_VERSION = b"""{"incidents": {"binance-transfer-fails-20240305-1": {
    "id": "binance-transfer-fails-20240305-1", "cause": "transfer_fails", "scope": "binance", "severity": "error",
    "phase": "open", "opened": "2024-03-05T12:00:00Z", "counted": 2,
    "told": {"phase": "open", "severity": "error", "at": "2024-03-05T12:02:00Z"},
    "members": {"sync|binance/a|2024-03-04": {
        "signal": {"source": "sync", "cause": "transfer_fails", "exchange": "binance", "subject": "binance/a",
            "period": "2024-03-04", "at": "2024-03-05T12:00:00Z", "text": "failed"},
        "first": "2024-03-05T12:00:00Z"}},
    "folded": {"sync|binance/b": {"exchange": "binance", "cause": "transfer_fails", "first": "2024-03-05T12:00:00Z",
        "at": "2024-03-05T12:00:00Z", "firing": {"2024-03": 16}}}}},
    "cleared": {"sync|binance/c|2024-03-04": "2024-03-05T12:01:00Z"},
    "dead_letters": [{"channel": "mail", "incident": "i", "title": "t", "body": "b", "severity": "error",
        "first": "2024-03-05T12:02:00Z", "again": "2024-03-05T12:03:00Z", "reason": "refused"}]}"""


def test_a_document_of_an_older_version_is_read(world: World) -> None:
    obstore.put(world.lake.bucket.object_store(), world.lake.key("_incidents/book.json"), WRITTEN_BY_AN_OLDER_VERSION)
    state = LakeIncidentStore(world.lake, None).read(at(5)).state
    incident = only(state)
    assert (incident.told.at, incident.firing_count, list(incident.members)) == (
        at(2),
        2,
        ["sync|binance/a|2024-03-04"],
    )
    assert list(incident.folded["sync|binance/b"].periods()) == ["2024-03-04"]
    assert state.cleared == {"sync|binance/c|2024-03-04": at(1)}
    assert [letter.again for letter in state.dead_letters] == [at(3)]
    assert [key for key in world.lake_files("_incidents/") if "unreadable" in key] == []


def test_two_services_write_one_state(world: World) -> None:
    services = [IncidentService(LakeIncidentStore(world.lake, None), Notifier()) for _ in range(2)]
    for number in range(6):
        services[number % 2].handle([signal(FAILS, subject=f"binance/{number}")], at(number))
    assert len(only(LakeIncidentStore(world.lake, None).read(at(9)).state).firing) == 6


def test_a_local_copy_written_while_the_lake_was_unavailable_is_merged(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    service = IncidentService(LakeIncidentStore(world.lake, copy), Notifier())
    service.handle([signal(FAILS, subject="binance/before")], at(1))
    cut_off = IncidentService(LakeIncidentStore(unavailable(world.lake), copy), Notifier())
    local = cut_off.handle([signal(FAILS, subject="binance/while")], at(2)).state
    assert {member.signal.subject for member in only(local).firing} == {"binance/before", "binance/while"}
    IncidentService(LakeIncidentStore(world.lake, None), Notifier()).handle(
        [signal(FAILS, 2, subject="binance/elsewhere")], at(3)
    )
    service.handle([], at(4))
    state = LakeIncidentStore(world.lake, None).read(at(5)).state
    assert {member.signal.subject.partition("/")[2] for member in only(state).firing} == {
        "before",
        "while",
        "elsewhere",
    }


def test_without_a_copy_an_unavailable_lake_is_an_error(world: World) -> None:
    with pytest.raises(StoreError, match=r"Reading s3://.*_incidents/book\.json failed: Unreachable"):
        LakeIncidentStore(unavailable(world.lake), None).read(at(0))


def test_a_failing_lake_and_a_failing_disk_are_an_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = LakeIncidentStore(unavailable(world.lake), tmp_path / "file" / "copy.json")
    with pytest.raises(StoreError, match=r"^Writing .* while the lake does not answer failed"):
        IncidentService(store, Notifier()).handle([signal(FAILS)], datetime.now(UTC))


def test_an_unreadable_document_is_kept_beside_a_new_state(world: World) -> None:
    obstore.put(world.lake.bucket.object_store(), world.lake.key(STATE_KEY), b'{"incidents": 7}')
    IncidentService(LakeIncidentStore(world.lake, None), Notifier()).handle([signal(FAILS)], at(2))
    assert only(LakeIncidentStore(world.lake, None).read(at(3)).state).cause is FAILS
    [copy] = [key for key in world.lake_files("_incidents/") if "unreadable" in key]
    assert world.lake_body(copy) == b'{"incidents": 7}'


def test_a_new_process_reads_the_copy_while_the_lake_is_unavailable(world: World, tmp_path: Path) -> None:
    IncidentService(LakeIncidentStore(world.lake, None), Notifier()).handle([signal(FAILS)], at(2))
    LakeIncidentStore(world.lake, tmp_path / "copy.json").read(at(3))
    stored = LakeIncidentStore(unavailable(world.lake), tmp_path / "copy.json").read(at(3) + timedelta(minutes=1))
    assert only(stored.state).told is not None


@pytest.mark.parametrize("is_unavailable", [False, True])
def test_times_written_by_a_clock_that_was_ahead_silence_no_alarm(
    world: World, tmp_path: Path, is_unavailable: bool
) -> None:
    year = 400 * 24 * 60
    lake = unavailable(world.lake) if is_unavailable else world.lake
    service = IncidentService(LakeIncidentStore(lake, tmp_path / "copy.json"), Notifier())
    service.handle([signal(FAILS, year)], at(year))
    # Cleared, and quiet, in the future.
    service.handle([signal(FAILS, year + 2, firing=False)], at(year + 2))
    for minute in (0, 10, 20):
        state = service.handle([], at(minute)).state
    assert state.live() == [], "it is resolved when it has been quiet for long enough"
    state = service.handle([signal(FAILS, 30)], at(30)).state
    assert len(only(state).firing) == 1
    assert only(state).opened == at(30)


def test_a_dead_letter_waits_at_most_an_hour_after_the_clock_was_ahead(
    world: World,
) -> None:
    state, year = IncidentState(), 400 * 24 * 60
    letter = DeadLetter(
        channel="mail", incident="i", title="t", body="b", severity=Severity.ERROR, first=at(year), again=at(year + 1),
        reason="refused",
    )  # fmt: skip
    store = LakeIncidentStore(world.lake, None)
    store.write(state.model_copy(update={"dead_letters": [letter]}), store.read(at(0)))
    [read] = store.read(at(0)).state.dead_letters
    assert (read.first, read.again) == (at(0), at(60))


@pytest.mark.parametrize("firing", [True, False])
def test_a_signal_from_a_clock_that_is_ahead_counts_as_one_of_now(world: World, *, firing: bool) -> None:
    service = IncidentService(LakeIncidentStore(world.lake, None), Notifier())
    service.handle([signal(FAILS, 0)], at(5))
    state = service.handle([signal(FAILS, 400 * 24 * 60, firing=firing)], at(6)).state
    [member] = only(state).members.values()
    assert (member.is_firing, member.cleared) == ((True, None) if firing else (False, at(6)))
    assert len(only(service.handle([signal(FAILS, 8)], at(8)).state).firing) == 1
