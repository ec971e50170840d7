"""Names of the tags by which Dagster itself tells runs, partitions and backfills apart.

Dagster's own constants for them are not part of its public interface; the names are (they are in its GraphQL and UI).
"""

BACKFILL_TAG = "dagster/backfill"
PARTITION_TAG = "dagster/partition"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""First and last partition, both included."""
RUN_KEY_TAG = "dagster/run_key"
