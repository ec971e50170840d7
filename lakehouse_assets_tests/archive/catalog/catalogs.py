"""Catalogs built by hand, for tests of the data derived from them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from lakehouse_assets.archive.catalog.catalog import UNRECOGNIZED_SCHEMA, Catalog, CatalogDepth
from lakehouse_assets.archive.catalog.spans import SPAN_SCHEMA

TAKEN = datetime(2022, 7, 1, 12, tzinfo=UTC)


def span(
    dataset: str,
    symbol: str,
    first: str | None,
    last: str | None,
    *,
    interval: str | None = None,
    number: int = 1,
    exchange: str = "binance",
    objects: int | None = 10,
) -> dict[str, Any]:
    """A row of SPAN_SCHEMA; ``dataset`` is ``um/klines/daily``."""
    market, data_type, cadence = dataset.split("/")
    counts = dict.fromkeys(("objects", "bytes", "sidecars", "sidecar_bytes"), objects if first else None)
    return {
        "exchange": exchange,
        "market": market,
        "data_type": data_type,
        "cadence": cadence,
        "symbol": symbol,
        "interval": interval,
        "span": number,
        "first": first and date.fromisoformat(first),
        "last": last and date.fromisoformat(last),
        **counts,
        "last_modified": None,
        "exact": first is not None,
    }


def unrecognized_row(prefix: str, reason: str, *, known: bool = False) -> dict[str, Any]:
    """A row of UNRECOGNIZED_SCHEMA."""
    return {
        "exchange": "binance",
        "prefix": prefix,
        "reason": reason,
        "known": known,
        "objects": 1,
        "bytes": 1,
        "exact": True,
        "example": prefix + "x",
        "last_modified": None,
    }


def catalog_of(
    exchange: str,
    spans: pl.DataFrame,
    *,
    unrecognized: list[dict[str, Any]] | None = None,
    taken_at: datetime = TAKEN,
    depth: CatalogDepth = CatalogDepth.EXACT,
    markets: tuple[str, ...] | None = None,
) -> Catalog:
    rows = spans if spans.width else SPAN_SCHEMA.to_frame()
    return Catalog(
        exchange=exchange,
        taken_at=taken_at,
        depth=depth,
        spans=rows.select(SPAN_SCHEMA.names()).cast(SPAN_SCHEMA),
        unrecognized=pl.DataFrame(unrecognized or [], schema=UNRECOGNIZED_SCHEMA, orient="row"),
        markets=markets,
    )
