"""A progress bar on a terminal; nothing where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lakehouse_assets.cli import output


class Bar:
    """What is being done, how much of it is, at which rate, and for how long still."""

    def __init__(self, progress: Progress | None, doing: str) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task(doing, total=None, unit="", size=0, size_total=0)

    def show(
        self, doing: str, done: int = 0, total: int | None = None, *, unit: str = "", size: int = 0, size_total: int = 0
    ) -> None:
        """``done`` of ``total`` things of a ``unit``, and their bytes."""
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, description=doing, completed=done, total=total, unit=unit, size=size, size_total=size_total
            )


@contextmanager
def progress_bar(doing: str) -> Generator[Bar]:
    """On stderr, removed at the end; an empty one where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield Bar(None, doing)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        _Bytes(),
        TimeRemainingColumn(),
        console=output.stderr(),
        transient=True,
    ) as progress:
        yield Bar(progress, doing)


class _Bytes(ProgressColumn):
    """Bytes done, of all, and per second since the first of them."""

    def render(self, task: Task) -> Text:
        done, total = task.fields["size"], task.fields["size_total"]
        if not total:
            return Text("")
        rate = f", {output.size(int(done / task.elapsed))}/s" if task.elapsed and done else ""
        return Text(f"{output.size(done)} of {output.size(total)}{rate}")
