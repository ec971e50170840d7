"""``LAKEHOUSE_SYNC_*``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.withdrawal import WithdrawalLimits
from lakehouse_assets.settings.base import config
from lakehouse_assets.sync.cost import Prices
from lakehouse_assets.sync.movers.base import ObjectHeaders, TransferOptions
from lakehouse_assets.units import GIB

if TYPE_CHECKING:
    from lakehouse_assets.sync.engine import EngineOptions


class SyncSettings(BaseSettings):
    """``LAKEHOUSE_SYNC_*``: limits of a transfer."""

    model_config = config("SYNC")

    workers: Annotated[int, Field(ge=1, le=4096)] = Field(default=256, description="Parallel copies of s5cmd.")
    retries: Annotated[int, Field(ge=0, le=100)] = Field(default=6, description="Retries of s5cmd per request.")
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        default=3, description="Attempts at a batch's transient failures, including the first."
    )
    stall_seconds: Annotated[float, Field(gt=0)] = Field(
        default=300.0, description="Stop a batch after so many seconds in which no object was finished."
    )
    deadline_seconds: Annotated[float, Field(gt=0)] = Field(
        default=6 * 3600.0, description="Stop a batch after so many seconds in any case."
    )
    batch_objects: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=20_000, description="Objects per s5cmd process."
    )
    list_concurrency: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=32, description="Parallel listing requests to the source, and as many to the lake."
    )
    part_objects: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=12_000, description="Objects of a run that are planned and recorded at a time."
    )
    doubt_objects: Annotated[int, Field(ge=0)] = Field(
        default=10, description="Up to this many objects that a source no longer lists count as withdrawn at once."
    )
    doubt_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.1,
        description="Or up to this share of the objects listed before; a listing that lacks more is treated as an "
        "outage.",
    )
    doubt_hours: Annotated[float, Field(ge=0)] = Field(
        default=6.0, description="Hours after which such a listing is accepted if it has not changed."
    )
    large_bytes: Annotated[int, Field(ge=1, le=5 * GIB)] = Field(
        default=5 * GIB,
        description="The store copies larger objects in parts; S3 copies at most 5 GiB in one request.",
    )
    part_bytes: Annotated[int, Field(ge=5 * 1024**2, le=5 * GIB)] = Field(
        default=16 * 1024**2, description="Part size of a multipart copy or upload."
    )
    relay_workers: Annotated[int, Field(ge=1, le=1024)] = Field(default=64, description="Objects relayed in parallel.")
    relay_bytes: Annotated[int, Field(ge=1)] = Field(
        default=256 * 1024**2, description="Bytes of object bodies that relay mode holds in memory at once."
    )
    scratch_dir: Path | None = Field(
        default=None, description="Scratch folder of staged mode; the system's temporary folder when unset."
    )
    scratch_bytes: Annotated[int, Field(ge=1)] = Field(
        default=4 * GIB, description="Bytes that staged mode holds in the scratch folder at once."
    )

    def options(self, headers: ObjectHeaders | None = None, prices: Prices | None = None) -> EngineOptions:
        """Engine options; the lake's objects are written with ``headers``."""
        # Imported where an engine is configured: settings alone need neither the engine nor its movers.
        from lakehouse_assets.sync.engine import EngineOptions  # noqa: PLC0415

        if self.scratch_dir is not None and not self.scratch_dir.is_dir():
            raise InputError(f"LAKEHOUSE_SYNC_SCRATCH_DIR {self.scratch_dir} is not a folder.")
        return EngineOptions(
            list_concurrency=self.list_concurrency,
            window_objects=self.part_objects,
            withdrawal_limits=WithdrawalLimits(
                objects=self.doubt_objects, share=self.doubt_share, hours=self.doubt_hours
            ),
            prices=prices or Prices(),
            transfer=TransferOptions(
                workers=self.workers,
                retries=self.retries,
                attempts=self.attempts,
                stall_seconds=self.stall_seconds,
                deadline_seconds=self.deadline_seconds,
                batch_objects=self.batch_objects,
                headers=headers or ObjectHeaders(),
                large_bytes=self.large_bytes,
                part_bytes=self.part_bytes,
                relay_workers=self.relay_workers,
                relay_bytes=self.relay_bytes,
                scratch=self.scratch_dir,
                scratch_bytes=self.scratch_bytes,
            ),
        )
