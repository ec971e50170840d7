"""One page of a bucket's listing (ListObjectsV2), read from the XML and believed only when it is one.

An endpoint in trouble answers 200 with a login page, an empty result, or half a page; taken at its word,
that is an archive from which everything was withdrawn. What does not say of itself that it is this page of
this bucket raises, and so does what contradicts itself: a listing is whole or it is none.

Entries of the usual form are read by one regular expression, five times as fast as by an XML parser; the rest of
the page, and any page with an entry of another form, is the parser's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from html import unescape
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

import polars as pl

from lakehouse_assets.archive.errors import StoreFault, one_line

PAGE = 1000
"""Keys per page: S3's ceiling."""

KEY_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "size": pl.Int64,
        "etag": pl.String,
        "last_modified": pl.Datetime("us", "UTC"),
    }
)
"""One row per key as the store lists it; ``size`` in bytes. ETags without quotes, null where the store tells none
that speaks of the bytes (a weak one does not)."""

_FIELDS = {"Key": "key", "Size": "size", "ETag": "etag", "LastModified": "last_modified"}
_NEEDED = ("Key", "Size", "LastModified")
_LEAF = re.compile(r"<(\w+)>[^<]*</\1>")
_OTHER = rf"(?:<(?!(?:{'|'.join(_FIELDS)})>)\w+>[^<]*</\w+>)*"
"""Children of an entry that nobody asks for: storage class, checksum type."""

_TIME = "%Y-%m-%dT%H:%M:%S%.fZ"
_ALIASES = ("-s3alias", "--ol-s3")
"""Name suffixes of access points, behind which a bucket has another name."""

_DIGITS = 18
"""Of a size: more bytes than there are."""

_Row = tuple[Any, ...]
"""Texts in the order of _FIELDS, None where there is none."""


class NotAListingError(Exception):
    """An answer that is no page of the listing that was asked for."""

    @property
    def fault(self) -> StoreFault:
        return StoreFault("NotAListing", str(self))


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What a page was asked for: keys of a bucket that begin with a prefix."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class Page:
    """``keys`` has KEY_SCHEMA, ``folders`` are the common prefixes; ``token`` asks for the next page, None ends it."""

    keys: pl.DataFrame
    folders: tuple[str, ...]
    token: str | None

    @cached_property
    def names(self) -> list[str]:
        """The keys alone."""
        return self.keys["key"].to_list()


def read_page(body: bytes, asked: PageRequest) -> Page:
    """Read an answer's body. Raises NotAListingError."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise NotAListingError("the answer is no text") from None
    rows, rest = _taken_out(text)
    head = _root(rest, text)
    values = {_name(child): child.text or "" for child in head}
    is_encoded = values.get("EncodingType") == "url"
    rows = rows or [_row(entry) for entry in head if _name(entry) == "Contents"]
    folders = [_prefix_of(entry) for entry in head if _name(entry) == "CommonPrefixes"]
    page = Page(
        _frame(rows, is_encoded=is_encoded),
        tuple(_decoded(folders, is_encoded=is_encoded)),
        _token(values),
    )
    _believe(page, values, asked)
    return page


# Reading


def _taken_out(text: str) -> tuple[list[_Row], str]:
    """The entries, in order of _FIELDS, and the page without them; none where any is not of the usual form."""
    start = text.find("<Contents>")
    if start < 0 or "<!" in text:
        return [], text
    order = [name for name in _LEAF.findall(text[start : text.find("</Contents>", start)]) if name in _FIELDS]
    if len(set(order)) != len(order):
        return [], text
    rows: list[_Row] = []

    def take(match: re.Match[str]) -> str:
        rows.append(match.groups())
        return ""

    rest = _entry(tuple(order)).sub(take, text)
    if "Contents" in rest:
        return [], text
    columns = dict(zip(order, zip(*rows, strict=True), strict=True))
    return list(zip(*(columns.get(name, [None] * len(rows)) for name in _FIELDS), strict=True)), rest


@lru_cache(maxsize=64)
def _entry(order: tuple[str, ...]) -> re.Pattern[str]:
    """An entry with its fields in this order, and whatever else between them."""
    fields = (f"(?:<{name}>([^<]*)</{name}>)" + ("" if name in _NEEDED else "?") for name in order)
    return re.compile(f"<Contents>{_OTHER}{_OTHER.join(fields)}{_OTHER}</Contents>")


def _root(rest: str, text: str) -> ET.Element:
    if "<!DOCTYPE" in rest or "<!ENTITY" in rest:
        raise NotAListingError(f"the answer is a document of another kind: {_beginning(text)}")
    try:
        root = ET.fromstring(rest)  # noqa: S314 - without a document type there are no entities to expand
    except ET.ParseError as error:
        raise NotAListingError(f"the answer is no whole XML ({error}): {_beginning(text)}") from None
    if _name(root) != "ListBucketResult":
        raise NotAListingError(f"the answer is no list of keys: {_beginning(text)}")
    return root


def _name(element: ET.Element) -> str:
    """Without its namespace, which stores write differently."""
    return element.tag.rpartition("}")[2]


def _row(entry: ET.Element) -> _Row:
    found = {_name(child): child.text or "" for child in entry}
    return tuple(found.get(name) for name in _FIELDS)


def _prefix_of(entry: ET.Element) -> str:
    return next((child.text or "" for child in entry if _name(child) == "Prefix"), "")


def _decoded(texts: Iterable[str], *, is_encoded: bool) -> list[str]:
    """Keys as they are: a page that says so has them as URLs do, since XML cannot hold every character."""
    if not is_encoded:
        return list(texts)
    try:
        return [unquote_plus(text, errors="strict") if "%" in text or "+" in text else text for text in texts]
    except UnicodeDecodeError as error:
        raise NotAListingError(f"a key is no UTF-8: {error}") from None


def _frame(rows: Sequence[_Row], *, is_encoded: bool) -> pl.DataFrame:
    # In Python but for the times: on the few keys of most pages Polars' fixed costs are the larger.
    keys, sizes, etags, times = zip(*rows, strict=True) if rows else ((), (), (), ())
    for tag, values in zip(_FIELDS, (keys, sizes, etags, times), strict=True):
        if tag in _NEEDED and None in values:
            raise NotAListingError(f"an entry has no {tag}")
    frame = pl.DataFrame(
        {
            "key": _decoded([unescape(key) if "&" in key else key for key in keys], is_encoded=is_encoded),
            "size": [_size(size) for size in sizes],
            "etag": [_etag(etag) for etag in etags],
            "last_modified": times,
        },
        schema=dict(KEY_SCHEMA) | {"last_modified": pl.String},
    )
    try:
        return frame.with_columns(pl.col("last_modified").str.to_datetime(_TIME, time_unit="us", time_zone="UTC"))
    except pl.exceptions.PolarsError as error:
        raise NotAListingError(f"a time is none: {one_line(str(error), 120)}") from None


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise NotAListingError(f"{one_line(text, 40)!r} is no size")
    return int(text)


def _etag(text: str | None) -> str | None:
    if not text:
        return None
    bare = text.replace("&quot;", "").replace("&#34;", "").replace('"', "").strip()
    return None if bare.startswith("W/") else bare or None


# Believing


def _token(values: dict[str, str]) -> str | None:
    is_truncated = values.get("IsTruncated", "").strip().lower()
    if is_truncated not in {"true", "false"}:
        raise NotAListingError("the page does not say whether it is the last")
    if is_truncated == "false":
        return None
    if not values.get("NextContinuationToken"):
        raise NotAListingError("the page says that there are more keys, and not how to ask for them")
    return values["NextContinuationToken"]


def _believe(page: Page, values: dict[str, str], asked: PageRequest) -> None:
    names = [*page.names, *page.folders]
    count = values.get("KeyCount", "").strip()
    if count and count != str(len(names)):
        raise NotAListingError(f"the page counts {one_line(count, 20)} keys and has {len(names)}")
    if any(not name.startswith(asked.prefix) for name in names):
        odd = next(name for name in names if not name.startswith(asked.prefix))
        raise NotAListingError(f"{odd!r} is not below {asked.prefix!r}")
    if names:
        return
    # Nothing but the page itself says that it is of this bucket and this prefix.
    prefix = values.get("Prefix")
    if prefix is None or asked.prefix not in {prefix, unquote_plus(prefix)}:
        raise NotAListingError(f"an empty page of {prefix!r} came instead of one of {asked.prefix!r}")
    if values.get("Name") != asked.bucket and not asked.bucket.endswith(_ALIASES):
        raise NotAListingError(f"an empty page of the bucket {values.get('Name')!r} came instead of {asked.bucket!r}")


def _beginning(text: str) -> str:
    return repr(one_line(text[:200], 80))
