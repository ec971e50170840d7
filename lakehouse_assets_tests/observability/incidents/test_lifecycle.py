"""The state machine of incidents: correlation, hysteresis, escalation, and changes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.incidents import correlation, lifecycle
from lakehouse_assets.observability.incidents.causes import LAKE, RULES, Cause, Severity
from lakehouse_assets.observability.incidents.lifecycle import (
    Notice,
    NoticeKind,
    acknowledge,
    mark_notified,
    notices,
    observe,
    resolve,
)
from lakehouse_assets.observability.incidents.merging import merge
from lakehouse_assets.observability.incidents.model import EVERY_OTHER, IncidentState, Note, Phase, Signal
from lakehouse_assets.observability.incidents.period_bits import FoldedPeriods
from lakehouse_assets_tests.observability.signals import KLINES, after, at, only, signal

SENSOR = {"source": "discovery", "subject": "binance", "period": None}
LATE, STALLED, FAILS, REFUSES = Cause.DATASET_LATE, Cause.EXCHANGE_STALLED, Cause.TRANSFER_FAILS, Cause.LAKE_REFUSES


def notify(state: IncidentState, minute: float) -> tuple[IncidentState, list[Notice]]:
    due = notices(state)
    return mark_notified(state, due, at(minute)), due


def kinds(state: IncidentState) -> list[NoticeKind]:
    return [notice.kind for notice in notices(state)]


def test_failures_after_one_outage_are_one_incident_with_three_notices_and_a_mismatch_stays_separate() -> None:
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
    later = [signal(FAILS, 60, firing=False, subject=failed.subject, period=failed.period) for failed in failing] + [
        signal(STALLED, 55, firing=False, **SENSOR)
    ]
    state, sent = IncidentState(), []
    for tick in range(160):
        minute = tick / 2
        signals = (*failing, mismatch, *stalled, *later)
        new = [signal for signal in signals if at(minute - 0.5) < signal.at <= at(minute)]
        state, due = notify(after(*new, minute=minute, state=state), minute)
        sent += due
        if minute == 50:
            by_cause = {incident.cause: incident for incident in state.live()}
    assert set(by_cause) == {STALLED, Cause.CHECKSUM_MISMATCH}
    assert len(by_cause[STALLED].firing) == 301
    assert len({member.signal.subject for member in by_cause[STALLED].firing if member.signal.cause is FAILS}) == 40
    outage_notices = [notice for notice in sent if notice.incident.cause is not Cause.CHECKSUM_MISMATCH]
    assert [(notice.kind, notice.incident.cause) for notice in outage_notices] == [
        (NoticeKind.OPENED, FAILS),
        (NoticeKind.WORSENED, STALLED),
        (NoticeKind.RESOLVED, STALLED),
    ]
    assert [notice.kind for notice in sent if notice.incident.cause is Cause.CHECKSUM_MISMATCH] == [NoticeKind.OPENED]
    assert only(state).cause is Cause.CHECKSUM_MISMATCH


def test_refusals_by_the_lake_are_one_incident_for_all_exchanges() -> None:
    refused = [signal(REFUSES, exchange=name, subject=f"{name}/x") for name in ("binance", "bybit", "okx")]
    failing = [signal(FAILS, 1, exchange=name, subject=f"{name}/y") for name in ("binance", "bybit")]
    incident = only(after(*refused, *failing, minute=2))
    assert (incident.scope, incident.cause, len(incident.firing)) == (LAKE, REFUSES, 5)


def test_exchanges_do_not_share_incidents() -> None:
    state = after(signal(FAILS), signal(FAILS, exchange="bybit", subject="bybit/x"), minute=1)
    assert {incident.scope for incident in state.live()} == {"binance", "bybit"}


def test_a_dataset_that_was_late_long_before_the_outage_stays_a_separate_incident() -> None:
    state = after(signal(LATE, -300, source="published"), minute=-299)
    state = after(signal(STALLED, 0, **SENSOR), signal(LATE, 1, source="published", subject="z"), minute=2, state=state)
    assert [(incident.cause, len(incident.members)) for incident in state.live()] == [(STALLED, 2), (LATE, 1)]


def test_consequences_left_of_an_outage_do_not_explain_much_later_failures() -> None:
    state = after(signal(STALLED, **SENSOR), signal(FAILS, 1), minute=2)
    state = after(signal(STALLED, 10, **SENSOR, firing=False), minute=11, state=state)
    state = after(
        signal(FAILS, 12, subject="a straggler"), signal(FAILS, 300, subject="another day"), minute=301, state=state
    )
    assert {incident.cause: set(incident.members) for incident in state.live()} == {
        STALLED: {"discovery|binance|", f"sync|{KLINES}|2024-03-04", "sync|a straggler|2024-03-04"},
        FAILS: {"sync|another day|2024-03-04"},
    }


def test_a_signal_that_changes_its_cause_moves_to_the_incident_of_the_new_cause() -> None:
    state = after(signal(FAILS), minute=2)
    state = after(signal(REFUSES, 3), minute=4, state=state)
    assert (only(state).cause, only(state).opened) == (REFUSES, at(0))
    [former] = [incident for incident in state.incidents.values() if incident.phase is Phase.MERGED]
    assert former.into == only(state).id


@pytest.mark.parametrize("cause", [cause for cause in Cause if RULES[cause].hold > timedelta()])
def test_a_problem_that_ends_within_the_hold_causes_no_notification(cause: Cause) -> None:
    state = after(signal(cause), minute=0.5)
    assert (only(state).phase, kinds(state)) == (Phase.PENDING, [])
    state = after(signal(cause, 0.6, firing=False), minute=0.7, state=state)
    assert (state.live(), kinds(state)) == ([], [])


def test_people_are_notified_within_five_minutes_of_a_failure() -> None:
    """With a tick every 30 s, and one missed tick."""
    for rule in RULES.values():
        assert rule.hold + 2 * timedelta(seconds=30) < timedelta(minutes=5)
    assert kinds(after(signal(LATE), minute=1)) == [NoticeKind.OPENED]


def test_a_flapping_signal_keeps_its_incident_and_is_notified_once() -> None:
    state, _ = notify(after(signal(FAILS), minute=2), 2)
    for minute in range(3, 60, 3):
        state, due = notify(after(signal(FAILS, minute, firing=minute % 2 == 1), minute=minute, state=state), minute)
        assert due == []
    assert only(state).members[f"sync|{KLINES}|2024-03-04"].times > 5


def test_an_incident_is_resolved_when_all_signals_stay_clear_and_reopened_when_they_return() -> None:
    state, _ = notify(after(signal(FAILS), minute=2), 2)
    state = after(signal(FAILS, 10, firing=False), minute=10, state=state)
    assert only(after(minute=14, state=state)).phase is Phase.OPEN
    state = after(minute=15, state=state)
    assert (state.live(), kinds(state)) == ([], [NoticeKind.RESOLVED])
    state, _ = notify(state, 15)
    state = after(signal(FAILS, 40), minute=42, state=state)
    assert (list(state.incidents), only(state).reopened, kinds(state)) == ([only(state).id], 1, [NoticeKind.REOPENED])


def test_a_signal_that_returns_after_an_hour_opens_a_new_incident() -> None:
    state, _ = notify(after(signal(FAILS), minute=2), 2)
    state, _ = notify(after(signal(FAILS, 10, firing=False), minute=10, state=state), 10)
    state, _ = notify(after(minute=16, state=state), 16)
    state = after(signal(FAILS, 100), minute=102, state=state)
    assert (len(state.incidents), kinds(state)) == (2, [NoticeKind.OPENED])


def test_an_unacknowledged_incident_escalates_once() -> None:
    state, _ = notify(after(signal(FAILS), minute=2), 2)
    assert kinds(after(minute=239, state=state)) == []
    state, due = notify(after(minute=240, state=state), 240)
    assert [(notice.kind, notice.incident.severity) for notice in due] == [(NoticeKind.WORSENED, Severity.CRITICAL)]
    assert kinds(after(minute=3000, state=state)) == []


def test_an_acknowledged_incident_does_not_escalate_and_keeps_the_note() -> None:
    state, _ = notify(after(signal(FAILS), minute=2), 2)
    state = acknowledge(state, only(state).id, Note(who="anna", at=at(5), text="looking"))
    state = after(minute=3000, state=state)
    assert (kinds(state), only(state).severity) == ([], Severity.ERROR)
    assert only(state).acknowledged == Note(who="anna", at=at(5), text="looking")


def test_resolving_by_hand_clears_earlier_signals_and_not_later_ones() -> None:
    state, _ = notify(after(signal(FAILS), signal(FAILS, subject="b"), minute=2), 2)
    incident = only(state)
    state = resolve(state, incident.id, Note(who="anna", at=at(5), text="gone for good"))
    assert state.incidents[incident.id].resolved == Note(who="anna", at=at(5), text="gone for good")
    state, due = notify(after(signal(FAILS, 2), minute=6, state=state), 6)
    assert (state.live(), [notice.kind for notice in due]) == ([], [NoticeKind.RESOLVED])
    assert only(after(signal(FAILS, 7), minute=8, state=state)).id == incident.id


@pytest.mark.parametrize("change", [acknowledge, resolve])
def test_an_impossible_change_is_refused_with_the_reason(change) -> None:
    state = after(signal(FAILS), minute=2)
    note = Note(who="anna", at=at(5))
    with pytest.raises(InputError, match=r"no incident 'nothing'.*lakehouse incidents list"):
        change(state, "nothing", note)
    resolved = resolve(state, only(state).id, note)
    with pytest.raises(InputError, match=r"already resolved at 2024-03-05 12:05 UTC"):
        change(resolved, next(iter(resolved.incidents)), note)


def failing(count: int, minute: float = 0) -> list[Signal]:
    first = date(2010, 1, 1)
    return [signal(FAILS, minute, period=str(first + timedelta(days=number))) for number in range(count)]


def cleared(signals: Sequence[Signal], minute: float) -> list[Signal]:
    return [signal.model_copy(update={"firing": False, "at": at(minute)}) for signal in signals]


@pytest.mark.parametrize("batch", [1, 31])
def test_an_incident_is_open_until_every_period_is_clear_including_folded_ones(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(correlation, "MAX_MEMBERS", 10)
    signals, state = failing(200), IncidentState()
    for start in range(0, len(signals), batch):
        state = after(*signals[start : start + batch], minute=2, state=state)
    assert (len(only(state).members), only(state).firing_count, only(state).counted) == (10, 200, 200)
    assert only(state).summary().startswith("200 signals of 1 assets")
    assert only(state).summary().endswith("and 195 more")
    named = [signal for signal in signals if signal.key in only(state).members]
    state = after(*cleared(named, 5), minute=60, state=state)
    assert (only(state).firing_count, only(state).phase) == (190, Phase.OPEN)
    rest = [signal for signal in signals if signal.key not in only(state).members]
    state = after(*cleared(rest[1:], 65), minute=120, state=state)
    assert (only(state).firing_count, only(state).phase) == (1, Phase.OPEN)
    assert only(state).summary().startswith("1 signals of 1 assets")
    state = after(*cleared(rest[:1], 125), minute=126, state=state)
    assert after(minute=140, state=state).live() == []


def test_a_folded_period_that_fails_again_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlation, "MAX_MEMBERS", 10)
    signals = failing(30)
    state = after(*signals, minute=2)
    state = after(*cleared(signals[20:], 5), minute=5, state=state)
    state = after(*[signal.model_copy(update={"at": at(6)}) for signal in signals[25:]], minute=6, state=state)
    assert (only(state).firing_count, only(state).counted) == (25, 30)


def test_folded_periods_move_to_the_incident_that_explains_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlation, "MAX_MEMBERS", 10)
    state = after(*failing(30), minute=2)
    state = after(signal(REFUSES, 3, subject="lake", source="lake", period=None), minute=4, state=state)
    assert (only(state).cause, only(state).firing_count) == (REFUSES, 31)
    state = after(*cleared(failing(30), 5), minute=6, state=state)
    assert only(state).firing_count == 1


def test_ten_years_of_failed_days_take_a_few_kilobytes_and_are_read_back_one_by_one() -> None:
    periods = [signal.period or "" for signal in failing(3_650)] + ["2024-01", "all", "2024-01-31-extra"]
    folded = FoldedPeriods(exchange="binance", cause=FAILS, first=at(0), at=at(0))
    for period in periods:
        folded.put(period)
    text = folded.model_dump_json(exclude_defaults=True)
    assert len(text) < 3_500
    read = FoldedPeriods.model_validate_json(text)
    assert len(read) == len(periods)
    assert set(read.periods()) == set(periods)
    read.clear("not contained")
    for period in periods[1:]:
        read.clear(period)
    assert (list(read.periods()), read.contains(periods[0]), read.contains(periods[1])) == (periods[:1], True, False)


def test_folded_periods_are_resolved_by_hand_and_merged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(correlation, "MAX_MEMBERS", 10)
    signals = failing(30)
    ours, theirs = after(*signals, minute=2), after(*signals[20:], *cleared(signals[:5], 3), minute=4)
    assert only(merge(ours, theirs, at(5))).firing_count in {25, 30}
    assert only(merge(theirs, ours, at(5))).firing_count >= 25
    id_ = only(ours).id
    assert resolve(ours, id_, Note(who="anna", at=at(6))).live() == []


def test_the_member_for_all_other_periods_in_an_older_state_clears_with_the_last_named_one() -> None:
    state = after(signal(FAILS), signal(FAILS, period=EVERY_OTHER), minute=2)
    assert only(state).firing_count == 2
    state = after(*cleared([signal(FAILS)], 5), minute=6, state=state)
    assert only(state).firing_count == 0


def test_the_oldest_closed_incidents_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "MAX_CLOSED", 3)
    state = IncidentState()
    for hour in range(0, 40, 2):
        state, _ = notify(after(signal(FAILS, hour * 60), minute=hour * 60 + 2, state=state), hour * 60 + 2)
        state, _ = notify(
            after(signal(FAILS, hour * 60 + 3, firing=False), minute=hour * 60 + 4, state=state), hour * 60 + 4
        )
        state, _ = notify(after(minute=hour * 60 + 20, state=state), hour * 60 + 20)
    assert len(state.incidents) <= 4


def test_merging_keeps_the_notes_and_notifications_of_both_states() -> None:
    shared, _ = notify(after(signal(FAILS), minute=2), 2)
    lake = acknowledge(shared, only(shared).id, Note(who="anna", at=at(3)))
    away, _ = notify(
        after(signal(REFUSES, 5, subject="lake", source="lake"), signal(FAILS, 6, subject="b"), minute=7, state=shared),
        7,
    )
    assert only(away).cause is REFUSES
    state = merge(lake, away, at(8))
    assert only(state).cause is REFUSES
    assert len(only(state).firing) == 3
    assert kinds(state) == []


def test_an_incident_resolved_by_hand_in_one_state_is_resolved_in_the_merged_one() -> None:
    shared, _ = notify(after(signal(FAILS), minute=2), 2)
    lake = resolve(shared, only(shared).id, Note(who="anna", at=at(3)))
    for state in (merge(lake, shared, at(4)), merge(shared, lake, at(4))):
        assert state.live() == []
        assert next(iter(state.incidents.values())).resolved == Note(who="anna", at=at(3))


def test_an_incident_resolved_by_time_in_one_state_keeps_signals_only_the_other_knew() -> None:
    ours = after(signal(FAILS, subject="binance/a"), minute=2)
    theirs = after(signal(FAILS, subject="binance/b"), minute=2)
    assert only(ours).id == only(theirs).id
    theirs = after(signal(FAILS, 3, firing=False, subject="binance/b"), minute=3, state=theirs)
    theirs = after(minute=20, state=theirs)
    assert theirs.live() == []
    for state in (merge(ours, theirs, at(21)), merge(theirs, ours, at(21))):
        assert [member.signal.subject for member in only(state).firing] == ["binance/a"]


def test_a_state_is_the_same_after_being_written_and_read() -> None:
    state, _ = notify(after(signal(FAILS), signal(REFUSES, 1), minute=3), 3)
    assert IncidentState.model_validate_json(state.model_dump_json()) == state


def test_observing_does_not_change_the_given_state() -> None:
    state = after(signal(FAILS), minute=2)
    before = state.model_copy(deep=True)
    observe(state, [signal(REFUSES, 3)], at(4))
    assert state == before


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
