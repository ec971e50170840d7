"""Names that Dagster gives runs: tags for partitions and backfills, and the job of asset runs.

Dagster's constants for them are not part of its public API; the names are, in its GraphQL API and its UI.
"""

ASSET_JOB = "__ASSET_JOB"
"""Name of the job of runs that select assets: those of the UI, of sensors and of backfills."""
BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"
PRIORITY_TAG = "dagster/priority"
"""Queued runs start by descending priority; without the tag it is 0."""
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""First and last partition, both included."""
RUN_KEY_TAG = "dagster/run_key"


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags of a run of the partitions from ``first`` to ``last``."""
    return dict(zip(RANGE_TAGS, (first, last), strict=True))
