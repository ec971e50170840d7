"""Tables: archive files as typed Delta tables. The public functions are `read_table`, `snapshot` and `coverage`."""

from lakehouse_assets.tables.query import coverage, read_table, snapshot

__all__ = ["coverage", "read_table", "snapshot"]
