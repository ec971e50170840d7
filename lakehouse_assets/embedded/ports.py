"""Free ports for several servers that start at the same moment."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from lakehouse_assets.errors import EmbeddedStoreError
from lakehouse_assets.loopback import LOOPBACK

GRPC_OFFSET = 10_000  # SeaweedFS serves gRPC of every port there
BLOCK = 8
# Ports and gRPC ports stay below 32768, where Linux starts to hand out ports for outgoing connections.
FIRST_PORT, LAST_PORT = 11_200, 22_400


@dataclass(slots=True)
class PortBlock:
    """Seven ports, free together with their gRPC ports, that no other `reserve_block` returns.

    The reservation is a socket bound to the block's eighth port for as long as the block is not
    released; the kernel releases it when the process ends, however it ends.
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
    """Whether a server could listen on a port of the loopback interface now."""
    try:
        _close(_bound(port))
    except OSError:
        return False
    return True


def reserve_block(preferred: int | None = None, *, attempts: int = 200) -> PortBlock:
    """Reserve a block: the preferred first port if it is free, else a random one. Raises EmbeddedStoreError."""
    candidates = range(FIRST_PORT, LAST_PORT, BLOCK)
    # Seeding by the system: children of a fork would otherwise all try the same ports in the same order.
    picks = random.SystemRandom().sample(candidates, min(attempts, len(candidates)))
    if preferred is not None and preferred in candidates:
        picks.insert(0, preferred)
    for first in picks:
        block = _try_block(first)
        if block is not None:
            return block
    raise EmbeddedStoreError(
        f"No {BLOCK} free neighbouring ports between {FIRST_PORT} and {LAST_PORT} "
        f"after {len(picks)} attempts; end servers that are not needed."
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
    """Free the port at once.

    A child that another thread has just forked holds a copy of the socket until it execs; closing
    ours alone would leave the port taken for that moment.
    """
    with suppress(OSError):  # where a listening socket cannot be shut down (not Linux), closing has to do
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As Go's listeners do: a port whose last connections are in TIME_WAIT counts as free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, port))
        # Listening makes it exclusive: two sockets with SO_REUSEADDR may both be bound otherwise.
        sock.listen(1)
    except OSError:
        sock.close()
        raise
    return sock
