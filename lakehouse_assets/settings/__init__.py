"""Every environment variable that this project reads, validated; secrets are masked.

Variables are called ``LAKEHOUSE_<GROUP>_<FIELD>``, such as ``LAKEHOUSE_LAKE_BUCKET`` or ``LAKEHOUSE_SYNC_WORKERS``,
with a module per group. Where no credentials are set, the AWS default chain supplies them. The command line reads
the variables at once (:func:`load_settings`); Dagster's resources refer to them by name and resolve them where a run
starts (``orchestration/resources.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakehouse_assets.errors import InputError
from lakehouse_assets.settings.base import PREFIX, BucketName, Endpoint, KeyId, Profile, Region, SecretKey, Token, Word
from lakehouse_assets.settings.buckets import BucketAccess
from lakehouse_assets.settings.cost import SpendingSettings
from lakehouse_assets.settings.discovery import DiscoverySettings
from lakehouse_assets.settings.incidents import IncidentSettings
from lakehouse_assets.settings.lake import LakeSettings
from lakehouse_assets.settings.maintenance import MaintenanceSettings
from lakehouse_assets.settings.retention import SHORTEST_RETENTION_DAYS, RetentionSettings
from lakehouse_assets.settings.sensors import SensorSettings
from lakehouse_assets.settings.source import SourceSettings
from lakehouse_assets.settings.sync import SyncSettings
from lakehouse_assets.settings.tables import TablesSettings

__all__ = [
    "PREFIX",
    "SHORTEST_RETENTION_DAYS",
    "BucketAccess",
    "BucketName",
    "DiscoverySettings",
    "Endpoint",
    "IncidentSettings",
    "KeyId",
    "LakeSettings",
    "MaintenanceSettings",
    "Profile",
    "Region",
    "RetentionSettings",
    "SecretKey",
    "SensorSettings",
    "Settings",
    "SourceSettings",
    "SpendingSettings",
    "SyncSettings",
    "TablesSettings",
    "Token",
    "Word",
    "load_settings",
    "read_group",
    "variables",
]


class Settings(BaseSettings):
    """All settings, each group from its own variables."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    matrix: Path | None = Field(default=None, description="Archive matrix to use instead of the packaged one.")
    code_url: Endpoint | None = Field(
        default=None,
        description="Where a repository shows this project's root at the revision that runs, such as "
        "https://github.com/you/lakehouse/blob/v1; assets link to their code there.",
    )
    lake: LakeSettings = Field(default_factory=LakeSettings)
    source: SourceSettings = Field(default_factory=SourceSettings)
    sync: SyncSettings = Field(default_factory=SyncSettings)
    discovery: DiscoverySettings = Field(default_factory=DiscoverySettings)
    incidents: IncidentSettings = Field(default_factory=IncidentSettings)
    spending: SpendingSettings = Field(default_factory=SpendingSettings)
    tables: TablesSettings = Field(default_factory=TablesSettings)
    maintenance: MaintenanceSettings = Field(default_factory=MaintenanceSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    sensors: SensorSettings = Field(default_factory=SensorSettings)


Group = TypeVar("Group", bound=BaseSettings)


def _groups(group: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
    """A group and the groups in it."""
    yield group
    for field in group.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield from _groups(field.annotation)


_PREFIXES = {group.__name__: str(group.model_config.get("env_prefix")) for group in _groups(Settings)}
"""By the name of the class, which is the title of its validation errors."""


def variables(group: type[BaseSettings] = Settings) -> Iterator[str]:
    """The name of every environment variable of a group and the groups in it."""
    prefix = str(group.model_config.get("env_prefix"))
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield from variables(field.annotation)
        else:
            yield f"{prefix}{name}".upper()


def load_settings() -> Settings:
    """Read the environment. Raises InputError that names every invalid variable."""
    return read_group(Settings)


def read_group(group: type[Group], **given: Any) -> Group:
    """Read one group from the environment; ``given`` values take precedence. Raises InputError, see load_settings."""
    try:
        return group(**given)
    except ValidationError as error:
        prefix = _PREFIXES.get(error.title, PREFIX)
        faults = "; ".join(
            f"{prefix}{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise InputError(f"Settings: {faults}.") from None
