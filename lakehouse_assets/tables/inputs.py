"""The archive objects that a table's periods are built from: daily ones, and monthly ones where daily ones are lacking.

They are chosen from the manifests; the lake is not listed. An object is usable when the lake has it and it is not
known to differ from the published content or to be unreadable. Its state in the manifest does not matter: when the
source has newer content that is not copied yet, or has withdrawn the object, the lake's content is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.archive.period import Cadence, month_expr
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.sync.integrity.columns import unread
from lakehouse_assets.tables.lineage import digest_of
from lakehouse_assets.tables.table import Table

_COLUMNS = (
    "period", "symbol", "interval", "key", "state", "size", "source_etag", "lake_etag", "sidecar_lake_etag",
    "integrity", "integrity_note", "verified_etag", "sha256",
)  # fmt: skip

OBJECTS = pl.Schema(
    {
        **{name: MANIFEST_SCHEMA[name] for name in _COLUMNS},
        "unread": pl.Boolean,
        "archive_period": pl.String,
        "cadence": pl.String,
        "usable": pl.Boolean,
        "reason": pl.String,
    }
)
"""One row per archive object and table period, with columns of the manifest. ``period`` is the table's,
``archive_period`` the object's own. ``unread`` is true when the content was not yet verified against the published
one. ``reason`` says why an object is not usable; it is null when the lake does not have the object."""

Bad = Mapping[tuple[str, str], str]
"""Unreadable objects (key, lake ETag), with the reason."""


@dataclass(frozen=True)
class Inputs:
    """Objects of some periods of one month, as frames of OBJECTS.

    ``used``: to be read. ``unusable``: in the lake, but quarantined. ``lacking``: unusable or missing, without another
    object that has the same rows.
    """

    table: Table
    used: pl.DataFrame
    unusable: pl.DataFrame
    lacking: pl.DataFrame

    def of(self, periods: Collection[str]) -> Inputs:
        """The inputs of some of the periods."""
        selected = pl.col("period").is_in(list(periods))
        return Inputs(
            self.table, self.used.filter(selected), self.unusable.filter(selected), self.lacking.filter(selected)
        )

    def digests(self) -> dict[str, str]:
        """The digest of the content of each period that has an object in the lake."""
        objects = pl.concat([self.used, self.unusable])
        return {str(period): digest_of(self.table, rows) for (period,), rows in objects.group_by("period")}


def inputs_of(table: Table, manifests: Mapping[Cadence, pl.DataFrame], periods: Sequence[str], bad: Bad) -> Inputs:
    """Choose from manifest rows of ``periods`` (daily) and of their months (monthly).

    Per period, symbol and interval, the daily object is used; without a usable daily object, the monthly one.
    A table of monthly periods has monthly objects only.
    """
    objects = {cadence: _objects(rows, cadence, bad) for cadence, rows in manifests.items()}
    daily = objects.get(Cadence.DAILY, OBJECTS.to_frame())
    monthly = objects.get(Cadence.MONTHLY, OBJECTS.to_frame())
    if table.cadence is Cadence.DAILY:
        months = pl.DataFrame({"period": list(periods)}, schema={"period": pl.String}).with_columns(
            archive_period=month_expr(pl.col("period"))
        )
        monthly = monthly.drop("period").join(months, on="archive_period").select(OBJECTS.names())
    identity = ["period", "symbol", "interval"]
    good_daily, good_monthly = daily.filter("usable"), monthly.filter("usable")
    filling = good_monthly.join(good_daily, on=identity, how="anti", nulls_equal=True)
    used = pl.concat([good_daily, filling])
    not_usable = pl.concat([daily, monthly]).filter(~pl.col("usable"))
    lacking = not_usable.join(used, on=identity, how="anti", nulls_equal=True)
    in_lake = not_usable.filter(pl.col("lake_etag").is_not_null())
    # A bad monthly object does not matter where good daily ones exist.
    unusable = pl.concat(
        [
            in_lake.filter(pl.col("cadence") == Cadence.DAILY),
            in_lake.filter(pl.col("cadence") == Cadence.MONTHLY).join(
                good_daily, on=identity, how="anti", nulls_equal=True
            ),
        ]
    )
    return Inputs(table, used, unusable, lacking)


def _objects(rows: pl.DataFrame, cadence: Cadence, bad: Bad) -> pl.DataFrame:
    known_bad = pl.DataFrame(
        [(key, etag, reason) for (key, etag), reason in bad.items()],
        schema={"key": pl.String, "lake_etag": pl.String, "bad_reason": pl.String},
        orient="row",
    )
    mismatch = pl.col("integrity") == Integrity.MISMATCH
    return (
        rows.select(*_COLUMNS, unread=unread())
        .join(known_bad, on=["key", "lake_etag"], how="left")
        .with_columns(
            archive_period=pl.col("period"),
            cadence=pl.lit(cadence.value),
            usable=(pl.col("lake_etag").is_not_null() & ~mismatch & pl.col("bad_reason").is_null()).fill_null(
                value=False
            ),
            reason=pl.when(pl.col("lake_etag").is_null())
            .then(None)
            .when(mismatch)
            .then(pl.coalesce("integrity_note", pl.lit("it differs from the published content")))
            .otherwise("bad_reason"),
        )
        .select(OBJECTS.names())
    )
