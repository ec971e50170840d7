"""Verification assets: they read a dataset's copies in the lake, in a step and a pool of their own.

A person materializes one, or it follows the archive asset where the matrix says so (``verify``). It is never part of
an archive's materialization, since it reads every byte.
"""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry, Verify
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.orchestration.check_names import CHECKSUMS
from lakehouse_assets.orchestration.dagster_internals import forget_planned_checks, input_versions
from lakehouse_assets.orchestration.force_config import ForceConfig
from lakehouse_assets.orchestration.markdown import code, table
from lakehouse_assets.orchestration.metadata import trace_metadata
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.pools import NO_LAKE, Pools
from lakehouse_assets.orchestration.provenance import materialization_tags
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource
from lakehouse_assets.orchestration.telemetry import traced
from lakehouse_assets.sync.integrity.verify import Complaint, Verification, Verifier

# No `from __future__ import annotations` here: Dagster reads the annotation of `config`.

VERIFIED = "verified"
NAMED = 20


class VerifyConfig(ForceConfig):
    """Run configuration of a verification asset."""

    force: bool = Field(default=False, description="Read all objects, also those that are already verified.")


def verification_key(entry: DatasetEntry) -> dg.AssetKey:
    """``binance/um/klines/daily/verified``."""
    return dg.AssetKey([*entry.dataset.asset_key, VERIFIED])


def verifications_per_run(entry: DatasetEntry) -> int:
    """Another number than the archive's: Dagster would put the two into one run, and skip the verification there, since
    an archive reports its partitions by itself and has no output."""
    return entry.partitions_per_run + 1


def build_verification_asset(entry: DatasetEntry, pools: Pools = NO_LAKE) -> dg.AssetsDefinition:
    """Build the verification of one matrix entry, downstream of its archive asset, partition by partition."""
    dataset = entry.dataset
    key = verification_key(entry)

    @dg.multi_asset(
        name="__".join((*dataset.asset_key, VERIFIED)),
        specs=[_spec(entry, key)],
        check_specs=[
            dg.AssetCheckSpec(
                CHECKSUMS,
                asset=key,
                description="No object of the run's periods differs from what the exchange publishes. WARN: a "
                "published checksum is wrong. ERROR: a copy in the lake differs from its source.",
            )
        ],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=verifications_per_run(entry)),
        pool=pools.verification(dataset.exchange),
    )
    def verification_asset(
        context: dg.AssetExecutionContext, config: VerifyConfig, lake: LakeResource, source: SourceResource
    ):
        forget_planned_checks(context)
        with traced(context):
            verifier = Verifier(source.bucket(dataset.source), lake.lake())
            verification = verifier.verify(
                dataset,
                sorted(context.partition_keys),
                force=config.is_forced,
                sampled=entry.verify is Verify.SAMPLED,
                run_id=context.run.run_id,
            )
            _report(context, key, dataset, verification)
            yield _check(key, verification)

    return verification_asset


def _spec(entry: DatasetEntry, key: dg.AssetKey) -> dg.AssetSpec:
    dataset = entry.dataset
    return dg.AssetSpec(
        key,
        deps=[dg.AssetKey(dataset.asset_key)],
        partitions_def=build_partitions(entry),
        group_name=dataset.group,
        kinds={"s3"},
        owners=["team:market-data"],
        description=(
            f"Reads the lake's copies of {dataset} and compares them with the checksums that "
            f"{dataset.exchange} publishes. Each content is read once."
        ),
        tags={"exchange": dataset.exchange, "market": dataset.market, "cadence": dataset.cadence.value},
    )


def _report(context: dg.AssetExecutionContext, key: dg.AssetKey, dataset: Dataset, verification: Verification) -> None:
    """Log a line per period, and a materialization per period with objects in the lake."""
    total = sum(sum(counts.values()) for counts in verification.states.values())
    tags = materialization_tags(context, inputs=input_versions(context, key))
    for period, counts in sorted(verification.states.items()):
        objects = sum(counts.values())
        line = f"{dataset} {period}: {objects} objects, {_counted(counts) or 'none in the lake'}"
        context.log.info(line)
        unread = [complaint for complaint in verification.unread if complaint.period == period]
        if not objects or unread:
            continue
        mismatches = [complaint for complaint in verification.complaints if complaint.period == period]
        metadata = {
            "objects": dg.MetadataValue.int(objects),
            **{f"objects_{state.value}": dg.MetadataValue.int(counts.get(state.value, 0)) for state in Integrity},
            "seconds": dg.MetadataValue.float(round(verification.seconds * objects / total, 3)),
            **trace_metadata(),
        }
        if mismatches:
            metadata["mismatches"] = dg.MetadataValue.md(_mismatches(mismatches))
        context.log_event(dg.AssetMaterialization(asset_key=key, partition=period, metadata=metadata, tags=tags))
    if verification.unread:
        first = verification.unread[0]
        raise dg.Failure(
            f"{len(verification.unread)} objects of {dataset} could not be read, such as {first.key}: {first.note}",
            allow_retries=False,
        )


def _check(key: dg.AssetKey, verification: Verification) -> dg.AssetCheckResult:
    differing = sum(complaint.copy_differs for complaint in verification.complaints)
    upstream = len(verification.complaints) - differing
    description = "All objects that were read match what the exchange publishes."
    if verification.complaints:
        description = (
            f"{differing} copies in the lake differ from their source (materialize the archive partition again); "
            f"{upstream} objects do not match their published checksum (an error of the exchange; kept out of tables)."
        )
    metadata: dict[str, dg.MetadataValue] = {
        "objects_read": dg.MetadataValue.int(verification.objects_read),
        "bytes_read": dg.MetadataValue.int(verification.bytes_read),
        **{f"objects_{state.value}": dg.MetadataValue.int(verification.total(state)) for state in Integrity},
    }
    if verification.complaints:
        metadata["mismatches"] = dg.MetadataValue.md(_mismatches(verification.complaints))
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=CHECKSUMS,
        passed=not verification.complaints,
        severity=dg.AssetCheckSeverity.ERROR if differing else dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=metadata,
    )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _mismatches(complaints: Sequence[Complaint]) -> str:
    rows = [
        (code(complaint.key), complaint.note, "the lake" if complaint.copy_differs else "the exchange")
        for complaint in complaints
    ]
    return table(("object", "mismatch", "at fault"), rows, limit=NAMED)
