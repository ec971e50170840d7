"""``LAKEHOUSE_TABLES_*``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from lakehouse_assets.settings.base import config


class TablesSettings(BaseSettings):
    """``LAKEHOUSE_TABLES_*``: how tables are kept."""

    model_config = config("TABLES")

    retention_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        default=30, description="Days for which a replaced version of a table stays readable."
    )
