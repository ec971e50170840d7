"""The efficiency report as an asset: its figures equal those of the syncs."""

from __future__ import annotations

import dagster as dg

from lakehouse_assets.orchestration.reports.efficiency import EFFICIENCY, build_efficiency_report
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.world import World, days


def test_the_report_sums_up_the_figures_of_runs(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], days("2024-03-01", "2024-03-03"))
    runner.run(entry, "2024-03-01", "2024-03-03")
    copied = sum(runner.metadata(entry, day)["bytes_copied"] for day in days("2024-03-01", "2024-03-03"))
    result = dg.materialize([build_efficiency_report()], instance=runner.instance, resources=resources_of(world))
    [report] = result.asset_materializations_for_node("__".join(EFFICIENCY.path))
    assert report.metadata["objects_this_month"].value == 6
    assert report.metadata["bytes_copied_this_month"].value == copied
    assert report.metadata["operations_saved_this_month"].value == 48
    assert report.metadata["network_bytes_saved_this_month"].value == 2 * copied
    assert f"| {copied:,} |" in report.metadata["by_day"].value


def test_the_report_of_a_lake_without_syncs_says_so(runner: Runner, world: World) -> None:
    result = dg.materialize([build_efficiency_report()], instance=runner.instance, resources=resources_of(world))
    [report] = result.asset_materializations_for_node("__".join(EFFICIENCY.path))
    assert report.metadata["by_month"].value == "Nothing was synced yet."
