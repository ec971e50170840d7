"""Opening one of the lake's Delta tables: a table that is not there is told from a listing that is none."""

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
    """The table at a place of the lake, with the credentials of now; None where there is none.

    ``options`` are further ones of delta-rs. Raises READ_ERRORS (lake/delta/errors.py), and StoreError where the lake
    answers a listing with something else: delta-rs takes that for a place without a table.
    """
    try:
        return DeltaTable(lake.url(place), version=version, storage_options=lake.delta_options | dict(options or {}))
    except TableNotFoundError:
        lake.objects_below(f"{place}/{LOG}")
        return None
