"""A bucket's description: what is signed, and who guards the way."""

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
def test_a_body_is_signed_where_somebody_on_the_way_could_change_it(endpoint: str | None, left_out: bool) -> None:
    bucket = Bucket(name="b", endpoint_url=endpoint, allow_http=True, credentials=Credentials("id", "a-secret-key"))
    assert bucket.object_store().config.get("unsigned_payload") == str(left_out).lower()


def test_on_loopback_the_store_takes_bodies_that_are_not_signed(world: World) -> None:
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
def test_an_endpoint_that_is_none_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(InputError, match=r"is not a URL; write it as https://host\[:port\]"):
        Bucket(name="b", endpoint_url=endpoint, allow_http=True)
