"""Code locations for measuring a run's process: its asset ``probe`` writes down the processor seconds until its body.

Two locations, named by the pointer to them: ``floor`` has nothing but the probe, ``ours`` has it beside the definitions
of this project, and with the resources of an archive asset.
"""

import os
import time
from pathlib import Path

import dagster as dg

PROBED = "LAKEHOUSE_BENCHMARK_PROBED"
"""Variable with the path of the file that the probe writes."""


def _write() -> None:
    Path(os.environ[PROBED]).write_text(str(time.process_time()), encoding="utf-8")


@dg.definitions
def floor() -> dg.Definitions:
    @dg.asset
    def probe() -> None:
        _write()

    return dg.Definitions(assets=[probe], executor=dg.in_process_executor)


@dg.definitions
def ours() -> dg.Definitions:
    from lakehouse_assets.definitions import defs  # noqa: PLC0415 - not part of the floor

    @dg.asset(required_resource_keys={"lake", "source", "sync"})
    def probe() -> None:
        _write()

    return dg.Definitions.merge(defs(), dg.Definitions(assets=[probe]))
