"""Values that users set and requests carry: used by every client, or refused by name; secrets are never shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lakehouse_assets.archive import request_values
from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.settings import load_settings
from lakehouse_assets.sync.movers.base import ObjectHeaders

SECRET = "planted-4711"
HOSTILE_PREFIXES = [
    "team#1", "a?b", "env=prod", "a b", "%20", "a%2Fb", "[a]", "{a}", "a*b", "a\\b", "研究", "prüfung", "a//b", "..",
    "a/../b", "./a", "a\nb", "a\tb", "a\x7fb", "a'b", 'a"b', "a+b", "a&b", "a:b", "s3://lake/a", "a" * 300,
]  # fmt: skip
HOSTILE_ENDPOINTS = [
    f"https://user:{SECRET}@s3.example.com", f"https://{SECRET}@s3.example.com", f"http://user:{SECRET}@127.0.0.1:9",
    f"https://u:{SECRET}@s3.example.com:99999", f"https://u:{SECRET}@x y", "https://s3.example.com?a=b",
    "https://s3.example.com/#a", "https://s3.example.com?", "https://s3 .example.com", "https://s3.example.com\nx",
    "https://bücher.example", "https://s3.example.com/a b", "https://s3.example.com/%2e", "https://s3.example.com\\@x",
    "https://[::1%25eth0]:9", "ftp://s3.example.com", "//s3.example.com", "https://",
]  # fmt: skip
HOSTILE_TOKENS = [f"{SECRET} x", f"{SECRET}\nx", f"{SECRET}\x00", f"{SECRET}é", f"{SECRET}\x7f", "\n"]


@pytest.mark.parametrize("prefix", HOSTILE_PREFIXES)
def test_a_prefix_that_clients_interpret_differently_is_refused(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^The lake prefix .*LAKEHOUSE_LAKE_PREFIX.*; .*\.$"):
        Lake(Bucket(name="lake"), prefix)
    monkeypatch.setenv("LAKEHOUSE_LAKE_PREFIX", prefix)
    with pytest.raises(InputError, match=r"LAKEHOUSE_LAKE_PREFIX: (has|contains) ") as error:
        load_settings()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prefix", ["quant/lake-1_v2.0", "/quant/lake-1_v2.0/", " quant/lake-1_v2.0\n"])
def test_a_prefix_is_stripped(prefix: str) -> None:
    assert Lake(Bucket(name="lake"), prefix).prefix == "quant/lake-1_v2.0/"


@pytest.mark.parametrize("name", ["r.x", "a/b", "a:b", "a b", "Grün", " "])
def test_a_name_of_a_lake_is_a_word_and_the_message_says_which_characters_it_may_have(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = r"is not a name of a lake; use letters A to Z, digits and - _ only"
    with pytest.raises(InputError, match=rf"^The lake name .*LAKEHOUSE_LAKE_NAME.* {fault}\.$"):
        Lake(Bucket(name="b"), name=name)
    monkeypatch.setenv("LAKEHOUSE_LAKE_NAME", name)
    with pytest.raises(InputError, match=f"LAKEHOUSE_LAKE_NAME: {fault}"):
        load_settings()
    monkeypatch.setenv("LAKEHOUSE_LAKE_NAME", "Research_2\n")
    assert load_settings().lake.name == Lake(Bucket(name="b"), name="Research_2\n").label == "Research_2"


@pytest.mark.parametrize("endpoint", HOSTILE_ENDPOINTS)
@pytest.mark.parametrize(
    "variable", ["LAKEHOUSE_LAKE_ENDPOINT_URL", "LAKEHOUSE_SOURCE_ENDPOINT_URL", "LAKEHOUSE_INCIDENTS_DAGSTER_URL"]
)
def test_an_endpoint_is_a_plain_url_and_refused_without_its_password(
    endpoint: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, endpoint)
    with pytest.raises(InputError, match=variable) as by_setting:
        load_settings()
    with pytest.raises(InputError, match="The endpoint of bucket b") as made:
        Bucket(name="b", endpoint_url=endpoint, allow_http=True)
    for error in (by_setting, made):
        assert SECRET not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://s3.example.com/", "https://s3.example.com"),
        ("HTTPS://S3.Example.com:9000\n", "https://s3.example.com:9000"),
        ("http://[::1]:8333", "http://[::1]:8333"),
        ("http://my_store:9000/s3/", "http://my_store:9000/s3"),
    ],
)
def test_an_endpoint_is_normalized_for_every_client(given: str, used: str) -> None:
    assert Bucket(name="b", endpoint_url=given, allow_http=True).endpoint == used


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        (None, "https://s3.us-east-1.amazonaws.com"),
        ("ap-northeast-1", "https://s3.ap-northeast-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_bucket_without_an_endpoint_uses_that_of_its_region(region: str | None, endpoint: str) -> None:
    assert Bucket(name="b", region=region).endpoint == endpoint


def test_a_line_break_after_a_secret_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from which a secret is mounted ends with a line break."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"LAKEHOUSE_LAKE_{name}", f"{SECRET}-{name}\r\n")
    monkeypatch.setenv("LAKEHOUSE_LAKE_BUCKET", "lake\n")
    bucket = load_settings().lake.lake().bucket
    assert bucket.name == "lake"
    assert bucket.credentials == Credentials(
        *(f"{SECRET}-{n}" for n in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"))
    )
    assert Credentials(f" {SECRET}\n", f"{SECRET}\n", f"{SECRET}\n") == Credentials(SECRET, SECRET, SECRET)


@pytest.mark.parametrize("value", [value for value in HOSTILE_TOKENS if "\0" not in value])
@pytest.mark.parametrize(
    "variable",
    [
        "LAKEHOUSE_LAKE_ACCESS_KEY_ID",
        "LAKEHOUSE_LAKE_SESSION_TOKEN",
        "LAKEHOUSE_LAKE_SSE_KMS_KEY_ID",
        "LAKEHOUSE_LAKE_STORAGE_CLASS",
        "LAKEHOUSE_LAKE_ACL",
        "LAKEHOUSE_MAINTENANCE_ACCESS_KEY_ID",
        "LAKEHOUSE_INCIDENTS_ALERTMANAGER_TOKEN",
    ],
)
def test_a_value_that_no_header_can_carry_is_refused_by_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=f"{variable}: (is empty, or )?contains a ") as error:
        load_settings()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("value", HOSTILE_TOKENS)
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda value: Credentials(value, "k"), id="access key"),
        pytest.param(lambda value: Credentials("k", "k", value), id="session token"),
        pytest.param(lambda value: Credentials("k", value.replace(" ", "\r")), id="secret key"),
    ],
)
def test_credentials_that_no_request_can_carry_are_refused_without_showing_them(
    make: Callable[[str], Credentials], value: str
) -> None:
    with pytest.raises(InputError, match="line break or a non-ASCII character") as error:
        make(value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("field", ["storage_class", "sse_kms_key_id", "acl"])
def test_headers_of_objects_made_in_python_follow_the_same_rules(field: str) -> None:
    with pytest.raises(InputError, match=f"The lake's {field}"):
        ObjectHeaders(**{field: "a\nb"})


@pytest.mark.parametrize("field", ["name", "region", "profile"])
def test_a_bucket_made_in_python_follows_the_same_rules(field: str) -> None:
    with pytest.raises(InputError, match=f"^The {field} "):
        Bucket(**{"name": "b", field: "a\x01b"})


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_keys_of_the_default_chain_are_refused_by_their_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"AWS_ACCESS_KEY_ID": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET} | {name: f"{SECRET}\n"}
    for variable, value in keys.items():
        monkeypatch.setenv(variable, value)
    for client in (lambda b: b.boto3_client(), lambda b: b.object_store(), lambda b: Lake(b).delta_options):
        with pytest.raises(InputError, match=f"The variable {name} ") as error:
            client(Bucket(name="b"))
        assert SECRET not in str(error.value)


def test_an_alertmanager_may_have_a_password_in_its_url_and_no_query() -> None:
    assert request_values.address(f"https://u:{SECRET}@alerts/ \n") == f"https://u:{SECRET}@alerts"
    for wrong in (f"https://u:{SECRET}@alerts?x", f"https://u:{SECRET}\n@alerts", f"https://u:{SECRET}@al erts"):
        with pytest.raises(ValueError, match=r"query|blank") as error:
            request_values.address(wrong)
        assert SECRET not in str(error.value)
