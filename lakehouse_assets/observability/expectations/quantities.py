"""The quantities that are checked for every period: units, sides and floors, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Sides(StrEnum):
    """The directions in which a deviation matters."""

    LOW = "low"
    HIGH = "high"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number per period, and which deviations of it are unusual.

    ``relative_floor`` and ``absolute_floor``: a deviation smaller than either is never unusual, however steady the
    history is. ``by_ratio``: the number varies in proportion to its size (bytes), so distances are measured on a
    logarithmic scale, otherwise as differences (retries). ``at_least`` and ``at_most`` are fixed limits for a history
    that is too short to learn from; None for no limit.
    """

    name: str
    unit: str
    meaning: str
    sides: Sides
    relative_floor: float = 0.0
    absolute_floor: float = 0.0
    by_ratio: bool = True
    at_least: float | None = None
    at_most: float | None = None


QUANTITIES: Mapping[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            name="objects",
            unit="objects",
            meaning="archive objects of the period in the lake",
            sides=Sides.BOTH,
            relative_floor=0.03,
            absolute_floor=0.5,
            at_least=1,
        ),
        Quantity(
            name="symbols",
            unit="symbols",
            meaning="symbols that have any object of the period",
            sides=Sides.BOTH,
            relative_floor=0.03,
            absolute_floor=0.5,
            at_least=1,
        ),
        Quantity(
            name="bytes",
            unit="bytes",
            meaning="bytes of the period's objects in the lake, without sidecars",
            sides=Sides.BOTH,
            relative_floor=0.1,
            absolute_floor=1_000,
            at_least=1,
        ),
        Quantity(
            name="rows",
            unit="rows",
            meaning="rows of the period in the table",
            sides=Sides.BOTH,
            relative_floor=0.1,
            absolute_floor=10,
            at_least=1,
        ),
        Quantity(
            name="seconds",
            unit="s",
            meaning="seconds that the period's sync took",
            sides=Sides.HIGH,
            relative_floor=1.0,
            absolute_floor=60,
            at_most=6 * 3600,
        ),
        Quantity(
            name="throughput",
            unit="bytes/s",
            meaning="bytes copied per second of the period's sync",
            sides=Sides.LOW,
            relative_floor=1.0,
            absolute_floor=1_000,
        ),
        Quantity(
            name="retries",
            unit="retries",
            meaning="requests retried in the period's sync",
            sides=Sides.HIGH,
            relative_floor=1.0,
            absolute_floor=20,
            by_ratio=False,
            at_most=1_000,
        ),
        Quantity(
            name="failures",
            unit="objects",
            meaning="objects of the period that could not be copied",
            sides=Sides.HIGH,
            relative_floor=1.0,
            absolute_floor=5,
            by_ratio=False,
            at_most=0,
        ),
        Quantity(
            name="discovery_lag",
            unit="s",
            meaning="seconds from the last object's publication to its copy in the lake",
            sides=Sides.HIGH,
            relative_floor=1.0,
            absolute_floor=3600,
            at_most=86_400,
        ),
    )
}
