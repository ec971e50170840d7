"""Reads and validates one page of a bucket's listing (ListObjectsV2).

A failing endpoint may answer 200 with a login page, an empty result, or half a page, which would look like an archive
from which everything was withdrawn. So an answer raises unless it identifies itself as the requested page of the
requested bucket and is consistent: a listing is complete, or it fails.

Entries of the usual form are read by one regular expression, five times as fast as an XML parser. The parser reads the
rest of the page, and every page with an entry of another form.
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
"""Keys per page: S3's maximum."""

KEY_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "size": pl.Int64,
        "etag": pl.String,
        "last_modified": pl.Datetime("us", "UTC"),
    }
)
"""One row per key, as the store lists it; ``size`` in bytes. ETags have no quotes, and are null if the store gives none
or a weak one, which does not identify the bytes."""

_FIELDS = {"Key": "key", "Size": "size", "ETag": "etag", "LastModified": "last_modified"}
_NEEDED = ("Key", "Size", "LastModified")
_LEAF = re.compile(r"<(\w+)>[^<]*</\1>")
_OTHER = rf"(?:<(?!(?:{'|'.join(_FIELDS)})>)\w+>[^<]*</\w+>)*"
"""Children of an entry that are ignored: storage class, checksum type."""

_TIME = "%Y-%m-%dT%H:%M:%S%.fZ"
_ALIASES = ("-s3alias", "--ol-s3")
"""Name suffixes of access points, which answer with the name of the bucket behind them."""

_DIGITS = 18
"""Maximal digits of a size; no object is larger."""

_Row = tuple[Any, ...]
"""Texts in the order of _FIELDS; None for a missing one."""


class NotAListingError(Exception):
    """An answer that is not a page of the requested listing."""

    @property
    def fault(self) -> StoreFault:
        return StoreFault("NotAListing", str(self))


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The request of a page: keys of a bucket that begin with a prefix."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class Page:
    """One page: ``keys`` has KEY_SCHEMA, ``folders`` are the common prefixes; ``token`` requests the next page, and is
    None on the last."""

    keys: pl.DataFrame
    folders: tuple[str, ...]
    token: str | None

    @cached_property
    def names(self) -> list[str]:
        return self.keys["key"].to_list()


def read_page(body: bytes, request: PageRequest) -> Page:
    """Read the body of an answer. Raises NotAListingError."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise NotAListingError("the answer is not text") from None
    rows, rest = _extract_entries(text)
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
    _validate(page, values, request)
    return page


# Reading


def _extract_entries(text: str) -> tuple[list[_Row], str]:
    """The entries, in the order of _FIELDS, and the page without them; no entries if one is not of the usual form."""
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
    """A pattern of an entry with its fields in this order, and ignored children between them."""
    fields = (f"(?:<{name}>([^<]*)</{name}>)" + ("" if name in _NEEDED else "?") for name in order)
    return re.compile(f"<Contents>{_OTHER}{_OTHER.join(fields)}{_OTHER}</Contents>")


def _root(rest: str, text: str) -> ET.Element:
    if "<!DOCTYPE" in rest or "<!ENTITY" in rest:
        raise NotAListingError(f"the answer is another kind of document: {_beginning(text)}")
    try:
        root = ET.fromstring(rest)  # noqa: S314 - without a document type there are no entities to expand
    except ET.ParseError as error:
        raise NotAListingError(f"the answer is not complete XML ({error}): {_beginning(text)}") from None
    if _name(root) != "ListBucketResult":
        raise NotAListingError(f"the answer is not a list of keys: {_beginning(text)}")
    return root


def _name(element: ET.Element) -> str:
    """The element's name without its namespace, which differs between stores."""
    return element.tag.rpartition("}")[2]


def _row(entry: ET.Element) -> _Row:
    values = {_name(child): child.text or "" for child in entry}
    return tuple(values.get(name) for name in _FIELDS)


def _prefix_of(entry: ET.Element) -> str:
    return next((child.text or "" for child in entry if _name(child) == "Prefix"), "")


def _decoded(texts: Iterable[str], *, is_encoded: bool) -> list[str]:
    """The keys, URL-decoded if the page says that they are encoded. XML cannot represent every character."""
    if not is_encoded:
        return list(texts)
    try:
        return [unquote_plus(text, errors="strict") if "%" in text or "+" in text else text for text in texts]
    except UnicodeDecodeError as error:
        raise NotAListingError(f"a key is not UTF-8: {error}") from None


def _frame(rows: Sequence[_Row], *, is_encoded: bool) -> pl.DataFrame:
    # Mostly in plain Python: most pages have few keys, for which Polars' fixed costs are larger.
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
        raise NotAListingError(f"a time cannot be read: {one_line(str(error), 120)}") from None


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise NotAListingError(f"{one_line(text, 40)!r} is not a size")
    return int(text)


def _etag(text: str | None) -> str | None:
    if not text:
        return None
    bare = text.replace("&quot;", "").replace("&#34;", "").replace('"', "").strip()
    return None if bare.startswith("W/") else bare or None


# Validating


def _token(values: dict[str, str]) -> str | None:
    is_truncated = values.get("IsTruncated", "").strip().lower()
    if is_truncated not in {"true", "false"}:
        raise NotAListingError("the page does not say whether it is the last")
    if is_truncated == "false":
        return None
    if not values.get("NextContinuationToken"):
        raise NotAListingError("the page says that there are more keys, but has no token for them")
    return values["NextContinuationToken"]


def _validate(page: Page, values: dict[str, str], request: PageRequest) -> None:
    names = [*page.names, *page.folders]
    count = values.get("KeyCount", "").strip()
    if count and count != str(len(names)):
        raise NotAListingError(f"the page claims {one_line(count, 20)} keys but has {len(names)}")
    if any(not name.startswith(request.prefix) for name in names):
        foreign = next(name for name in names if not name.startswith(request.prefix))
        raise NotAListingError(f"{foreign!r} is not below {request.prefix!r}")
    if names:
        return
    # An empty page has no keys that would show its bucket and prefix.
    prefix, bucket = values.get("Prefix"), values.get("Name")
    if prefix is None or request.prefix not in {prefix, unquote_plus(prefix)}:
        raise NotAListingError(f"the answer is an empty page of {prefix!r} instead of {request.prefix!r}")
    if bucket != request.bucket and not request.bucket.endswith(_ALIASES):
        raise NotAListingError(f"the answer is an empty page of the bucket {bucket!r} instead of {request.bucket!r}")


def _beginning(text: str) -> str:
    return repr(one_line(text[:200], 80))
