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
    """A store in memory, with the same contract as the lake's."""

    def __init__(self) -> None:
        self.book = IncidentState()

    def read(self, _now: datetime) -> StoredState:
        return StoredState(self.book, self.book)

    def write(self, book: IncidentState, kept: StoredState) -> bool:
        if kept.version is not self.book:
            return False
        self.book = book
        return True


def route(webhook: Webhook, path: str = TOKEN, **fields) -> Route:
    name = fields.pop("name", "hook")
    return Route(name=name, urls=(SecretStr(f"json://127.0.0.1:{webhook.port}/{path}"),), **fields)


def test_a_webhook_and_a_mail_tell_what_since_when_and_where_to_look(webhook: Webhook, mailbox: Mailbox) -> None:
    mail = f"mailto://127.0.0.1:{mailbox.port}?from=lake@example.org&to=oncall@example.org&mode=insecure"
    routes = [route(webhook), Route(name="mail", urls=(SecretStr(mail),))]
    desk = IncidentService(Memory(), Notifier(routes, links=LINKS))
    handled = desk.handle([signal(FAILS, text="3 of 9 objects failed", run_id="abc-1")], at(2))
    assert handled.delivery.failed == ()
    [(path, document)] = webhook.received
    [sent] = mailbox.mails
    assert path == f"/{TOKEN}"
    assert document["title"] == sent["subject"] == "[error] binance: objects cannot be brought into the lake (opened)"
    body = sent.get_body(("plain", "html")).get_content()
    for text in (document["message"], body):
        assert f"{KLINES} 2024-03-04: 3 of 9 objects failed" in text
        assert "since 2024-03-05 12:00 UTC" in text
        assert "https://dagster.example.org/runs/abc-1" in text
        assert f"https://dagster.example.org/assets/{KLINES}?view=partitions" in text
        assert f"lakehouse incidents ack {only(handled.book).id}" in text
    desk.handle([signal(FAILS, 3, firing=False)], at(4))
    desk.handle([], at(9))
    assert webhook.titles[1:] == ["[error] binance: objects cannot be brought into the lake (resolved)"]


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
def test_a_route_takes_what_meets_all_its_conditions(webhook: Webhook, fields, taken: bool) -> None:
    IncidentService(Memory(), Notifier([route(webhook, **fields)])).handle([signal(FAILS)], at(2))
    assert len(webhook.received) == taken


def test_what_concerns_the_lake_concerns_every_exchange(webhook: Webhook) -> None:
    desk = IncidentService(Memory(), Notifier([route(webhook, exchanges=("okx",))]))
    desk.handle([signal(Cause.LAKE_REFUSES)], at(2))
    assert webhook.titles == ["[critical] lake: the lake refuses or does not answer (opened)"]


def test_a_channel_that_is_down_leaves_a_dead_letter_that_is_delivered_later(webhook: Webhook) -> None:
    desk = IncidentService(Memory(), Notifier([route(webhook)]))
    webhook.status = 503
    [letter] = desk.handle([signal(FAILS)], at(2)).book.dead_letters
    assert (letter.channel, letter.attempts, letter.incident) == ("hook#1", 1, "binance-transfer-fails-20240305-1")
    assert letter.again == at(2) + timedelta(seconds=30)
    webhook.status = 200
    assert len(desk.handle([], at(2.1)).book.dead_letters) == 1
    assert desk.handle([], at(3)).book.dead_letters == []
    [(_, document)] = webhook.received
    assert "(Late: first tried 2024-03-05 12:02 UTC.)" in document["message"]


def test_pauses_between_attempts_grow_and_end_in_a_letter_that_stays(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification, "ATTEMPTS", 1)
    store = Memory()
    desk = IncidentService(store, Notifier([route(webhook)]))
    webhook.status = 503
    book = desk.handle([signal(FAILS)], at(2)).book
    tried, now = [at(2)], at(2)
    while book.dead_letters[0].again is not None:
        now = book.dead_letters[0].again
        book = acknowledge(book, only(book).id, Note(who="anna", at=now))
        store.book = book
        book = desk.handle([], now).book
        tried.append(now)
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (timedelta(seconds=30), LONGEST_PAUSE)
    assert GIVE_UP <= tried[-1] - tried[0] <= GIVE_UP + LONGEST_PAUSE
    assert [letter.attempts for letter in book.dead_letters] == [len(tried)]


def test_one_channel_that_is_down_does_not_silence_another(webhook: Webhook) -> None:
    nowhere = Route(name="gone", urls=(SecretStr(f"json://127.0.0.1:{free_port()}/{TOKEN}"),))
    handled = IncidentService(Memory(), Notifier([nowhere, route(webhook)])).handle([signal(FAILS)], at(2))
    assert len(webhook.received) == 1
    assert [letter.channel for letter in handled.book.dead_letters] == ["gone#1"]


def test_no_address_is_ever_shown(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    webhook.status = 403
    notifier = Notifier(
        [route(webhook)], alertmanager=Alertmanager(SecretStr(f"http://u:{TOKEN}@127.0.0.1:{free_port()}"))
    )
    handled = IncidentService(Memory(), notifier).handle([signal(FAILS)], at(2))
    assert {letter.channel for letter in handled.book.dead_letters} == {"alertmanager", "hook#1"}
    with pytest.raises(InputError) as wrong:
        Notifier([Route(name="odd", urls=(SecretStr(f"nonsense://{TOKEN}"),))]).check()
    assert "odd#1" in str(wrong.value)
    shown = (
        handled.book.model_dump_json() + repr(route(webhook)) + caplog.text + repr(wrong.value) + repr(handled.delivery)
    )
    assert TOKEN not in shown


def test_alertmanager_groups_sends_by_mail_and_webhook_and_hears_of_the_end(
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
        desk = IncidentService(Memory(), notifier)
        handled = desk.handle(storm, now)
        assert (handled.delivery.failed, len(handled.told)) == ((), 1)
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
        assert alert["annotations"]["incident"] == only(handled.book).id
        assert "40 signals of 4 assets" in alert["annotations"]["description"]
        assert mailbox.recipients == [["oncall@example.org"]]
        assert "lakehouse_transfer_fails" in mailbox.mails[0]["subject"]
        clear = [each.model_copy(update={"firing": False, "at": now}) for each in storm]
        desk.handle(clear, now)
        desk._store.book.incidents[only(handled.book).id].quiet = now - timedelta(minutes=6)
        assert desk.handle([], now).book.live() == []
        wait_for(lambda: webhook.received[-1][1]["status"] == "resolved")


def test_where_alertmanager_is_down_the_routes_stand_in(webhook: Webhook) -> None:
    gone = Alertmanager(SecretStr(f"http://127.0.0.1:{free_port()}"))
    desk = IncidentService(Memory(), Notifier([route(webhook)], alertmanager=gone))
    handled = desk.handle([signal(FAILS)], at(2))
    assert len(webhook.received) == len(handled.told) == 1
    assert [letter.channel for letter in handled.book.dead_letters] == ["alertmanager"]


def test_what_nobody_took_stays_due() -> None:
    gone = Alertmanager(SecretStr(f"http://127.0.0.1:{free_port()}"))
    desk = IncidentService(Memory(), Notifier([], alertmanager=gone))
    handled = desk.handle([signal(FAILS)], at(2))
    assert (handled.told, len(handled.book.dead_letters)) == ((), 1)
    assert only(handled.book).told is None


def test_a_worse_incident_is_another_alert_and_ends_the_former_one() -> None:
    store = Memory()
    desk = IncidentService(store, Notifier())
    desk.handle([signal(FAILS)], at(2))
    worse = after(minute=241, book=store.book)
    alerts = alerts_of(worse, LINKS, at(241))
    assert [(alert["labels"]["severity"], alert["endsAt"] > at(241).isoformat()) for alert in alerts] == [
        ("critical", True),
        ("error", False),
    ]


def test_two_desks_lose_nothing_of_each_other() -> None:
    store = Memory()
    ours, theirs = IncidentService(store, Notifier()), IncidentService(store, Notifier())

    class Between(Notifier):
        """While ours tells people, the other desk writes."""

        def deliver(self, book, due, now):
            theirs.handle([signal(FAILS, subject="binance/b")], now)
            return super().deliver(book, due, now)

    ours = IncidentService(store, Between())
    book = ours.handle([signal(FAILS, subject="binance/a")], at(2)).book
    assert {member.signal.subject for member in only(book).firing} == {"binance/a", "binance/b"}
    assert store.book == book
