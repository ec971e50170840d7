"""Full verification: read the lake's copies and compare their digests with the published ones.

It reads every byte, so it is a step of its own and reads each content once: a finding is recorded with the ETag that
was read, and applies to no other. The lake is listed first, and copies that it no longer has are recorded as missing.
Findings are committed at intervals, so a stopped verification continues where it was.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import obstore
import polars as pl
from obstore.exceptions import PreconditionError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.errors import CLIENT_ERRORS, fault_of
from lakehouse_assets.lake.digests import Digests, read_digests
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA, Manifest
from lakehouse_assets.lake.states import FAILED, Integrity, ObjectState
from lakehouse_assets.observability.telemetry.tracing import span
from lakehouse_assets.sync.integrity.columns import INTEGRITY_COLUMNS, unread
from lakehouse_assets.sync.integrity.sidecars import (
    OVERSIZED,
    SIDECAR_BYTES,
    IntegrityFinding,
    Published,
    compare_digests,
    parse_sidecar,
)
from lakehouse_assets.sync.integrity.sightings import listed_of, lost_of, without_lost

_log = logging.getLogger(__name__)

READERS = 8
COMMIT_OBJECTS = 2_000
COMMIT_SECONDS = 60.0
SAMPLE_SHARE = 0.05
"""Share of the objects that a sampled verification reads, the same ones every time."""


class Finding(NamedTuple):
    """The integrity of one object, as the manifest's columns of the same names.

    It is about the lake's content ``verified_etag``, compared with the source's ``source_etag`` and with the sidecar
    ``sidecar_lake_etag``; it applies to no other content.
    """

    key: str
    integrity: str
    integrity_note: str | None
    copy_differs: bool | None
    sha256: str
    md5: str
    published_digest: str | None
    verified_at: datetime
    verified_etag: str
    source_etag: str | None
    sidecar_lake_etag: str | None


FINDING_SCHEMA = pl.Schema({name: MANIFEST_SCHEMA[name] for name in Finding._fields})
"""A frame of findings."""

_COMPARED_COLUMNS = ("source_etag", "sidecar_lake_etag")
"""ETags that a finding is bound to, besides the lake's."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The progress of a verification: objects and bytes read, out of those to read."""

    objects: int
    objects_total: int
    bytes: int
    bytes_total: int


OnRead = Callable[[Reading], None]
"""Called at the start and after each object."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """An object that differs from the published one, or could not be read. ``copy_differs``: the lake's copy is wrong,
    not the sidecar."""

    key: str
    period: str
    state: str
    note: str
    copy_differs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a verification.

    ``states`` counts the present objects of each period by integrity. ``objects_read`` and ``bytes_read`` are of this
    run. ``unread`` objects were deleted or replaced since their sync, or could not be read.
    """

    states: dict[str, dict[str, int]]
    complaints: tuple[Complaint, ...]
    objects_read: int
    bytes_read: int
    unread: tuple[Complaint, ...]
    seconds: float

    def total(self, state: Integrity) -> int:
        return sum(counts.get(state.value, 0) for counts in self.states.values())


class _Batch(NamedTuple):
    """Findings to commit together, and the objects that could not be read meanwhile."""

    findings: list[Finding]
    unread: list[Complaint]

    def is_due(self, since: float) -> bool:
        return bool(self.findings) and time.monotonic() - since > COMMIT_SECONDS


class Verifier:
    """Verifies objects of one lake, READERS at a time, each read in chunks."""

    def __init__(self, source: Bucket, lake: Lake) -> None:
        self._source = source.object_store()
        self._lake = lake
        self._store = lake.bucket.object_store()

    def verify(
        self,
        dataset: Dataset,
        periods: Sequence[str],
        *,
        force: bool = False,
        sampled: bool = False,
        run_id: str | None = None,
        on_read: OnRead = lambda _reading: None,
    ) -> Verification:
        """Read the objects of the periods that are not verified yet (``force``: all), and record the findings."""
        started = time.monotonic()
        manifest = Manifest(self._lake, dataset)
        rows, unread_objects = self._compared_with_lake(dataset, periods, run_id=run_id)
        todo = to_read(rows, force=force, sampled=sampled)
        read, size = 0, 0
        with span("verify", dataset=dataset.name, objects=todo.height):
            for batch in self._batches(dataset, todo, on_read):
                unread_objects += batch.unread
                if batch.findings:
                    findings = pl.DataFrame(batch.findings, schema=FINDING_SCHEMA, orient="row")
                    self.record(dataset, periods, findings, run_id=run_id)
                    sizes = todo.filter(pl.col("key").is_in(findings["key"].to_list()))["size"]
                    read, size = read + sizes.len(), size + int(sizes.sum())
                    _log.info("%s: %d of %d objects read", dataset, read, todo.height)
        after = manifest.read(periods) if read else rows
        present = after.filter(pl.col("state") == ObjectState.PRESENT)
        states: dict[str, dict[str, int]] = {period: {} for period in periods}
        for period, state, count in present.group_by("period", "integrity").len().iter_rows():
            states.setdefault(period, {})[state] = count
        return Verification(
            states=states,
            complaints=tuple(complaints_of(present)),
            objects_read=read,
            bytes_read=size,
            unread=tuple(unread_objects),
            seconds=time.monotonic() - started,
        )

    def _compared_with_lake(
        self, dataset: Dataset, periods: Sequence[str], *, run_id: str | None
    ) -> tuple[pl.DataFrame, list[Complaint]]:
        """The periods' rows after copies that the lake no longer lists were recorded as lost, and these copies."""
        manifest = Manifest(self._lake, dataset)
        rows = manifest.read(periods)
        lost = lost_of(rows, listed_of(self._lake, dataset, rows))
        if lost.is_empty():
            return rows, []
        after = manifest.replace(periods, lambda current: without_lost(current, lost), run_id=run_id)
        gone = after.join(lost.select("key"), on="key", how="semi").filter(pl.col("error").is_not_null())
        columns = gone.select("key", "period", "state", "error").iter_rows()
        return after, [Complaint(key, period, state, error, False) for key, period, state, error in columns]

    def _batches(self, dataset: Dataset, todo: pl.DataFrame, on_read: OnRead) -> Iterator[_Batch]:
        """Read all rows; yields a batch whenever a commit is due."""
        batch, since = _Batch([], []), time.monotonic()
        reading = Reading(0, todo.height, 0, int(todo["size"].sum()))
        on_read(reading)
        with ThreadPoolExecutor(max_workers=READERS) as pool:
            for rows in todo.iter_slices(COMMIT_OBJECTS):
                sizes = {pool.submit(self._read, dataset, row): row["size"] for row in rows.to_dicts()}
                for done in as_completed(sizes):
                    result = done.result()
                    reading = replace(reading, objects=reading.objects + 1, bytes=reading.bytes + sizes[done])
                    on_read(reading)
                    if isinstance(result, Complaint):
                        batch.unread.append(result)
                    else:
                        batch.findings.append(result)
                    if batch.is_due(since):
                        yield batch
                        batch, since = _Batch([], []), time.monotonic()
                yield batch
                batch, since = _Batch([], []), time.monotonic()

    def _read(self, dataset: Dataset, row: dict[str, object]) -> Finding | Complaint:
        key = str(row["key"])
        place = self._lake.key(dataset.lake_key(key))
        try:
            return self.finding(dataset, row, read_digests(self._store, place, str(row["lake_etag"])))
        except PreconditionError:
            return Complaint(key, str(row["period"]), "unread", "it was replaced while it was read", False)
        except FileNotFoundError:
            return Complaint(key, str(row["period"]), "unread", "it is no longer in the lake", False)
        except CLIENT_ERRORS as error:
            return Complaint(key, str(row["period"]), "unread", str(fault_of(error)), False)

    def finding(self, dataset: Dataset, row: Mapping[str, object], seen: Digests) -> Finding:
        """The finding about the object of a manifest row, from digests read under the row's lake ETag.

        Reads the sidecar, and the source if needed. Raises the stores' errors.
        """
        key = str(row["key"])
        published = self._published(dataset, key, row)
        source_etag = _text(row["source_etag"])
        compared = compare_digests(seen, published, source_etag)
        if compared.state is Integrity.MISMATCH and compared.copy_differs is None:
            compared = self._compared_with_source(key, seen, compared, source_etag)
        return Finding(
            key=key,
            integrity=compared.state.value,
            integrity_note=compared.note,
            copy_differs=compared.copy_differs,
            sha256=seen.sha256,
            md5=seen.md5,
            published_digest=None if published is None else published.digest or None,
            verified_at=datetime.now(UTC),
            verified_etag=str(row["lake_etag"]),
            source_etag=source_etag,
            sidecar_lake_etag=_text(row["sidecar_lake_etag"]),
        )

    def record(self, dataset: Dataset, periods: Sequence[str], findings: pl.DataFrame, *, run_id: str | None) -> None:
        """Record findings (FINDING_SCHEMA) in the manifest, for objects whose content is still what was read."""
        manifest = Manifest(self._lake, dataset)
        manifest.replace(periods, lambda current: _applied(current, findings), run_id=run_id)

    def _published(self, dataset: Dataset, key: str, row: Mapping[str, object]) -> Published | None:
        if row["sidecar_lake_etag"] is None:
            return None
        place = self._lake.key(dataset.lake_key(dataset.layout.sidecar_of(key)))
        options: obstore.GetOptions = {"if_match": f'"{row["sidecar_lake_etag"]}"'}
        answer = obstore.get(self._store, place, options=options)
        # Only the headers have arrived: an oversized body is never read.
        if answer.meta["size"] > SIDECAR_BYTES:
            return OVERSIZED
        return parse_sidecar(bytes(answer.bytes()), key.rsplit("/", 1)[1])

    def _compared_with_source(
        self, key: str, seen: Digests, finding: IntegrityFinding, etag: str | None
    ) -> IntegrityFinding:
        """Distinguish a wrong sidecar from a wrong copy by reading the source, whose ETag is not an MD5."""
        try:
            source_digests = read_digests(self._source, key, etag)
        except (PreconditionError, FileNotFoundError):
            return finding
        return IntegrityFinding(finding.state, finding.note, copy_differs=source_digests != seen)


def complaints_of(present: pl.DataFrame) -> list[Complaint]:
    """The mismatches among present rows of a manifest, wrong copies first."""
    mismatches = present.filter(pl.col("integrity") == Integrity.MISMATCH).sort(
        pl.col("copy_differs").fill_null(value=False), "key", descending=[True, False]
    )
    return [
        Complaint(key, period, state, note or "", bool(differs))
        for key, period, state, note, differs in mismatches.select(
            "key", "period", "integrity", "integrity_note", "copy_differs"
        ).iter_rows()
    ]


def to_read(rows: pl.DataFrame, *, force: bool, sampled: bool) -> pl.DataFrame:
    """Rows with content in the lake that was not read yet; with ``force``, all rows with content.

    An object whose sidecar alone is missing has content, too.
    """
    has_content = pl.col("lake_etag").is_not_null() & pl.col("source_etag").is_not_null()
    due = rows.filter(
        (pl.col("state") == ObjectState.PRESENT)
        | (has_content & pl.col("state").is_in([ObjectState.MISSING.value, FAILED]))
    )
    if not force:
        due = due.filter(unread())
    if sampled:
        due = due.filter(pl.Series([_is_sampled(key) for key in due["key"]], dtype=pl.Boolean))
    return due


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _is_sampled(key: str) -> bool:
    return zlib.crc32(key.encode()) % 10_000 < SAMPLE_SHARE * 10_000


def _applied(current: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    """Current manifest rows with the findings whose ETags are still those of the row."""
    new = findings.rename(lambda name: name if name == "key" else f"found_{name}")
    joined = current.join(new, on="key", how="left", maintain_order="left")
    applies = (pl.col("found_verified_etag") == pl.col("lake_etag")).fill_null(value=False)
    for name in _COMPARED_COLUMNS:
        applies &= pl.col(f"found_{name}").eq_missing(pl.col(name))
    return joined.with_columns(
        pl.when(applies).then(f"found_{name}").otherwise(name).alias(name) for name in INTEGRITY_COLUMNS
    ).select(MANIFEST_SCHEMA.names())
