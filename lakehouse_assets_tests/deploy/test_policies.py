"""deploy/aws: the policies allow every request that the code makes, and no forbidden deletion."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest_stats import ManifestStats
from lakehouse_assets.lake.sync_log import read_sync_log
from lakehouse_assets.sync.integrity.verify import Verifier
from lakehouse_assets_tests.deploy.policies import Asked, action_of, allowed, denied, policy
from lakehouse_assets_tests.deploy.rendered import DEPLOY
from lakehouse_assets_tests.faults.proxy import Proxy, Request
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import KLINES, World, body_of, scope

ACCOUNT = "000000000000"
LAKE, LOGS = "example-lakehouse", "example-lakehouse-logs"
DAY = "2024-03-01"
OURS = {"aws:ResourceAccount": ACCOUNT, "aws:SecureTransport": "true"}
FOREIGN = {"aws:ResourceAccount": "111111111111"}
SYNC, MAINTENANCE, BREAK_GLASS = (
    f"arn:aws:iam::{ACCOUNT}:role/lakehouse-{name}" for name in ("sync", "maintenance", "break-glass")
)
PARTS = {"large_bytes": 5 * 1024**2, "part_bytes": 5 * 1024**2}


@pytest.fixture
def proxied(world: World) -> Iterator[tuple[World, Proxy]]:
    """The world with its lake behind a proxy that records every request."""
    with Proxy(world.store.endpoint_url).running() as proxy:
        yield through(world, proxy), proxy


def of_the_lake(world: World, proxy: Proxy) -> list[Asked]:
    """Distinct actions on the lake's bucket, sorted, with the bucket name of the policies."""
    bucket = world.lake.bucket.name
    asked = {
        (found.action, found.resource)
        for request in proxy.requests
        if _bucket(request) == bucket
        for found in [action_of(request, LAKE)]
    }
    return [Asked(action, resource.replace(f"/{world.lake.prefix}", "/"), OURS) for action, resource in sorted(asked)]


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED])
def test_the_sync_identity_may_do_everything_that_a_sync_does(proxied: tuple[World, Proxy], mode: SyncMode) -> None:
    world, proxy = proxied
    small, *_ = world.publish(["BTCUSDT"], [DAY])
    large = world.key("ETHUSDT", DAY)
    world.put(large, body_of(large, 1, 11 * 1024**2))
    engine = world.engine(**PARTS)
    for version in (1, 2):
        world.put(small, body_of(small, version, 500))
        assert engine.sync(scope(world.entry(), DAY), mode=mode).total("copied") > 0
    asked = of_the_lake(world, proxy)
    assert {each.action for each in asked} >= {"s3:ListBucket", "s3:GetObject", "s3:PutObject"}
    assert any("/_superseded/" in each.resource for each in asked)
    refused = [each for each in asked if not allowed(policy("sync-policy"), each)]
    assert not refused
    assert not any(denied(policy("bucket-policy"), _by(SYNC, each)) for each in asked)


def test_the_reader_identity_may_read_everything_that_exporter_and_verification_read(
    proxied: tuple[World, Proxy],
) -> None:
    world, proxy = proxied
    world.publish(["BTCUSDT"], [DAY])
    world.engine().sync(scope(world.entry(), DAY))
    proxy.requests.clear()
    lake: Lake = world.lake
    assert read_sync_log(lake).height == 1
    ManifestStats(lake).of(Dataset.parse(KLINES))
    asked = of_the_lake(world, proxy)
    assert {each.action for each in asked} == {"s3:ListBucket", "s3:GetObject"}
    assert all(allowed(policy("reader-policy"), each) for each in asked)
    proxy.requests.clear()
    Verifier(world.source, lake).verify(Dataset.parse(KLINES), [DAY])
    assert all(allowed(policy("sync-policy"), each) for each in of_the_lake(world, proxy))


def test_the_sync_identity_reads_the_exchanges_buckets_and_none_of_our_others() -> None:
    statements = policy("sync-policy")
    for action, resource in (("s3:ListBucket", "data.binance.vision"), ("s3:GetObject", "data.binance.vision/data/x")):
        assert allowed(statements, Asked(action, f"arn:aws:s3:::{resource}", FOREIGN))
        assert not allowed(statements, Asked("s3:PutObject", f"arn:aws:s3:::{resource}", FOREIGN))
        assert not allowed(statements, Asked(action, "arn:aws:s3:::payroll/x", OURS))


@pytest.mark.parametrize("name", ["sync-policy", "reader-policy"])
def test_neither_sync_nor_reader_may_delete_anything(name: str) -> None:
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteBucket", "s3:PutBucketPolicy"):
        for key in ("archive/binance/x", "tables/binance/um/klines/x", "_manifest/x", ""):
            assert not allowed(policy(name), Asked(action, f"arn:aws:s3:::{LAKE}/{key}", OURS))
    assert not any("Delete" in action for each in policy(name) for action in _actions(each))


def test_the_reader_may_not_write() -> None:
    assert not any("Put" in action for each in policy("reader-policy") for action in _actions(each))


def test_maintenance_may_delete_below_tables_only() -> None:
    statements, bucket = policy("maintenance-policy"), policy("bucket-policy")
    for key, may in (
        ("tables/binance/um/klines/part.parquet", True),
        ("archive/binance/data/x.zip", False),
        ("_manifest/binance/um/klines/daily/x", False),
        ("_superseded/binance/x", False),
        ("tables", False),
    ):
        asked = _by(MAINTENANCE, Asked("s3:DeleteObject", f"arn:aws:s3:::{LAKE}/{key}", OURS))
        assert (allowed(statements, asked) and not denied(bucket, asked)) is may, key
        version = _by(MAINTENANCE, Asked("s3:DeleteObjectVersion", asked.resource, OURS))
        assert not allowed(statements, version)
    put = Asked("s3:PutObject", f"arn:aws:s3:::{LAKE}/archive/binance/x", OURS)
    assert not allowed(statements, put)


def test_the_bucket_refuses_plain_http_and_deletions_by_identities_with_too_many_rights() -> None:
    bucket = policy("bucket-policy")
    archive, table = (f"arn:aws:s3:::{LAKE}/{key}" for key in ("archive/x", "tables/x"))
    assert denied(bucket, Asked("s3:GetObject", archive, {"aws:SecureTransport": "false"}))
    for resource in (archive, table):
        assert denied(bucket, _by(SYNC, Asked("s3:DeleteObject", resource, OURS)))
        for who in (SYNC, MAINTENANCE, f"arn:aws:iam::{ACCOUNT}:user/admin"):
            assert denied(bucket, _by(who, Asked("s3:DeleteObjectVersion", resource, OURS)))
        assert not denied(bucket, _by(BREAK_GLASS, Asked("s3:DeleteObject", resource, OURS)))
        assert not denied(bucket, _by(SYNC, Asked("s3:PutObject", resource, OURS)))
    assert denied(bucket, _by(MAINTENANCE, Asked("s3:PutBucketVersioning", f"arn:aws:s3:::{LAKE}", OURS)))


def test_the_bucket_keeps_versions_and_nothing_of_the_archive_expires() -> None:
    assert _document("bucket-versioning") == {"Status": "Enabled"}
    assert set(_document("public-access-block").values()) == {True}
    rules = {rule["ID"]: rule for rule in _document("bucket-lifecycle")["Rules"]}
    assert all(rule["Status"] == "Enabled" for rule in rules.values())
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    for rule in rules.values():
        prefix = rule["Filter"].get("Prefix", "")
        expiration = rule.get("Expiration", {})
        # Current versions stay, whatever their age; a delete marker is not an object.
        assert not {"Days", "Date"} & expiration.keys(), prefix
    superseded = rules["superseded-versions-of-the-archive"]
    assert superseded["Filter"] == {"Prefix": "archive/"}
    assert superseded["NoncurrentVersionExpiration"]["NoncurrentDays"] >= 365


def test_a_role_trusts_one_service_account_only() -> None:
    [statement] = _document("trust-policy")["Statement"]
    conditions = statement["Condition"]["StringEquals"]
    assert {value for key, value in conditions.items() if key.endswith(":sub")} == {
        "system:serviceaccount:lakehouse:lakehouse-run"
    }
    assert {value for key, value in conditions.items() if key.endswith(":aud")} == {"sts.amazonaws.com"}


def _by(principal: str, asked: Asked) -> Asked:
    return Asked(asked.action, asked.resource, {**asked.context, "aws:PrincipalArn": principal})


def _actions(statement: dict[str, object]) -> list[str]:
    actions = statement["Action"]
    return [actions] if isinstance(actions, str) else list(actions)


def _bucket(request: Request) -> str:
    return request.target.partition("?")[0].strip("/").partition("/")[0]


def _document(name: str) -> dict[str, object]:
    return json.loads((DEPLOY / "aws" / f"{name}.json").read_text(encoding="utf-8"))
