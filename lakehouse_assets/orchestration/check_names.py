"""Names of the asset checks, as Dagster's storage has them: a renamed check loses its history."""

PUBLISHED = "published"
"""Whether the exchange has published what was due."""

COMPLETE = "complete"
"""Whether every period that should be complete is."""

EXPECTED = "expected"
"""Whether a run's figures are within their usual range."""

CHECKSUMS = "checksums"
"""Whether the bytes in the lake are those that the exchange's checksums name."""

FILES = "files"
"""Whether every archive file of a table's periods could be read."""

QUALITY = "quality"
"""Whether a table's rows keep the rules of their data type."""

AGREES = "agrees"
"""Whether a table and its parallel dataset tell the same."""
