"""One run or one tick as a separate process, with the settings and matrix of the environment.

python -m lakehouse_assets_tests.observability.workload run ASSET_KEY FIRST LAST | tick SENSOR
"""

from __future__ import annotations

import sys
import warnings

import dagster as dg

from lakehouse_assets.definitions import defs
from lakehouse_assets.orchestration.dagster_tags import range_tags

warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def run(repository: dg.RepositoryDefinition, asset_key: str, first: str, last: str) -> bool:
    """One run over a range of partitions."""
    selection = dg.AssetSelection.assets(dg.AssetKey.from_user_string(asset_key))
    [name] = {
        job.name
        for job in repository.get_all_jobs()
        if dg.AssetKey.from_user_string(asset_key) in job.asset_layer.executable_asset_keys
    }
    job = repository.get_job(name).get_subset(asset_selection=selection.resolve(repository.asset_graph))
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(instance=instance, tags=range_tags(first, last)).success


def tick(repository: dg.RepositoryDefinition, sensor: str) -> bool:
    """The first tick of a sensor."""
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(
            instance=instance, repository_def=repository, resources=repository.get_top_level_resources()
        ) as context,
    ):
        repository.get_sensor_def(sensor)(context)
    return True


def main(command: str, *arguments: str) -> int:
    repository = defs().get_repository_def()
    return 0 if {"run": run, "tick": tick}[command](repository, *arguments) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
