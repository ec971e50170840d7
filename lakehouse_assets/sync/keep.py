"""Keeping the former bytes of an object that is about to be replaced.

Where the bucket keeps versions, it does so by itself. Elsewhere the lake's present copy is moved
out of the way first: copied by the store under ``_superseded/``, one key per content, so that a
killed run which does it again writes the same. The copy is bound to the ETag that names its place:
what another run has replaced meanwhile never gets there. Where the store cannot bind a copy, the object is
read under that condition and written by us. An object whose former bytes cannot be kept
is not replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, StoreFault, fault_of, store_error
from lakehouse_assets.sync.by_request import RequestMover
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.modes import cannot_say
from lakehouse_assets.sync.relay import RelayMover
from lakehouse_assets.sync.transfer import Copy, Outcome, TransferOptions

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
    outcomes = _read_and_written(outcomes, lake, options)
    faults = {copies[outcome.copy]: _said(outcome.fault) for outcome in outcomes if outcome.fault is not None}
    copied = {key: copy for copy, key in copies.items() if key not in faults}
    for key, found in _sizes(lake, {key: copy.lake_key for key, copy in copied.items()}).items():
        if isinstance(found, Exception):
            faults[key] = fault_of(found)
        elif found != copied[key].size:
            faults[key] = StoreFault("NotKept", f"the kept copy has {found} bytes instead of {copied[key].size}")
    return faults


def _read_and_written(outcomes: Sequence[Outcome], lake: Lake, options: TransferOptions) -> list[Outcome]:
    """The outcomes, after what the store does not copy under a condition was read under it and written by us."""
    if cannot_say(options.headers):
        return list(outcomes)
    refused = [outcome.copy for outcome in outcomes if outcome.fault is not None and outcome.fault.is_of_request]
    done = [outcome for outcome in outcomes if outcome.fault is None or not outcome.fault.is_of_request]
    if not refused:
        return done
    relayed = RelayMover(lake.bucket, lake.bucket, options).move(refused, lambda _outcome: None)
    return done + [replace(outcome, fault=outcome.fault or _of_other_bytes(outcome)) for outcome in relayed]


def _of_other_bytes(outcome: Outcome) -> StoreFault | None:
    """The fault of bytes that are not those of the ETag, from a store that knows no condition at all."""
    is_other = outcome.seen is not None and outcome.seen.differs_from(outcome.copy.etag)
    return StoreFault("Rewritten", "") if is_other else None


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
