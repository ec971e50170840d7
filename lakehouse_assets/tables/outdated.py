"""Which periods of a table are outdated: their archives are not those that the lineage records, or their rows are gone.

The comparison is the one by which a build decides what it writes. It differs in two points. A build also writes
periods whose schema alone changed; here they are not outdated, since reading all of history again is a person's
decision. A build also lists whether the table's files exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import polars as pl

from lakehouse_assets.archive.period import Cadence, periods_of_month
from lakehouse_assets.lake.delta.latest import FilesByMonth, MonthFiles, merged
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_stats import complete_periods
from lakehouse_assets.lake.outdated import Outdated
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.tables.delta import files_of, open_table
from lakehouse_assets.tables.inputs import Bad, Inputs, inputs_of
from lakehouse_assets.tables.lineage import ObjectUsage, archives_digest, lineage_of
from lakehouse_assets.tables.lineage_check import CHECK_COLUMNS, intact_periods
from lakehouse_assets.tables.table import PERIOD, Table, TableEntry

_LINEAGE_COLUMNS = (*CHECK_COLUMNS, "key", "etag", "state", "integrity", "note", "content")


class TableComparison:
    """Compares one table with the manifests that feed it. ``files`` are kept from one comparison to the next."""

    def __init__(self, lake: Lake, entry: TableEntry, files: FilesByMonth) -> None:
        self._lake = lake
        self._table = entry.table
        self._manifests = {cadence: Manifest(lake, archive.dataset) for cadence, archive in entry.entries.items()}
        self._files = files

    def months(self) -> Mapping[str, MonthFiles]:
        """The files of the manifests, the lineage and the table by month. Raises StoreError."""
        places = (self._table.lineage_place, self._table.place)
        return merged(
            [self._files.of(manifest.url, manifest.table) for manifest in self._manifests.values()]
            + [self._files.of(self._lake.url(place), partial(open_table, self._lake, place)) for place in places]
        )

    def outdated(self, month: str) -> dict[str, Outdated]:
        """The periods of a month that a build would write because of their archives. Raises StoreError."""
        periods = periods_of_month(month, self._table.cadence)
        manifests = read_manifests(self._manifests, month, periods)
        recorded = lineage_of(self._lake, self._table).read(months=[month], columns=_LINEAGE_COLUMNS)
        inputs = inputs_of(self._table, manifests, periods, known_bad(self._table, manifests, periods, recorded))
        contents = {period: archives_digest(content) for period, content in inputs.digests().items()}
        known = self._recorded_contents(month, recorded)
        differing = {period: content for period, content in contents.items() if known.get(period) != content}
        if not differing:
            return {}
        objects, complete = _objects_of(inputs), _complete_periods(self._table, manifests)
        return {
            period: Outdated(content, objects[period], period in complete, period in known)
            for period, content in sorted(differing.items())
        }

    def _recorded_contents(self, month: str, recorded: pl.DataFrame) -> dict[str, str]:
        """The digest of the archives of each period whose rows the table has as recorded."""
        delta = open_table(self._lake, self._table.place)
        if delta is None:
            return {}
        intact = intact_periods(delta, files_of(delta, month=month), recorded)
        contents = recorded.filter(pl.col(PERIOD).is_in(intact)).select(PERIOD, "content").unique()
        return {period: archives_digest(content) for period, content in contents.iter_rows()}


def read_manifests(
    manifests: Mapping[Cadence, Manifest], month: str, periods: Sequence[str]
) -> dict[Cadence, pl.DataFrame]:
    """The rows of ``periods`` of one month in a daily manifest, and of the month in a monthly one."""
    return {
        cadence: manifest.read(list(periods) if cadence is Cadence.DAILY else [month])
        for cadence, manifest in manifests.items()
    }


def known_bad(
    table: Table, manifests: Mapping[Cadence, pl.DataFrame], periods: Sequence[str], recorded: pl.DataFrame
) -> Bad:
    """The objects that the lineage ``recorded`` as unreadable, except those of changed periods.

    The digest of a period changes with lineage.READING, too: then its bad objects may be readable.
    """
    bad = _unreadable(recorded)
    if not bad:
        return bad
    contents = dict(recorded.select(PERIOD, "content").unique().iter_rows())
    current = inputs_of(table, manifests, periods, bad).digests()
    unchanged = [period for period in periods if current.get(period) == contents.get(period)]
    return _unreadable(recorded.filter(pl.col(PERIOD).is_in(unchanged)))


def _unreadable(lineage: pl.DataFrame) -> Bad:
    """The objects recorded as unreadable. Whether an object is as published, only the manifest knows."""
    rows = lineage.filter(
        (pl.col("state") == ObjectUsage.QUARANTINED) & pl.col("integrity").ne_missing(Integrity.MISMATCH.value)
    )
    return {(key, etag): note for key, etag, note in rows.select("key", "etag", "note").iter_rows()}


def _objects_of(inputs: Inputs) -> dict[str, int]:
    objects = pl.concat([inputs.used, inputs.unusable])
    return dict(objects.group_by("period").len().iter_rows())


def _complete_periods(table: Table, manifests: Mapping[Cadence, pl.DataFrame]) -> Collection[str]:
    """The table's periods of which at least one archive period is complete."""
    complete = {cadence: complete_periods(rows) for cadence, rows in manifests.items()}
    months = complete.get(Cadence.MONTHLY, set())
    filled = {period for month in months for period in periods_of_month(month, table.cadence)}
    return complete.get(Cadence.DAILY, set()) | filled
