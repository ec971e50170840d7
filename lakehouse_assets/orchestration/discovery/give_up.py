"""The event that asks a person to act, once discovery has used up its attempts at a period.

It is an observation of the partition, which the incident sensor reads, and a line in the tick's log.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import dagster as dg

from lakehouse_assets.orchestration.location import LAKE
from lakehouse_assets.orchestration.run_requests import Target

Event: TypeAlias = dg.AssetObservation | dg.AssetMaterialization | dg.AssetCheckEvaluation
"""What a sensor can record without a run."""


class Log(Protocol):
    def warning(self, msg: str, *args: object) -> None: ...
    def exception(self, msg: str, *args: object) -> None: ...


def gave_up(
    log: Log, target: Target, period: str, *, attempts: int, fingerprint: str, lake: str
) -> dg.AssetObservation:
    """All runs of a period failed; it is requested again only when its source has other content.

    ``lake``: the label of the lake.
    """
    log.warning("%s@%s: gave up after %s failed runs.", target.name, period, attempts)
    return dg.AssetObservation(
        asset_key=dg.AssetKey(target.asset_key),
        partition=period,
        description=f"Gave up after {attempts} failed runs. Open the runs of this partition, fix the errors that they "
        "report, and materialize it by hand.",
        metadata={
            "incident": dg.MetadataValue.text("gave_up"),
            "failed_runs": dg.MetadataValue.int(attempts),
            "fingerprint": dg.MetadataValue.text(fingerprint),
            LAKE: dg.MetadataValue.text(lake),
        },
    )
