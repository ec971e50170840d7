"""Former name of orchestration/instance/run_coordinator.py, for a dagster.yaml that names it; removed in 0.3."""

from lakehouse_assets.orchestration.instance.run_coordinator import SizedRunCoordinator

__all__ = ["SizedRunCoordinator"]
