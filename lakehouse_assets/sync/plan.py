"""What a sync would do: the difference of source, lake and manifest, object by object.

Every object, and separately its sidecar, has one of four states (:class:`ObjectState`). Former bytes of a
``changed`` object are preserved before it is replaced.

Content is compared by ETag and size, never by time alone: an object whose time changed is not copied again.

- With a manifest row, the source's ETag is compared with the one that was copied, and the lake's ETag with the one
  that the copy got.
- Without a row (a run was killed, or the mirror is older than the manifest), the two ETags are compared with each
  other if both are plain MD5 sums. Otherwise a copy of equal size that is younger than the source's file counts as
  complete, since S3 writes are atomic. The same rule applies to a source that returns no ETags.

If both ETags are MD5 sums they must be equal, whatever the manifest says: a row may be from a version that did not
compare them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lakehouse_assets.archive.listing import IDENTITY, OBJECT_SCHEMA, Listing, sidecar_keys
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.states import COPIED_STATES, FILE_PREFIXES, ObjectState
from lakehouse_assets.lake.store.etags import disagree
from lakehouse_assets.lake.withdrawal import IMPLAUSIBLE_SCHEMA, WithdrawalLimits
from lakehouse_assets.sync.movers.base import COPY_SCHEMA
from lakehouse_assets.sync.movers.outcomes import FILE_SCHEMA, file_key


def _prefixed(schema: pl.Schema, prefix: str) -> dict[str, pl.DataType]:
    """The columns of a schema under a prefix, without ``key``, which the sides are joined on."""
    return {f"{prefix}{name}": dtype for name, dtype in schema.items() if name != "key"}


SIDES_SCHEMA = pl.Schema({**OBJECT_SCHEMA, **_prefixed(OBJECT_SCHEMA, "lake_"), **_prefixed(MANIFEST_SCHEMA, "known_")})
"""One row per object that source, lake or manifest has, by ``key``.

The source's columns keep their names, the lake's are ``lake_*``, the manifest's are ``known_*``; each is null where
that side lacks the object. ``period``, ``symbol``, ``interval`` and ``part`` come from the first side that has it.
"""

STATE_SCHEMA = pl.Schema(
    {
        "disputed": pl.Boolean,
        "sidecar_disputed": pl.Boolean,
        "state": pl.String,
        "sidecar_state": pl.String,
        "wanted": pl.Boolean,
        "sidecar_key": pl.String,
    }
)
"""What comparing the sides adds. ``state`` is an ObjectState, null for a file that never existed.

``disputed``: the file is present only if the lake's ETags are not MD5 sums. ``wanted``: within the run's symbols and
intervals. ``sidecar_key`` is null where the exchange publishes no sidecars.
"""

PLAN_SCHEMA = pl.Schema({**SIDES_SCHEMA, **STATE_SCHEMA, **IMPLAUSIBLE_SCHEMA})
"""The rows of a plan: SIDES_SCHEMA, STATE_SCHEMA, and what the listing lacks implausibly (lake/withdrawal.py)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sync would copy. ``rows`` has PLAN_SCHEMA, one row per object; see :func:`make_plan`.

    ``wanted`` limits the copies to a run's ``symbols`` and ``intervals``; whether a period is complete always
    depends on every row.
    """

    rows: pl.DataFrame
    listing_requests: int

    @property
    def is_implausible(self) -> bool:
        """Whether the source's listing is implausible: it lacks too much."""
        return bool(self.rows.select(pl.any_horizontal(IMPLAUSIBLE_SCHEMA.names()).any()).item())

    def copies(self) -> pl.DataFrame:
        """The files to copy, COPY_SCHEMA."""
        wanted = self.rows.filter(pl.col("wanted"))
        files = [
            wanted.filter(pl.col(f"{prefix}state").is_in(COPIED_STATES)).select(
                file_key(prefix),
                pl.col("period"),
                pl.col(f"{prefix}size").alias("size"),
                pl.col(f"{prefix}etag").alias("etag"),
                pl.col(f"{prefix}state").alias("reason"),
                pl.lit(bool(prefix)).alias("is_sidecar"),
                pl.col(f"lake_{prefix}etag").alias("lake_etag"),
                pl.col(f"lake_{prefix}size").alias("lake_size"),
                pl.coalesce("known_seen_at", "known_synced_at").is_not_null().alias("was_there"),
            )
            for prefix in FILE_PREFIXES
        ]
        return pl.concat(files).match_to_schema(COPY_SCHEMA)

    def disputed(self) -> pl.DataFrame:
        """Files in the lake, FILE_SCHEMA, that are present only if the lake's ETags are not MD5 sums."""
        return pl.concat(
            self.rows.filter(f"{prefix}disputed").select(
                file_key(prefix), etag=pl.col(f"lake_{prefix}etag"), size=pl.col(f"lake_{prefix}size")
            )
            for prefix in FILE_PREFIXES
        ).match_to_schema(FILE_SCHEMA)

    def summary(self) -> PlanSummary:
        copies = self.copies()
        objects = copies.filter(~pl.col("is_sidecar"))
        is_withdrawn = (pl.col("state") == ObjectState.WITHDRAWN) & ~pl.col("implausible")
        return PlanSummary(
            objects=objects.height,
            sidecars=copies.height - objects.height,
            bytes=int(copies["size"].sum()),
            missing=objects.filter(pl.col("reason") == ObjectState.MISSING).height,
            changed=objects.filter(pl.col("reason") == ObjectState.CHANGED).height,
            present=self.rows.filter(pl.col("state") == ObjectState.PRESENT).height,
            withdrawn=self.rows.filter(is_withdrawn).height,
            doubted=self.rows.filter("implausible").height,
        )


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """Counts of a plan. ``bytes`` include sidecars. ``withdrawn`` objects stay in the lake, ``doubted`` ones are those
    that an implausible listing lacks."""

    objects: int
    sidecars: int
    bytes: int
    missing: int
    changed: int
    present: int
    withdrawn: int
    doubted: int


def make_plan(
    source: Listing,
    lake: Listing,
    known: pl.DataFrame,
    *,
    entry: DatasetEntry,
    limits: WithdrawalLimits,
    now: datetime,
    symbols: Sequence[str] = (),
    intervals: Sequence[str] = (),
    lake_has_md5: bool = True,
) -> Plan:
    """Compare source, lake and ``known`` (manifest rows of the same periods) of a matrix entry.

    ``symbols`` and ``intervals`` limit what is copied; empty means all. ``limits`` decide which gaps in the source's
    listing are implausible ``now``. ``lake_has_md5``: the lake's ETags of 32 hex digits are MD5 sums.
    """
    rows = join_sides(source.objects, lake.objects, known)
    rows = rows.with_columns(disputed=_disputed(""), sidecar_disputed=_disputed("sidecar_"))
    rows = rows.with_columns(
        state=pl.when(_damaged())
        .then(pl.lit(ObjectState.CHANGED.value))
        .otherwise(_state("", _same_bytes("") | _read_with_source_content(), lake_has_md5=lake_has_md5)),
        sidecar_state=_state("sidecar_", _same_bytes("sidecar_"), lake_has_md5=lake_has_md5),
    ).with_columns(
        _etag(""),
        _etag("sidecar_"),
        wanted=_within("symbol", symbols) & _within("interval", intervals),
        sidecar_key=sidecar_keys(entry.dataset.layout),
    )
    rows = limits.with_implausible(rows, entry, now)
    return Plan(rows.match_to_schema(PLAN_SCHEMA), source.requests + lake.requests)


def join_sides(source: pl.DataFrame, lake: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Outer join of the sides on ``key``, SIDES_SCHEMA, sorted by identity and key."""
    lake = lake.rename(lambda name: name if name == "key" else f"lake_{name}")
    known = known.rename(lambda name: name if name == "key" else f"known_{name}")
    rows = source.join(lake, on="key", how="full", coalesce=True).join(known, on="key", how="full", coalesce=True)
    return (
        rows.with_columns(pl.coalesce(name, f"lake_{name}", f"known_{name}").alias(name) for name in IDENTITY)
        .sort("period", "symbol", "interval", "key")
        .match_to_schema(SIDES_SCHEMA)
    )


def _state(prefix: str, proven: pl.Expr, *, lake_has_md5: bool) -> pl.Expr:
    """State of the object (``prefix`` empty) or of its sidecar; null for a file that never existed."""
    etag, lake_etag = pl.col(f"{prefix}etag"), pl.col(f"lake_{prefix}etag")
    size, lake_size = pl.col(f"{prefix}size"), pl.col(f"lake_{prefix}size")
    known_source_etag, known_lake_etag = pl.col(f"known_{prefix}source_etag"), pl.col(f"known_{prefix}lake_etag")
    assumed = _assumed_same(prefix) & ~disagree(etag, lake_etag) if lake_has_md5 else _assumed_same(prefix)
    if not prefix:
        # The digests of a copy that was read decide instead, see _damaged.
        assumed |= _assumed_same(prefix) & _was_read()
    return (
        pl.when(size.is_null() & lake_size.is_null() & known_source_etag.is_null() & known_lake_etag.is_null())
        .then(None)
        .when(size.is_null())
        .then(pl.lit(ObjectState.WITHDRAWN.value))
        .when(lake_size.is_null())
        .then(pl.lit(ObjectState.MISSING.value))
        .when(proven | assumed)
        .then(pl.lit(ObjectState.PRESENT.value))
        .otherwise(pl.lit(ObjectState.CHANGED.value))
    )


def _same_bytes(prefix: str) -> pl.Expr:
    same_etag = pl.col(f"lake_{prefix}etag") == pl.col(f"{prefix}etag")
    return (same_etag & _same_size(prefix)).fill_null(value=False)


def _same_size(prefix: str) -> pl.Expr:
    return pl.col(f"lake_{prefix}size") == pl.col(f"{prefix}size")


def _was_read() -> pl.Expr:
    """The present copy was read, under its ETag."""
    was_read = (pl.col("known_verified_etag") == pl.col("lake_etag")) & pl.col("known_md5").is_not_null()
    return was_read.fill_null(value=False)


def _read_with_source_content() -> pl.Expr:
    """The present copy was read, and its MD5 is the source's ETag."""
    return (_was_read() & (pl.col("known_md5") == pl.col("etag")) & _same_size("")).fill_null(value=False)


def _assumed_same(prefix: str) -> pl.Expr:
    """Same content by the manifest, or without a row by size and time; the two ETags are not compared."""
    known_source_etag = pl.col(f"known_{prefix}source_etag")
    as_copied = (known_source_etag == pl.col(f"{prefix}etag")) & (
        pl.col(f"known_{prefix}lake_etag") == pl.col(f"lake_{prefix}etag")
    )
    unknown = known_source_etag.is_null() | pl.col(f"{prefix}etag").is_null()
    looks_complete = unknown & (pl.col(f"lake_{prefix}last_modified") >= pl.col(f"{prefix}last_modified"))
    return ((as_copied | looks_complete) & _same_size(prefix)).fill_null(value=False)


def _disputed(prefix: str) -> pl.Expr:
    """The state depends on whether the lake's ETags are MD5 sums."""
    disputed = _assumed_same(prefix) & disagree(pl.col(f"{prefix}etag"), pl.col(f"lake_{prefix}etag"))
    return disputed if prefix else disputed & ~_was_read()


def _etag(prefix: str) -> pl.Expr:
    """The source's ETag; the known one for a present file whose source returns none now."""
    etag = pl.col(f"{prefix}etag")
    is_same = (pl.col(f"{prefix}state") == ObjectState.PRESENT) & etag.is_null()
    return pl.when(is_same).then(f"known_{prefix}source_etag").otherwise(etag).alias(f"{prefix}etag")


def _damaged() -> pl.Expr:
    """The lake's present copy was read, and differs from the source.

    If the last copy brought the same bytes again, another one would too: the source's ETag is not an MD5 sum.
    """
    differs = pl.col("known_copy_differs").fill_null(value=False) | disagree(pl.col("known_md5"), pl.col("etag"))
    return (
        differs
        & (pl.col("known_verified_etag") == pl.col("lake_etag"))
        & pl.col("known_sha256").ne_missing(pl.col("known_former_sha256"))
        & pl.col("size").is_not_null()
    ).fill_null(value=False)


def _within(column: str, names: Iterable[str]) -> pl.Expr:
    chosen = list(names)
    return pl.col(column).is_in(chosen) if chosen else pl.lit(value=True)
