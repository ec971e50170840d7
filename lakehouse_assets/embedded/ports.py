"""Free ports for several servers that start at the same moment."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from lakehouse_assets.errors import EmbeddedStoreError
from lakehouse_assets.loopback import LOOPBACK

GRPC_OFFSET = 10_000  # SeaweedFS serves the gRPC of every port at this offset
BLOCK = 8
# Ports and gRPC ports stay below 32768, where Linux's range of ephemeral ports begins.
FIRST_PORT, LAST_PORT = 11_200, 22_400


@dataclass(slots=True)
class PortBlock:
    """Seven ports, free together with their gRPC ports, that no other `reserve_block` returns.

    The reservation is a socket bound to the block's eighth port until the block is released; the kernel closes it when
    the process ends, however it ends.
    """

    first: int
    lock: socket.socket

    @property
    def ports(self) -> range:
        """The seven ports."""
        return range(self.first, self.first + BLOCK - 1)

    def release(self) -> None:
        _close(self.lock)


def is_free(port: int) -> bool:
    """Whether a server could now listen on a port of the loopback interface."""
    try:
        _close(_bound(port))
    except OSError:
        return False
    return True


def reserve_block(preferred: int | None = None, *, attempts: int = 200) -> PortBlock:
    """Reserve a block that starts at the preferred port if it is free, else at a random one. Raises
    EmbeddedStoreError."""
    candidates = range(FIRST_PORT, LAST_PORT, BLOCK)
    # Seeded by the system, since forked children would otherwise try the same ports in the same order.
    picks = random.SystemRandom().sample(candidates, min(attempts, len(candidates)))
    if preferred is not None and preferred in candidates:
        picks.insert(0, preferred)
    for first in picks:
        block = _try_block(first)
        if block is not None:
            return block
    raise EmbeddedStoreError(
        f"Found no {BLOCK} consecutive free ports between {FIRST_PORT} and {LAST_PORT} "
        f"in {len(picks)} attempts; stop servers that you do not need."
    )


def _try_block(first: int) -> PortBlock | None:
    with ExitStack() as undo:
        try:
            lock = undo.enter_context(_bound(first + BLOCK - 1))
        except OSError:
            return None
        ports = range(first, first + BLOCK - 1)
        if not all(is_free(port) and is_free(port + GRPC_OFFSET) for port in ports):
            return None
        undo.pop_all()
        return PortBlock(first, lock)


def _close(sock: socket.socket) -> None:
    """Free the port immediately.

    A child that another thread has just forked has a copy of the socket until it execs; without the shutdown, the port
    would stay taken until then.
    """
    with suppress(OSError):  # outside Linux, a listening socket may not support shutdown; closing must suffice
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As Go's listeners do: a port with connections in TIME_WAIT counts as free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, port))
        # Listening makes it exclusive: otherwise two sockets with SO_REUSEADDR could both be bound.
        sock.listen(1)
    except OSError:
        sock.close()
        raise
    return sock
