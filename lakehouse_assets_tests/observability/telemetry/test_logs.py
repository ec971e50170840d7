from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from lakehouse_assets.observability.telemetry.logs import configure_logs
from lakehouse_assets.observability.telemetry.metrics import SCOPE
from lakehouse_assets.observability.telemetry.redaction import MASK, redact, register_secret


@pytest.fixture(autouse=True)
def _restored_logger() -> Iterator[None]:
    """Restore the package's logger, since a remaining handler would write to the streams of other tests."""
    logger = logging.getLogger(SCOPE)
    level, handlers = logger.level, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET https://h/k?X-Amz-Signature=0a1b2c3d&x=1 failed", "0a1b2c3d"),
        ("GET https://h/k?x=1&X-Amz-Security-Token=FwoGZXIvYXdz%2Bx", "FwoGZXIvYXdz"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AKIDX/2026/s3, SignedHeaders=host, Signature=99ff", "99ff"),
        ("Authorization: Bearer abc.def.ghi", "abc.def.ghi"),
        ("{'aws_secret_access_key': 'wJalrXUt', 'x': 1}", "wJalrXUt"),
        ("AWS_SESSION_TOKEN=IQoJb3Jp", "IQoJb3Jp"),
        ("connect postgresql://dagster:hunter22@db:5432/x", "hunter22"),
    ],
)
def test_secrets_are_recognized_by_their_form(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact(text)
    assert MASK in redact(text)


def test_a_text_without_secrets_is_unchanged() -> None:
    text = "Listing s3://data.binance.vision/data/spot/: 503 SlowDown (mailto me@host); see https://host/a@b"
    assert redact(text) == text


def test_the_longest_registered_value_is_removed_first() -> None:
    register_secret("value-of-one-secret")
    register_secret("value-of-one-secret-and-more")
    register_secret("a")
    register_secret(None)
    assert redact("x value-of-one-secret-and-more y a") == f"x {MASK} y a"


def test_records_and_their_exceptions_are_logged_without_secrets() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("lakehouse_assets.sync.something")
    configure_logs(stream=stream)
    register_secret("value-in-an-exception")
    try:
        raise ValueError("refused value-in-an-exception\nin two lines")
    except ValueError:
        logger.exception("It failed for %s", "币安人生USDT")
    finally:
        configure_logs()
    text = stream.getvalue()
    assert text.splitlines()[0] == "ERROR It failed for 币安人生USDT"
    assert "ValueError: refused ***" in text
    assert "value-in-an-exception" not in text


def test_setting_up_twice_leaves_one_handler() -> None:
    logger = configure_logs()
    assert configure_logs() is logger
    stream = io.StringIO()
    configure_logs(stream=stream)
    logging.getLogger("lakehouse_assets.x").warning("once")
    configure_logs()
    assert stream.getvalue() == "WARNING once\n"
