"""``LAKEHOUSE_DISCOVERY_*``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from lakehouse_assets.settings.base import config


class DiscoverySettings(BaseSettings):
    """``LAKEHOUSE_DISCOVERY_*``: pace of the discovery sensors."""

    model_config = config("DISCOVERY")

    tick_seconds: Annotated[int, Field(ge=5, le=86_400)] = Field(default=60, description="Seconds between ticks.")
    settle_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=300.0, description="A period's listing counts as complete once it has not changed for so many seconds."
    )
    budget_seconds: Annotated[float, Field(gt=0, le=40)] = Field(
        default=16.0, description="A tick starts no listing after so many seconds; Dagster ends a tick at 60 s."
    )
    rescan_days: Annotated[float, Field(gt=0, le=366)] = Field(
        default=7.0, description="Every materialized or tracked period is listed again within so many days."
    )
    first_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=300.0, description="Pause before a period is requested again after a failed run; doubles each time."
    )
