"""What became of each file that was moved: the mover's word, held against the lake's listing."""

from __future__ import annotations

import polars as pl

from lakehouse_assets.lake.states import ObjectState
from lakehouse_assets.lake.store.etags import disagree, has_md5

_PREFIXES = ("", "sidecar_")
"""Of the columns of an object and of its sidecar."""


def with_outcomes(rows: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Plan rows of listings *after* the transfer, with the movers' outcomes as ``tried_*`` and ``sidecar_tried_*``."""
    tried = outcomes.rename(lambda name: name if name == "key" else f"tried_{name}")
    rows = rows.join(tried, on="key", how="left", maintain_order="left")
    return rows.join(tried.rename(lambda name: f"sidecar_{name}"), on="sidecar_key", how="left", maintain_order="left")


def file_key(prefix: str) -> pl.Expr:
    """The key of the object (``prefix`` empty) or of its sidecar."""
    return pl.col(f"{prefix}key").alias("key")


def unexpected(rows: pl.DataFrame) -> pl.DataFrame:
    """Copies (``key``, the lake's ``etag`` and ``size``) that have failed if the lake's ETags are MD5 sums.

    None where some copy of the same transfer has its MD5 for its ETag: then they are.
    """
    if rows.select(pl.any_horizontal(_arrived(prefix) for prefix in _PREFIXES).any()).item():
        return rows.clear().select("key", etag="lake_etag", size="lake_size")
    return pl.concat(
        rows.filter(_has_other_bytes(prefix)).select(
            file_key(prefix), etag=pl.col(f"lake_{prefix}etag"), size=pl.col(f"lake_{prefix}size")
        )
        for prefix in _PREFIXES
    )


def classify_files(rows: pl.DataFrame, *, lake_has_md5: bool) -> pl.DataFrame:
    """Rows :func:`with_outcomes` with ``copied``, ``overtaken`` (another run has written something else meanwhile),
    and ``state`` and ``tried_fault`` as the lake's listing bears them out; the same of sidecars, ``sidecar_*``.

    ``lake_has_md5`` is about those that are :func:`unexpected`.
    """
    rows = rows.with_columns(_copied(prefix, lake_has_md5).alias(f"{prefix}copied") for prefix in _PREFIXES)
    rows = rows.with_columns(
        expr
        for prefix in _PREFIXES
        for expr in (
            _overtaken(prefix, lake_has_md5).alias(f"{prefix}overtaken"),
            _fault(prefix, lake_has_md5).alias(f"{prefix}tried_fault"),
        )
    )
    return rows.with_columns(
        state=pl.when("copied").then(pl.lit(ObjectState.PRESENT.value)).otherwise("state"),
        sidecar_state=pl.when("sidecar_copied").then(pl.lit(ObjectState.PRESENT.value)).otherwise("sidecar_state"),
    )


def overtaken(rows: pl.DataFrame) -> pl.Series:
    """Keys of the files, of judged rows, of which another run has written something else meanwhile."""
    return pl.concat([rows.filter("overtaken")["key"], rows.filter("sidecar_overtaken")["sidecar_key"].rename("key")])


def is_complete(column: str) -> pl.Expr:
    """Nothing is to be copied, by this column of states."""
    return pl.col(column).is_null() | pl.col(column).is_in([ObjectState.PRESENT.value, ObjectState.WITHDRAWN.value])


def _succeeded(prefix: str) -> pl.Expr:
    """By the mover's word."""
    return pl.col(f"{prefix}tried_mode").is_not_null() & pl.col(f"{prefix}tried_fault").is_null()


def _arrived(prefix: str) -> pl.Expr:
    """The lake's ETag is the MD5 of what was to be written."""
    lake_etag = pl.col(f"lake_{prefix}etag")
    meant = pl.coalesce(f"{prefix}tried_md5", f"{prefix}tried_etag")
    return _succeeded(prefix) & has_md5(lake_etag) & (meant == lake_etag).fill_null(value=False)


def _is_replaced(prefix: str) -> pl.Expr:
    """The lake has another object than the write's answer named."""
    return (pl.col(f"{prefix}tried_written_etag") != pl.col(f"lake_{prefix}etag")).fill_null(value=False)


def _has_other_bytes(prefix: str) -> pl.Expr:
    """The lake has other bytes than were sent, or than the source has, where the store copied by itself.

    If its ETags are MD5 sums. What the store says that it wrote itself is not doubted.
    """
    lake_etag, sent = pl.col(f"lake_{prefix}etag"), pl.col(f"{prefix}tried_md5")
    etag = pl.col(f"{prefix}tried_etag")
    is_written = (pl.col(f"{prefix}tried_written_etag") == lake_etag).fill_null(value=False)
    unseen = sent.is_null() & ~is_written & etag.eq_missing(pl.col(f"{prefix}etag"))
    return _succeeded(prefix) & (disagree(sent, lake_etag) | (unseen & disagree(etag, lake_etag)))


def _overtaken(prefix: str, lake_has_md5: bool) -> pl.Expr:
    """By the mover's word, or by what the lake has now; not where that is what the source has."""
    unseen = pl.col(f"{prefix}tried_md5").is_null()
    found = _succeeded(prefix) & (_is_replaced(prefix) | (lake_has_md5 & unseen & _has_other_bytes(prefix)))
    is_open = ~is_complete(f"{prefix}state") & ~pl.col(f"{prefix}copied")
    return is_open & (pl.col(f"{prefix}tried_overtaken").fill_null(value=False) | found)


def _fault(prefix: str, lake_has_md5: bool) -> pl.Expr:
    """The mover's fault, or what the lake's listing says against its word."""
    lake_etag, said = pl.col(f"lake_{prefix}etag"), pl.col(f"{prefix}tried_fault")
    corrupt = lake_has_md5 & _has_other_bytes(prefix) & ~_is_replaced(prefix)
    sent = pl.format(
        "Corrupt: the bytes that were sent have md5 {}, the lake's have {}", f"{prefix}tried_md5", lake_etag
    )
    replaced = pl.format("Overtaken: after the copy somebody else has written an object with ETag {}", lake_etag)
    return (
        pl.when(said.is_not_null())
        .then(said)
        .when(_overtaken(prefix, lake_has_md5))
        .then(replaced)
        .when(corrupt)
        .then(sent)
    )


def _copied(prefix: str, lake_has_md5: bool) -> pl.Expr:
    """The mover said so, the lake lists that size and no other bytes, and the source is still what was planned.

    Or it was rewritten in between and the store, which copied by itself, copied what it is now. Or the
    mover was refused because the lake had just what it was about to write: a write whose answer was
    lost, or another run's.
    """
    etag, lake_etag = pl.col(f"{prefix}etag"), pl.col(f"lake_{prefix}etag")
    unseen = pl.col(f"{prefix}tried_md5").is_null()
    written = _succeeded(prefix) & ~_is_replaced(prefix)
    if lake_has_md5:
        written &= ~_has_other_bytes(prefix)
    found = pl.col(f"{prefix}tried_overtaken") & (pl.col(f"{prefix}tried_md5") == lake_etag)
    return (
        (written | found.fill_null(value=False))
        & (pl.col(f"lake_{prefix}size") == pl.col(f"{prefix}size"))
        & (pl.col(f"{prefix}tried_etag").eq_missing(etag) | (unseen & (lake_etag == etag)))
    ).fill_null(value=False)
