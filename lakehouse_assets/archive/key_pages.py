"""Lists the keys of a bucket page by page, whatever they mean.

Every listing of a source or a lake comes from here. ``list_page.py`` validates each page by itself; this module
validates the sequence: keys ascend, so that none comes twice, and every token leads to a new page. Anything else
raises, since an incomplete listing would look like missing data, and a repeated page like more data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from operator import lt

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.list_page import PAGE, Page

BATCH = 8 * PAGE
"""Keys per frame: enough to outweigh Polars' fixed costs, few enough to hold many frames in memory."""

EMPTY_PAGES = 100
"""Consecutive empty pages that are accepted. S3 returns some where many objects were deleted, but not endlessly."""


class KeyPages:
    """Lists one bucket; thread-safe. Every method raises StoreError. ``requests`` and ``keys`` are running totals."""

    def __init__(self, bucket: Bucket) -> None:
        # Imported where a listing begins: botocore's signer and HTTP session take longer than many commands.
        from lakehouse_assets.archive.list_requests import ListRequests  # noqa: PLC0415

        self.keys = 0
        self._requests = ListRequests(bucket)
        self._lock = threading.Lock()

    @property
    def requests(self) -> int:
        return self._requests.requests

    def pages(self, prefix: str, *, after: str = "", delimiter: str = "") -> Iterator[Page]:
        """The pages of keys that begin with a prefix and come after a key, in order; at least one page."""
        order = _Order()
        token: str | None = None
        empty = 0
        while True:
            page = self._requests.page(prefix, after=after, token=token, delimiter=delimiter)
            with self._lock:
                self.keys += page.keys.height
            empty = 0 if page.keys.height or page.folders else empty + 1
            problem = order.problem(page)
            if page.token is not None and page.token == token:
                problem = "a page's token leads back to itself"
            elif empty > EMPTY_PAGES:
                problem = f"{EMPTY_PAGES} pages in a row were empty, and none of them was the last"
            if problem:
                raise self._requests.error(prefix, StoreFault("NotAListing", problem))
            yield page
            if page.token is None:
                return
            token = page.token

    def below(self, prefix: str) -> Iterator[pl.DataFrame]:
        """All keys below a prefix, in order; frames of KEY_SCHEMA."""
        batch: list[pl.DataFrame] = []
        for page in self.pages(prefix):
            batch.append(page.keys)
            if len(batch) * PAGE >= BATCH:
                yield pl.concat(batch)
                batch = []
        if any(frame.height for frame in batch):
            yield pl.concat(batch)

    def first(self, prefix: str, after: str) -> tuple[pl.DataFrame, bool]:
        """The first page of keys below a prefix and after a key, and whether it is the only one."""
        page = next(self.pages(prefix, after=after))
        return page.keys, page.token is None

    def folder(self, prefix: str) -> Iterator[Page]:
        """The pages of a folder: the keys and the folders directly in it."""
        return self.pages(prefix, delimiter="/")

    def names_until(self, prefix: str, end: str) -> Iterator[str]:
        """The distinct beginnings of the names below a prefix, up to the character ``end``.

        Each request starts after the last name of the page before, not at its token: on SeaweedFS, the token of a page
        that ends with such a name lists the name again, endlessly. A store that does not support such a delimiter
        returns the keys themselves.
        """
        after = prefix
        while True:
            page = self._requests.page(prefix, after=after, delimiter=end)
            names = [*page.folders, *page.names]
            yield from (name.removeprefix(prefix).partition(end)[0] for name in names)
            if page.token is None:
                return
            # The first key that can follow all keys with this beginning.
            last = max(*(name[:-1] + chr(ord(end) + 1) for name in page.folders), *page.names, "")
            if last <= after:
                problem = f"a page that is not the last does not go beyond {after!r}"
                raise self._requests.error(prefix, StoreFault("NotAListing", problem))
            after = last


class _Order:
    """Checks that keys and folders ascend across pages, in S3's order or folder by folder, as SeaweedFS sorts."""

    def __init__(self) -> None:
        self._sequences = (_Ascending(), _Ascending()), (_Ascending(_folder_by_folder), _Ascending(_folder_by_folder))
        self._is_kept = [True, True]

    def problem(self, page: Page) -> str | None:
        """The problem of the next page; None if there is none."""
        for number, sequences in enumerate(self._sequences):
            for sequence, names in zip(sequences, (page.names, page.folders), strict=True):
                self._is_kept[number] &= sequence.continues(names)
        return None if any(self._is_kept) else "its keys do not ascend: a key or a page is repeated"


class _Ascending:
    """One ascending sequence of names; ``to_sortable`` turns names into texts that sort in the store's order."""

    def __init__(self, to_sortable: Callable[[Sequence[str]], Sequence[str]] = lambda names: names) -> None:
        self._to_sortable = to_sortable
        self._last: str | None = None

    def continues(self, names: Sequence[str]) -> bool:
        """Whether the names ascend and come after the last name seen."""
        if not names:
            return True
        names = self._to_sortable(names)
        last, self._last = self._last, names[-1]
        return (last is None or last < names[0]) and all(map(lt, names, names[1:]))


def _folder_by_folder(names: Sequence[str]) -> list[str]:
    return [name.replace("/", "\0") for name in names]
