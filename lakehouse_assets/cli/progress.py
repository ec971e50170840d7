"""A progress bar on stderr, shown only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lakehouse_assets.cli import output


class Bar:
    """Shows the current activity, its progress, rate and remaining time."""

    def __init__(self, progress: Progress | None, activity: str) -> None:
        self._progress = progress
        self._task = (
            None if progress is None else progress.add_task(activity, total=None, unit="", size=0, size_total=0)
        )

    def show(
        self,
        activity: str,
        done: int = 0,
        total: int | None = None,
        *,
        unit: str = "",
        size: int = 0,
        size_total: int = 0,
    ) -> None:
        """``done`` and ``total`` are counted in ``unit``, ``size`` and ``size_total`` in bytes."""
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task,
                description=activity,
                completed=done,
                total=total,
                unit=unit,
                size=size,
                size_total=size_total,
            )


@contextmanager
def progress_bar(activity: str) -> Generator[Bar]:
    """A bar that is removed at the end; it shows nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield Bar(None, activity)
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
        yield Bar(progress, activity)


class _Bytes(ProgressColumn):
    """Bytes done, bytes in total, and bytes per second."""

    def render(self, task: Task) -> Text:
        done, total = task.fields["size"], task.fields["size_total"]
        if not total:
            return Text("")
        rate = f", {output.size(int(done / task.elapsed))}/s" if task.elapsed and done else ""
        return Text(f"{output.size(done)} of {output.size(total)}{rate}")
