"""Unpacked text as blocks of whole lines, however lines end, and none of them longer than a row can be.

Every file passes here before a parser sees it, whether it is read at once, in batches or with many others:
what is measured here is measured nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits


def whole_lines(texts: Iterable[bytes], batch_bytes: int, limits: Limits) -> Iterator[bytes]:
    """Blocks of about ``batch_bytes`` or more that end with a line, but for the last. Line ends are LF.

    Blank lines at the end of the text are cut. Raises BadArchiveError for a line that is too long, for blank
    lines without end, and for a NUL byte.
    """
    held: list[bytes] = []
    size = open_line = 0
    for text in _line_feeds(texts):
        if b"\0" in text:
            raise BadArchiveError("it has a NUL byte: it is no text")
        open_line = _require_short(text, open_line, limits)
        cut = text.rfind(b"\n") + 1
        if cut and size + cut >= batch_bytes:
            block, blank = _without_blank(b"".join([*held, text[:cut]]), limits)
            if block:
                yield block
            # Whether blank lines are at the text's end, or within it, what follows tells.
            held = [blank, text[cut:]]
            size = len(blank) + open_line
        else:
            held.append(text)
            size += len(text)
    last = b"".join(held).rstrip(b"\n")
    if last:
        yield last


def _without_blank(block: bytes, limits: Limits) -> tuple[bytes, bytes]:
    """A block without the blank lines at its end, and these. Raises BadArchiveError for more than there can be."""
    if not block.endswith(b"\n\n"):
        return block, b""
    rows = block.rstrip(b"\n")
    blank = block[len(rows) + 1 :] if rows else block
    if len(blank) > limits.line_bytes:
        raise BadArchiveError(f"it has more than {limits.line_bytes:,} blank lines in a row")
    return rows and rows + b"\n", blank


def _line_feeds(texts: Iterable[bytes]) -> Iterator[bytes]:
    """The same text with LF for each CR LF, and for each CR alone."""
    held = b""
    for piece in texts:
        text = held + piece if held else piece
        held = b""
        if b"\r" in text:
            held = b"\r" if text.endswith(b"\r") else b""
            text = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield text
    if held:
        yield b"\n"


def _require_short(text: bytes, open_line: int, limits: Limits) -> int:
    """Raise BadArchiveError for a line of more than ``line_bytes``; the bytes of the last one, which is open.

    ``open_line`` bytes of the first line came before. Some bytes at each step of the limit are looked at, not all.
    """
    start = -open_line
    while len(text) - start > limits.line_bytes:
        end = text.rfind(b"\n", max(start, 0), start + limits.line_bytes + 1)
        if end < 0:
            raise BadArchiveError(
                f"it has a line of more than {limits.line_bytes:,} bytes: it is no CSV of an exchange"
            )
        start = end + 1
    last = text.rfind(b"\n")
    return open_line + len(text) if last < 0 else len(text) - last - 1
