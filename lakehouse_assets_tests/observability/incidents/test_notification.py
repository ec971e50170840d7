"""Notifications reach real receivers, by route; a receiver that is down leaves a dead letter; no secret is shown."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import SecretStr

from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.incidents import notification
from lakehouse_assets.observability.incidents.alertmanager import Alertmanager, alerts_of
from lakehouse_assets.observability.incidents.causes import Cause, Role, Severity
from lakehouse_assets.observability.incidents.lifecycle import acknowledge
from lakehouse_assets.observability.incidents.messages import Links
from lakehouse_assets.observability.incidents.model import IncidentState, Note
from lakehouse_assets.observability.incidents.notification import (
    GIVE_UP,
    LONGEST_PAUSE,
    Notifier,
    Route,
)
from lakehouse_assets.observability.incidents.service import IncidentService, StoredState
from lakehouse_assets_tests.observability.signals import KLINES, NOON, after, at, only, signal
from lakehouse_assets_tests.observability.sinks import Mailbox, Webhook, alertmanager, free_port, wait_for

TOKEN = "xoxb-planted-token-4711"
LINKS = Links("https://dagster.example.org/")
FAILS = Cause.TRANSFER_FAILS


class Memory:
    """A store in memory, with the same contract as the lake's store."""

    def __init__(self) -> None:
        self.state = IncidentState()

    def read(self, _now: datetime) -> StoredState:
        return StoredState(self.state, self.state)

    def write(self, state: IncidentState, stored: StoredState) -> bool:
        if stored.version is not self.state:
            return False
        self.state = state
        return True


def route(webhook: Webhook, path: str = TOKEN, **fields) -> Route:
    name = fields.pop("name", "hook")
    return Route(name=name, urls=(SecretStr(f"json://127.0.0.1:{webhook.port}/{path}"),), **fields)


def test_a_webhook_and_a_mail_have_problem_start_and_links(webhook: Webhook, mailbox: Mailbox) -> None:
    mail = f"mailto://127.0.0.1:{mailbox.port}?from=lake@example.org&to=oncall@example.org&mode=insecure"
    routes = [route(webhook), Route(name="mail", urls=(SecretStr(mail),))]
    service = IncidentService(Memory(), Notifier(routes, links=LINKS))
    handled = service.handle([signal(FAILS, text="3 of 9 objects failed", run_id="abc-1")], at(2))
    assert handled.delivery.failed == ()
    [(path, document)] = webhook.received
    [sent] = mailbox.mails
    assert path == f"/{TOKEN}"
    assert document["title"] == sent["subject"] == "[error] binance: objects cannot be copied into the lake (opened)"
    body = sent.get_body(("plain", "html")).get_content()
    for text in (document["message"], body):
        assert f"{KLINES} 2024-03-04: 3 of 9 objects failed" in text
        assert "since 2024-03-05 12:00 UTC" in text
        assert "https://dagster.example.org/runs/abc-1" in text
        assert f"https://dagster.example.org/assets/{KLINES}?view=partitions" in text
        assert f"lakehouse incidents ack {only(handled.state).id}" in text
    service.handle([signal(FAILS, 3, firing=False)], at(4))
    service.handle([], at(9))
    assert webhook.titles[1:] == ["[error] binance: objects cannot be copied into the lake (resolved)"]


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({}, True),
        ({"severity": Severity.ERROR}, True),
        ({"severity": Severity.CRITICAL}, False),
        ({"exchanges": ("binance", "okx")}, True),
        ({"exchanges": ("okx",)}, False),
        ({"roles": (Role.DATA_ENGINEER,)}, True),
        ({"roles": (Role.MANAGEMENT,), "exchanges": ("binance",)}, False),
    ],
)
def test_a_route_takes_messages_that_meet_all_its_conditions(webhook: Webhook, fields, taken: bool) -> None:
    IncidentService(Memory(), Notifier([route(webhook, **fields)])).handle([signal(FAILS)], at(2))
    assert len(webhook.received) == taken


def test_incidents_of_the_lake_are_sent_to_routes_of_every_exchange(webhook: Webhook) -> None:
    service = IncidentService(Memory(), Notifier([route(webhook, exchanges=("okx",))]))
    service.handle([signal(Cause.LAKE_REFUSES)], at(2))
    assert webhook.titles == ["[critical] lake: the lake refuses requests or does not answer (opened)"]


def test_a_channel_that_is_down_leaves_a_dead_letter_that_is_delivered_later(webhook: Webhook) -> None:
    service = IncidentService(Memory(), Notifier([route(webhook)]))
    webhook.status = 503
    [letter] = service.handle([signal(FAILS)], at(2)).state.dead_letters
    assert (letter.channel, letter.attempts, letter.incident) == ("hook#1", 1, "binance-transfer-fails-20240305-1")
    assert letter.again == at(2) + timedelta(seconds=30)
    webhook.status = 200
    assert len(service.handle([], at(2.1)).state.dead_letters) == 1
    assert service.handle([], at(3)).state.dead_letters == []
    [(_, document)] = webhook.received
    assert "(Delayed: first tried 2024-03-05 12:02 UTC.)" in document["message"]


def test_pauses_between_attempts_grow_until_the_letter_is_kept_without_another(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification, "ATTEMPTS", 1)
    store = Memory()
    service = IncidentService(store, Notifier([route(webhook)]))
    webhook.status = 503
    state = service.handle([signal(FAILS)], at(2)).state
    attempts, now = [at(2)], at(2)
    while state.dead_letters[0].again is not None:
        now = state.dead_letters[0].again
        state = acknowledge(state, only(state).id, Note(who="anna", at=now))
        store.state = state
        state = service.handle([], now).state
        attempts.append(now)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (timedelta(seconds=30), LONGEST_PAUSE)
    assert GIVE_UP <= attempts[-1] - attempts[0] <= GIVE_UP + LONGEST_PAUSE
    assert [letter.attempts for letter in state.dead_letters] == [len(attempts)]


def test_one_channel_that_is_down_does_not_silence_another(webhook: Webhook) -> None:
    unreachable = Route(name="gone", urls=(SecretStr(f"json://127.0.0.1:{free_port()}/{TOKEN}"),))
    handled = IncidentService(Memory(), Notifier([unreachable, route(webhook)])).handle([signal(FAILS)], at(2))
    assert len(webhook.received) == 1
    assert [letter.channel for letter in handled.state.dead_letters] == ["gone#1"]


def test_no_address_is_ever_shown(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    webhook.status = 403
    notifier = Notifier(
        [route(webhook)], alertmanager=Alertmanager(SecretStr(f"http://u:{TOKEN}@127.0.0.1:{free_port()}"))
    )
    handled = IncidentService(Memory(), notifier).handle([signal(FAILS)], at(2))
    assert {letter.channel for letter in handled.state.dead_letters} == {"alertmanager", "hook#1"}
    with pytest.raises(InputError) as wrong:
        Notifier([Route(name="odd", urls=(SecretStr(f"nonsense://{TOKEN}"),))]).check()
    assert "odd#1" in str(wrong.value)
    shown = (
        handled.state.model_dump_json()
        + repr(route(webhook))
        + caplog.text
        + repr(wrong.value)
        + repr(handled.delivery)
    )
    assert TOKEN not in shown


def test_alertmanager_groups_sends_mail_and_webhook_and_is_sent_the_resolution(
    tmp_path: Path, webhook: Webhook, mailbox: Mailbox
) -> None:
    now = datetime.now(NOON.tzinfo)
    storm = [
        signal(
            FAILS, subject=f"binance/um/type{number % 4}/daily", period=f"2024-02-{number // 4 + 1:02}", run_id="abc-1"
        ).model_copy(update={"at": now - timedelta(minutes=5)})
        for number in range(40)
    ]
    with alertmanager(tmp_path, webhook, mailbox) as url:
        notifier = Notifier([], alertmanager=Alertmanager(SecretStr(url)), links=LINKS)
        service = IncidentService(Memory(), notifier)
        handled = service.handle(storm, now)
        assert (handled.delivery.failed, len(handled.notified)) == ((), 1)
        wait_for(lambda: webhook.received and mailbox.mails)
        [alert] = webhook.received[0][1]["alerts"]
        assert alert["labels"] == {
            "alertname": "lakehouse_transfer_fails",
            "exchange": "binance",
            "severity": "error",
            "role": "data_engineer",
            "cause": "transfer_fails",
        }
        assert alert["generatorURL"] == "https://dagster.example.org/runs/abc-1"
        assert alert["annotations"]["incident"] == only(handled.state).id
        assert "40 signals of 4 assets" in alert["annotations"]["description"]
        assert mailbox.recipients == [["oncall@example.org"]]
        assert "lakehouse_transfer_fails" in mailbox.mails[0]["subject"]
        clear = [failed.model_copy(update={"firing": False, "at": now}) for failed in storm]
        service.handle(clear, now)
        service._store.state.incidents[only(handled.state).id].quiet = now - timedelta(minutes=6)
        assert service.handle([], now).state.live() == []
        wait_for(lambda: webhook.received[-1][1]["status"] == "resolved")


def test_routes_are_used_while_alertmanager_is_down(webhook: Webhook) -> None:
    gone = Alertmanager(SecretStr(f"http://127.0.0.1:{free_port()}"))
    service = IncidentService(Memory(), Notifier([route(webhook)], alertmanager=gone))
    handled = service.handle([signal(FAILS)], at(2))
    assert len(webhook.received) == len(handled.notified) == 1
    assert [letter.channel for letter in handled.state.dead_letters] == ["alertmanager"]


def test_a_notice_that_no_channel_accepted_stays_due() -> None:
    gone = Alertmanager(SecretStr(f"http://127.0.0.1:{free_port()}"))
    service = IncidentService(Memory(), Notifier([], alertmanager=gone))
    handled = service.handle([signal(FAILS)], at(2))
    assert (handled.notified, len(handled.state.dead_letters)) == ((), 1)
    assert only(handled.state).told is None


def test_a_worse_incident_is_a_new_alert_and_ends_the_former_one() -> None:
    store = Memory()
    service = IncidentService(store, Notifier())
    service.handle([signal(FAILS)], at(2))
    worse = after(minute=241, state=store.state)
    alerts = alerts_of(worse, LINKS, at(241))
    assert [(alert["labels"]["severity"], alert["endsAt"] > at(241).isoformat()) for alert in alerts] == [
        ("critical", True),
        ("error", False),
    ]


def test_two_services_keep_each_others_signals() -> None:
    store = Memory()
    ours, theirs = IncidentService(store, Notifier()), IncidentService(store, Notifier())

    class WriteMeanwhile(Notifier):
        """The other service writes while ours notifies."""

        def deliver(self, state, due, now):
            theirs.handle([signal(FAILS, subject="binance/b")], now)
            return super().deliver(state, due, now)

    ours = IncidentService(store, WriteMeanwhile())
    state = ours.handle([signal(FAILS, subject="binance/a")], at(2)).state
    assert {member.signal.subject for member in only(state).firing} == {"binance/a", "binance/b"}
    assert store.state == state
