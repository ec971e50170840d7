"""The exceptions that a user meets.

Every message is one line: what was tried, on what, and what to do next. The command line prints it as it is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class LakehouseError(Exception):
    """Base class of the package's own errors."""


class InputError(LakehouseError):
    """An argument, a matrix or a setting is invalid."""


class EmbeddedStoreError(LakehouseError):
    """The embedded object store does not start, or is not running."""


class Side(StrEnum):
    """Whose bucket a request goes to: the exchange's or the user's."""

    SOURCE = "source"
    LAKE = "lake"


class ErrorKind(StrEnum):
    """What went wrong. Callers, incidents and hints decide by it."""

    ACCESS = "access"
    """The store refuses these credentials, or there are none."""

    ABSENT = "absent"
    """The bucket or the object does not exist."""

    UNREACHABLE = "unreachable"
    """No answer, because of the endpoint, the network or a time limit."""

    THROTTLED = "throttled"
    """The store asks for fewer requests."""

    SERVER = "server"
    """The store failed internally, or its answer broke off."""

    CONFLICT = "conflict"
    """Another writer changed the object first."""

    UNSUPPORTED = "unsupported"
    """The store does not implement a feature that the request needs."""

    IMPLAUSIBLE = "implausible"
    """The answer cannot be right: it is not a listing, or the listing lacks too many objects."""

    DAMAGED = "damaged"
    """A record in the lake cannot be read, although the store answers."""

    OTHER = "other"


class StoreError(LakehouseError):
    """An object store refused a request, or failed it in every attempt.

    ``operation`` says what was tried, such as ``Listing``; the message reads "<operation> <URL> failed: <detail>.".
    ``bucket`` is None if the error concerns several objects; ``key`` is empty if it concerns a whole bucket.
    """

    def __init__(
        self,
        operation: str,
        detail: object,
        *,
        side: Side,
        bucket: str | None = None,
        key: str = "",
        kind: ErrorKind = ErrorKind.OTHER,
    ) -> None:
        self.operation = operation
        self.detail = str(detail).rstrip(".")
        self.side = side
        self.bucket = bucket
        self.key = key
        self.kind = kind
        tried = operation if bucket is None else f"{operation} s3://{bucket}/{key}"
        super().__init__(f"{tried} failed: {self.detail}.")

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is rebuilt from its message unless told otherwise; process pools send what their workers raise.
        return _restored, (type(self), self.args, self.__dict__)

    @property
    def fields(self) -> dict[str, str]:
        """For logs, spans and Dagster's metadata: ``error_operation``, ``error_side``, ``error_kind`` and, if known,
        ``error_bucket`` and ``error_key``."""
        values = {
            "operation": self.operation,
            "side": self.side.value,
            "kind": self.kind.value,
            "bucket": self.bucket,
            "key": self.key,
        }
        return {f"error_{name}": value for name, value in values.items() if value}


def _restored(kind: type[StoreError], arguments: tuple[Any, ...], fields: dict[str, Any]) -> StoreError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class DamagedError(StoreError):
    """A record in the lake is damaged: the store answers, but the record is unreadable. Retrying does not help;
    ``remedy`` says what does."""

    def __init__(self, operation: str, detail: object, *, bucket: str, key: str, remedy: str) -> None:
        super().__init__(operation, detail, side=Side.LAKE, bucket=bucket, key=key, kind=ErrorKind.DAMAGED)
        self.remedy = remedy

    @property
    def finding(self) -> str:
        """The message without the remedy."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{self.finding} {self.remedy}"


def printable(text: str) -> str:
    """An external text, safe to display: control characters and bidirectional marks (which can make one name look like
    another) are escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
