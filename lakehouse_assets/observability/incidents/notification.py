"""Telling people of incidents: through Alertmanager where there is one, otherwise through apprise's services.

Addresses hold tokens, so they are secrets: a channel is only ever named by its route and number. What a
channel does not take becomes a dead letter, tried again at growing pauses and kept where it stays one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.incidents.alertmanager import Alertmanager, DeliveryError, alerts_of
from lakehouse_assets.observability.incidents.causes import LAKE, Role, Severity
from lakehouse_assets.observability.incidents.lifecycle import Notice
from lakehouse_assets.observability.incidents.messages import Links, Message, message_of
from lakehouse_assets.observability.incidents.model import LONGEST_PAUSE, DeadLetter, IncidentState

if TYPE_CHECKING:
    import apprise

ATTEMPTS = 2
"""Attempts within a tick; what still fails is a dead letter, due again at the next ones."""

FIRST_PAUSE = timedelta(seconds=30)
GIVE_UP = timedelta(hours=24)
MAX_DEAD_LETTERS = 100

ALERTMANAGER = "alertmanager"


class AppriseChannel:
    """One of the services that apprise speaks, by its URL."""

    def __init__(self, name: str, url: SecretStr, *, timeout: float = 10.0) -> None:
        self.name = name
        self._url = url
        self._timeout = timeout

    @cached_property
    def service(self) -> apprise.Apprise:
        """Raises DeliveryError for a URL that apprise does not know."""
        import apprise  # noqa: PLC0415 - takes seconds, and most ticks have nothing to say

        # At debug level both write addresses, or paths with tokens in them, to their logs.
        for logger in ("apprise", "urllib3.connectionpool"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        service = apprise.Apprise()
        if not service.add(self._url.get_secret_value()):
            raise DeliveryError(f"{self.name} is not a URL that apprise understands; see its list of services.")
        return service

    def send(self, message: Message) -> None:
        kind = "success" if message.is_good_news else "warning" if message.severity is Severity.WARNING else "failure"
        try:
            taken = self.service.notify(
                body=message.body,
                title=message.title,
                notify_type=kind,
                body_format="text",
                timeout=self._timeout,
            )
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001 - a service's own fault must not end the others
            raise DeliveryError(f"{self.name} failed with {type(error).__name__}.") from None
        if not taken:
            raise DeliveryError(f"{self.name} did not take the message; it is down, or refuses its address or token.")


class Route(BaseModel):
    """Who is told of what: every condition must hold, an empty one always does.

    ``severity`` is the least that is told. The lake's incidents concern every exchange.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    urls: tuple[SecretStr, ...]
    severity: Severity = Severity.WARNING
    exchanges: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()

    @field_validator("urls")
    @classmethod
    def _has_urls(cls, urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not urls:
            raise ValueError("a route needs a URL")
        return urls

    def takes(self, message: Message) -> bool:
        return (
            message.severity.rank >= self.severity.rank
            and (not self.exchanges or message.scope == LAKE or message.scope in self.exchanges)
            and (not self.roles or message.role in self.roles)
        )

    def channels(self, *, timeout: float) -> list[AppriseChannel]:
        return [
            AppriseChannel(f"{self.name}#{number}", url, timeout=timeout)
            for number, url in enumerate(self.urls, start=1)
        ]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a tick's messages: notices that count as told, letters that failed (again), letters that
    were settled."""

    told: tuple[Notice, ...] = ()
    failed: tuple[DeadLetter, ...] = ()
    settled: tuple[DeadLetter, ...] = ()


class Notifier:
    """Delivers a book's notices and its dead letters. Raises nothing: what fails is in the Delivery."""

    def __init__(
        self,
        routes: Sequence[Route] = (),
        *,
        alertmanager: Alertmanager | None = None,
        links: Links | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._routes = tuple(routes)
        self._alertmanager = alertmanager
        self._links = links or Links()
        self._timeout = timeout

    @cached_property
    def _channels(self) -> dict[str, list[AppriseChannel]]:
        return {route.name: route.channels(timeout=self._timeout) for route in self._routes}

    def check(self) -> None:
        """Raises InputError for a route that cannot be used. Sends nothing."""
        for channels in self._channels.values():
            for channel in channels:
                try:
                    _ = channel.service
                except DeliveryError as error:
                    raise InputError(f"Notification: {error}") from None

    def deliver(self, book: IncidentState, due: Sequence[Notice], now: datetime) -> Delivery:
        """Send what is due. Where Alertmanager takes it, grouping and repetition are its own; where it does
        not, the routes stand in, and what nobody took stays due."""
        if self._alertmanager is not None:
            before = tuple(letter for letter in book.dead_letters if letter.channel == ALERTMANAGER)
            try:
                _attempts()(self._alertmanager.post, alerts_of(book, self._links, now))
            except DeliveryError as error:
                letters = self._letters(ALERTMANAGER, due, str(error), now) if not before else []
                sent = self._by_routes(book, due, now)
                return Delivery(sent.told if self._routes else (), (*sent.failed, *letters), sent.settled)
            sent = self._by_routes(book, (), now)
            return Delivery(tuple(due), sent.failed, (*sent.settled, *before))
        return self._by_routes(book, due, now)

    def _by_routes(self, book: IncidentState, due: Sequence[Notice], now: datetime) -> Delivery:
        jobs: list[tuple[AppriseChannel, Message, DeadLetter | None]] = []
        for notice in due:
            message = message_of(notice, self._links)
            for route in self._routes:
                if route.takes(message):
                    jobs += [(channel, message, None) for channel in self._channels[route.name]]
        by_name = {channel.name: channel for channels in self._channels.values() for channel in channels}
        for letter in book.dead_letters:
            if letter.again is not None and letter.again <= now and letter.channel in by_name:
                jobs.append((by_name[letter.channel], _message_again(letter), letter))
        if not jobs:
            return Delivery(told=tuple(due))
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="notify") as pool:
            reasons = list(pool.map(lambda job: _send(job[0], job[1]), jobs))
        failed, settled = [], []
        for (channel, message, letter), reason in zip(jobs, reasons, strict=True):
            if reason is None:
                settled += [letter] if letter else []
            else:
                failed.append(_letter(channel.name, message, reason, now, letter))
        return Delivery(tuple(due), tuple(failed), tuple(settled))

    def _letters(self, channel: str, due: Sequence[Notice], reason: str, now: datetime) -> list[DeadLetter]:
        return [
            _letter(channel, message_of(notice, self._links), reason, now, None).model_copy(update={"again": None})
            for notice in due[:1]
        ]


def deliver_into(book: IncidentState, delivery: Delivery) -> IncidentState:
    """The book with a delivery's dead letters: failed ones added or renewed, settled ones gone."""
    after = book.model_copy(deep=True)
    letters = {_letter_key(letter): letter for letter in after.dead_letters}
    for letter in delivery.settled:
        letters.pop(_letter_key(letter), None)
    for letter in delivery.failed:
        letters[_letter_key(letter)] = letter
    after.dead_letters = sorted(letters.values(), key=lambda letter: letter.first)[-MAX_DEAD_LETTERS:]
    return after


def _letter_key(letter: DeadLetter) -> tuple[str, str, datetime]:
    return letter.channel, letter.incident, letter.first


def _letter(channel: str, message: Message, reason: str, now: datetime, former: DeadLetter | None) -> DeadLetter:
    attempts = former.attempts + 1 if former else 1
    first = former.first if former else now
    pause = min(FIRST_PAUSE * 2 ** min(attempts - 1, 10), LONGEST_PAUSE)
    return DeadLetter(
        channel=channel,
        incident=message.incident,
        title=message.title,
        body=message.body,
        severity=message.severity,
        first=first,
        attempts=attempts,
        again=now + pause if now - first < GIVE_UP else None,
        reason=reason,
    )


def _message_again(letter: DeadLetter) -> Message:
    body = f"{letter.body}\n(Late: first tried {letter.first:%Y-%m-%d %H:%M} UTC.)"
    # It was routed when it was first tried.
    return Message(letter.incident, letter.title, body, letter.severity, LAKE, Role.OPERATIONS)


def _send(channel: AppriseChannel, message: Message) -> str | None:
    """None, or why it was not taken."""
    try:
        _attempts()(channel.send, message)
    except DeliveryError as error:
        return str(error)
    return None


def _attempts() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(DeliveryError),
        wait=wait_random_exponential(multiplier=0.5, max=2.0),
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
