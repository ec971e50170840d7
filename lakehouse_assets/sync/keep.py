"""Keeping the former bytes of an object that is about to be replaced.

Where the bucket keeps versions, it does so by itself. Elsewhere the lake's present copy is moved
out of the way first: copied by the store under ``_superseded/``, one key per content, so that a
killed run which does it again writes the same. An object whose former bytes cannot be kept is
not replaced.
"""

from __future__ import annotations

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, StoreFault, fault_of
from lakehouse_assets.sync.direct import DirectMover
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.transfer import Copy, TransferOptions


def superseded_keys(dataset: Dataset, changed: pl.DataFrame) -> dict[str, str]:
    """Key in the lake (relative) under which each source key's former content is kept."""
    return {key: dataset.superseded_key(key, etag) for key, etag in changed.select("key", "lake_etag").iter_rows()}


def keep_former(dataset: Dataset, lake: Lake, changed: pl.DataFrame, options: TransferOptions) -> dict[str, StoreFault]:
    """Keep the lake's copies of ``changed`` (key, lake_etag, lake_size); returns what could not be kept."""
    places = superseded_keys(dataset, changed)
    sizes = dict(changed.select("key", "lake_size").iter_rows())
    copies = {Copy(lake.key(dataset.lake_key(key)), lake.key(place), sizes[key]): key for key, place in places.items()}
    outcomes = DirectMover(lake.bucket, lake.bucket, options).move(list(copies), lambda _outcome: None)
    faults = {copies[outcome.copy]: outcome.fault for outcome in outcomes if outcome.fault is not None}
    store = lake.bucket.object_store()
    for copy, key in copies.items():
        if key in faults:
            continue
        try:
            found = store.head(copy.lake_key)["size"]
        except FileNotFoundError:
            found = None
        except CLIENT_ERRORS as error:
            faults[key] = fault_of(error)
            continue
        if found != copy.size:
            faults[key] = StoreFault("NotKept", f"the kept copy has {found} bytes instead of {copy.size}")
    return faults
