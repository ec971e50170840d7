"""Every field of dagster-aws' S3Resource reaches boto3, obstore and s5cmd, and secrets reach nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import dagster as dg
import obstore
import pytest
from botocore import UNSIGNED
from dagster_aws.s3 import S3Resource
from obstore.exceptions import BaseError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.resources import (
    LakeResource,
    S3Connection,
    SourceResource,
    SyncResource,
    bucket_of,
)
from lakehouse_assets.sync.movers.s5cmd import S5cmd
from lakehouse_assets_tests.orchestration.gateway import Gateway
from lakehouse_assets_tests.world import World

KEY, SECRET, TOKEN = "AKIAEXAMPLE", "very-secret", "session-secret"
KEYS = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
ENDPOINT = "https://s3.example.org:9000"


def bucket(*, allow_http: bool = False, **fields: Any) -> Bucket:
    return bucket_of(S3Resource(**{"region_name": "eu-west-1", **KEYS} | fields), "lake", allow_http=allow_http)


def credentials(made: Bucket) -> Any:
    return made.boto3_client()._request_signer._credentials


def verifies(made: Bucket) -> Any:
    return made.boto3_client()._endpoint.http_session._verify


def store(made: Bucket) -> Any:
    return made.object_store()


def argument(made: Bucket, flag: str) -> str | None:
    arguments = S5cmd(identity=made).arguments()
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


def environment(made: Bucket) -> dict[str, str]:
    return S5cmd(identity=made).environment({})


@pytest.fixture
def aws_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "credentials").write_text(
        f"[research]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n", encoding="utf-8"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return "research"


Read = Callable[[Bucket], Any]

FIELDS: list[tuple[str, dict[str, Any], list[tuple[str, Read, Any]]]] = [
    (
        "region_name",
        {"region_name": "ap-northeast-1"},
        [
            ("boto3", lambda b: b.boto3_client().meta.region_name, "ap-northeast-1"),
            ("obstore", lambda b: store(b).config["region"], "ap-northeast-1"),
            ("s5cmd", lambda b: environment(b)["AWS_REGION"], "ap-northeast-1"),
        ],
    ),
    (
        "endpoint_url",
        {"endpoint_url": ENDPOINT},
        [
            ("boto3", lambda b: b.boto3_client().meta.endpoint_url, ENDPOINT),
            ("obstore", lambda b: store(b).config["endpoint"], ENDPOINT),
            ("s5cmd", lambda b: argument(b, "--endpoint-url"), ENDPOINT),
        ],
    ),
    (
        "aws_access_key_id",
        {},
        [
            ("boto3", lambda b: credentials(b).access_key, KEY),
            ("obstore", lambda b: store(b).credential_provider()["access_key_id"], KEY),
            ("s5cmd", lambda b: environment(b)["AWS_ACCESS_KEY_ID"], KEY),
        ],
    ),
    (
        "aws_secret_access_key",
        {},
        [
            ("boto3", lambda b: credentials(b).secret_key, SECRET),
            ("obstore", lambda b: store(b).credential_provider()["secret_access_key"], SECRET),
            ("s5cmd", lambda b: environment(b)["AWS_SECRET_ACCESS_KEY"], SECRET),
        ],
    ),
    (
        "aws_session_token",
        {"aws_session_token": TOKEN},
        [
            ("boto3", lambda b: credentials(b).token, TOKEN),
            ("obstore", lambda b: store(b).credential_provider()["token"], TOKEN),
            ("s5cmd", lambda b: environment(b)["AWS_SESSION_TOKEN"], TOKEN),
        ],
    ),
    (
        "use_unsigned_session",
        {"use_unsigned_session": True},
        [
            ("boto3", lambda b: b.boto3_client().meta.config.signature_version, UNSIGNED),
            ("obstore", lambda b: str(store(b).config["skip_signature"]).lower(), "true"),
            ("s5cmd", lambda b: "--no-sign-request" in S5cmd(identity=b).arguments(), True),
            ("s5cmd's keys", lambda b: [name for name in environment(b) if "KEY" in name], []),
        ],
    ),
    (
        "verify",
        {"verify": False},
        [
            ("boto3", verifies, False),
            ("obstore", lambda b: store(b).client_options["allow_invalid_certificates"], "true"),
            ("s5cmd", lambda b: "--no-verify-ssl" in S5cmd(identity=b).arguments(), True),
        ],
    ),
    (
        "use_ssl",
        {"use_ssl": False, "allow_http": True},
        [
            ("boto3", lambda b: b.boto3_client().meta.endpoint_url, "http://s3.eu-west-1.amazonaws.com"),
            ("obstore", lambda b: store(b).config["endpoint"], "http://s3.eu-west-1.amazonaws.com"),
            ("obstore's permission", lambda b: store(b).client_options["allow_http"], "true"),
            ("s5cmd", lambda b: argument(b, "--endpoint-url"), "http://s3.eu-west-1.amazonaws.com"),
        ],
    ),
    (
        "max_attempts",
        {"max_attempts": 7},
        [
            ("boto3", lambda b: b.boto3_client().meta.config.retries["total_max_attempts"], 7),
            ("obstore", lambda b: store(b).retry_config["max_retries"], 6),
        ],
    ),
]


@pytest.mark.parametrize(
    ("fields", "read", "expected"),
    [
        pytest.param(fields, read, expected, id=f"{name}-{client}")
        for name, fields, clients in FIELDS
        for client, read, expected in clients
    ],
)
def test_a_field_reaches_the_client(fields: dict[str, Any], read: Read, expected: Any) -> None:
    assert read(bucket(**fields)) == expected


def test_every_field_of_s3resource_is_tested() -> None:
    assert {name for name, _, _ in FIELDS} | {"profile_name"} == set(S3Resource.model_fields)


def test_a_connection_has_the_fields_and_defaults_of_s3resource() -> None:
    ours, theirs = (
        {name: (field.annotation, field.default) for name, field in kind.model_fields.items()}
        for kind in (S3Connection, S3Resource)
    )
    assert ours == theirs


@pytest.mark.parametrize("connection", [S3Connection, S3Resource])
def test_a_run_reads_the_environment_whichever_connection_is_given(
    connection: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = connection(aws_access_key_id=KEY, aws_secret_access_key=dg.EnvVar("SECRET_OF_THE_TEST"))
    resource = LakeResource(s3=given, bucket="lake")
    monkeypatch.setenv("SECRET_OF_THE_TEST", SECRET)
    with dg.build_resources({"lake": resource}) as started:
        made = started.lake.lake().bucket
    assert (made.credentials.access_key_id, made.credentials.secret_access_key) == (KEY, SECRET)


def test_a_profile_reaches_every_client(aws_profile: str) -> None:
    made = bucket(profile_name=aws_profile, aws_access_key_id=None, aws_secret_access_key=None)
    assert credentials(made).access_key == KEY
    assert made.object_store().credential_provider()["access_key_id"] == KEY
    assert argument(made, "--profile") == aws_profile
    assert environment(made)["AWS_PROFILE"] == aws_profile


def test_the_defaults_are_signed_verified_and_encrypted() -> None:
    made = bucket()
    assert made.boto3_client().meta.endpoint_url.startswith("https://")
    assert verifies(made) is True
    arguments = S5cmd(identity=made).arguments()
    assert not {"--no-verify-ssl", "--no-sign-request", "--profile"} & set(arguments)
    assert argument(made, "--endpoint-url") == "https://s3.eu-west-1.amazonaws.com"
    assert store(made).client_options["allow_invalid_certificates"] == "false"


@pytest.fixture
def broken(world: World) -> Iterator[Gateway]:
    with Gateway(world.source.endpoint_url).running() as gateway:
        gateway.refusal = (503, "SlowDown")
        yield gateway


def test_boto3_makes_the_configured_number_of_attempts(broken: Gateway) -> None:
    made = bucket(endpoint_url=broken.endpoint_url, max_attempts=3)
    with pytest.raises(botocore.exceptions.ClientError):
        made.boto3_client().list_objects_v2(Bucket="lake", Prefix="x")
    assert len(broken.listed) == 3


def test_obstore_makes_the_configured_number_of_attempts(broken: Gateway) -> None:
    made = bucket(endpoint_url=broken.endpoint_url, max_attempts=3)
    with pytest.raises(BaseError):
        obstore.list_with_delimiter(made.object_store(), "x")
    assert len(broken.listed) == 3


@pytest.mark.parametrize("given", list(KEYS))
def test_half_of_a_credential_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="both aws_access_key_id and aws_secret_access_key"):
        bucket(**dict.fromkeys(KEYS) | {given: "x"})


def test_plain_http_beyond_loopback_needs_permission() -> None:
    with pytest.raises(InputError, match="plain HTTP"):
        bucket(use_ssl=False)


def test_region_and_endpoint_of_the_source_are_the_exchange_s_unless_the_resource_sets_them() -> None:
    binance = exchange_named("binance")
    own = SourceResource(s3=S3Resource(use_unsigned_session=True)).bucket(binance)
    assert (own.name, own.region, own.endpoint_url, own.anonymous) == (
        "data.binance.vision",
        "ap-northeast-1",
        None,
        True,
    )
    given = SourceResource(s3=S3Resource(use_unsigned_session=True, region_name="x-1", endpoint_url=ENDPOINT))
    assert (given.bucket(binance).region, given.bucket(binance).endpoint_url) == ("x-1", ENDPOINT)


def test_secrets_are_in_no_repr_and_not_on_the_command_line() -> None:
    resource = LakeResource(s3=S3Resource(**KEYS, aws_session_token=TOKEN), bucket="lake")
    lake = resource.lake()
    shown = [repr(resource), str(resource), repr(lake), repr(lake.bucket.credentials)]
    shown += [" ".join(S5cmd(identity=lake.bucket).arguments())]
    for text in shown:
        assert SECRET not in text
        assert TOKEN not in text


def test_the_sync_resource_overrides_the_environment(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setenv("LAKEHOUSE_SYNC_WORKERS", "11")
    monkeypatch.setenv("LAKEHOUSE_SYNC_RETRIES", "3")
    options = SyncResource(workers=12).engine(world.source, world.lake)._options
    assert (options.transfer.workers, options.transfer.retries) == (12, 3)
