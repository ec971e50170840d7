"""Names of the asset checks. Dagster's storage has them: a renamed check loses its history."""

PUBLISHED = "published"
"""Whether the exchange publishes on time."""

COMPLETE = "complete"
"""Whether every period that should be complete is complete."""

EXPECTED = "expected"
"""Whether the figures of a run are within their usual range."""

CHECKSUMS = "checksums"
"""Whether the objects in the lake match the exchange's checksums."""

FILES = "files"
"""Whether every archive file of a table's periods could be read."""

QUALITY = "quality"
"""Whether a table's rows satisfy the rules of their data type."""

AGREES = "agrees"
"""Whether a table agrees with its other intervals and with its monthly archives."""
