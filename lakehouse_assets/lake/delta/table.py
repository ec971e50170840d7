"""Opens one of the lake's Delta tables. A missing table is told apart from an answer that is no listing."""

from __future__ import annotations

from collections.abc import Mapping

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from lakehouse_assets.lake.lake import Lake

LOG = "_delta_log"
"""The folder of a Delta table that holds its log."""


def open_delta(
    lake: Lake, place: str, *, version: int | None = None, options: Mapping[str, str] | None = None
) -> DeltaTable | None:
    """The table at a place of the lake, opened with the current credentials; None if there is no table.

    ``options`` are further storage options of delta-rs. Raises READ_ERRORS (lake/delta/errors.py), and StoreError if
    the lake answers with something other than a listing, which delta-rs takes for a missing table.
    """
    try:
        return DeltaTable(lake.url(place), version=version, storage_options=lake.delta_options | dict(options or {}))
    except TableNotFoundError:
        lake.require_listing(f"{place}/{LOG}", max_attempts=2 if options else None)
        return None
