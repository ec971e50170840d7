"""Notifications about incidents, through Alertmanager if there is one, otherwise through apprise.

Addresses contain tokens and are secrets: texts name a channel by its route and number only. A message that a channel
does not accept becomes a dead letter. It is tried again at growing pauses, and kept when the attempts end.
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
"""Attempts within a tick; a message that still fails becomes a dead letter, for later ticks."""

FIRST_PAUSE = timedelta(seconds=30)
GIVE_UP = timedelta(hours=24)
MAX_DEAD_LETTERS = 100

ALERTMANAGER = "alertmanager"


class AppriseChannel:
    """A service that apprise supports, by its URL."""

    def __init__(self, name: str, url: SecretStr, *, timeout: float = 10.0) -> None:
        self.name = name
        self._url = url
        self._timeout = timeout

    @cached_property
    def service(self) -> apprise.Apprise:
        """Raises DeliveryError for a URL that apprise does not support."""
        import apprise  # noqa: PLC0415 - takes seconds, and most ticks send nothing

        # At debug level both log addresses or paths that contain tokens.
        for logger in ("apprise", "urllib3.connectionpool"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        service = apprise.Apprise()
        if not service.add(self._url.get_secret_value()):
            raise DeliveryError(f"The URL of {self.name} is not supported by apprise; see its list of services.")
        return service

    def send(self, message: Message) -> None:
        kind = "success" if message.is_good_news else "warning" if message.severity is Severity.WARNING else "failure"
        try:
            accepted = self.service.notify(
                body=message.body,
                title=message.title,
                notify_type=kind,
                body_format="text",
                timeout=self._timeout,
            )
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001 - an error in one service must not stop the others
            raise DeliveryError(f"{self.name} failed with {type(error).__name__}.") from None
        if not accepted:
            raise DeliveryError(
                f"{self.name} did not accept the message: it is down, or its address or token is wrong."
            )


class Route(BaseModel):
    """URLs, and the incidents that are sent to them: all conditions must hold; an empty one always does.

    ``severity`` is the lowest that is sent. Incidents of the lake concern every exchange.
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
    """Result of a tick's messages: notices that count as sent, letters that failed (again), letters that were
    delivered."""

    notified: tuple[Notice, ...] = ()
    failed: tuple[DeadLetter, ...] = ()
    delivered: tuple[DeadLetter, ...] = ()


class Notifier:
    """Delivers notices and dead letters. Does not raise: failures are in the Delivery."""

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
        """Raises InputError for an unusable route. Sends nothing."""
        for channels in self._channels.values():
            for channel in channels:
                try:
                    _ = channel.service
                except DeliveryError as error:
                    raise InputError(f"Notification: {error}") from None

    def deliver(self, state: IncidentState, due: Sequence[Notice], now: datetime) -> Delivery:
        """Send the notices that are due to Alertmanager, or to the routes if Alertmanager fails or is not configured.

        Without routes, notices stay due while Alertmanager fails.
        """
        if self._alertmanager is not None:
            before = tuple(letter for letter in state.dead_letters if letter.channel == ALERTMANAGER)
            try:
                _attempts()(self._alertmanager.post, alerts_of(state, self._links, now))
            except DeliveryError as error:
                letters = self._letters(ALERTMANAGER, due, str(error), now) if not before else []
                sent = self._by_routes(state, due, now)
                return Delivery(sent.notified if self._routes else (), (*sent.failed, *letters), sent.delivered)
            sent = self._by_routes(state, (), now)
            return Delivery(tuple(due), sent.failed, (*sent.delivered, *before))
        return self._by_routes(state, due, now)

    def _by_routes(self, state: IncidentState, due: Sequence[Notice], now: datetime) -> Delivery:
        jobs: list[tuple[AppriseChannel, Message, DeadLetter | None]] = []
        for notice in due:
            message = message_of(notice, self._links)
            for route in self._routes:
                if route.takes(message):
                    jobs += [(channel, message, None) for channel in self._channels[route.name]]
        by_name = {channel.name: channel for channels in self._channels.values() for channel in channels}
        for letter in state.dead_letters:
            if letter.again is not None and letter.again <= now and letter.channel in by_name:
                jobs.append((by_name[letter.channel], _late_message(letter), letter))
        if not jobs:
            return Delivery(notified=tuple(due))
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="notify") as pool:
            reasons = list(pool.map(lambda job: _send(job[0], job[1]), jobs))
        failed, delivered = [], []
        for (channel, message, letter), reason in zip(jobs, reasons, strict=True):
            if reason is None:
                delivered += [letter] if letter else []
            else:
                failed.append(_dead_letter(channel.name, message, reason, now, letter))
        return Delivery(tuple(due), tuple(failed), tuple(delivered))

    def _letters(self, channel: str, due: Sequence[Notice], reason: str, now: datetime) -> list[DeadLetter]:
        return [
            _dead_letter(channel, message_of(notice, self._links), reason, now, None).model_copy(update={"again": None})
            for notice in due[:1]
        ]


def record_delivery(state: IncidentState, delivery: Delivery) -> IncidentState:
    """The state with a delivery's dead letters: failed ones added or updated, delivered ones removed."""
    after = state.model_copy(deep=True)
    letters = {_letter_key(letter): letter for letter in after.dead_letters}
    for letter in delivery.delivered:
        letters.pop(_letter_key(letter), None)
    for letter in delivery.failed:
        letters[_letter_key(letter)] = letter
    after.dead_letters = sorted(letters.values(), key=lambda letter: letter.first)[-MAX_DEAD_LETTERS:]
    return after


def _letter_key(letter: DeadLetter) -> tuple[str, str, datetime]:
    return letter.channel, letter.incident, letter.first


def _dead_letter(channel: str, message: Message, reason: str, now: datetime, former: DeadLetter | None) -> DeadLetter:
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


def _late_message(letter: DeadLetter) -> Message:
    body = f"{letter.body}\n(Delayed: first tried {letter.first:%Y-%m-%d %H:%M} UTC.)"
    # The routes were applied at the first attempt.
    return Message(letter.incident, letter.title, body, letter.severity, LAKE, Role.OPERATIONS)


def _send(channel: AppriseChannel, message: Message) -> str | None:
    """Send a message. Returns None, or why it was not accepted."""
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
