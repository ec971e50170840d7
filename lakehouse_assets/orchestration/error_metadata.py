"""The fields of a StoreError as Dagster's metadata: incidents read causes from them, and people see them in the UI."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from lakehouse_assets.errors import ErrorKind, Side, StoreError

_PREFIX = "error_"


@contextmanager
def store_errors_as_failures() -> Generator[None]:
    """A StoreError of the body becomes a dg.Failure with the same message, and with the error's fields as metadata.

    Dagster keeps of any other exception only its class and its message. Retries are allowed as for the error itself.
    """
    try:
        yield
    except StoreError as error:
        raise dg.Failure(str(error), metadata=dict(error.fields)) from error


def implausible_listing_metadata() -> dict[str, dg.MetadataValue]:
    """Fields of a listing that lacks too much to be a withdrawal: no error is raised, the period is incomplete."""
    fields = {"operation": "Listing", "side": Side.SOURCE, "kind": ErrorKind.IMPLAUSIBLE}
    return {f"{_PREFIX}{name}": dg.MetadataValue.text(str(value)) for name, value in fields.items()}


def error_fields_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The fields that an event's metadata carries; empty without an error."""
    return {name: str(value.value) for name, value in metadata.items() if name.startswith(_PREFIX)}
