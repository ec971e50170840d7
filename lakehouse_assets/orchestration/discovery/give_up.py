"""What a person has to look into, because discovery can do no more about it.

An observation of the partition and a line of the tick's log; whoever keeps incidents takes them over here.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import dagster as dg

from lakehouse_assets.archive.dataset import Dataset

Event: TypeAlias = dg.AssetObservation | dg.AssetMaterialization | dg.AssetCheckEvaluation
"""What a sensor may have recorded without a run."""


class Log(Protocol):
    def warning(self, msg: str, *args: object) -> None: ...
    def exception(self, msg: str, *args: object) -> None: ...


def gave_up(log: Log, dataset: Dataset, period: str, *, attempts: int, fingerprint: str) -> dg.AssetObservation:
    """A period's runs all failed. It is asked for again when the exchange publishes other content."""
    log.warning("%s@%s: gave up after %s failed runs.", dataset, period, attempts)
    return dg.AssetObservation(
        asset_key=dg.AssetKey(dataset.asset_key),
        partition=period,
        description=f"Gave up after {attempts} failed runs. Look at the runs of this partition, mend what they name, "
        "and materialize it by hand.",
        metadata={
            "incident": dg.MetadataValue.text("gave_up"),
            "failed_runs": dg.MetadataValue.int(attempts),
            "fingerprint": dg.MetadataValue.text(fingerprint),
        },
    )
