"""Keys of a bucket as they are, whatever they mean: pages in order, each once.

Every listing of this project comes from here, of a source and of a lake. A page is believed by itself in
``list_page.py``; here it is by its neighbours: keys ascend, so that none comes twice, and a token leads on. What
does not raises: a part of a listing would look like missing data, and a page twice like more of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from operator import lt

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.list_page import PAGE, Page
from lakehouse_assets.archive.list_requests import ListRequests

BATCH = 8 * PAGE
"""Keys of one frame of a whole folder: enough that Polars' fixed costs do not matter, little enough to hold many."""

EMPTY_PAGES = 100
"""In a row, each with a token for the next: S3 answers so where much was deleted, and not for ever."""


class KeyPages:
    """Lists one bucket; for many threads. Every method raises StoreError. ``requests`` and ``keys`` count up."""

    def __init__(self, bucket: Bucket) -> None:
        self.keys = 0
        self._requests = ListRequests(bucket)
        self._lock = threading.Lock()

    @property
    def requests(self) -> int:
        return self._requests.requests

    def pages(self, prefix: str, *, after: str = "", delimiter: str = "") -> Iterator[Page]:
        """The pages of what begins with a prefix and comes after a key, in order; at least one."""
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
                problem = f"{EMPTY_PAGES} pages in a row were empty, and none was the last"
            if problem:
                raise self._requests.error(prefix, StoreFault("NotAListing", problem))
            yield page
            if page.token is None:
                return
            token = page.token

    def below(self, prefix: str) -> Iterator[pl.DataFrame]:
        """All keys below a prefix, in order; frames of KEY_SCHEMA."""
        held: list[pl.DataFrame] = []
        for page in self.pages(prefix):
            held.append(page.keys)
            if len(held) * PAGE >= BATCH:
                yield pl.concat(held)
                held = []
        if any(frame.height for frame in held):
            yield pl.concat(held)

    def first(self, prefix: str, after: str) -> tuple[pl.DataFrame, bool]:
        """The first page of keys below a prefix and after a key, and whether it is all of them."""
        page = next(self.pages(prefix, after=after))
        return page.keys, page.token is None

    def folder(self, prefix: str) -> Iterator[Page]:
        """Pages of a folder: the keys right in it, and the folders in it."""
        return self.pages(prefix, delimiter="/")

    def names_until(self, prefix: str, end: str) -> Iterator[str]:
        """What the names below a prefix begin with, up to a character.

        Each page begins after the last name of the one before it, and not where its token says:
        SeaweedFS' token of a page that ends with such a name lists it again, for ever. A store that does
        not know such delimiters lists the keys themselves.
        """
        after = prefix
        while True:
            page = self._requests.page(prefix, after=after, delimiter=end)
            found = [*page.folders, *page.names]
            yield from (name.removeprefix(prefix).partition(end)[0] for name in found)
            if page.token is None:
                return
            # The first key that could follow those that begin so.
            last = max(*(name[:-1] + chr(ord(end) + 1) for name in page.folders), *page.names, "")
            if last <= after:
                problem = f"a page that is not the last leads no further than {after!r}"
                raise self._requests.error(prefix, StoreFault("NotAListing", problem))
            after = last


class _Order:
    """Whether keys (and folders) ascend through the pages: as S3 sorts, or folder by folder, as SeaweedFS does."""

    def __init__(self) -> None:
        self._ascents = (_Ascent(), _Ascent()), (_Ascent(_folder_by_folder), _Ascent(_folder_by_folder))
        self._holds = [True, True]

    def problem(self, page: Page) -> str | None:
        """What is wrong with the next page; None where nothing is."""
        for number, ascents in enumerate(self._ascents):
            for ascent, names in zip(ascents, (page.names, page.folders), strict=True):
                self._holds[number] &= ascent.goes_on(names)
        return None if any(self._holds) else "its keys do not ascend: one comes twice, or a page does"


class _Ascent:
    """One sequence; ``form`` makes names that ascend as texts do."""

    def __init__(self, form: Callable[[Sequence[str]], Sequence[str]] = lambda names: names) -> None:
        self._form = form
        self._last: str | None = None

    def goes_on(self, names: Sequence[str]) -> bool:
        if not names:
            return True
        names = self._form(names)
        before, self._last = self._last, names[-1]
        return (before is None or before < names[0]) and all(map(lt, names, names[1:]))


def _folder_by_folder(names: Sequence[str]) -> list[str]:
    return [name.replace("/", "\0") for name in names]
