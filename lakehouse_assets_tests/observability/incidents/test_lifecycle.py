"""The state machine of incidents: correlation, hysteresis, escalation, and what a person does by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.incidents import lifecycle
from lakehouse_assets.observability.incidents.causes import LAKE, RULES, Cause, Severity
from lakehouse_assets.observability.incidents.lifecycle import (
    Kind,
    Notice,
    acknowledge,
    mark_notified,
    merge,
    notices,
    observe,
    resolve,
)
from lakehouse_assets.observability.incidents.model import EVERY_OTHER, IncidentState, Note, Phase, Signal
from lakehouse_assets.observability.incidents.period_bits import FoldedPeriods
from lakehouse_assets_tests.observability.signals import KLINES, after, at, only, signal

SENSOR = {"source": "discovery", "subject": "binance", "period": None}
LATE, STALLED, FAILS, REFUSES = Cause.DATASET_LATE, Cause.EXCHANGE_STALLED, Cause.TRANSFER_FAILS, Cause.LAKE_REFUSES


def told(book: IncidentState, minute: float) -> tuple[IncidentState, list[Notice]]:
    due = notices(book)
    return mark_notified(book, due, at(minute)), due


def kinds(book: IncidentState) -> list[Kind]:
    return [notice.kind for notice in notices(book)]


def test_a_storm_after_one_outage_is_one_incident_of_at_most_three_notices_and_leaves_a_mismatch_alone() -> None:
    failing = [
        signal(
            FAILS,
            minute=number / 30,
            subject=f"binance/um/type{number % 40}/daily",
            period=f"2024-02-{number // 40 + 1:02}",
        )
        for number in range(300)
    ]
    mismatch = signal(Cause.CHECKSUM_MISMATCH, minute=3, source="checksums", period=None)
    stalled = [signal(STALLED, minute, **SENSOR) for minute in (6, 7, 8)]
    later = [signal(FAILS, 60, firing=False, subject=each.subject, period=each.period) for each in failing] + [
        signal(STALLED, 55, firing=False, **SENSOR)
    ]
    book, sent = IncidentState(), []
    for tick in range(160):
        minute = tick / 2
        came = [each for each in (*failing, mismatch, *stalled, *later) if at(minute - 0.5) < each.at <= at(minute)]
        book, due = told(after(*came, minute=minute, book=book), minute)
        sent += due
        if minute == 50:
            held = {incident.cause: incident for incident in book.live()}
    assert set(held) == {STALLED, Cause.CHECKSUM_MISMATCH}
    assert len(held[STALLED].firing) == 301
    assert len({member.signal.subject for member in held[STALLED].firing if member.signal.cause is FAILS}) == 40
    of_storm = [notice for notice in sent if notice.incident.cause is not Cause.CHECKSUM_MISMATCH]
    assert [(notice.kind, notice.incident.cause) for notice in of_storm] == [
        (Kind.OPENED, FAILS),
        (Kind.WORSENED, STALLED),
        (Kind.RESOLVED, STALLED),
    ]
    assert [notice.kind for notice in sent if notice.incident.cause is Cause.CHECKSUM_MISMATCH] == [Kind.OPENED]
    assert only(book).cause is Cause.CHECKSUM_MISMATCH


def test_what_the_lake_refuses_is_one_incident_whatever_the_exchange() -> None:
    refused = [signal(REFUSES, exchange=name, subject=f"{name}/x") for name in ("binance", "bybit", "okx")]
    failing = [signal(FAILS, 1, exchange=name, subject=f"{name}/y") for name in ("binance", "bybit")]
    incident = only(after(*refused, *failing, minute=2))
    assert (incident.scope, incident.cause, len(incident.firing)) == (LAKE, REFUSES, 5)


def test_exchanges_do_not_share_incidents() -> None:
    book = after(signal(FAILS), signal(FAILS, exchange="bybit", subject="bybit/x"), minute=1)
    assert {incident.scope for incident in book.live()} == {"binance", "bybit"}


def test_a_dataset_that_was_late_long_before_the_outage_stays_an_incident_of_its_own() -> None:
    book = after(signal(LATE, -300, source="published"), minute=-299)
    book = after(signal(STALLED, 0, **SENSOR), signal(LATE, 1, source="published", subject="z"), minute=2, book=book)
    assert [(incident.cause, len(incident.members)) for incident in book.live()] == [(STALLED, 2), (LATE, 1)]


def test_what_is_left_of_an_outage_explains_nothing_that_comes_much_later() -> None:
    book = after(signal(STALLED, **SENSOR), signal(FAILS, 1), minute=2)
    book = after(signal(STALLED, 10, **SENSOR, firing=False), minute=11, book=book)
    book = after(
        signal(FAILS, 12, subject="a straggler"), signal(FAILS, 300, subject="another day"), minute=301, book=book
    )
    assert {incident.cause: set(incident.members) for incident in book.live()} == {
        STALLED: {"discovery|binance|", f"sync|{KLINES}|2024-03-04", "sync|a straggler|2024-03-04"},
        FAILS: {"sync|another day|2024-03-04"},
    }


def test_a_signal_that_changes_its_cause_moves_to_the_incident_of_that() -> None:
    book = after(signal(FAILS), minute=2)
    book = after(signal(REFUSES, 3), minute=4, book=book)
    assert (only(book).cause, only(book).opened) == (REFUSES, at(0))
    [former] = [incident for incident in book.incidents.values() if incident.phase is Phase.MERGED]
    assert former.into == only(book).id


@pytest.mark.parametrize("cause", [cause for cause in Cause if RULES[cause].hold > timedelta()])
def test_nobody_is_told_of_what_passes_within_the_hold(cause: Cause) -> None:
    book = after(signal(cause), minute=0.5)
    assert (only(book).phase, kinds(book)) == (Phase.PENDING, [])
    book = after(signal(cause, 0.6, firing=False), minute=0.7, book=book)
    assert (book.live(), kinds(book)) == ([], [])


def test_people_are_told_within_five_minutes_of_a_failure() -> None:
    """With a tick every 30 s, of which one may be missed."""
    for rule in RULES.values():
        assert rule.hold + 2 * timedelta(seconds=30) < timedelta(minutes=5)
    assert kinds(after(signal(LATE), minute=1)) == [Kind.OPENED]


def test_a_flapping_signal_keeps_its_incident_and_tells_of_it_once() -> None:
    book, _ = told(after(signal(FAILS), minute=2), 2)
    for minute in range(3, 60, 3):
        book, due = told(after(signal(FAILS, minute, firing=minute % 2 == 1), minute=minute, book=book), minute)
        assert due == []
    assert only(book).members[f"sync|{KLINES}|2024-03-04"].times > 5


def test_an_incident_is_resolved_when_all_has_been_clear_for_a_while_and_the_same_when_it_returns() -> None:
    book, _ = told(after(signal(FAILS), minute=2), 2)
    book = after(signal(FAILS, 10, firing=False), minute=10, book=book)
    assert only(after(minute=14, book=book)).phase is Phase.OPEN
    book = after(minute=15, book=book)
    assert (book.live(), kinds(book)) == ([], [Kind.RESOLVED])
    book, _ = told(book, 15)
    book = after(signal(FAILS, 40), minute=42, book=book)
    assert (list(book.incidents), only(book).reopened, kinds(book)) == ([only(book).id], 1, [Kind.REOPENED])


def test_after_an_hour_it_is_another_incident() -> None:
    book, _ = told(after(signal(FAILS), minute=2), 2)
    book, _ = told(after(signal(FAILS, 10, firing=False), minute=10, book=book), 10)
    book, _ = told(after(minute=16, book=book), 16)
    book = after(signal(FAILS, 100), minute=102, book=book)
    assert (len(book.incidents), kinds(book)) == (2, [Kind.OPENED])


def test_an_incident_that_nobody_acknowledges_is_raised_once() -> None:
    book, _ = told(after(signal(FAILS), minute=2), 2)
    assert kinds(after(minute=239, book=book)) == []
    book, due = told(after(minute=240, book=book), 240)
    assert [(notice.kind, notice.incident.severity) for notice in due] == [(Kind.WORSENED, Severity.CRITICAL)]
    assert kinds(after(minute=3000, book=book)) == []


def test_an_acknowledged_incident_is_not_raised_and_says_who_did_it() -> None:
    book, _ = told(after(signal(FAILS), minute=2), 2)
    book = acknowledge(book, only(book).id, Note(who="anna", at=at(5), text="looking"))
    book = after(minute=3000, book=book)
    assert (kinds(book), only(book).severity) == ([], Severity.ERROR)
    assert only(book).acknowledged == Note(who="anna", at=at(5), text="looking")


def test_resolving_by_hand_ends_what_fired_before_and_not_what_fires_after() -> None:
    book, _ = told(after(signal(FAILS), signal(FAILS, subject="b"), minute=2), 2)
    incident = only(book)
    book = resolve(book, incident.id, Note(who="anna", at=at(5), text="gone for good"))
    assert book.incidents[incident.id].resolved == Note(who="anna", at=at(5), text="gone for good")
    book, due = told(after(signal(FAILS, 2), minute=6, book=book), 6)
    assert (book.live(), [notice.kind for notice in due]) == ([], [Kind.RESOLVED])
    assert only(after(signal(FAILS, 7), minute=8, book=book)).id == incident.id


@pytest.mark.parametrize("act", [acknowledge, resolve])
def test_what_cannot_be_done_by_hand_is_said(act) -> None:
    book = after(signal(FAILS), minute=2)
    note = Note(who="anna", at=at(5))
    with pytest.raises(InputError, match=r"no incident 'nothing'.*lakehouse incidents list"):
        act(book, "nothing", note)
    done = resolve(book, only(book).id, note)
    with pytest.raises(InputError, match=r"resolved already, since 2024-03-05 12:05 UTC"):
        act(done, next(iter(done.incidents)), note)


def failing(count: int, minute: float = 0) -> list[Signal]:
    first = date(2010, 1, 1)
    return [signal(FAILS, minute, period=str(first + timedelta(days=number))) for number in range(count)]


def right_again(signals: Sequence[Signal], minute: float) -> list[Signal]:
    return [each.model_copy(update={"firing": False, "at": at(minute)}) for each in signals]


@pytest.mark.parametrize("batch", [1, 31])
def test_an_incident_is_open_until_every_period_is_right_also_those_beyond_what_it_names(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(lifecycle, "MAX_MEMBERS", 10)
    signals, book = failing(200), IncidentState()
    for begin in range(0, len(signals), batch):
        book = after(*signals[begin : begin + batch], minute=2, book=book)
    assert (len(only(book).members), only(book).firing_count, only(book).counted) == (10, 200, 200)
    assert only(book).summary().startswith("200 signals of 1 assets")
    assert only(book).summary().endswith("and 195 more")
    named = [signal for signal in signals if signal.key in only(book).members]
    book = after(*right_again(named, 5), minute=60, book=book)
    assert (only(book).firing_count, only(book).phase) == (190, Phase.OPEN)
    rest = [signal for signal in signals if signal.key not in only(book).members]
    book = after(*right_again(rest[1:], 65), minute=120, book=book)
    assert (only(book).firing_count, only(book).phase) == (1, Phase.OPEN)
    assert only(book).summary().startswith("1 signals of 1 assets")
    book = after(*right_again(rest[:1], 125), minute=126, book=book)
    assert after(minute=140, book=book).live() == []


def test_a_folded_period_that_fails_again_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "MAX_MEMBERS", 10)
    signals = failing(30)
    book = after(*signals, minute=2)
    book = after(*right_again(signals[20:], 5), minute=5, book=book)
    book = after(*[each.model_copy(update={"at": at(6)}) for each in signals[25:]], minute=6, book=book)
    assert (only(book).firing_count, only(book).counted) == (25, 30)


def test_folded_periods_become_part_of_what_explains_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "MAX_MEMBERS", 10)
    book = after(*failing(30), minute=2)
    book = after(signal(REFUSES, 3, subject="lake", source="lake", period=None), minute=4, book=book)
    assert (only(book).cause, only(book).firing_count) == (REFUSES, 31)
    book = after(*right_again(failing(30), 5), minute=6, book=book)
    assert only(book).firing_count == 1


def test_ten_years_of_failed_days_take_a_few_kilobytes_and_are_read_back_one_by_one() -> None:
    periods = [each.period or "" for each in failing(3_650)] + ["2024-01", "all", "2024-01-31-extra"]
    folded = FoldedPeriods(exchange="binance", cause=FAILS, first=at(0), at=at(0))
    for period in periods:
        folded.put(period)
    text = folded.model_dump_json(exclude_defaults=True)
    assert len(text) < 3_500
    read = FoldedPeriods.model_validate_json(text)
    assert len(read) == len(periods)
    assert set(read.periods()) == set(periods)
    read.clear("never there")
    for period in periods[1:]:
        read.clear(period)
    assert (list(read.periods()), read.holds(periods[0]), read.holds(periods[1])) == (periods[:1], True, False)


def test_a_person_resolves_folded_periods_too_and_two_books_with_some_become_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle, "MAX_MEMBERS", 10)
    signals = failing(30)
    ours, theirs = after(*signals, minute=2), after(*signals[20:], *right_again(signals[:5], 3), minute=4)
    assert only(merge(ours, theirs, at(5))).firing_count in {25, 30}
    assert only(merge(theirs, ours, at(5))).firing_count >= 25
    id_ = only(ours).id
    assert resolve(ours, id_, Note(who="anna", at=at(6))).live() == []


def test_the_periods_that_an_older_book_held_as_one_are_right_when_all_others_are() -> None:
    book = after(signal(FAILS), signal(FAILS, period=EVERY_OTHER), minute=2)
    assert only(book).firing_count == 2
    book = after(*right_again([signal(FAILS)], 5), minute=6, book=book)
    assert only(book).firing_count == 0


def test_closed_incidents_are_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "MAX_CLOSED", 3)
    book = IncidentState()
    for hour in range(0, 40, 2):
        book, _ = told(after(signal(FAILS, hour * 60), minute=hour * 60 + 2, book=book), hour * 60 + 2)
        book, _ = told(
            after(signal(FAILS, hour * 60 + 3, firing=False), minute=hour * 60 + 4, book=book), hour * 60 + 4
        )
        book, _ = told(after(minute=hour * 60 + 20, book=book), hour * 60 + 20)
    assert len(book.incidents) <= 4


def test_two_books_become_one_with_what_either_was_told() -> None:
    shared, _ = told(after(signal(FAILS), minute=2), 2)
    lake = acknowledge(shared, only(shared).id, Note(who="anna", at=at(3)))
    away, _ = told(
        after(signal(REFUSES, 5, subject="lake", source="lake"), signal(FAILS, 6, subject="b"), minute=7, book=shared),
        7,
    )
    assert only(away).cause is REFUSES
    book = merge(lake, away, at(8))
    assert only(book).cause is REFUSES
    assert len(only(book).firing) == 3
    assert kinds(book) == []


def test_what_was_resolved_by_hand_elsewhere_is_resolved() -> None:
    shared, _ = told(after(signal(FAILS), minute=2), 2)
    lake = resolve(shared, only(shared).id, Note(who="anna", at=at(3)))
    for book in (merge(lake, shared, at(4)), merge(shared, lake, at(4))):
        assert book.live() == []
        assert next(iter(book.incidents.values())).resolved == Note(who="anna", at=at(3))


def test_what_time_resolved_elsewhere_takes_no_signal_that_was_not_known_there() -> None:
    ours = after(signal(FAILS, subject="binance/a"), minute=2)
    theirs = after(signal(FAILS, subject="binance/b"), minute=2)
    assert only(ours).id == only(theirs).id
    theirs = after(signal(FAILS, 3, firing=False, subject="binance/b"), minute=3, book=theirs)
    theirs = after(minute=20, book=theirs)
    assert theirs.live() == []
    for book in (merge(ours, theirs, at(21)), merge(theirs, ours, at(21))):
        assert [member.signal.subject for member in only(book).firing] == ["binance/a"]


def test_a_book_survives_being_written_and_read() -> None:
    book, _ = told(after(signal(FAILS), signal(REFUSES, 1), minute=3), 3)
    assert IncidentState.model_validate_json(book.model_dump_json()) == book


def test_observing_leaves_the_given_book_alone() -> None:
    book = after(signal(FAILS), minute=2)
    before = book.model_copy(deep=True)
    observe(book, [signal(REFUSES, 3)], at(4))
    assert book == before


def test_a_summary_names_the_cause_before_its_consequences() -> None:
    many: list[Signal] = [signal(FAILS, subject=f"binance/um/type{number}/daily") for number in range(9)]
    lines = (
        only(after(*many, signal(STALLED, 1, subject="binance", period=None, text="no answer"), minute=2))
        .summary()
        .splitlines()
    )
    assert lines[0] == "10 signals of 10 assets since 2024-03-05 12:00 UTC."
    assert lines[1] == "binance: no answer"
    assert lines[-1] == "and 5 more"
