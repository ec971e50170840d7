"""``LAKEHOUSE_RETENTION_*``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from lakehouse_assets.settings.base import config

SHORTEST_RETENTION_DAYS = 30
"""Discovery counts the attempts at a period by its runs; the last attempt is made long before then."""


class RetentionSettings(BaseSettings):
    """``LAKEHOUSE_RETENTION_*``: how long Dagster's database keeps runs that nothing needs any more."""

    model_config = config("RETENTION")

    days: Annotated[int, Field(ge=SHORTEST_RETENTION_DAYS)] | None = Field(
        default=None,
        description="Each night, delete runs that ended so many days ago, except the latest run of a partition or "
        "check; unset: delete none.",
    )
    all_locations: bool = Field(
        default=False,
        description="Delete runs of all code locations of the Dagster instance, not only of this one.",
    )
