"""What a logged materialization was made from: the tags by which Dagster shows a partition as fresh or as stale.

Dagster adds them to the materializations that it makes itself. Runs here log their own, a partition at a time. Without
these tags Dagster compares times, and a partition is stale once its archive was synced again, although nothing changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from lakehouse_assets.orchestration.dagster_internals import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    InputVersion,
    input_version_tags,
)
from lakehouse_assets.orchestration.dagster_tags import BACKFILL_TAG
from lakehouse_assets.orchestration.telemetry import Context


def materialization_tags(
    context: Context,
    *,
    inputs: Mapping[dg.AssetKey, InputVersion],
    code_version: str | None = None,
    data_version: str | None = None,
) -> dict[str, str]:
    """The tags of a materialization that the run logs.

    ``inputs`` has every asset upstream: Dagster calls a partition stale that lacks one. ``code_version`` is that of the
    asset's spec; where it has none, the run's id takes its place, as Dagster itself does: without a code version, it
    ignores the inputs. ``data_version`` is the digest of the content.
    """
    tags = {CODE_VERSION_TAG: code_version or context.run.run_id}
    if data_version is not None:
        tags |= {DATA_VERSION_TAG: data_version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
    for key, version in inputs.items():
        tags |= input_version_tags(key, version)
    # Dagster counts the materialization towards the run's backfill by this tag.
    if BACKFILL_TAG in context.run.tags:
        tags[BACKFILL_TAG] = context.run.tags[BACKFILL_TAG]
    return tags
