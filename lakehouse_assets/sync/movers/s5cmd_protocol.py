"""The lines that ``s5cmd run`` reads and the answers that it writes.

s5cmd splits each input line as a shell would, so every URL is quoted. With ``--json`` it writes one object per success
to standard output and one per failure to standard error, in any order.
"""

from __future__ import annotations

import json
import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from lakehouse_assets.archive.errors import StoreFault, fault_of_text, one_line


@dataclass(frozen=True, slots=True)
class CopyCommand:
    """One ``cp``; ``source`` and ``destination`` are ``s3://`` URLs or local paths."""

    source: str
    destination: str

    @property
    def fits_in_a_line(self) -> bool:
        """Whether an input line can contain it: a line ends at a line break, and a string at NUL."""
        return not any(character in url for character in "\n\r\0" for url in (self.source, self.destination))


@dataclass(frozen=True, slots=True)
class CopyFlags:
    """Flags of every ``cp`` in a batch. The regions matter on AWS, where source and lake may differ;
    ``extra`` are further command-line flags."""

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


def input_lines(commands: Sequence[CopyCommand], flags: CopyFlags) -> Iterator[bytes]:
    arguments = shlex.join(["cp", *flags.arguments()])
    for command in commands:
        yield f"{arguments} {_quoted(command.source)} {_quoted(command.destination)}\n".encode()


def _quoted(url: str) -> str:
    return "'" + url.replace("'", "'\\''") + "'"


class AnswerParser:
    """Matches s5cmd's output lines to the commands that they answer."""

    def __init__(self, commands: Sequence[CopyCommand]) -> None:
        self._commands = commands
        self._by_destination = {command.destination: command for command in commands}
        self._unmatched: deque[str] = deque(maxlen=3)

    def parse(self, line: bytes) -> tuple[CopyCommand, StoreFault | None] | None:
        """The command that a line answers and its fault (None: success); None for any other line."""
        text = line.decode(errors="replace").strip()
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            if text:
                self._unmatched.append(text)
            return None
        if answer.get("success") is True:
            command = self._by_destination.get(str(answer.get("destination")))
            return None if command is None or command.source != answer.get("source") else (command, None)
        if "error" in answer:
            command = self._by_text.get(str(answer.get("command")))
            # JSON can escape half a surrogate pair, which UTF-8 cannot encode.
            fault = fault_of_text(str(answer["error"]).encode(errors="replace").decode())
            if command is not None:
                return command, fault
            self._unmatched.append(str(fault))
        return None

    @cached_property
    def _by_text(self) -> dict[str, CopyCommand]:
        """Commands as failures name them: without quotes and without flags."""
        return {f"cp {command.source} {command.destination}": command for command in self._commands}

    def unmatched(self) -> str:
        """The last lines that answered no command, as the end of an error message."""
        return f"; its output: {' | '.join(map(one_line, self._unmatched))}" if self._unmatched else ""
