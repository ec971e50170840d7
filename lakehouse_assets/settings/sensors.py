"""``LAKEHOUSE_SENSORS_*``: which sensors run without being switched on."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from lakehouse_assets.settings.base import config


class SensorSettings(BaseSettings):
    """``LAKEHOUSE_SENSORS_*``: the state of sensors that nobody has switched on or off in the UI."""

    model_config = config("SENSORS")

    running: bool = Field(default=False, description="Whether discovery and follow sensors run by default.")
