"""A run coordinator that sets the pod size and the service account of every run by its assets or its job.

Run tags configure pods, and a materialization or backfill from the UI has none of these tags. All runs pass the run
coordinator: those of sensors, schedules, retries and people. This one is Dagster's queue; before it queues a run, it
sets the tags ``dagster-k8s/config`` and ``lakehouse/size``.

With ``locations``, only runs of these code locations get the tags: a run of another one is queued as it is, however its
assets and its job are named.

In dagster.yaml (sizes ascending; the first rule whose pattern matches applies)::

    run_coordinator:
      module: lakehouse_assets.orchestration.instance.run_coordinator
      class: SizedRunCoordinator
      config:
        locations: [lakehouse]
        sizes:
          - name: small
            k8s: {container_config: {resources: {requests: {memory: 1Gi}, limits: {memory: 2Gi}}}}
          - name: large
            k8s: {container_config: {resources: {requests: {memory: 8Gi}, limits: {memory: 8Gi}}}}
        rules:
          - {asset: "*/*/trades/table", size: large}
        default_size: small
        service_accounts:
          - {job: "vacuum*", name: lakehouse-maintenance}
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

import dagster as dg
from dagster import QueuedRunCoordinator, SubmitRunContext
from dagster_k8s.job import get_user_defined_k8s_config

from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.dagster_internals import ConfigurableClassData, instance_of
from lakehouse_assets.orchestration.location import location_name_of_run

K8S_TAG = "dagster-k8s/config"
SIZE_TAG = "lakehouse/size"
_RETRY_TAG = "dagster/retry_number"


@dataclass(frozen=True, slots=True)
class RunSize:
    """A size's name, and the dagster-k8s configuration of its runs."""

    name: str
    k8s: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """Assigns a size or a service account to matching assets or jobs. Patterns are those of fnmatch."""

    gets: str
    asset: str | None = None
    job: str | None = None

    def matches_asset(self, asset: str) -> bool:
        return self.asset is not None and fnmatchcase(asset, self.asset)

    def matches_job(self, job: str) -> bool:
        return self.job is not None and fnmatchcase(job, self.job)


@dataclass(frozen=True)
class RunSizes:
    """The sizes, ascending, and the rules that assign them. Raises InputError for contradictions."""

    sizes: tuple[RunSize, ...]
    rules: tuple[Rule, ...]
    default: str
    service_accounts: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        names = [size.name for size in self.sizes]
        if len(set(names)) < len(names):
            raise InputError(f"run_coordinator: a size is defined twice among {', '.join(names)}.")
        for name in (self.default, *(rule.gets for rule in self.rules)):
            if name not in names:
                raise InputError(f"run_coordinator: there is no size {name!r}; sizes are {', '.join(names)}.")
        for size in self.sizes:
            try:
                get_user_defined_k8s_config({K8S_TAG: json.dumps(size.k8s)})
            except Exception as error:
                raise InputError(f"run_coordinator: the k8s config of size {size.name!r}: {error}") from error

    def size_of(self, job: str, assets: Sequence[str], retry: int = 0) -> RunSize:
        """The largest size that the run's assets need; one larger per retry, since it may have lacked memory."""
        names = [size.name for size in self.sizes]
        needed = max(names.index(name) for name in self._needed_sizes(job, assets))
        return self.sizes[min(needed + retry, len(names) - 1)]

    def service_account_of(self, job: str, assets: Sequence[str]) -> str | None:
        """None for the launcher's own account. A run gets another one only if all of its assets need the same."""
        rules = self.service_accounts
        job_account = next((rule.gets for rule in rules if rule.matches_job(job)), None)
        if job_account is not None or not assets:
            return job_account
        accounts = {next((rule.gets for rule in rules if rule.matches_asset(asset)), None) for asset in assets}
        return accounts.pop() if len(accounts) == 1 else None

    def tags_of(self, job: str, assets: Sequence[str], retry: int = 0) -> dict[str, str]:
        """The run tags for size and service account."""
        size, account = self.size_of(job, assets, retry), self.service_account_of(job, assets)
        k8s = dict(size.k8s)
        if account is not None:
            k8s["pod_spec_config"] = {**k8s.get("pod_spec_config", {}), "service_account_name": account}
        return {SIZE_TAG: size.name, K8S_TAG: json.dumps(k8s)}

    def _needed_sizes(self, job: str, assets: Sequence[str]) -> Iterator[str]:
        job_size = next((rule.gets for rule in self.rules if rule.matches_job(job)), self.default)
        if not assets:
            yield job_size
        for asset in assets:
            yield next((rule.gets for rule in self.rules if rule.matches_asset(asset)), job_size)


class SizedRunCoordinator(QueuedRunCoordinator):
    """See the module. A run that has a ``dagster-k8s/config`` from elsewhere keeps it."""

    def __init__(
        self,
        sizes: RunSizes,
        inst_data: ConfigurableClassData | None = None,
        *,
        locations: Collection[str] | None = None,
        **queue: Any,
    ) -> None:
        super().__init__(inst_data=inst_data, **queue)
        self.sizes = sizes
        self.locations = locations
        """Names of the code locations whose runs get tags; None: of all."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        patterns = {
            "asset": dg.Field(str, is_required=False, description="Pattern of an asset key, with slashes."),
            "job": dg.Field(str, is_required=False, description="Pattern of a job's name."),
        }
        size = {
            "name": dg.Field(str, description="Name of the size."),
            "k8s": dg.Field(dg.Permissive(), description="Value of the run tag dagster-k8s/config."),
        }
        return {
            **_queue_type(),
            "locations": dg.Field(
                [str],
                is_required=False,
                description="Names of the code locations whose runs get a size and a service account. Default: all.",
            ),
            "sizes": dg.Field([size], description="From small to large; a retry gets the next larger one."),
            "rules": dg.Field([{**patterns, "size": str}], is_required=False, default_value=[]),
            "default_size": dg.Field(str, description="Size of a run that no rule matches."),
            "service_accounts": dg.Field([{**patterns, "name": str}], is_required=False, default_value=[]),
        }

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        sizes = RunSizes(
            tuple(RunSize(size["name"], size["k8s"]) for size in config_value["sizes"]),
            _rules(config_value["rules"], "size"),
            config_value["default_size"],
            _rules(config_value["service_accounts"], "name"),
        )
        queue = {name: config_value.get(name) for name in _queue_type()}
        return cls(sizes, inst_data, locations=config_value.get("locations"), **queue)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        if self.applies_to(run) and (K8S_TAG not in run.tags or SIZE_TAG in run.tags):
            tags = self.sizes.tags_of(run.job_name, _assets(run), int(run.tags.get(_RETRY_TAG, "0")))
            instance_of(self).add_run_tags(run.run_id, tags)
        return super().submit_run(context)

    def applies_to(self, run: dg.DagsterRun) -> bool:
        """Whether a run gets tags; one without a location belongs to no other location."""
        location = location_name_of_run(run)
        return self.locations is None or location is None or location in self.locations


def _queue_type() -> dict[str, Any]:
    queue: Any = QueuedRunCoordinator.config_type()
    return dict(queue)


def _rules(given: Sequence[Mapping[str, str]], gets: str) -> tuple[Rule, ...]:
    return tuple(Rule(rule[gets], rule.get("asset"), rule.get("job")) for rule in given)


def _assets(run: dg.DagsterRun) -> list[str]:
    """Keys, with slashes, of the assets that the run materializes or checks."""
    checks = run.asset_check_selection or ()
    keys = {*(run.asset_selection or ()), *(check.asset_key for check in checks)}
    return sorted(key.to_user_string() for key in keys)
