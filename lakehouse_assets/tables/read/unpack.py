"""Unpacks archives to text in one pass and with bounded memory: zip files with one member, and gzip files.

Archives are not trusted: limits are applied before a size in the file is used, and the directory at the end of a zip
(PKWARE APPNOTE 4.3) is compared with the unpacked data. A member's name is never used.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from isal import isal_zlib

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.units import GIB

SLICE = 256 * 1024
"""Packed bytes per step, at most."""
PIECE = 4 * 1024 * 1024
"""Unpacked bytes per step, at most."""
TAIL = 128 * 1024
"""Bytes that may follow a zip's member: descriptor, directory and comment are smaller."""
MEMBERS = 65_536
"""Members that a gzip file may have."""
FREE_OF_RATIO = 64 * 1024 * 1024
"""Unpacked bytes that are allowed at any ratio, since the CSV of an idle market compresses very well."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ZIP, _EMPTY_ZIP, _GZIP = b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b"
_ENCRYPTED, _SIZE_FOLLOWS = 0x1, 0x8
_STORED, _DEFLATED = 0, 8
_IN_ZIP64 = 0xFFFFFFFF
_RAW_DEFLATE, _GZIP_MEMBER = -15, 31
_Damaged: type[Exception] = isal_zlib.error  # ty: ignore[invalid-assignment]  # The stub types it as an instance.


class BadArchiveError(LakehouseError):
    """A file cannot be read as an archive of its table; ``reason`` says why, in one line.

    The table is built without such a file, and the file is quarantined.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an unpacked archive. ``ratio`` is unpacked to packed bytes (deflate's own limit is 1,032).

    A row has at most ``line_bytes`` and ``columns``: the widest published rows have 26 columns in 400 bytes, and the
    parser needs some kilobytes per column.
    """

    text_bytes: int = 64 * GIB
    ratio: float = 300.0
    line_bytes: int = 64 * 1024
    columns: int = 256

    def require(self, *, unpacked: int, packed: int) -> None:
        """Raise BadArchiveError for a file that exceeds the limits."""
        if unpacked > self.text_bytes:
            raise BadArchiveError(f"it unpacks to more than {self.text_bytes:,} bytes, which is the limit")
        if unpacked > max(FREE_OF_RATIO, self.ratio * packed):
            raise BadArchiveError(f"it unpacks to more than {self.ratio:.0f} times its size, which is the limit")


def unpack(chunks: Iterable[bytes], limits: Limits) -> Iterator[bytes]:
    """The text of an archive in pieces of at most PIECE bytes; no piece for an empty object.

    The first bytes decide between zip and gzip. Raises BadArchiveError, possibly after many pieces, so no piece is
    valid until the last one was read.
    """
    source = _Input(chunks)
    head = source.read(len(_ZIP))
    source.give_back(head)
    if head == _ZIP:
        unpacked = _unzip(source, limits)
    elif head.startswith(_GZIP):
        unpacked = _gunzip(source, limits)
    elif head == _EMPTY_ZIP:
        raise BadArchiveError("it is a zip without members; one is expected")
    elif head:
        raise BadArchiveError(f"it is neither zip nor gzip; it begins with {head!r}")
    else:
        return
    try:
        yield from unpacked
    except _Damaged as error:
        raise BadArchiveError(f"its compressed data is damaged: {error}") from error


class _Input:
    """A reader of chunks of any size. ``taken`` is the number of bytes that were read and not given back."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._view = memoryview(b"")
        self._returned = b""
        self.taken = 0

    def next(self, limit: int = SLICE) -> bytes:
        """The next bytes, at most ``limit``; empty at the end."""
        if self._returned:
            piece, self._returned = self._returned[:limit], self._returned[limit:]
        else:
            while not len(self._view):
                chunk = next(self._chunks, None)
                if chunk is None:
                    return b""
                self._view = memoryview(chunk)
            piece, self._view = bytes(self._view[:limit]), self._view[limit:]
        self.taken += len(piece)
        return piece

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        read = b""
        while len(read) < size and (piece := self.next(size - len(read))):
            read += piece
        return read

    def give_back(self, unused: bytes) -> None:
        self.taken -= len(unused)
        self._returned = unused + self._returned


class _Inflater(Protocol):
    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _inflate(source: _Input, inflater: _Inflater) -> Iterator[bytes]:
    """Unpack one deflate stream, and give back the bytes after it."""
    while not inflater.eof:
        packed = inflater.unconsumed_tail or source.next()
        text = inflater.decompress(packed, PIECE)
        if text:
            yield text
        elif len(inflater.unconsumed_tail) == len(packed):
            raise BadArchiveError("it is truncated: its compressed data has no end")
    source.give_back(inflater.unused_data)


def _gunzip(source: _Input, limits: Limits) -> Iterator[bytes]:
    unpacked = 0
    for _ in range(MEMBERS):
        for text in _inflate(source, isal_zlib.decompressobj(_GZIP_MEMBER)):
            unpacked += len(text)
            limits.require(unpacked=unpacked, packed=source.taken)
            yield text
        head = source.read(len(_GZIP))
        source.give_back(head)
        if head != _GZIP:
            _require_padding(source)
            return
    raise BadArchiveError(f"it has more than {MEMBERS:,} gzip members")


def _require_padding(source: _Input) -> None:
    """Raise BadArchiveError if other bytes than zeros, which gzip allows, follow the gzip data."""
    while padding := source.next():
        if padding.strip(b"\0"):
            raise BadArchiveError("other data follows its gzip data")


def _unzip(source: _Input, limits: Limits) -> Iterator[bytes]:
    header = source.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise BadArchiveError("it is truncated within its first header")
    _, _, flags, method, _, _, _, packed_size, size, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    if flags & _ENCRYPTED:
        raise BadArchiveError("its member is encrypted")
    source.read(name_bytes + extra_bytes)
    start = source.taken
    if not flags & _SIZE_FOLLOWS and size != _IN_ZIP64:
        limits.require(unpacked=size, packed=packed_size)
    if method == _DEFLATED:
        texts = _inflate(source, isal_zlib.decompressobj(_RAW_DEFLATE))
    elif method == _STORED and not flags & _SIZE_FOLLOWS:
        texts = _stored(source, size)
    else:
        raise BadArchiveError(f"its member is compressed by method {method}; deflate (8) is expected")
    unpacked, crc = 0, 0
    for text in texts:
        unpacked += len(text)
        crc = isal_zlib.crc32(text, crc)
        limits.require(unpacked=unpacked, packed=source.taken)
        yield text
    end = source.taken
    member = _directory_entry(source)
    if (member.header_offset, member.compress_size) != (0, end - start):
        raise BadArchiveError("its directory has another position or size of its member")
    if member.file_size != unpacked:
        raise BadArchiveError(f"it unpacks to {unpacked:,} bytes, but its directory says {member.file_size:,}")
    if crc != member.CRC:
        raise BadArchiveError(f"its text has the CRC {crc:08x}, but its directory says {member.CRC:08x}")


def _stored(source: _Input, size: int) -> Iterator[bytes]:
    """An uncompressed member; some tools write empty members this way."""
    while size:
        text = source.next(min(size, SLICE))
        if not text:
            raise BadArchiveError("it is truncated within its member")
        size -= len(text)
        yield text


def _directory_entry(source: _Input) -> zipfile.ZipInfo:
    """The only entry of the zip's directory. ``source`` is positioned after the member."""
    start = source.taken
    tail = source.read(TAIL + 1)
    if len(tail) > TAIL:
        raise BadArchiveError(
            f"more than {TAIL:,} bytes follow its member: it has several members, or is not a valid zip"
        )
    try:
        with zipfile.ZipFile(_EndOfFile(start, tail)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
        raise BadArchiveError(f"its zip directory cannot be read: {error}") from error
    if len(members) != 1:
        raise BadArchiveError(f"it has {len(members)} members; one is expected")
    return members[0]


class _EndOfFile(io.RawIOBase):
    """A file of which only the end is known. Bytes before it read as zeros, at most TAIL of them."""

    def __init__(self, start: int, tail: bytes) -> None:
        self._start = start
        self._tail = tail
        self._position = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = self._start + len(self._tail)
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence]
        if self._position < 0:
            raise OSError("it points to a position before its beginning")
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        missing = max(0, self._start - self._position)
        if missing > TAIL:
            raise OSError("it is not at the end of the file")
        known = self._tail[max(0, self._position - self._start) :]
        read = (bytes(missing) + known)[: None if size is None or size < 0 else size]
        self._position += len(read)
        return read
