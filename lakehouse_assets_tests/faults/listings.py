"""Faulty listings: functions that change the text of a page on its way to the client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets_tests.faults.proxy import LISTS, Answer, Forward, Proxy, Request, Rule

HTML = "<html><head><title>Maintenance</title></head><body>We will be back soon.</body></html>"

_CONTENTS = re.compile("<Contents>.*?</Contents>", re.DOTALL)


@dataclass(frozen=True)
class Edited:
    """Changes pages of keys with a prefix, and no others."""

    edit: Callable[[str], str]
    below: str = ""

    async def strike(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        prefix = parse_qs(urlsplit(request.target).query).get("prefix", [""])[0]
        if answer.status != 200 or not prefix.startswith(self.below):
            return answer
        return Answer(200, answer.headers, self.edit(answer.body.decode()).encode())


@contextmanager
def edited(bucket: Bucket, edit: Callable[[str], str], *, below: str = "") -> Iterator[Bucket]:
    """The bucket behind an endpoint that changes its pages."""
    if bucket.endpoint_url is None:
        raise ValueError("a store on AWS has no proxy before it")
    with Proxy(bucket.endpoint_url, Rule(Edited(edit, below), LISTS)).running() as proxy:
        yield replace(bucket, endpoint_url=proxy.endpoint_url, max_attempts=1)


def without(pattern: str) -> Callable[[str], str]:
    """Removes entries whose text matches the pattern, and corrects the page's count."""

    def edit(page: str) -> str:
        entries = re.compile("<(Contents|CommonPrefixes)>.*?</\\1>", re.DOTALL)
        page = entries.sub(lambda match: "" if re.search(pattern, match.group()) else match.group(), page)
        left = len(entries.findall(page))
        return re.sub(r"<KeyCount>\d+</KeyCount>", f"<KeyCount>{left}</KeyCount>", page)

    return edit


def html(_page: str) -> str:
    return HTML


def nothing(_page: str) -> str:
    return '<?xml version="1.0"?><ListBucketResult><Name>x</Name><IsTruncated>false</IsTruncated></ListBucketResult>'


def cut(page: str) -> str:
    return page[: len(page) // 2]


def another_kind(page: str) -> str:
    return page.replace("ListBucketResult", "ListAllMyBucketsResult")


def twice(page: str) -> str:
    """Repeats every entry directly after itself."""
    return _CONTENTS.sub(lambda match: match.group() * 2, page)


def page_twice(page: str) -> str:
    """Repeats all entries of the page, and counts them twice."""
    entries = "".join(_CONTENTS.findall(page))
    page = re.sub(r"<KeyCount>(\d+)", lambda match: f"<KeyCount>{2 * int(match.group(1))}", page)
    return page.replace(entries, entries * 2) if entries else page


def backwards(page: str) -> str:
    entries = _CONTENTS.findall(page)
    return page.replace("".join(entries), "".join(reversed(entries))) if entries else page


def elsewhere(page: str) -> str:
    """Keys with another prefix."""
    return page.replace("<Key>", "<Key>x/")


def miscounted(page: str) -> str:
    return re.sub(r"<KeyCount>\d+</KeyCount>", "<KeyCount>1000</KeyCount>", page)


def one_lost(page: str) -> str:
    """One entry fewer than the page counts."""
    return _CONTENTS.sub("", page, count=1)


def cut_off(page: str) -> str:
    """The page says that more keys follow, but has no token."""
    return page.replace("<IsTruncated>false", "<IsTruncated>true")


def endless(page: str) -> str:
    """Every page has a next page."""
    return cut_off(page).replace("</IsTruncated>", "</IsTruncated><NextContinuationToken>SAME</NextContinuationToken>")


def without_end(page: str) -> str:
    """The page does not say whether it is the last."""
    return re.sub("<IsTruncated>.*?</IsTruncated>", "", page)


def replaced(tag: str, text: str) -> Callable[[str], str]:
    """Replaces one field of every entry; an empty text removes the field."""
    field = f"<{tag}>{text}</{tag}>" if text else ""
    return lambda page: re.sub(f"<{tag}>.*?</{tag}>", field, page)


NO_LISTINGS: dict[str, Callable[[str], str]] = {
    "html": html,
    "nothing": nothing,
    "empty": lambda _page: "",
    "json": lambda _page: '{"error": "maintenance"}',
    "cut": cut,
    "another kind": another_kind,
    "twice": twice,
    "page twice": page_twice,
    "backwards": backwards,
    "elsewhere": elsewhere,
    "miscounted": miscounted,
    "one lost": one_lost,
    "cut off": cut_off,
    "endless": endless,
    "without end": without_end,
    "no size": replaced("Size", ""),
    "negative size": replaced("Size", "-5"),
    "huge size": replaced("Size", "9" * 20),
    "size in words": replaced("Size", "1e3"),
    "no time": replaced("LastModified", ""),
    "no such time": replaced("LastModified", "2024-02-30T00:00:00.000Z"),
    "no key": replaced("Key", ""),
}
"""Answers of a faulty endpoint to a listing request, by name. None of them is a valid listing."""
