"""The fields of a StoreError as Dagster's metadata: incidents read causes from them, and people see them in the UI."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from lakehouse_assets.errors import StoreError

_PREFIX = "error_"


@contextmanager
def store_errors_as_failures() -> Generator[None]:
    """Turns a StoreError of the body into a dg.Failure with the same message, and the error's fields as metadata.

    Dagster keeps only the class and the message of other exceptions. A retry policy applies as to the error itself.
    """
    try:
        yield
    except StoreError as error:
        raise dg.Failure(str(error), metadata=error_metadata(error)) from error


def error_metadata(error: StoreError) -> dict[str, dg.MetadataValue]:
    """The error's fields as metadata, for an event of an error that is reported and not raised."""
    return {name: dg.MetadataValue.text(value) for name, value in error.fields.items()}


def error_fields_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The fields of an error in an event's metadata; empty without an error."""
    return {name: str(value.value) for name, value in metadata.items() if name.startswith(_PREFIX)}
