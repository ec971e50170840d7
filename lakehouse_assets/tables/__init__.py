"""Tables: archive files as typed Delta tables. `read_table`, `snapshot` and `coverage` are what users call."""

from lakehouse_assets.tables.query import coverage, read_table, snapshot

__all__ = ["coverage", "read_table", "snapshot"]
