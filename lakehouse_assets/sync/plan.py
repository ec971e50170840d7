"""What a sync would do: the difference of source, lake and manifest, object by object.

Four states per object (and separately for its sidecar):

``missing``   the source has it, the lake does not
``changed``   the lake's copy is of other content than the source's: its former bytes are kept
``present``   the lake has what the source has
``vanished``  the source no longer lists it: the lake's copy stays

Content is compared by ETag and size, never by time: a touched object is not copied again. With
a manifest row, the source's ETag is compared with the one that was copied, and the lake's ETag
with the one that copy got. Without one (a run was killed, or the mirror is older than the
manifest) the two ETags are compared with each other where both are plain MD5 sums; otherwise an
equal size and a copy younger than the source's file is taken as whole, since S3 writes are atomic.
So it is where a source tells no ETag.

Where both ETags are MD5 sums they have to be equal, whatever the manifest says: it may be of a time when
this was not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.archive.exchanges.grammar import Layout
from lakehouse_assets.archive.listing import IDENTITY, Listing, sidecar_keys
from lakehouse_assets.lake.states import COPIED_STATES, ObjectState
from lakehouse_assets.lake.store.etags import disagree
from lakehouse_assets.sync.movers.outcomes import file_key


@dataclass(frozen=True, slots=True)
class Plan:
    """One row per object known to source, lake or manifest; see :func:`make_plan`.

    ``wanted`` narrows the copies to a run's ``symbols`` and ``intervals``; judging a period
    whole always looks at every row. ``doubted`` and ``sidecar_doubted`` are what a listing lacks and is not believed.
    """

    rows: pl.DataFrame
    listing_requests: int

    @property
    def is_doubted(self) -> bool:
        """Whether the source's listing lacks too much to be believed."""
        return bool(self.rows.select(pl.any_horizontal("doubted", "sidecar_doubted").any()).item())

    def copies(self) -> pl.DataFrame:
        """Keys to copy: source ``key``, ``size``, ``etag``, ``reason`` (missing or changed),
        ``is_sidecar``, for changed ones the ``lake_etag`` and ``lake_size`` to keep, and ``was_there``: the lake had
        it once, by the manifest."""
        wanted = self.rows.filter(pl.col("wanted"))
        parts = [
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
            for prefix in ("", "sidecar_")
        ]
        return pl.concat(parts)

    def disputed(self) -> pl.DataFrame:
        """Files that are present only if the lake's ETags are no MD5 sums: ``key``, its ``etag``, ``size`` there."""
        return pl.concat(
            self.rows.filter(f"{prefix}disputed").select(
                file_key(prefix), etag=pl.col(f"lake_{prefix}etag"), size=pl.col(f"lake_{prefix}size")
            )
            for prefix in ("", "sidecar_")
        )

    def summary(self) -> PlanSummary:
        copies = self.copies()
        objects = copies.filter(~pl.col("is_sidecar"))
        return PlanSummary(
            objects=objects.height,
            sidecars=copies.height - objects.height,
            bytes=int(copies["size"].sum()),
            missing=objects.filter(pl.col("reason") == ObjectState.MISSING).height,
            changed=objects.filter(pl.col("reason") == ObjectState.CHANGED).height,
            present=self.rows.filter(pl.col("state") == ObjectState.PRESENT).height,
            vanished=self.rows.filter((pl.col("state") == ObjectState.WITHDRAWN) & ~pl.col("doubted")).height,
            doubted=self.rows.filter("doubted").height,
        )


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """Counts of a plan. ``bytes`` with sidecars; ``doubted`` are not listed, and not believed to be withdrawn."""

    objects: int
    sidecars: int
    bytes: int
    missing: int
    changed: int
    present: int
    vanished: int
    doubted: int


def make_plan(
    source: Listing,
    lake: Listing,
    known: pl.DataFrame,
    *,
    layout: Layout,
    symbols: Sequence[str] = (),
    intervals: Sequence[str] = (),
    lake_has_md5: bool = True,
) -> Plan:
    """Compare source, lake and ``known`` (manifest rows of the same periods) of a publication.

    ``symbols`` and ``intervals`` narrow what is copied; empty means all. ``lake_has_md5``: the lake's
    ETags of 32 hex digits are MD5 sums.
    """
    rows = join_sides(source.objects, lake.objects, known)
    rows = rows.with_columns(disputed=_disputed(""), sidecar_disputed=_disputed("sidecar_"))
    rows = rows.with_columns(
        state=pl.when(_damaged())
        .then(pl.lit(ObjectState.CHANGED.value))
        .otherwise(_state("", _same_bytes("") | _read_as_the_source_has_it(), lake_has_md5=lake_has_md5)),
        sidecar_state=_state("sidecar_", _same_bytes("sidecar_"), lake_has_md5=lake_has_md5),
    ).with_columns(
        _etag(""),
        _etag("sidecar_"),
        wanted=_within("symbol", symbols) & _within("interval", intervals),
        sidecar_key=sidecar_keys(layout),
    )
    return Plan(rows, source.requests + lake.requests)


def join_sides(source: pl.DataFrame, lake: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Outer join on ``key``: source columns as they are, the lake's as ``lake_*``, the manifest's as ``known_*``."""
    here = lake.rename(lambda name: name if name == "key" else f"lake_{name}")
    remembered = known.rename(lambda name: name if name == "key" else f"known_{name}")
    rows = source.join(here, on="key", how="full", coalesce=True).join(remembered, on="key", how="full", coalesce=True)
    return rows.with_columns(pl.coalesce(name, f"lake_{name}", f"known_{name}").alias(name) for name in IDENTITY).sort(
        "period", "symbol", "interval", "key"
    )


def _state(prefix: str, proven: pl.Expr, *, lake_has_md5: bool) -> pl.Expr:
    """State of the object (``prefix`` empty) or of its sidecar; null where there was never one."""
    etag, lake_etag = pl.col(f"{prefix}etag"), pl.col(f"lake_{prefix}etag")
    size, lake_size = pl.col(f"{prefix}size"), pl.col(f"lake_{prefix}size")
    known_source_etag, known_lake_etag = pl.col(f"known_{prefix}source_etag"), pl.col(f"known_{prefix}lake_etag")
    believed = _believed(prefix) & ~disagree(etag, lake_etag) if lake_has_md5 else _believed(prefix)
    if not prefix:
        # What was read is judged by what was found, see _damaged.
        believed |= _believed(prefix) & _was_read()
    return (
        pl.when(size.is_null() & lake_size.is_null() & known_source_etag.is_null() & known_lake_etag.is_null())
        .then(None)
        .when(size.is_null())
        .then(pl.lit(ObjectState.WITHDRAWN.value))
        .when(lake_size.is_null())
        .then(pl.lit(ObjectState.MISSING.value))
        .when(proven | believed)
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
    read = (pl.col("known_verified_etag") == pl.col("lake_etag")) & pl.col("known_md5").is_not_null()
    return read.fill_null(value=False)


def _read_as_the_source_has_it() -> pl.Expr:
    return (_was_read() & (pl.col("known_md5") == pl.col("etag")) & _same_size("")).fill_null(value=False)


def _believed(prefix: str) -> pl.Expr:
    """Present by the manifest's word, or where it has none by size and time; the ETags were not compared."""
    known_source_etag = pl.col(f"known_{prefix}source_etag")
    as_copied = (known_source_etag == pl.col(f"{prefix}etag")) & (
        pl.col(f"known_{prefix}lake_etag") == pl.col(f"lake_{prefix}etag")
    )
    unknown = known_source_etag.is_null() | pl.col(f"{prefix}etag").is_null()
    looks_whole = unknown & (pl.col(f"lake_{prefix}last_modified") >= pl.col(f"{prefix}last_modified"))
    return ((as_copied | looks_whole) & _same_size(prefix)).fill_null(value=False)


def _disputed(prefix: str) -> pl.Expr:
    """Whether the lake's ETags are MD5 sums decides about the file."""
    disputed = _believed(prefix) & disagree(pl.col(f"{prefix}etag"), pl.col(f"lake_{prefix}etag"))
    return disputed if prefix else disputed & ~_was_read()


def _etag(prefix: str) -> pl.Expr:
    """The source's ETag; of what is present and of which the source tells none now, the one it had."""
    etag = pl.col(f"{prefix}etag")
    is_same = (pl.col(f"{prefix}state") == ObjectState.PRESENT) & etag.is_null()
    return pl.when(is_same).then(f"known_{prefix}source_etag").otherwise(etag).alias(f"{prefix}etag")


def _damaged() -> pl.Expr:
    """The lake's present copy was read, and is not what the source has.

    Where copying it again brought the same bytes, once more would too: the source's ETag is no MD5.
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
