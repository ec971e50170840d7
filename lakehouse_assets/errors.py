"""The exceptions that a user meets.

Every message is one line: what was tried, on what, and what to do next. The command line prints it as it is.
"""

from __future__ import annotations

from enum import StrEnum


class LakehouseError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(LakehouseError):
    """An argument, matrix or setting cannot be used as it is."""


class EmbeddedStoreError(LakehouseError):
    """The object store on this machine does not start, or is not running."""


class Side(StrEnum):
    """The bucket that a request goes to: an exchange's, or the user's."""

    SOURCE = "source"
    LAKE = "lake"


class ErrorKind(StrEnum):
    """What is wrong, as far as callers, incidents and hints tell errors apart."""

    ACCESS = "access"
    """The store refuses these credentials, or there are none."""

    ABSENT = "absent"
    """The bucket or the object does not exist."""

    UNREACHABLE = "unreachable"
    """No answer: the endpoint, the network, or a time limit."""

    THROTTLED = "throttled"
    """The store asks for fewer requests."""

    SERVER = "server"
    """The store fails by itself, or its answer breaks off."""

    CONFLICT = "conflict"
    """Another writer was first."""

    UNSUPPORTED = "unsupported"
    """The store does not implement what a request needs."""

    IMPLAUSIBLE = "implausible"
    """The answer cannot be true: a page that is no listing, or a listing that lacks too much."""

    DAMAGED = "damaged"
    """A record in the lake cannot be read, although the store answers."""

    OTHER = "other"


class StoreError(LakehouseError):
    """An object store refused a request, or failed it as often as it may be tried.

    ``operation`` is what was tried, such as ``Listing``; the message reads "<operation> <URL> failed: <detail>.".
    ``bucket`` is None where more than one object is concerned, and ``key`` empty where the whole bucket is.
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

    @property
    def fields(self) -> dict[str, str]:
        """For logs, spans and Dagster's metadata: ``error_operation``, ``error_side``, ``error_kind`` and, where they
        are known, ``error_bucket`` and ``error_key``."""
        values = {
            "operation": self.operation,
            "side": self.side.value,
            "kind": self.kind.value,
            "bucket": self.bucket,
            "key": self.key,
        }
        return {f"error_{name}": value for name, value in values.items() if value}


class DamagedError(StoreError):
    """A record in the lake cannot be read, although the store answers. Trying again does not help; ``remedy`` does."""

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
    """A text from outside as it may be shown: control characters, and marks that turn the direction of writing (by
    which a name can look like another one), are escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
