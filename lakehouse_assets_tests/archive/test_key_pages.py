"""Validation of listings: a listing is complete, with one row per key, or it raises."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from lakehouse_assets.archive import list_requests
from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.key_pages import EMPTY_PAGES, KeyPages
from lakehouse_assets.archive.list_page import KEY_SCHEMA, NotAListingError, PageRequest, read_page
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import StoreError
from lakehouse_assets_tests.faults.listings import NO_LISTINGS, edited, replaced
from lakehouse_assets_tests.faults.proxy import LISTS, Answer, Forward, Proxy, Refusal, Request, Rule
from lakehouse_assets_tests.world import World, client_of, days

ROOT = "data/odd/"
ASKED = PageRequest("bucket", ROOT)
ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2024-03-02T08:11:22.000Z</LastModified><ETag>&quot;abc&quot;</ETag>"
    "<Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def page(*entries: str, name: str = "bucket", prefix: str = ROOT, more: str = "") -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{name}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(entries)}</KeyCount>"
        f"<IsTruncated>false</IsTruncated>{more}{''.join(entries)}</ListBucketResult>"
    ).encode()


def entry(name: str) -> str:
    return ENTRY.format(key=ROOT + name)


def rows(body: bytes) -> list[tuple[str, int, str | None]]:
    return read_page(body, ASKED).keys.select("key", "size", "etag").rows()


@pytest.fixture
def published(world: World) -> tuple[World, str, list[str]]:
    """A folder of ten objects and their sidecars."""
    keys = world.publish(["AUSDT"], days("2024-03-01", "2024-03-10"))
    return world, keys[0].rpartition("/")[0] + "/", keys


@pytest.mark.parametrize("edit", NO_LISTINGS.values(), ids=NO_LISTINGS.keys())
def test_an_answer_that_is_not_a_listing_raises_and_names_the_folder(
    published: tuple[World, str, list[str]], edit: Callable[[str], str]
) -> None:
    world, folder, _ = published
    with (
        edited(world.source, edit) as source,
        pytest.raises(StoreError, match=rf"^Listing s3://.*{folder} failed: NotAListing: .*\.$") as caught,
    ):
        list(KeyPages(source).below(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("edit", [NO_LISTINGS["html"], NO_LISTINGS["nothing"], NO_LISTINGS["cut off"]])
def test_an_empty_folder_needs_a_page_that_identifies_itself(world: World, edit: Callable[[str], str]) -> None:
    assert list(KeyPages(world.source).below("data/nowhere/")) == []
    with edited(world.source, edit) as source, pytest.raises(StoreError, match="NotAListing"):
        list(KeyPages(source).below("data/nowhere/"))


def test_an_invalid_page_is_retried(published: tuple[World, str, list[str]]) -> None:
    world, folder, keys = published
    with Proxy(world.store.endpoint_url, Rule(_Html(), LISTS, most=2)).running() as proxy:
        source = replace(world.source, endpoint_url=proxy.endpoint_url, max_attempts=3)
        [page_keys] = KeyPages(source).below(folder)
    assert page_keys["key"].to_list() == sorted([*keys, *(f"{key}.CHECKSUM" for key in keys)])


class _Html:
    async def strike(self, request: Request, forward: Forward) -> Answer:
        return Answer(200, [], b"<html>maintenance</html>")


def test_an_invalid_second_page_does_not_end_the_listing(
    published: tuple[World, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, folder, _ = published
    monkeypatch.setattr(list_requests, "PAGE", 7)
    pages = KeyPages(world.source)
    assert sum(page_keys.height for page_keys in pages.below(folder)) == 20
    assert pages.requests == 3
    rule = Rule(_AfterTheFirst(NO_LISTINGS["html"]), LISTS)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        source = replace(world.source, endpoint_url=proxy.endpoint_url, max_attempts=1)
        with pytest.raises(StoreError, match="NotAListing"):
            list(KeyPages(source).below(folder))


class _AfterTheFirst:
    def __init__(self, edit: Callable[[str], str]) -> None:
        self._edit = edit

    async def strike(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        if "continuation-token" not in request.target:
            return answer
        return Answer(200, answer.headers, self._edit(answer.body.decode()).encode())


class _Again:
    """Repeats the first page forever, with the same token or a new one each time."""

    def __init__(self, *, new_tokens: bool, entries: bool) -> None:
        self._new, self._entries, self._number = new_tokens, entries, 0

    async def strike(self, request: Request, forward: Forward) -> Answer:
        request.target = re.sub("&?continuation-token=[^&]*", "", request.target)
        answer = await forward(request)
        self._number += self._new
        text = re.sub("<NextContinuationToken>.*?</NextContinuationToken>", "", answer.body.decode())
        if not self._entries:
            text = re.sub("<Contents>.*</Contents>|<KeyCount>.*?</KeyCount>", "", text)
        token = f"<NextContinuationToken>T{self._number}</NextContinuationToken>"
        text = re.sub("<IsTruncated>.*?</IsTruncated>", f"<IsTruncated>true</IsTruncated>{token}", text)
        return Answer(200, answer.headers, text.encode())


@pytest.mark.parametrize("new_tokens", [False, True], ids=["same token", "new tokens"])
@pytest.mark.parametrize("entries", [False, True], ids=["empty pages", "same page"])
def test_an_endless_listing_raises(published: tuple[World, str, list[str]], *, new_tokens: bool, entries: bool) -> None:
    world, folder, _ = published
    rule = Rule(_Again(new_tokens=new_tokens, entries=entries), LISTS)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        pages = KeyPages(replace(world.source, endpoint_url=proxy.endpoint_url, max_attempts=1))
        with pytest.raises(StoreError, match="NotAListing"):
            list(pages.below(folder))
        assert pages.requests <= EMPTY_PAGES + 1


@pytest.mark.parametrize("etag", ["", "&quot;&quot;", 'W/"0123456789abcdef0123456789abcdef"'])
def test_an_etag_that_does_not_identify_the_bytes_is_null(published: tuple[World, str, list[str]], etag: str) -> None:
    world, folder, _ = published
    with edited(world.source, replaced("ETag", etag)) as source:
        [page_keys] = KeyPages(source).below(folder)
    assert page_keys["etag"].null_count() == page_keys.height == 20


def test_keys_of_every_kind_equal_those_listed_by_boto3(store: EmbeddedStore) -> None:
    world = World(store)
    root = f"data/{world.tag}/"
    names = [
        "a b",
        "a+b",
        "%41",
        "a%2Fb",
        "&amp;",
        "<Key>",
        "é",
        "e\u0301",
        "🚀",
        "\uff21",
        "\x01",
        "\n",
        "\t",
        "'\"",
        "a/b",
        "a-b/c",
    ]
    for name in names:
        world._upstream.put_object(Bucket=world.source.name, Key=root + name, Body=b"1")
    by_boto3 = client_of(world._admin).list_objects_v2(Bucket=world.source.name, Prefix=root)["Contents"]
    [page_keys] = KeyPages(world.source).below(root)
    assert page_keys["key"].to_list() == [listed_entry["Key"] for listed_entry in by_boto3]
    assert set(page_keys["key"]) == {root + name for name in names}
    assert page_keys["etag"].to_list() == [listed_entry["ETag"].strip('"') for listed_entry in by_boto3]
    assert page_keys["last_modified"].to_list() == [listed_entry["LastModified"] for listed_entry in by_boto3]


def test_a_refusal_has_the_store_s_own_code_and_is_not_retried(world: World) -> None:
    with Proxy(world.store.endpoint_url, Rule(Refusal(403, "AccessDenied"), LISTS)).running() as proxy:
        with pytest.raises(StoreError, match="AccessDenied"):
            list(KeyPages(replace(world.source, endpoint_url=proxy.endpoint_url)).below("data/"))
        assert len(proxy.requests) == 1


def test_a_private_bucket_is_listed_with_the_lake_s_identity(world: World) -> None:
    world.overwrite_in_lake("some", b"1")
    [page_keys] = KeyPages(world.lake.bucket).below(world.lake.prefix)
    assert page_keys["key"].to_list() == [world.lake.key("some")]


def test_a_lake_of_the_default_chain_is_listed_with_its_credentials(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = world.lake.bucket.credentials
    assert given is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", given.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given.secret_access_key)
    world.overwrite_in_lake("some", b"1")
    bucket: Bucket = replace(world.lake.bucket, credentials=None)
    assert sum(page_keys.height for page_keys in KeyPages(bucket).below(world.lake.prefix)) == 1


# Pages by themselves


def test_entries_of_any_form_are_parsed_alike() -> None:
    plain, other = entry("a"), entry("b")
    odd = {
        "an owner": other.replace("</Contents>", "<Owner><ID>x</ID></Owner></Contents>"),
        "another order": other.replace("<Size>7</Size>", "").replace("<Contents>", "<Contents><Size>7</Size>"),
        "a checksum": other.replace("<Size>", "<ChecksumType>FULL_OBJECT</ChecksumType><Size>"),
        "a space in a tag": other.replace("<Contents>", "<Contents >"),
        "spaces": other.replace("><", ">\n  <"),
        "a character by number": other.replace("odd/b", "odd/&#98;"),
    }
    for form, text in odd.items():
        assert rows(page(plain, text)) == [(f"{ROOT}a", 7, "abc"), (f"{ROOT}b", 7, "abc")], form
        assert rows(page(text)) == [(f"{ROOT}b", 7, "abc")], form


def test_an_entry_in_a_comment_is_ignored() -> None:
    assert rows(page(entry("a"), more=f"<!-- {entry('b')} -->")) == [(f"{ROOT}a", 7, "abc")]


def test_a_page_is_read_with_another_namespace_and_with_none() -> None:
    body = page(entry("a"))
    for other in (
        body.replace(b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', b""),
        re.sub(rb"<(/?)(?=[A-Z])", rb"<\1s:", body).replace(b"xmlns=", b"xmlns:s="),
    ):
        assert rows(other) == [(f"{ROOT}a", 7, "abc")]


@pytest.mark.parametrize(
    "body",
    [
        page(name="another"),
        page(prefix="data/"),
        page(more="<Contents></Contents>"),
        page(entry("a")).replace(b"</ListBucketResult>", b""),
        page(entry("a")) + page(entry("b")),
        b"\xff\xfe",
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + page(entry("&a;")),
    ],
)
def test_a_page_that_contradicts_its_request_or_itself_is_rejected(body: bytes) -> None:
    with pytest.raises(NotAListingError):
        read_page(body, ASKED)


def test_an_empty_page_of_an_access_point_with_another_name_is_accepted() -> None:
    page_keys = read_page(page(name="another"), PageRequest("mine-abc-s3alias", ROOT)).keys
    assert page_keys.schema == KEY_SCHEMA
    assert page_keys.equals(pl.DataFrame(schema=KEY_SCHEMA))
