"""Keeping the former bytes of an object that is about to be replaced.

Where the bucket keeps versions, it does so by itself. Elsewhere the lake's present copy is moved
out of the way first: copied by the store under ``_superseded/``, one key per content, so that a
killed run which does it again finds it done. The copy is bound to the ETag that names its place:
what another run has replaced meanwhile never gets there. Where the store cannot bind a copy, the object is
read under that condition and written by us. A place that holds something else is neither
overwritten nor believed: the next one is taken. An object whose former bytes cannot be kept
is not replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.errors import CLIENT_ERRORS, StoreFault, fault_of
from lakehouse_assets.lake.digests import read_digests
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.etags import is_md5
from lakehouse_assets.sync.movers.base import Copy, Outcome, TransferOptions
from lakehouse_assets.sync.movers.copy_object import CopyObjectMover
from lakehouse_assets.sync.movers.relay import RelayMover
from lakehouse_assets.sync.movers.routing import cannot_say

LOOKS_AT_ONCE = 32

PLACES = 5
"""Places that are tried for one content. Nothing but a stranger takes one."""


@dataclass(frozen=True, slots=True)
class _Found:
    etag: str | None
    size: int


def places_of(dataset: Dataset, key: str, etag: str) -> list[str]:
    """Where in the lake (relative) the former content ``etag`` of a source key may be kept, in this order."""
    place = dataset.superseded_key(key, etag)
    return [place, *(f"{place}-{number}" for number in range(2, PLACES + 1))]


def keep_former(
    dataset: Dataset, lake: Lake, changed: pl.DataFrame, options: TransferOptions
) -> tuple[dict[str, str], dict[str, StoreFault]]:
    """Keep the lake's copies of ``changed`` (key, lake_etag, lake_size); returns their places, and what could not be
    kept."""
    columns = changed.select("key", "lake_etag", "lake_size").iter_rows()
    former = {key: _Found(etag, size) for key, etag, size in columns}
    places = {key: iter(places_of(dataset, key, str(found.etag))) for key, found in former.items()}
    kept: dict[str, str] = {}
    faults: dict[str, StoreFault] = {}
    refused: set[str] = set()
    looking = {key: next(places[key]) for key in former}
    while looking:
        to_copy: dict[Copy, str] = {}
        for key, found in _heads(lake, looking).items():
            if isinstance(found, Exception):
                faults[key] = fault_of(found)
            elif found == former[key] or (
                found is not None and _has_same_bytes(lake, dataset.lake_key(key), former[key], looking[key], found)
            ):
                kept[key] = looking[key]
            elif found is not None:
                refused.discard(key)
                if (place := next(places[key], None)) is None:
                    faults[key] = StoreFault("NotKept", f"{PLACES} places are taken by something else")
                else:
                    looking[key] = place
            elif key in refused:
                # The place is free, so it was the object itself that had changed.
                faults[key] = StoreFault.overtaking()
            else:
                copy = Copy(lake.key(dataset.lake_key(key)), lake.key(looking[key]), former[key].size, former[key].etag)
                to_copy[copy] = key
        # Not by s5cmd, which cannot say a condition.
        outcomes = CopyObjectMover(lake.bucket, lake.bucket, options).move(list(to_copy), lambda _outcome: None)
        outcomes = _read_and_written(outcomes, lake, options)
        done = {to_copy[outcome.copy]: outcome for outcome in outcomes}
        refused |= {key for key, outcome in done.items() if outcome.fault is not None and _is_refused(outcome.fault)}
        faults |= {k: o.fault for k, o in done.items() if o.fault is not None and k not in refused}
        copied = {key: outcome for key, outcome in done.items() if outcome.fault is None}
        faults |= _not_whole(lake, copied, {key: looking[key] for key in copied})
        kept |= {key: looking[key] for key in copied if key not in faults}
        looking = {key: place for key, place in looking.items() if key not in kept and key not in faults}
    return kept, faults


def _has_same_bytes(lake: Lake, here: str, former: _Found, there: str, found: _Found) -> bool:
    """Whether a place has the content under another ETag: S3 gives one to a copy of what was uploaded in parts, and
    to every copy with KMS. A run that could not replace the object afterwards has left it."""
    if found.size != former.size:
        return False
    store = lake.bucket.object_store()
    try:
        return read_digests(store, lake.key(here), former.etag) == read_digests(store, lake.key(there), found.etag)
    except (*CLIENT_ERRORS, OSError):
        return False


def _is_refused(fault: StoreFault) -> bool:
    """By either condition: of the place, or of the object that is to be kept."""
    return fault.is_overtaking or fault.code == "Rewritten"


def _not_whole(lake: Lake, copied: Mapping[str, Outcome], places: Mapping[str, str]) -> dict[str, StoreFault]:
    """Copies that are not of the size that they should have, of those whose ETag does not prove their content."""
    unproven = {key: places[key] for key, outcome in copied.items() if outcome.written_etag != outcome.copy.etag}
    faults: dict[str, StoreFault] = {}
    for key, found in _heads(lake, unproven).items():
        size = copied[key].copy.size
        if isinstance(found, Exception):
            faults[key] = fault_of(found)
        elif found is None or found.size != size:
            there = 0 if found is None else found.size
            faults[key] = StoreFault("NotKept", f"the kept copy has {there} bytes instead of {size}")
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
    return StoreFault("NotKept", "another run has replaced it meanwhile") if is_other else None


def kept_places(dataset: Dataset, lake: Lake, replaced: pl.DataFrame) -> dict[str, str]:
    """Where the lake keeps the former contents of ``replaced`` (key, lake_etag, size), as far as it does.

    Of objects that a killed run replaced; a bucket that keeps versions has none of them. Raises StoreError.
    """
    columns = replaced.select("key", "lake_etag", "size").iter_rows()
    former = {key: _Found(etag, size) for key, etag, size in columns}
    kept: dict[str, str] = {}
    for nth in range(PLACES):
        looking = {k: places_of(dataset, k, str(f.etag))[nth] for k, f in former.items() if k not in kept}
        found = _heads(lake, looking)
        for key, there in found.items():
            if isinstance(there, Exception):
                raise lake.error("Looking for", looking[key], there) from there
            if there is not None and _may_be(there, former[key]):
                kept[key] = looking[key]
        former = {key: each for key, each in former.items() if found.get(key) is not None}
    return kept


def _may_be(found: _Found, former: _Found) -> bool:
    """The same content by its ETag; by its size where ETags cannot be compared."""
    comparable = is_md5(found.etag) and is_md5(former.etag)
    return found.etag == former.etag or (not comparable and found.size == former.size)


def _heads(lake: Lake, places: Mapping[str, str]) -> dict[str, _Found | Exception | None]:
    """What each place in the lake holds: None where nothing, the error where the lake did not say."""
    if not places:
        return {}
    store = lake.bucket.object_store()

    def head(place: str) -> _Found | Exception | None:
        try:
            there = store.head(lake.key(place))
        except FileNotFoundError:
            return None
        except CLIENT_ERRORS as error:
            return error
        return _Found((there["e_tag"] or "").strip('"'), there["size"])

    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        return dict(zip(places, pool.map(head, places.values()), strict=True))
