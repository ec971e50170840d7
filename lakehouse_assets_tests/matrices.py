"""Matrices that tests and benchmarks share."""

from __future__ import annotations

from lakehouse_assets.archive.exchanges import EXCHANGES


def every_dataset() -> dict[str, list[dict[str, object]]]:
    """A matrix of every dataset of every exchange that is published under a name of its own."""
    entries: list[dict[str, object]] = []
    for exchange in EXCHANGES.values():
        for publication in exchange.publications:
            name = f"{exchange.name}/{publication.market}/{publication.data_type}/{publication.cadence}"
            entries.append({"dataset": name} | ({"intervals": "all"} if publication.intervals else {}))
    return {"datasets": entries}
