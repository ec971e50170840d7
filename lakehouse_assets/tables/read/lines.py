"""Splits unpacked text into blocks of complete lines, normalizes line ends and limits the length of lines.

Every file passes through here before it is parsed, whether it is read into memory, in batches or together with
others. So these checks exist only here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits


def line_blocks(texts: Iterable[bytes], batch_bytes: int, limits: Limits) -> Iterator[bytes]:
    """Blocks of at least about ``batch_bytes``; all but the last end with LF. Line ends become LF.

    Blank lines at the end of the text are dropped. Raises BadArchiveError for a line that is too long, for too many
    blank lines, and for a NUL byte.
    """
    buffer: list[bytes] = []
    size = open_line = 0
    for text in _line_feeds(texts):
        if b"\0" in text:
            raise BadArchiveError("it has a NUL byte, so it is not text")
        open_line = _require_short(text, open_line, limits)
        cut = text.rfind(b"\n") + 1
        if cut and size + cut >= batch_bytes:
            block, blank = _without_blank(b"".join([*buffer, text[:cut]]), limits)
            if block:
                yield block
            # Only the following text shows whether the blank lines are at the end of the file.
            buffer = [blank, text[cut:]]
            size = len(blank) + open_line
        else:
            buffer.append(text)
            size += len(text)
    last = b"".join(buffer).rstrip(b"\n")
    if last:
        yield last


def _without_blank(block: bytes, limits: Limits) -> tuple[bytes, bytes]:
    """A block without the blank lines at its end, and these lines. Raises BadArchiveError for too many of them."""
    if not block.endswith(b"\n\n"):
        return block, b""
    rows = block.rstrip(b"\n")
    blank = block[len(rows) + 1 :] if rows else block
    if len(blank) > limits.line_bytes:
        raise BadArchiveError(f"it has more than {limits.line_bytes:,} blank lines in a row")
    return rows and rows + b"\n", blank


def _line_feeds(texts: Iterable[bytes]) -> Iterator[bytes]:
    """The same text with LF instead of CR LF and CR."""
    pending = b""
    for piece in texts:
        text = pending + piece if pending else piece
        pending = b""
        if b"\r" in text:
            pending = b"\r" if text.endswith(b"\r") else b""
            text = text.removesuffix(pending).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield text
    if pending:
        yield b"\n"


def _require_short(text: bytes, open_line: int, limits: Limits) -> int:
    """Raise BadArchiveError for a line of more than ``line_bytes``. Returns the length of the last, unfinished line.

    ``open_line`` is the length of the unfinished line before ``text``. Not every line end is searched: one within
    every ``line_bytes`` is enough.
    """
    start = -open_line
    while len(text) - start > limits.line_bytes:
        end = text.rfind(b"\n", max(start, 0), start + limits.line_bytes + 1)
        if end < 0:
            raise BadArchiveError(
                f"it has a line of more than {limits.line_bytes:,} bytes, so it is not an exchange's CSV"
            )
        start = end + 1
    last = text.rfind(b"\n")
    return open_line + len(text) if last < 0 else len(text) - last - 1
