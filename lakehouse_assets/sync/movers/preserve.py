"""Preserves the former bytes of an object before it is replaced.

A versioned bucket does so by itself. In any other bucket the store first copies the lake's present object below
``_superseded/``, to one key per content, so that a run that was killed and repeats the copy finds it done.

The copy is conditional on the ETag that its place is named after: content that another run has written meanwhile never
gets there. If the store does not support such copies, the object is read under that condition and written by this
process. A place that is taken by other content when it is looked at is not used: the next place is tried. A store that
also refuses the condition that the place is still free is written to without it. An object
whose former bytes cannot be preserved is not replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from lakehouse_assets.sync.movers.outcomes import FILE_SCHEMA
from lakehouse_assets.sync.movers.relay import RelayMover
from lakehouse_assets.sync.movers.routing import unsupported_headers

HEADS_AT_ONCE = 32

PLACES = 5
"""Places that are tried for one content. Only another program would take one."""


@dataclass(frozen=True, slots=True)
class _Content:
    etag: str | None
    size: int


def places_of(dataset: Dataset, key: str, etag: str) -> list[str]:
    """The places in the lake (relative keys) for the former content ``etag`` of a source key, in order."""
    place = dataset.superseded_key(key, etag)
    return [place, *(f"{place}-{number}" for number in range(2, PLACES + 1))]


def preserve_former(
    dataset: Dataset, lake: Lake, changed: pl.DataFrame, options: TransferOptions
) -> tuple[dict[str, str], dict[str, StoreFault]]:
    """Preserve the lake's copies of ``changed`` (COPY_SCHEMA); returns their places, and the faults of the others."""
    columns = changed.select("key", "lake_etag", "lake_size").iter_rows()
    search = _PlaceSearch(dataset, lake, {key: _Content(etag, size) for key, etag, size in columns})
    while search.candidates:
        to_copy = search.check_candidates()
        # Not by s5cmd, which does not support conditions.
        outcomes = CopyObjectMover(lake.bucket, lake.bucket, options).move(list(to_copy), lambda _outcome: None)
        outcomes = _relayed_if_unsupported(outcomes, lake, options)
        search.settle({to_copy[outcome.copy]: outcome for outcome in outcomes})
    return search.preserved, search.faults


class _PlaceSearch:
    """Searches a place for each former content: ``candidates`` has the place that is tried next for each open key."""

    def __init__(self, dataset: Dataset, lake: Lake, former: Mapping[str, _Content]) -> None:
        self._dataset = dataset
        self._lake = lake
        self._former = former
        self._further: dict[str, Iterator[str]] = {
            key: iter(places_of(dataset, key, str(content.etag))) for key, content in former.items()
        }
        self._refused: set[str] = set()
        self.candidates = {key: next(places) for key, places in self._further.items()}
        self.preserved: dict[str, str] = {}
        self.faults: dict[str, StoreFault] = {}

    def check_candidates(self) -> dict[Copy, str]:
        """Settle the keys whose place is taken; returns the copies to make to free places, with their keys."""
        to_copy: dict[Copy, str] = {}
        for key, content in _heads(self._lake, self.candidates).items():
            if isinstance(content, Exception):
                self.faults[key] = fault_of(content)
            elif content is not None and self._is_former(key, content):
                self.preserved[key] = self.candidates[key]
            elif content is not None:
                self._try_next_place(key)
            elif key in self._refused:
                # The place is free, so the condition on the object failed: it has changed.
                self.faults[key] = StoreFault.overtaking()
            else:
                to_copy[self._copy(key)] = key
        return to_copy

    def settle(self, outcomes: Mapping[str, Outcome]) -> None:
        """Take over the outcomes of the copies, and drop the candidates of settled keys."""
        for key, outcome in outcomes.items():
            if outcome.fault is not None and _is_refused(outcome.fault):
                self._refused.add(key)
            elif outcome.fault is not None:
                self.faults[key] = outcome.fault
        copied = {key: outcome for key, outcome in outcomes.items() if outcome.fault is None}
        self.faults |= _wrong_sizes(self._lake, copied, {key: self.candidates[key] for key in copied})
        self.preserved |= {key: self.candidates[key] for key in copied if key not in self.faults}
        self.candidates = {
            key: place for key, place in self.candidates.items() if key not in self.preserved and key not in self.faults
        }

    def _is_former(self, key: str, content: _Content) -> bool:
        former = self._former[key]
        return content == former or _has_same_bytes(
            self._lake, self._dataset.lake_key(key), former, self.candidates[key], content
        )

    def _try_next_place(self, key: str) -> None:
        self._refused.discard(key)
        place = next(self._further[key], None)
        if place is None:
            self.faults[key] = StoreFault("NotKept", f"{PLACES} places are taken by other content")
        else:
            self.candidates[key] = place

    def _copy(self, key: str) -> Copy:
        former = self._former[key]
        source, place = self._dataset.lake_key(key), self.candidates[key]
        return Copy(self._lake.key(source), self._lake.key(place), former.size, former.etag)


def _has_same_bytes(lake: Lake, key: str, former: _Content, place: str, content: _Content) -> bool:
    """Whether a place has the former content under another ETag.

    S3 gives a new ETag to the copy of a multipart upload, and to every copy with KMS. A run that preserved the object
    but could not replace it leaves such a copy.
    """
    if content.size != former.size:
        return False
    store = lake.bucket.object_store()
    try:
        return read_digests(store, lake.key(key), former.etag) == read_digests(store, lake.key(place), content.etag)
    except (*CLIENT_ERRORS, OSError):
        return False


def _is_refused(fault: StoreFault) -> bool:
    """Whether one of the conditions failed: on the place, or on the object to preserve."""
    return fault.is_overtaking or fault.code == "Rewritten"


def _wrong_sizes(lake: Lake, copied: Mapping[str, Outcome], places: Mapping[str, str]) -> dict[str, StoreFault]:
    """The faults of copies whose ETag does not prove their content and whose size is wrong."""
    unproven = {key: places[key] for key, outcome in copied.items() if outcome.written_etag != outcome.copy.etag}
    faults: dict[str, StoreFault] = {}
    for key, content in _heads(lake, unproven).items():
        expected = copied[key].copy.size
        if isinstance(content, Exception):
            faults[key] = fault_of(content)
        elif content is None or content.size != expected:
            size = 0 if content is None else content.size
            faults[key] = StoreFault("NotKept", f"the preserved copy has {size} bytes instead of {expected}")
    return faults


def _relayed_if_unsupported(outcomes: Sequence[Outcome], lake: Lake, options: TransferOptions) -> list[Outcome]:
    """The outcomes, after copies that the store does not support under a condition were read and written instead."""
    if unsupported_headers(options.headers):
        return list(outcomes)
    unsupported = [outcome.copy for outcome in outcomes if outcome.fault is not None and outcome.fault.is_of_request]
    others = [outcome for outcome in outcomes if outcome.fault is None or not outcome.fault.is_of_request]
    if not unsupported:
        return others
    relayed = RelayMover(lake.bucket, lake.bucket, options).move(unsupported, lambda _outcome: None)
    return others + [replace(outcome, fault=outcome.fault or _other_bytes(outcome)) for outcome in relayed]


def _other_bytes(outcome: Outcome) -> StoreFault | None:
    """The fault of bytes that contradict the ETag, read from a store that ignores every condition."""
    differs = outcome.seen is not None and outcome.seen.differs_from(outcome.copy.etag)
    return StoreFault("NotKept", "another run has replaced it meanwhile") if differs else None


def preserved_places(dataset: Dataset, lake: Lake, replaced: pl.DataFrame) -> dict[str, str]:
    """The places of the former contents of objects that a killed run ``replaced``, as far as the lake has them.

    Takes FILE_SCHEMA with the former ETags and sizes. A versioned bucket has no such places. Raises StoreError.
    """
    columns = replaced.select(FILE_SCHEMA.names()).iter_rows()
    former = {key: _Content(etag, size) for key, etag, size in columns}
    preserved: dict[str, str] = {}
    for nth in range(PLACES):
        candidates = {
            key: places_of(dataset, key, str(content.etag))[nth]
            for key, content in former.items()
            if key not in preserved
        }
        contents = _heads(lake, candidates)
        for key, content in contents.items():
            if isinstance(content, Exception):
                raise lake.error("Looking for", candidates[key], content) from content
            if content is not None and _may_be_same(content, former[key]):
                preserved[key] = candidates[key]
        former = {key: content for key, content in former.items() if contents.get(key) is not None}
    return preserved


def _may_be_same(content: _Content, former: _Content) -> bool:
    """Whether the ETags are equal, or the sizes if the ETags cannot be compared."""
    comparable = is_md5(content.etag) and is_md5(former.etag)
    return content.etag == former.etag or (not comparable and content.size == former.size)


def _heads(lake: Lake, places: Mapping[str, str]) -> dict[str, _Content | Exception | None]:
    """The content of each place in the lake: None if it is free, the error if the lake did not answer."""
    if not places:
        return {}
    store = lake.bucket.object_store()

    def head(place: str) -> _Content | Exception | None:
        try:
            meta = store.head(lake.key(place))
        except FileNotFoundError:
            return None
        except CLIENT_ERRORS as error:
            return error
        return _Content((meta["e_tag"] or "").strip('"'), meta["size"])

    with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
        return dict(zip(places, pool.map(head, places.values()), strict=True))
