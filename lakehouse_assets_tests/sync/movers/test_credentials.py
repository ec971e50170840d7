"""Credentials of the default chain that are replaced during a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse_assets.archive.bucket import Credentials
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.movers.base import ObjectHeaders
from lakehouse_assets_tests.faults.proxy import WRITES, Answer, Forward, Proxy, Refusal, Request, Rule
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import World, days, scope

WEEK = ("2024-03-01", "2024-03-07")


class Issuer:
    """Issues credentials through the AWS configuration (``credential_process``)."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answer = folder / "credentials.json"
        config = folder / "config"
        config.write_text(f"[default]\ncredential_process = cat {self._answer}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))

    def issue(self, credentials: Credentials) -> None:
        draft = self._answer.with_suffix(".new")
        draft.write_text(
            json.dumps(
                {
                    "Version": 1,
                    "AccessKeyId": credentials.access_key_id,
                    "SecretAccessKey": credentials.secret_access_key,
                    "Expiration": (datetime.now(UTC) + timedelta(minutes=30)).isoformat(timespec="seconds"),
                }
            )
        )
        draft.replace(self._answer)


@dataclass(frozen=True)
class AtOnce:
    """Runs a hook before any other request is handled, then forwards the request."""

    happens: Callable[[], object]

    async def strike(self, request: Request, forward: Forward) -> Answer:
        self.happens()
        return await forward(request)


@dataclass
class OfKey(Rule):
    """Matches requests that are signed with an access key."""

    access_key: str = ""

    def strikes(self, request: Request) -> bool:
        return f"Credential={self.access_key}/" in (request.header("authorization") or "") and super().strikes(request)


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    return Issuer(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("mode", "tags"),
    [
        pytest.param(SyncMode.DIRECT, {}, id="s5cmd"),
        pytest.param(SyncMode.DIRECT, {"team": "quant"}, id="boto3"),
        pytest.param(SyncMode.RELAY, {}, id="obstore"),
        pytest.param(SyncMode.STAGED, {}, id="staged"),
    ],
)
@pytest.mark.parametrize("batch_objects", [14, 100])
def test_a_run_whose_credentials_are_replaced_halfway_ends_complete(
    world: World,
    issuer: Issuer,
    mode: SyncMode,
    tags: dict[str, str],
    batch_objects: int,
) -> None:
    """The first credentials expire at the 10th write: for the rest of the batch, and for later batches."""
    former, fresh = world.store.sync, world.store.maintenance
    issuer.issue(former)
    world.publish(["BTCUSDT", "ETHUSDT"], days(*WEEK))
    expired = OfKey(
        Refusal(400, "ExpiredToken"), (*WRITES, "GetObject", "ListObjects"), access_key=former.access_key_id
    )
    expired.most = 0

    def replace_credentials() -> None:
        issuer.issue(fresh)
        expired.most = None

    renewal = Rule(AtOnce(replace_credentials), WRITES, "archive/", first=10, most=1)
    with Proxy(world.store.endpoint_url, expired, renewal).running() as proxy:
        proxied = through(world, proxy)
        proxied.lake = Lake(replace(proxied.lake.bucket, credentials=None), world.lake.prefix)
        engine = proxied.engine(
            workers=2, relay_workers=2, retries=0, batch_objects=batch_objects, headers=ObjectHeaders(tags=tags)
        )
        report = engine.sync(scope(world.entry(), *WEEK), mode=mode)
        signed = [r.header("authorization") or "" for r in proxy.requests if "archive/" in r.key]
    assert renewal.struck == 1
    assert expired.struck > 0, "nothing was refused for its old credentials"
    assert (report.total("present"), report.total("failed")) == (14, 0)
    assert report.copied_by_mode == {mode.value: 14}
    assert any(fresh.access_key_id in header for header in signed)
    assert set(world.manifest().read(())["state"]) == {"present"}


def test_credentials_are_used_only_as_long_as_they_are_certainly_valid(world: World, issuer: Issuer) -> None:
    """botocore renews what has less than 10 minutes left; obstore must not use its credentials for longer."""
    issuer.issue(world.store.sync)
    bucket = replace(world.lake.bucket, credentials=None)
    provider = bucket.object_store().credential_provider
    assert provider is not None
    assert provider()["expires_at"] <= datetime.now(UTC) + timedelta(minutes=10)
