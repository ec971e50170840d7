"""``LAKEHOUSE_SPENDING_*``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from lakehouse_assets.settings.base import config
from lakehouse_assets.sync.cost import CostLimit, Prices
from lakehouse_assets.units import GB

Dollars = Annotated[float, Field(ge=0)]


class SpendingSettings(BaseSettings):
    """``LAKEHOUSE_SPENDING_*``: cost limits, unset by default, and the prices for estimates."""

    model_config = config("SPENDING")

    max_dollars: Dollars | None = Field(default=None, description="A run whose estimate is above this does not start.")
    max_bytes: Annotated[int, Field(ge=0)] | None = Field(default=None, description="The same limit, in bytes to copy.")
    daily_max_dollars: Dollars | None = Field(
        default=None, description="Limit for all runs together that sensors start on one day (UTC)."
    )
    daily_max_bytes: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="The same daily limit, in bytes to copy."
    )
    write_dollars_per_1000: Dollars = Field(
        default=Prices.write_per_1000, description="Price of 1,000 PUT, COPY or LIST requests."
    )
    transfer_dollars_per_gb: Dollars = Field(
        default=Prices.transfer_per_gb,
        description="Price of transfer between AWS regions; 0 where you do not pay for it.",
    )
    budget_bytes: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Size that the lake's archive may reach; reports/outlook forecasts when it does."
    )
    budget_dollars_per_month: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The same budget, in dollars per month for storage."
    )
    storage_dollars_per_gb_month: Dollars = Field(
        default=Prices.storage_per_gb_month, description="Price of storage per GB and month."
    )

    @property
    def prices(self) -> Prices:
        return Prices(
            write_per_1000=self.write_dollars_per_1000,
            transfer_per_gb=self.transfer_dollars_per_gb,
            storage_per_gb_month=self.storage_dollars_per_gb_month,
        )

    @property
    def budget(self) -> float | None:
        """The smaller of the two budgets, in bytes; None where neither is set."""
        sizes = [] if self.budget_bytes is None else [float(self.budget_bytes)]
        if self.budget_dollars_per_month is not None and self.storage_dollars_per_gb_month:
            sizes.append(self.budget_dollars_per_month / self.storage_dollars_per_gb_month * GB)
        return min(sizes, default=None)

    @property
    def per_run(self) -> CostLimit:
        return CostLimit(self.max_dollars, self.max_bytes, "LAKEHOUSE_SPENDING_MAX")

    @property
    def per_day(self) -> CostLimit:
        return CostLimit(self.daily_max_dollars, self.daily_max_bytes, "LAKEHOUSE_SPENDING_DAILY_MAX")
