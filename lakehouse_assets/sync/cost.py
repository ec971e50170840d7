"""The estimated cost of a sync, and the limits above which a sync does not start."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse_assets.errors import InputError
from lakehouse_assets.units import GB


class CostLimitError(InputError):
    """An estimate is above a configured cost limit; nothing was copied."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices in US dollars.

    Defaults are AWS list prices of S3 Standard in us-east-1, without free tiers, and of transfer from Tokyo, where most
    archives are, to another region.
    """

    write_per_1000: float = 0.005
    """PUT, COPY and LIST requests; anonymous reads are free."""
    transfer_per_gb: float = 0.09
    """Between AWS regions. S3 bills the owner of the bucket that is read, so the exchange pays, except with requester
    pays, or if the bytes pass through a machine of ours in a third region."""
    storage_per_gb_month: float = 0.023


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The estimate of one sync.

    ``bytes`` include sidecars; ``dollars`` include ``transfer_dollars``, which are an upper bound. Storage is paid
    every month from then on.
    """

    objects: int
    bytes: int
    requests: int
    dollars: float
    transfer_dollars: float
    storage_dollars_per_month: float

    def __str__(self) -> str:
        return (
            f"{self.objects:,} objects, {self.bytes:,} bytes, {self.requests:,} requests, "
            f"about {self.dollars:,.4f} dollars (at most {self.transfer_dollars:,.4f} of them for transfer between "
            f"regions), then {self.storage_dollars_per_month:,.4f} a month for storage"
        )


def estimate(
    prices: Prices, *, objects: int, files: int, size: int, listing_requests: int, across_regions: bool
) -> Estimate:
    """The cost of copying ``files`` (``objects`` and sidecars) of ``size`` bytes in direct mode.

    Listing requests count twice, since the lake is listed again after the copies.
    """
    requests = files + 2 * listing_requests
    transfer = size / GB * prices.transfer_per_gb if across_regions else 0.0
    return Estimate(
        objects=objects,
        bytes=size,
        requests=requests,
        dollars=requests / 1000 * prices.write_per_1000 + transfer,
        transfer_dollars=transfer,
        storage_dollars_per_month=size / GB * prices.storage_per_gb_month,
    )


@dataclass(frozen=True, slots=True)
class CostLimit:
    """Limits on dollars and bytes; None is no limit. ``settings`` is the variables' name without the unit."""

    max_dollars: float | None
    max_bytes: int | None
    settings: str

    def __bool__(self) -> bool:
        return self.max_dollars is not None or self.max_bytes is not None

    def is_reached(self, dollars: float, size: int) -> bool:
        return (self.max_dollars is not None and dollars >= self.max_dollars) or (
            self.max_bytes is not None and size >= self.max_bytes
        )

    def check(self, dollars: float, size: int, *, what: str, override: str) -> None:
        """Raise CostLimitError if an amount is above its limit; it names ``what``, the setting and the ``override``."""
        for amount, limit, unit in (
            (dollars, self.max_dollars, "DOLLARS"),
            (size, self.max_bytes, "BYTES"),
        ):
            if limit is not None and amount > limit:
                raise CostLimitError(
                    f"{what} {amount:,.2f} {unit.lower()}, above {self.settings}_{unit}={limit:g}. "
                    f"Nothing was copied. To copy it anyway: {override}."
                )
