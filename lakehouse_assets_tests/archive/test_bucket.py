"""Buckets: signed bodies, and valid endpoints."""

from __future__ import annotations

import pytest

from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.errors import InputError
from lakehouse_assets_tests.faults.proxy import Proxy
from lakehouse_assets_tests.world import World


@pytest.mark.parametrize(
    ("endpoint", "left_out"),
    [
        (None, True),
        ("https://s3.example.com", True),
        ("http://127.0.0.1:8333", True),
        ("http://localhost:8333", True),
        ("http://[::1]:8333", True),
        ("http://s3.example.com", False),
        ("http://10.0.0.7:8333", False),
    ],
)
def test_bodies_are_signed_unless_the_transport_is_secure(endpoint: str | None, left_out: bool) -> None:
    bucket = Bucket(name="b", endpoint_url=endpoint, allow_http=True, credentials=Credentials("id", "a-secret-key"))
    assert bucket.object_store().config.get("unsigned_payload") == str(left_out).lower()


def test_the_store_accepts_unsigned_bodies_on_loopback(world: World) -> None:
    with Proxy(world.store.endpoint_url).running() as proxy:
        near = Bucket(
            name=world.lake.bucket.name, endpoint_url=proxy.endpoint_url, credentials=world.lake.bucket.credentials
        )
        near.object_store().put(world.lake.key("note"), b"as it is", use_multipart=False)
    [request] = proxy.requests
    assert request.header("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"
    assert world.lake_body("note") == b"as it is"


@pytest.mark.parametrize(
    "endpoint", ["http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:0", "lake", "s3://lake", "https://"]
)
def test_an_invalid_endpoint_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(InputError, match=r"is not a URL; write it as https://host\[:port\]"):
        Bucket(name="b", endpoint_url=endpoint, allow_http=True)
