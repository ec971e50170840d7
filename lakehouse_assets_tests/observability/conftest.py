"""Real receivers of notifications, stopped after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lakehouse_assets_tests.observability.sinks import Mailbox, Webhook


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook().running() as running:
        yield running


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox().running() as running:
        yield running
