"""Which periods of a dataset have objects that a verification would read: the record of it is the manifest."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.listing import content_digests
from lakehouse_assets.archive.period import periods_of_month
from lakehouse_assets.lake.delta.latest import FilesByMonth, MonthFiles
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_stats import complete_periods
from lakehouse_assets.lake.outdated import Outdated
from lakehouse_assets.sync.integrity.verify import to_read


class VerificationComparison:
    """Compares what was verified with what is in the lake. ``files`` are kept from one comparison to the next."""

    def __init__(self, lake: Lake, dataset: Dataset, files: FilesByMonth, *, sampled: bool) -> None:
        self._manifest = Manifest(lake, dataset)
        self._cadence = dataset.cadence
        self._files = files
        self._sampled = sampled

    def months(self) -> Mapping[str, MonthFiles]:
        """The files of the manifest by month. Raises StoreError."""
        return self._files.of(self._manifest.url, self._manifest.table)

    def outdated(self, month: str) -> dict[str, Outdated]:
        """The periods of a month with objects to read. Raises StoreError."""
        rows = self._manifest.read(periods_of_month(month, self._cadence))
        due = to_read(rows, force=False, sampled=self._sampled)
        objects = dict(due.group_by("period").len().sort("period").iter_rows())
        if not objects:
            return {}
        etags = {"lake_etag": "etag", "sidecar_lake_etag": "sidecar_etag"}
        contents = due.select("period", "key", "size", *etags).rename(etags)
        fingerprints = content_digests(contents, list(objects))
        complete = complete_periods(rows)
        verified = set(rows.filter(pl.col("verified_at").is_not_null())["period"])
        return {
            period: Outdated(fingerprints[period], count, period in complete, period in verified)
            for period, count in objects.items()
        }
