"""What a tick observes of an exchange's bucket as a whole: recorded once a day, and when a dataset's status changes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from lakehouse_assets.archive.lateness import BEHIND, AvailabilityStatus
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.archives.source import source_key
from lakehouse_assets.orchestration.discovery.cursor import DiscoveryCursor, PendingStatus
from lakehouse_assets.orchestration.markdown import table


def source_observations(
    entries: Sequence[DatasetEntry], cursor: DiscoveryCursor, now: float
) -> list[dg.AssetObservation]:
    """The observation of the exchange of ``entries``, if one is due at ``now`` (epoch seconds); updates ``cursor``.

    It says what the cursor knows after the tick, and makes no request. Pending periods and problems, which change from
    tick to tick while an exchange publishes, do not cause an observation.
    """
    given_up = _pending(cursor)[PendingStatus.GIVEN_UP]
    statuses = [(entry.dataset.name, cursor.of(entry.dataset.name).status, entry.paused) for entry in entries]
    digest = hashlib.sha256(repr((statuses, given_up)).encode()).hexdigest()[:8]
    observed = f"{datetime.fromtimestamp(now, UTC).date()} {digest}"
    if cursor.observed == observed:
        return []
    cursor.observed = observed
    return [dg.AssetObservation(source_key(entries[0].dataset.exchange), metadata=_metadata(entries, cursor))]


def _pending(cursor: DiscoveryCursor) -> Counter[PendingStatus]:
    return Counter(period.status for state in cursor.datasets.values() for period in state.pending.values())


def _metadata(entries: Sequence[DatasetEntry], cursor: DiscoveryCursor) -> dict[str, dg.MetadataValue]:
    statuses = Counter(cursor.of(entry.dataset.name).status for entry in entries)
    pending = _pending(cursor)
    rows = [
        (entry.dataset, "paused" if entry.paused else state.status or "not due yet", len(state.pending), state.problem)
        for entry in entries
        for state in (cursor.of(entry.dataset.name),)
    ]
    return {
        "datasets": dg.MetadataValue.int(len(entries)),
        "datasets_paused": dg.MetadataValue.int(sum(entry.paused for entry in entries)),
        "datasets_behind": dg.MetadataValue.int(sum(statuses[status.value] for status in BEHIND)),
        "datasets_dead": dg.MetadataValue.int(statuses[AvailabilityStatus.DEAD.value]),
        "datasets_with_problem": dg.MetadataValue.int(sum(bool(state.problem) for state in cursor.datasets.values())),
        "periods_pending": dg.MetadataValue.int(pending.total()),
        "periods_given_up": dg.MetadataValue.int(pending[PendingStatus.GIVEN_UP]),
        "status": dg.MetadataValue.md(table(("dataset", "published", "pending periods", "problem"), rows)),
    }
