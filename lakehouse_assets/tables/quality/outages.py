"""Known outages of exchanges (outages.yaml), which explain missing rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import polars as pl
import yaml

from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS

TOLERANCE = timedelta(minutes=1)
"""The outages are known to the minute, as they come from lists based on candles of a minute or less."""

_SCHEMA = pl.Schema({"start": UTC_MICROSECONDS, "end": UTC_MICROSECONDS, "source": pl.String()})


@cache
def known_outages(exchange: str, market: str) -> pl.DataFrame:
    """``start end source`` of the outages of a market, sorted by time; they do not overlap."""
    entries = yaml.safe_load(Path(__file__).with_name("outages.yaml").read_text(encoding="utf-8"))
    rows = [
        (_instant(outage["start"]), _instant(outage["end"]), outage["source"])
        for entry in entries
        if entry["exchange"] == exchange and market in entry["markets"]
        for outage in entry["outages"]
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row").sort("start")


def with_outages(gaps: pl.DataFrame, outages: pl.DataFrame) -> pl.DataFrame:
    """Add ``outage`` to gaps (``after before ...``): the source of the outage that contains the gap, or null."""
    tolerance = pl.lit(TOLERANCE)
    matched = (
        gaps.with_columns(_since=pl.col("after") + tolerance)
        .sort("_since")
        .join_asof(outages, left_on="_since", right_on="start", strategy="backward")
        .with_columns(outage=pl.when(pl.col("before") <= pl.col("end") + tolerance).then("source"))
    )
    return matched.drop("_since", "start", "end", "source", strict=False)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
