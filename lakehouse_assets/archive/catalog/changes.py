"""Changes: how a catalog differs from the one before it, or from the archive matrix."""

from __future__ import annotations

from enum import StrEnum

import polars as pl

DATASETS_AT_MOST = 20

CHANGE_SCHEMA = pl.Schema(
    {"kind": pl.String, "market": pl.String, "name": pl.String, "datasets": pl.List(pl.String), "since": pl.Date}
)
"""``name`` is what changed: a symbol, an interval, a prefix, or empty for a dataset as such. ``datasets`` are the
datasets in which it changed, without the exchange. ``since`` is the last day with an object, if the publication
ended."""


class Change(StrEnum):
    """Kinds of differences from the previous catalog, and (the last seven) from the archive matrix."""

    NEW_DATASET = "new dataset"
    NEW_PREFIX = "new prefix"
    DATASET_GONE = "dataset gone"
    DATASET_DEAD = "dataset dead"
    DATASET_BACK = "dataset back"
    NEW_INTERVAL = "new interval"
    NEW_UNRECOGNIZED = "new stray"
    NEW_SYMBOL = "new symbol"
    SYMBOL_QUIET = "symbol quiet"
    SYMBOL_GONE = "symbol gone"
    NOT_COLLECTED = "available, not collected"
    INTERVAL_NOT_COLLECTED = "interval available, not collected"
    NOT_PUBLISHED = "wanted, not published"
    INTERVAL_NOT_PUBLISHED = "interval wanted, not published"
    NO_SYMBOL = "wanted, no symbol selected"
    EARLIER = "begins before what this version knows"
    EARLIER_NOT_COLLECTED = "earlier available, not collected"


ALARMING = frozenset(
    {
        Change.NEW_DATASET,
        Change.NEW_PREFIX,
        Change.DATASET_GONE,
        Change.DATASET_DEAD,
        Change.NOT_PUBLISHED,
        Change.INTERVAL_NOT_PUBLISHED,
        Change.NO_SYMBOL,
        Change.EARLIER,
    }
)
"""Changes that require a decision. Others, such as new symbols, are routine."""


def alarming(changes: pl.DataFrame) -> pl.DataFrame:
    """The changes that require a decision."""
    return changes.filter(pl.col("kind").is_in([kind.value for kind in ALARMING]))


def summary_of(changes: pl.DataFrame) -> str:
    """``2 new symbol: AUSDT, BUSDT; 1 dataset dead: um/bookTicker/daily``; "nothing" if there are no changes."""
    texts = []
    for (kind,), group in changes.group_by("kind", maintain_order=True):
        names = [row["name"] or ", ".join(row["datasets"]) for row in group.to_dicts()]
        shown = ", ".join(names[:DATASETS_AT_MOST]) + (", ..." if len(names) > DATASETS_AT_MOST else "")
        texts.append(f"{len(names)} {kind}: {shown}")
    return "; ".join(texts) or "nothing"
