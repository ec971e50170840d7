"""The demo's claims, each checked against the store and Dagster's records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import obstore
from obstore.store import S3Store

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import ARCHIVE_FOLDER, SUPERSEDED_FOLDER
from lakehouse_assets.cli.demo.archive import Published
from lakehouse_assets.cli.demo.changes import Changes
from lakehouse_assets.cli.demo.runs import DatasetRun

READERS = 8
_DIGEST = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim and whether it holds; ``found`` is the evidence."""

    text: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a listing."""

    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Contents:
    """The lake's mirror and its superseded objects, by their key in the lake."""

    mirror: dict[str, Entry]
    superseded: dict[str, Entry]

    @property
    def newest(self) -> float:
        """Last-modified time of the newest object, in epoch seconds."""
        return max((entry.last_modified.timestamp() for entry in self.mirror.values()), default=0.0)


def list_lake(lake: Bucket) -> Contents:
    """List the lake."""
    store = lake.object_store()
    return Contents(_list(store, f"{ARCHIVE_FOLDER}/"), _list(store, f"{SUPERSEDED_FOLDER}/"))


def _list(store: S3Store, prefix: str) -> dict[str, Entry]:
    return {
        meta["path"]: Entry((meta["e_tag"] or "").strip('"'), meta["size"], meta["last_modified"])
        for meta in obstore.list(store, prefix=prefix).collect()
    }


def first_claims(published: Published, source: Bucket, lake: Bucket, runs: Iterable[DatasetRun]) -> list[Claim]:
    """Claims about the first backfill."""
    runs = list(runs)
    partitions = sum(run.partitions for run in runs)
    materialized = sum(len(run.materialized) for run in runs)
    complete = sum(len(run.complete) for run in runs)
    modes = sorted({mode for run in runs for mode in run.modes})
    keys = _mirrored(published)
    same = _equal(source, lake, {key: f"{_root(published)}{key}" for key in keys})
    good, sidecars = _true_checksums(published, lake, keys)
    return [
        Claim(
            "Every partition is materialized in Dagster, and its check `complete` passed.",
            materialized == complete == partitions,
            f"{materialized} materialized, {complete} complete, of {partitions}",
        ),
        Claim(
            "The lake holds every published file, byte for byte.",
            same == len(keys) == len(list_lake(lake).mirror),
            f"{same} of {len(keys)} files equal",
        ),
        Claim(
            "Every object has the SHA-256 that its sidecar publishes.",
            good == sidecars,
            f"{good} of {sidecars} sidecars match",
        ),
        Claim(
            "The store copied all files itself: no byte passed through this process.",
            modes == ["direct"],
            f"modes: {', '.join(modes) or 'none'}",
        ),
    ]


def second_claims(
    published: Published, changes: Changes, lake: Bucket, before: Contents, runs: Iterable[DatasetRun]
) -> list[Claim]:
    """Claims about the second backfill; ``before`` is the lake's contents after the first."""
    root = _root(published)
    store, after = lake.object_store(), list_lake(lake)
    written = {key for key, entry in after.mirror.items() if before.mirror.get(key) != entry}
    arrived = [change for change in (changes.added, changes.rewritten) if change]
    expected = {root + key for change in arrived for key in change.after}
    copied = sum(run.copied for run in runs)
    objects = sum(len(change.objects) for change in arrived)
    claims = [
        Claim(
            "Exactly the new and the rewritten files were copied.",
            written == expected and copied == objects,
            f"{len(written)} files written, {len(expected)} expected; Dagster counts {copied} objects of {objects}",
        )
    ]
    if changes.added:
        claims.append(_holds(store, root, changes.added.after, "The lake holds the new period."))
    claims.append(
        _holds(store, root, changes.rewritten.after, "The lake holds the rewritten file, though its size is the same.")
    )
    claims.append(_former_claim(published, changes, store, before, after))
    if changes.removed:
        text = "The lake still holds the file that was withdrawn upstream, unchanged."
        claims.append(_holds(store, root, changes.removed.before, text))
    return claims


def _former_claim(published: Published, changes: Changes, store: S3Store, before: Contents, after: Contents) -> Claim:
    dataset = changes.rewritten.dataset.dataset
    places = {
        dataset.superseded_key(key, before.mirror[_root(published) + key].etag): body
        for key, body in changes.rewritten.before.items()
        if _root(published) + key in before.mirror
    }
    new = set(after.superseded) - set(before.superseded)
    equal = [key for key, body in places.items() if key in new and _read(store, key) == body]
    return Claim(
        "The rewritten file's former bytes are kept.",
        sorted(equal) == sorted(new) and len(equal) == len(changes.rewritten.before),
        f"{len(equal)} of {len(changes.rewritten.before)} files below {SUPERSEDED_FOLDER}/ equal",
    )


def _holds(store: S3Store, root: str, bodies: dict[str, bytes], text: str) -> Claim:
    equal = sum(_read(store, root + key) == body for key, body in bodies.items())
    return Claim(text, equal == len(bodies), f"{equal} of {len(bodies)} files equal")


def _root(published: Published) -> str:
    return published.datasets[0].dataset.lake_root


def _mirrored(published: Published) -> list[str]:
    """Source keys that belong in the lake: the datasets' objects and their sidecars."""
    objects = [key for dataset in published.datasets for keys in dataset.objects.values() for key in keys]
    sidecars = map(published.exchange.sidecar_of, objects)
    return objects + [key for key in sidecars if key in published.sizes]


def _equal(source: Bucket, lake: Bucket, places: dict[str, str]) -> int:
    source_store, lake_store = source.object_store(), lake.object_store()

    def same(place: tuple[str, str]) -> bool:
        return _read(source_store, place[0]) == _read(lake_store, place[1])

    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(same, places.items()))


def _true_checksums(published: Published, lake: Bucket, keys: list[str]) -> tuple[int, int]:
    """How many sidecars in the lake have their object's SHA-256, and how many sidecars there are."""
    root, store = _root(published), lake.object_store()
    mirrored = set(keys)
    pairs = ((key, published.exchange.sidecar_of(key)) for key in keys)
    sidecars = [(key, sidecar) for key, sidecar in pairs if sidecar in mirrored]

    def is_true(pair: tuple[str, str]) -> bool:
        body, text = (_read(store, root + key) for key in pair)
        digest = _DIGEST.search(text or b"")
        return body is not None and digest is not None and digest[0].decode() == hashlib.sha256(body).hexdigest()

    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(is_true, sidecars)), len(sidecars)


def _read(store: S3Store, key: str) -> bytes | None:
    try:
        return bytes(store.get(key).bytes())
    except FileNotFoundError:
        return None
