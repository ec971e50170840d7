"""Source assets: each exchange's public bucket, upstream of its archives and of its catalog.

They have no body. The exchange's discovery sensor observes them, and so does its catalog. Observations carry no data
version: a new one would show every partition ever synced as stale.
"""

from __future__ import annotations

import dagster as dg

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.grammar import Exchange

SOURCE = "source"
"""Last part of the key, and group. A dataset's key has four parts, so no market of this name could collide."""


def source_key(exchange: str) -> dg.AssetKey:
    """The key of an exchange's bucket: ``binance/source``."""
    return dg.AssetKey([exchange, SOURCE])


def build_source_assets() -> list[dg.AssetSpec]:
    """One per supported exchange, whether or not the matrix selects it: each has a catalog."""
    return [_build_source_asset(exchange) for exchange in EXCHANGES.values()]


def _build_source_asset(exchange: Exchange) -> dg.AssetSpec:
    return dg.AssetSpec(
        source_key(exchange.name),
        group_name=f"{exchange.name}/{SOURCE}",
        kinds={"s3"},
        owners=["team:market-data"],
        description=f"The public bucket of {exchange.name}. Its discovery sensor records once a day, and when a "
        "dataset's status changes, whether the exchange publishes on time; its catalog records what the bucket holds."
        f"\n\n{exchange.terms.summary}",
        metadata={
            "dagster/uri": f"s3://{exchange.bucket}",
            "region": exchange.region,
            "time_zone": exchange.timezone,
            "homepage": dg.MetadataValue.url(exchange.homepage),
            "documentation": dg.MetadataValue.url(exchange.documentation),
            "terms": dg.MetadataValue.url(exchange.terms.url),
        },
        tags={"exchange": exchange.name},
    )
