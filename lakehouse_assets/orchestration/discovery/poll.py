"""What a tick of discovery learned of one dataset, and which periods differ from the manifest."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.orchestration.discovery.cursor import PartialListing
from lakehouse_assets.orchestration.discovery.pending import Difference, is_new
from lakehouse_assets.orchestration.run_requests import Priority
from lakehouse_assets.sync.changes import PeriodContent, TrackedPeriods, usual_objects

SETTLED_SHARE = 0.95
"""A listing with this share of the previous period's objects counts as settled at once."""


@dataclass(frozen=True, slots=True)
class DatasetPoll:
    """Manifest and canaries of one dataset.

    ``seen`` are periods that a canary has; ``moved``: all symbols have to be listed.
    """

    manifest: ManifestSummary
    tracked: TrackedPeriods
    seen: frozenset[str]
    moved: bool

    def differences(self, entry: DatasetEntry, listing: PartialListing) -> dict[str, Difference]:
        """The periods of a complete ``listing`` that differ from the manifest."""
        contents = {period: PeriodContent(*result) for period, result in listing.results.items()}
        return {
            period: self._difference(entry.dataset.period(period), content)
            for period, content in contents.items()
            if content.differs
        }

    def _difference(self, period: Period, content: PeriodContent) -> Difference:
        usual = usual_objects(self.manifest, period)
        is_newest = is_new(period, self.tracked.newest)
        if str(period) in self.manifest.complete:
            priority = Priority.REWRITTEN
        else:
            priority = Priority.NEW_PERIOD if is_newest else Priority.HISTORY
        return Difference(
            content.fingerprint,
            content.objects,
            is_settled=usual is not None and content.objects >= SETTLED_SHARE * usual,
            is_new=is_newest,
            priority=priority,
        )
