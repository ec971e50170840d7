"""Full verification: read the lake's copies, compare them with what the exchange published.

It costs a read of every byte, so it is a step of its own and reads each content once: a finding
is kept with the ETag that was read, and applies to no other. The lake is listed first: what it no longer
has as the manifest tells is recorded as missing. Findings are committed as they come,
so a stopped verification goes on where it was.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime

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
    find,
    parse_sidecar,
)
from lakehouse_assets.sync.integrity.sightings import listed_of, lost_of, without

_log = logging.getLogger(__name__)

READERS = 8
COMMIT_OBJECTS = 2_000
COMMIT_SECONDS = 60.0
SAMPLE_SHARE = 0.05
"""Share of the objects that a sampled verification reads, the same ones every time."""

BOUND_COLUMNS = ("source_etag", "sidecar_lake_etag")

FOUND_SCHEMA = pl.Schema(
    {"key": pl.String} | {name: MANIFEST_SCHEMA[name] for name in (*INTEGRITY_COLUMNS, *BOUND_COLUMNS)}
)
"""A finding is about the content ``verified_etag`` of the lake, compared with BOUND_COLUMNS: it applies to no other."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Objects and bytes read so far, of those that are to be read."""

    objects: int
    objects_total: int
    bytes: int
    bytes_total: int


OnRead = Callable[[Reading], None]
"""Called at the start and after each object."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """An object that is not as published, or could not be read. ``copy_differs``: the lake is at fault."""

    key: str
    period: str
    state: str
    note: str
    copy_differs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What one verification did and what is now known of the periods.

    ``states`` counts the periods' present objects by integrity, per period; ``objects_read`` and
    ``bytes_read`` are of this run; ``unread`` objects are no longer in the lake as the manifest had them, or were
    replaced or refused while it ran.
    """

    states: dict[str, dict[str, int]]
    complaints: tuple[Complaint, ...]
    objects_read: int
    bytes_read: int
    unread: tuple[Complaint, ...]
    seconds: float

    def total(self, state: Integrity) -> int:
        return sum(counts.get(state.value, 0) for counts in self.states.values())


class Verifier:
    """Reads one lake, READERS objects at a time, each in chunks."""

    def __init__(self, source: Bucket, lake: Lake) -> None:
        self._source = source.object_store()
        self._lake = lake
        self._store = lake.bucket.object_store()

    def verify(
        self,
        dataset: Dataset,
        periods: Sequence[str],
        *,
        again: bool = False,
        sampled: bool = False,
        run_id: str | None = None,
        on_read: OnRead = lambda _reading: None,
    ) -> Verification:
        """Read what is not verified yet (``again``: everything) of the periods and record the findings."""
        started = time.monotonic()
        manifest = Manifest(self._lake, dataset)
        rows, unreadable = self._looked_up(dataset, periods, run_id=run_id)
        todo = _to_read(rows, again=again, sampled=sampled)
        read, size = 0, 0
        with span("verify", dataset=dataset.name, objects=todo.height):
            for findings in self._batches(dataset, todo, unreadable, on_read):
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
            unread=tuple(unreadable),
            seconds=time.monotonic() - started,
        )

    def _looked_up(
        self, dataset: Dataset, periods: Sequence[str], *, run_id: str | None
    ) -> tuple[pl.DataFrame, list[Complaint]]:
        """The periods' rows as the lake's listing bears them out, and what it does not: that is recorded, too."""
        manifest = Manifest(self._lake, dataset)
        rows = manifest.read(periods)
        lost = lost_of(rows, listed_of(self._lake, dataset, rows))
        if lost.is_empty():
            return rows, []
        after = manifest.replace(periods, lambda current: without(current, lost), run_id=run_id)
        gone = after.join(lost.select("key"), on="key", how="semi").filter(pl.col("error").is_not_null())
        columns = gone.select("key", "period", "state", "error").iter_rows()
        return after, [Complaint(key, period, state, error, False) for key, period, state, error in columns]

    def _batches(
        self, dataset: Dataset, todo: pl.DataFrame, unreadable: list[Complaint], on_read: OnRead
    ) -> Iterator[pl.DataFrame]:
        """Findings of the rows to read, a commit's worth at a time; ``unreadable`` gets the others."""
        found: list[tuple[object, ...]] = []
        since = time.monotonic()
        reading = Reading(0, todo.height, 0, int(todo["size"].sum()))
        on_read(reading)
        with ThreadPoolExecutor(max_workers=READERS) as pool:
            for rows in todo.iter_slices(COMMIT_OBJECTS):
                sizes = {pool.submit(self._one, dataset, row): row["size"] for row in rows.to_dicts()}
                for done in as_completed(sizes):
                    result = done.result()
                    reading = replace(reading, objects=reading.objects + 1, bytes=reading.bytes + sizes[done])
                    on_read(reading)
                    if isinstance(result, Complaint):
                        unreadable.append(result)
                    else:
                        found.append(result)
                    if found and time.monotonic() - since > COMMIT_SECONDS:
                        yield pl.DataFrame(found, schema=FOUND_SCHEMA, orient="row")
                        found, since = [], time.monotonic()
                if found:
                    yield pl.DataFrame(found, schema=FOUND_SCHEMA, orient="row")
                    found, since = [], time.monotonic()

    def _one(self, dataset: Dataset, row: dict[str, object]) -> tuple[object, ...] | Complaint:
        key = str(row["key"])
        place = self._lake.key(dataset.lake_key(key))
        try:
            return self.judge(dataset, row, read_digests(self._store, place, str(row["lake_etag"])))
        except PreconditionError:
            return Complaint(key, str(row["period"]), "unread", "it was replaced while it was read", False)
        except FileNotFoundError:
            return Complaint(key, str(row["period"]), "unread", "it is no longer in the lake", False)
        except CLIENT_ERRORS as error:
            return Complaint(key, str(row["period"]), "unread", str(fault_of(error)), False)

    def judge(self, dataset: Dataset, row: Mapping[str, object], seen: Digests) -> tuple[object, ...]:
        """The finding, a row of FOUND_SCHEMA, about the object of a manifest row whose bytes were read
        under the row's lake ETag. Raises what the stores raise for sidecar and source."""
        key = str(row["key"])
        published = self._published(dataset, key, row)
        source_etag = None if row["source_etag"] is None else str(row["source_etag"])
        finding = find(seen, published, source_etag)
        if finding.state is Integrity.MISMATCH and finding.copy_differs is None:
            finding = self._against_source(key, seen, finding, source_etag)
        digest = None if published is None else published.digest or None
        return (
            key,
            finding.state.value,
            finding.note,
            finding.copy_differs,
            seen.sha256,
            seen.md5,
            digest,
            datetime.now(UTC),
            str(row["lake_etag"]),
            *(row[name] for name in BOUND_COLUMNS),
        )

    def record(self, dataset: Dataset, periods: Sequence[str], findings: pl.DataFrame, *, run_id: str | None) -> None:
        """Put findings (FOUND_SCHEMA) into the manifest, each where the lake still has the content that was read."""
        manifest = Manifest(self._lake, dataset)
        manifest.replace(periods, lambda current: _applied(current, findings), run_id=run_id)

    def _published(self, dataset: Dataset, key: str, row: Mapping[str, object]) -> Published | None:
        if row["sidecar_lake_etag"] is None:
            return None
        place = self._lake.key(dataset.lake_key(dataset.layout.sidecar_of(key)))
        options: obstore.GetOptions = {"if_match": f'"{row["sidecar_lake_etag"]}"'}
        answer = obstore.get(self._store, place, options=options)
        # The headers are here, the body is not: one of any size costs no memory.
        if answer.meta["size"] > SIDECAR_BYTES:
            return OVERSIZED
        return parse_sidecar(bytes(answer.bytes()), key.rsplit("/", 1)[1])

    def _against_source(self, key: str, seen: Digests, finding: IntegrityFinding, etag: str | None) -> IntegrityFinding:
        """Tell a wrong sidecar from a wrong copy by reading the source, where its ETag cannot tell."""
        try:
            there = read_digests(self._source, key, etag)
        except (PreconditionError, FileNotFoundError):
            return finding
        return IntegrityFinding(finding.state, finding.note, copy_differs=there != seen)


def complaints_of(present: pl.DataFrame) -> list[Complaint]:
    """What is wrong with the present rows of a manifest, the lake's own faults first."""
    wrong = present.filter(pl.col("integrity") == Integrity.MISMATCH).sort(
        pl.col("copy_differs").fill_null(value=False), "key", descending=[True, False]
    )
    return [
        Complaint(key, period, state, note or "", bool(differs))
        for key, period, state, note, differs in wrong.select(
            "key", "period", "integrity", "integrity_note", "copy_differs"
        ).iter_rows()
    ]


def _to_read(rows: pl.DataFrame, *, again: bool, sampled: bool) -> pl.DataFrame:
    """Rows whose present content was not read yet; all present rows ``again``.

    An object of which only the sidecar is missing is there to be read, too.
    """
    has_content = pl.col("lake_etag").is_not_null() & pl.col("source_etag").is_not_null()
    due = rows.filter(
        (pl.col("state") == ObjectState.PRESENT)
        | (has_content & pl.col("state").is_in([ObjectState.MISSING.value, FAILED]))
    )
    if not again:
        due = due.filter(unread())
    if sampled:
        due = due.filter(pl.Series([_is_sampled(key) for key in due["key"]], dtype=pl.Boolean))
    return due


def _is_sampled(key: str) -> bool:
    return zlib.crc32(key.encode()) % 10_000 < SAMPLE_SHARE * 10_000


def _applied(current: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    """Current manifest rows with findings applied where lake and source still have the content that was compared."""
    new = findings.rename(lambda name: name if name == "key" else f"found_{name}")
    joined = current.join(new, on="key", how="left", maintain_order="left")
    holds = (pl.col("found_verified_etag") == pl.col("lake_etag")).fill_null(value=False)
    for name in BOUND_COLUMNS:
        holds &= pl.col(f"found_{name}").eq_missing(pl.col(name))
    return joined.with_columns(
        pl.when(holds).then(f"found_{name}").otherwise(name).alias(name) for name in INTEGRITY_COLUMNS
    ).select(MANIFEST_SCHEMA.names())
