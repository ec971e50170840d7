"""An S3 listing server that answers from rules: any number of keys, none of them stored.

It speaks ListObjectsV2 (prefix, delimiter, start-after, continuation-token, max-keys,
encoding-type) and the first version's marker, waits a given time before each page, and counts
pages. It runs in a process of its own, so that its work is not counted as a lister's.

    with listing_server([Rule("data/{symbol}/{symbol}-{day}.zip", {"symbol": [...], "day": [...]})], delay=0.2) as s:
        Bucket(name="any", endpoint_url=s.endpoint_url, anonymous=True)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import urllib.request
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import product
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
MODIFIED = "2024-01-01T08:30:00.000Z"
STATS = "/-/stats"

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Rule:
    """Keys of one form: ``template`` with every combination of ``values`` put in, each with every one of ``suffixes``.

    A field is bound where it first occurs, from left to right. ``size`` is in bytes, ``modified`` in UTC.
    """

    template: str
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    suffixes: Sequence[str] = ("", ".CHECKSUM")
    size: int = 1000
    modified: str = MODIFIED


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    endpoint_url: str

    @property
    def pages(self) -> int:
        """Pages answered so far."""
        with urllib.request.urlopen(f"{self.endpoint_url}{STATS}", timeout=10) as answer:
            return json.load(answer)["pages"]


@contextmanager
def listing_server(rules: Sequence[Rule], *, delay: float = 0.0) -> Iterator[Server]:
    """Serve the rules' keys in every bucket from another process, ``delay`` seconds a page."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(delay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the listing server has no pipes")
            process.stdin.write(json.dumps([asdict(rule) for rule in rules]) + "\n")
            process.stdin.flush()
            yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


class Tree:
    """The rules' keys as folders, computed when they are listed."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._segments = [rule.template.split("/") for rule in rules]
        self.names = lru_cache(maxsize=512)(self._names)
        self.below = lru_cache(maxsize=4096)(self._below)

    def entries(self, prefix: str, after: str, delimiter: str) -> Iterator[tuple[str, Rule | None]]:
        """Keys below ``prefix`` and past ``after`` in S3's order; with a delimiter folders, too, without a rule.

        ``after`` may be a folder (with its slash): then nothing of that folder comes.
        """
        folder = prefix[: prefix.rfind("/") + 1]
        yield from self._walk(folder, prefix, after, delimiter)

    def _walk(self, folder: str, prefix: str, after: str, delimiter: str) -> Iterator[tuple[str, Rule | None]]:
        names, rules = self.names(folder)
        wanted = prefix[len(folder) :] if prefix.startswith(folder) else ""
        start = bisect_left(names, wanted)
        if after.startswith(folder):
            rest = after[len(folder) :]
            inside = rest.find("/")
            # Keys inside a folder come after the folder's own name.
            start = max(start, bisect_left(names, rest[: inside + 1]) if inside >= 0 else bisect_right(names, rest))
        elif after > folder:
            return
        for position in range(start, len(names)):
            name = names[position]
            if not name.startswith(wanted):
                return
            key = folder + name
            if not name.endswith("/"):
                yield key, rules[position]
            elif not delimiter:
                yield from self._walk(key, prefix, after, delimiter)
            elif not after.startswith(key):
                yield key, None

    def _names(self, folder: str) -> tuple[list[str], list[Rule | None]]:
        """Names in a folder, sorted, folders with a slash, and for files the rule they are of."""
        found: dict[str, Rule | None] = {}
        for number, depth, bound in self.below(folder):
            rule, segments = self._rules[number], self._segments[number]
            is_last = depth == len(segments) - 1
            for name, _ in self._fillings(number, depth, dict(bound)):
                if is_last:
                    found.update({name + suffix: rule for suffix in rule.suffixes})
                else:
                    found[f"{name}/"] = None
        names = sorted(found)
        return names, [found[name] for name in names]

    def _below(self, folder: str) -> tuple[tuple[int, int, tuple[tuple[str, str], ...]], ...]:
        """The rules with keys in a folder: number, depth, and the fields bound by the path."""
        if not folder:
            return tuple((number, 0, ()) for number in range(len(self._rules)))
        parent, _, name = folder[:-1].rpartition("/")
        return tuple(
            (number, depth + 1, tuple(filled.items()))
            for number, depth, bound in self.below(f"{parent}/" if parent else "")
            if depth < len(self._segments[number]) - 1
            for filled in self._matches(number, depth, dict(bound), name)
        )

    def _matches(self, number: int, depth: int, bound: dict[str, str], name: str) -> Iterator[dict[str, str]]:
        segment = self._segments[number][depth]
        free = [each for each in dict.fromkeys(_FIELD.findall(segment)) if each not in bound]
        if segment == "".join(f"{{{each}}}" for each in free) and len(free) == 1:  # one field alone: no need to try all
            if name in _members(tuple(self._rules[number].values[free[0]])):
                yield bound | {free[0]: name}
            return
        yield from (filled for text, filled in self._fillings(number, depth, bound) if text == name)

    def _fillings(self, number: int, depth: int, bound: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
        segment = self._segments[number][depth]
        values = self._rules[number].values
        free = [each for each in dict.fromkeys(_FIELD.findall(segment)) if each not in bound]
        for chosen in product(*(values[each] for each in free)):
            filled = bound | dict(zip(free, chosen, strict=True))
            yield segment.format_map(filled), filled


@lru_cache(maxsize=64)
def _members(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(values)


def page_of(tree: Tree, bucket: str, query: Mapping[str, str]) -> str:
    """The answer to a listing request."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token") or query.get("start-after") or query.get("marker") or ""
    limit = min(int(query.get("max-keys", PAGE)), PAGE)
    is_encoded = query.get("encoding-type") == "url"
    say = quote if is_encoded else escape
    parts: list[str] = []
    last, truncated = "", False
    for key, rule in tree.entries(prefix, after, delimiter):
        if len(parts) == limit:
            truncated = True
            break
        last = key
        parts.append(_entry(key, rule, say))
    more = f"<NextContinuationToken>{escape(last)}</NextContinuationToken><NextMarker>{say(last)}</NextMarker>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
        f"<Name>{bucket}</Name>{'<EncodingType>url</EncodingType>' if is_encoded else ''}"
        f"<Prefix>{say(prefix)}</Prefix><KeyCount>{len(parts)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{more if truncated else ''}"
        f"{''.join(parts)}</ListBucketResult>"
    )


def _entry(key: str, rule: Rule | None, say: Callable[[str], str]) -> str:
    if rule is None:
        return f"<CommonPrefixes><Prefix>{say(key)}</Prefix></CommonPrefixes>"
    etag = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    return (
        f"<Contents><Key>{say(key)}</Key><LastModified>{rule.modified}</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag><Size>{rule.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


async def _answer(tree: Tree, delay: float, pages: list[int], request: str) -> tuple[str, str]:
    parts = urlsplit(request)
    if parts.path == STATS:
        return "application/json", json.dumps({"pages": pages[0]})
    pages[0] += 1
    if delay:
        await asyncio.sleep(delay)
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return "application/xml", page_of(tree, parts.path.strip("/"), query)


async def _serve(rules: Sequence[Rule], delay: float) -> None:
    tree, pages = Tree(rules), [0]

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                kind, body = await _answer(tree, delay, pages, line.split()[1].decode())
                payload = body.encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(payload)}\r\n\r\n"
                writer.write(head.encode() + payload)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The pipe closes when the parent process has ended.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve([Rule(**rule) for rule in json.loads(sys.stdin.readline())], float(sys.argv[1])))
