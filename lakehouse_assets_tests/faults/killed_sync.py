"""A sync that kills its own process with SIGKILL at a named point.

    python -m lakehouse_assets_tests.faults.killed_sync --tag T --from 2024-01-01 --to 2024-01-31 --at moving:500

Points are a stage of the engine (``listed``), a count of settled files (``moving:500``), a request of the
manifest's commit (``commit:log``, see struck_commit), or ``never``: the process then waits for a signal from
outside, which can be timed by the stages that it prints. The environment has the lake and its credentials.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from unittest.mock import patch

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import period_range
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.settings import load_settings
from lakehouse_assets.sync.engine import Engine
from lakehouse_assets.sync.progress import OnProgress, Progress, Stage
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets_tests.faults.struck_commit import STRIKES, Relay
from lakehouse_assets_tests.world import KLINES

COMMIT = "commit:"
NEVER = "never"
DONE = "done"


def killed() -> None:
    """End this process with SIGKILL, like the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def striking(point: str) -> OnProgress:
    """A callback that prints each stage and kills the process at the point."""
    name, _, number = point.partition(":")
    printed: set[Stage] = set()

    def on_progress(progress: Progress) -> None:
        if progress.stage not in printed:
            printed.add(progress.stage)
            print(progress.stage.value, flush=True)
        if progress.stage == name and progress.files_done >= int(number or 0):
            killed()

    return on_progress


def through_relay(point: str) -> None:
    """Route only the manifest's requests through a relay that kills the process at the point."""
    relay: list[Relay] = []
    plain = Lake.delta_options.fget

    def options(lake: Lake) -> dict[str, str]:
        made = plain(lake)
        if not relay:
            relay.append(Relay(made["aws_endpoint_url"], STRIKES[point.removeprefix(COMMIT)], killed))
        return made | dict.fromkeys(("aws_endpoint_url", "aws_endpoint_url_s3"), relay[0].endpoint_url)

    patch.object(Lake, "delta_options", property(options)).start()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    for name in ("--tag", "--from", "--to", "--at"):
        parser.add_argument(name, required=True)
    values = vars(parser.parse_args(arguments))
    settings = load_settings()
    dataset = Dataset.parse(KLINES)
    entry = DatasetEntry.model_validate(
        {"dataset": KLINES, "symbols": {"include": [f"{values['tag']}*"]}, "intervals": ["1m"]}
    )
    periods = period_range(dataset.period(values["from"]), dataset.period(values["to"]))
    if values["at"].startswith(COMMIT):
        through_relay(values["at"])
    engine = Engine(settings.source.bucket(dataset.source), settings.lake.lake(), settings.sync.options())
    engine.sync(Scope(entry=entry, periods=tuple(periods)), on_progress=striking(values["at"]))
    print(DONE, flush=True)
    if values["at"] == NEVER:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
