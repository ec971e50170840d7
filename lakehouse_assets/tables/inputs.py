"""What a table's periods are made of: daily archive objects, and monthly ones for what daily lacks.

Everything is read from the manifests; the lake is never listed. An object is usable when the lake
has it and it is neither known to differ from what was published nor known to be unreadable. Its
state in the manifest does not matter: where the source has newer content that is not copied yet, or
has withdrawn the object, what the lake holds is used.
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
"""One row per archive object and table period: columns of the manifest, where ``period`` is the table's and
``archive_period`` the object's own; ``unread`` content was not compared yet with what was published; ``reason`` says
why it is not usable, null where it is just not there."""

Bad = Mapping[tuple[str, str], str]
"""Objects (key, lake ETag) that were found unreadable, and why."""


@dataclass(frozen=True)
class Inputs:
    """Objects of some periods of one month.

    ``used`` are to be read, ``unusable`` are in the lake and cannot be, ``lacking`` are those of them
    and of the missing ones that nothing stands in for. All have OBJECTS.
    """

    table: Table
    used: pl.DataFrame
    unusable: pl.DataFrame
    lacking: pl.DataFrame

    def of(self, periods: Collection[str]) -> Inputs:
        """The same for some of the periods."""
        mine = pl.col("period").is_in(list(periods))
        return Inputs(self.table, self.used.filter(mine), self.unusable.filter(mine), self.lacking.filter(mine))

    def digests(self) -> dict[str, str]:
        """Digest of the content per period; periods of which the lake holds nothing have none."""
        objects = pl.concat([self.used, self.unusable])
        return {str(period): digest_of(self.table, rows) for (period,), rows in objects.group_by("period")}


def inputs_of(table: Table, manifests: Mapping[Cadence, pl.DataFrame], periods: Sequence[str], bad: Bad) -> Inputs:
    """Choose among manifest rows of ``periods`` (daily) and of their months (monthly).

    For each period, symbol and interval the daily object is used; the monthly one where there is no
    usable daily one. A table of months has monthly objects only.
    """
    objects = {cadence: _objects(rows, cadence, bad) for cadence, rows in manifests.items()}
    daily = objects.get(Cadence.DAILY, OBJECTS.to_frame())
    monthly = objects.get(Cadence.MONTHLY, OBJECTS.to_frame())
    if table.cadence is Cadence.DAILY:
        months = pl.DataFrame({"period": list(periods)}, schema={"period": pl.String}).with_columns(
            archive_period=month_expr(pl.col("period"))
        )
        monthly = monthly.drop("period").join(months, on="archive_period").select(OBJECTS.names())
    place = ["period", "symbol", "interval"]
    good_daily, good_monthly = daily.filter("usable"), monthly.filter("usable")
    filling = good_monthly.join(good_daily, on=place, how="anti", nulls_equal=True)
    used = pl.concat([good_daily, filling])
    rest = pl.concat([daily, monthly]).filter(~pl.col("usable"))
    lacking = rest.join(used, on=place, how="anti", nulls_equal=True)
    in_lake = rest.filter(pl.col("lake_etag").is_not_null())
    # A bad monthly object beside good daily ones changes nothing.
    unusable = pl.concat(
        [
            in_lake.filter(pl.col("cadence") == Cadence.DAILY),
            in_lake.filter(pl.col("cadence") == Cadence.MONTHLY).join(
                good_daily, on=place, how="anti", nulls_equal=True
            ),
        ]
    )
    return Inputs(table, used, unusable, lacking)


def _objects(rows: pl.DataFrame, cadence: Cadence, bad: Bad) -> pl.DataFrame:
    known_bad = pl.DataFrame(
        [(key, etag, reason) for (key, etag), reason in bad.items()],
        schema={"key": pl.String, "lake_etag": pl.String, "found_bad": pl.String},
        orient="row",
    )
    mismatch = pl.col("integrity") == Integrity.MISMATCH
    return (
        rows.select(*_COLUMNS, unread=unread())
        .join(known_bad, on=["key", "lake_etag"], how="left")
        .with_columns(
            archive_period=pl.col("period"),
            cadence=pl.lit(cadence.value),
            usable=(pl.col("lake_etag").is_not_null() & ~mismatch & pl.col("found_bad").is_null()).fill_null(
                value=False
            ),
            reason=pl.when(pl.col("lake_etag").is_null())
            .then(None)
            .when(mismatch)
            .then(pl.coalesce("integrity_note", pl.lit("it is not as published")))
            .otherwise("found_bad"),
        )
        .select(OBJECTS.names())
    )
