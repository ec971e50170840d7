"""Every client of a bucket sends its requests to the same server, whatever variables the environment has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.loopback import exclude_from_proxies
from lakehouse_assets.sync.movers.s5cmd import S5cmd
from lakehouse_assets.sync.movers.s5cmd_protocol import CopyCommand
from lakehouse_assets_tests.faults.proxy import Proxy
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World

ELSEWHERE = [
    {"AWS_ENDPOINT_URL": "TRAP"},
    {"AWS_ENDPOINT_URL_S3": "TRAP"},
    {"AWS_ENDPOINT": "TRAP", "AWS_S3_ENDPOINT": "TRAP", "S3_ENDPOINT_URL": "TRAP"},
    {"ENDPOINT": "TRAP", "ENDPOINT_URL": "TRAP", "endpoint": "TRAP"},
    {"AWS_CONFIG_FILE": "CONFIG"},
    {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
    {"AWS_REGION": "sa-east-1", "AWS_DEFAULT_REGION": "sa-east-1"},
    {"AWS_BUCKET": "other", "AWS_BUCKET_NAME": "other", "BUCKET": "other"},
    {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true", "AWS_S3_EXPRESS": "true"},
    {"AWS_SKIP_SIGNATURE": "true", "AWS_REQUEST_PAYER": "true"},
    {"AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "other", "AWS_PROFILE": "none-such"},
    {"AWS_ALLOW_HTTP": "false", "ALLOW_HTTP": "false"},
    {"HTTP_PROXY": "TRAP"},
    {"http_proxy": "TRAP", "ALL_PROXY": "TRAP", "no_proxy": "intranet.example"},
    {"AWS_PROXY_URL": "TRAP", "PROXY_URL": "TRAP"},
]


def boto3(lake: Lake) -> None:
    lake.bucket.boto3_client().list_objects_v2(Bucket=lake.bucket.name, Prefix=lake.key("boto3"))


def from_obstore(lake: Lake) -> None:
    lake.bucket.object_store().list(lake.key("obstore")).collect()


def s5cmd(lake: Lake) -> None:
    copy = CopyCommand(lake.url("s5cmd"), lake.url("s5cmd-copied"))
    S5cmd(identity=lake.bucket, retries=0).run([copy])


def delta_rs(lake: Lake) -> None:
    with suppress(DeltaError):
        DeltaTable(lake.url("delta"), storage_options=lake.delta_options)


def polars(lake: Lake) -> None:
    with suppress(OSError):
        pl.scan_parquet(lake.url("polars.parquet"), storage_options=lake.delta_options).collect()


CLIENTS = (boto3, from_obstore, s5cmd, delta_rs, polars)


@pytest.fixture
def front(world: World) -> Iterator[Proxy]:
    with Proxy(world.store.endpoint_url).running() as running:
        yield running


class Elsewhere:
    """A server that must get no requests, and variables that name it."""

    def __init__(self, server: Proxy, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self._config = folder / "config"
        self._monkeypatch = monkeypatch
        self._config.write_text(f"[default]\nregion = sa-east-1\nendpoint_url = {server.endpoint_url}\n")

    def named_by(self, variables: dict[str, str]) -> None:
        for name in ("NO_PROXY", "no_proxy"):
            self._monkeypatch.setenv(name, "")  # so that monkeypatch removes what the test adds
            self._monkeypatch.delenv(name)
        for name, value in variables.items():
            resolved = value.replace("TRAP", self.server.endpoint_url).replace("CONFIG", str(self._config))
            self._monkeypatch.setenv(name, resolved)


@pytest.fixture
def elsewhere(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    with Proxy(world.store.endpoint_url).running() as running:
        yield Elsewhere(running, tmp_path, monkeypatch)


def at(world: World, proxy: Proxy) -> Lake:
    return Lake(replace(world.lake.bucket, endpoint_url=proxy.endpoint_url, max_attempts=1), world.lake.prefix)


@pytest.mark.parametrize("variables", ELSEWHERE, ids=lambda variables: next(iter(variables)))
def test_no_variable_redirects_a_client(
    variables: dict[str, str], world: World, front: Proxy, elsewhere: Elsewhere
) -> None:
    elsewhere.named_by(variables)
    lake = at(world, front)
    key = lake.bucket.credentials.access_key_id
    for client in CLIENTS:
        front.requests.clear()
        client(lake)
        assert front.requests, f"{client.__name__} sent no request"
        for request in front.requests:
            assert f"Credential={key}/" in (request.header("authorization") or ""), client.__name__
            assert request.header("x-amz-security-token") is None, client.__name__
    assert elsewhere.server.requests == []


@pytest.mark.parametrize("name", ["AWS_SESSION_TOKEN", "AWS_TOKEN", "SESSION_TOKEN", "TOKEN"])
def test_no_client_sends_a_foreign_session_token(
    name: str, world: World, front: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "planted-4711")
    lake = at(world, front)
    for client in (boto3, from_obstore, s5cmd):
        client(lake)
    with pytest.raises(InputError, match=f"The variable {name} is set.* unset it"):
        delta_rs(lake)
    assert {request.header("x-amz-security-token") for request in front.requests} == {None}
    own = Lake(replace(lake.bucket, credentials=replace(lake.bucket.credentials, session_token="own-4711")))
    assert own.delta_options["aws_session_token"] == "own-4711"


def _after(flag: str, arguments: list[str]) -> str:
    return arguments[arguments.index(flag) + 1]


READ: list[tuple[str, Callable[[Bucket], object]]] = [
    ("boto3", lambda bucket: bucket.boto3_client().meta.endpoint_url),
    ("obstore", lambda bucket: bucket.object_store().config["endpoint"]),
    ("s5cmd", lambda bucket: _after("--endpoint-url", S5cmd(identity=bucket).arguments())),
]


def test_an_exchanges_bucket_is_requested_at_the_exchange(elsewhere: Elsewhere) -> None:
    for variables in ELSEWHERE[:6]:
        elsewhere.named_by(variables)
    source = Bucket(name="data.binance.vision", region="ap-northeast-1", anonymous=True)
    assert {name: read(source) for name, read in READ} == dict.fromkeys(
        (name for name, _ in READ), "https://s3.ap-northeast-1.amazonaws.com"
    )


def everything(world: World) -> set[str]:
    """The keys of the lake's bucket."""
    pages = world.store.admin_bucket(world.lake.bucket.name).object_store().list()
    return {entry["path"] for page in pages for entry in page}


def test_a_lake_with_a_prefix_of_all_allowed_characters_is_written_and_read(world: World) -> None:
    lake = world.lake = Lake(world.lake.bucket, f"{world.lake.prefix}Team-1/env_prod/v1.2")
    before = everything(world)
    tabled = Tabled(world)
    tabled.publish(["AAA"], ["2024-01-01"])
    for _ in range(2):
        tabled.sync("2024-01-01")
    assert tabled.build("2024-01-01").periods[0].rows == 24
    tabled.publish(["AAA"], ["2024-01-01"], price=7.0)
    tabled.sync("2024-01-01")
    tabled.build("2024-01-01")
    assert tabled.rows()["open"].unique().to_list() == [7.0]
    written = everything(world) - before
    assert len(written) > 10
    assert not {key for key in written if not key.startswith(lake.prefix)}


def test_loopback_is_added_to_no_proxy() -> None:
    environment = {"HTTPS_PROXY": "http://proxy.example", "NO_PROXY": "intranet.example, 10.0.0.0/8"}
    exclude_from_proxies("127.0.0.2", environment=environment)
    assert (
        environment["NO_PROXY"]
        == environment["no_proxy"]
        == "intranet.example,10.0.0.0/8,127.0.0.1,localhost,::1,127.0.0.2"
    )
    again = dict(environment)
    exclude_from_proxies("127.0.0.2", environment=again)
    assert again == environment


@pytest.mark.parametrize(
    "environment", [{}, {"NO_PROXY": "a"}, {"http_proxy": "http://p", "NO_PROXY": "*", "no_proxy": "*"}]
)
def test_without_a_proxy_or_with_a_wildcard_no_proxy_stays_unchanged(environment: dict[str, str]) -> None:
    before = dict(environment)
    exclude_from_proxies(environment=environment)
    assert environment == before
    assert os.environ is not environment
