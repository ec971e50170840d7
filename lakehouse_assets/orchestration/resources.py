"""Dagster resources: the configuration from which a run builds its engine.

``S3Connection`` has the fields of dagster-aws' ``S3Resource``, so that S3 is configured as in other deployments, and an
``S3Resource`` may be given in its place. All fields reach all three clients (boto3, obstore, s5cmd); only s5cmd's
retries come from ``SyncResource.retries``. dagster-aws is not imported: a process would load boto3, fsspec, Dagster's
daemon and its test utilities with it, a third of what the definitions take beyond Dagster.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.exchanges import Exchange
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.settings import (
    BucketAccess,
    LakeSettings,
    MaintenanceSettings,
    Settings,
    SourceSettings,
    SpendingSettings,
    SyncSettings,
    read_group,
)

if TYPE_CHECKING:
    from lakehouse_assets.sync.engine import Engine


class S3Connection(dg.ConfigurableResource[Any]):
    """How to reach an S3 store, with the fields of dagster-aws' ``S3Resource``."""

    use_unsigned_session: bool = Field(default=False, description="Send unsigned requests.")
    region_name: str | None = Field(default=None, description="Region for which requests are signed.")
    endpoint_url: str | None = Field(default=None, description="Endpoint of the store; unset for AWS.")
    max_attempts: int = Field(default=5, description="Attempts per request, including the first.")
    profile_name: str | None = Field(default=None, description="Profile in the AWS configuration files.")
    use_ssl: bool = Field(default=True, description="Use TLS.")
    verify: bool | None = Field(default=None, description="Verify the endpoint's TLS certificate; unset: verify.")
    aws_access_key_id: str | None = Field(default=None, description="Access key.")
    aws_secret_access_key: str | None = Field(default=None, description="Secret key.")
    aws_session_token: str | None = Field(default=None, description="Session token of temporary credentials.")


class _StoreResource(dg.ConfigurableResource[Any]):
    """A resource that reaches a store by an ``S3Connection``; dagster-aws' ``S3Resource`` is taken as one."""

    # Not in the repr, which would show the secret key.
    s3: S3Connection = Field(repr=False, description="Connection to the store, with the identity that uses it.")
    allow_http: bool = Field(default=False, description="Allow plain HTTP to an endpoint beyond loopback.")

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields | {"s3": _connection(fields.get("s3"))})


def _connection(given: Any) -> Any:
    """As an S3Connection, if it has the fields of one; anything else is left to validation."""
    names = S3Connection.model_fields
    if isinstance(given, S3Connection) or not all(hasattr(given, name) for name in names):
        return given
    return S3Connection(**{name: getattr(given, name) for name in names})


class LakeResource(_StoreResource):
    """The lake's bucket, accessed with the sync identity."""

    bucket: str = Field(description="Bucket of the lake.")
    prefix: str = Field(default="", description="Prefix in the bucket below which everything is written.")
    name: str | None = Field(
        default=None, description="Name of the lake in tags of runs; bucket and prefix when unset."
    )

    def lake(self) -> Lake:
        return Lake(bucket_of(self.s3, self.bucket, allow_http=self.allow_http), self.prefix, self.name)


class MaintenanceResource(LakeResource):
    """The lake's bucket, accessed with the identity that may delete objects below ``tables/`` only."""

    default_chain: bool = Field(
        default=False, description="The run's AWS default credential chain is that identity, as with workload identity."
    )

    def lake(self) -> Lake:
        """Raises InputError where the identity is not configured; the sync identity must not be used instead."""
        if not self.s3.aws_access_key_id and not self.s3.profile_name and not self.default_chain:
            raise InputError(
                "No maintenance identity is configured: set LAKEHOUSE_MAINTENANCE_ACCESS_KEY_ID and "
                "LAKEHOUSE_MAINTENANCE_SECRET_ACCESS_KEY, or LAKEHOUSE_MAINTENANCE_PROFILE, or "
                "LAKEHOUSE_MAINTENANCE_DEFAULT_CHAIN where the pod's service account has the role."
            )
        return super().lake()


class SourceResource(_StoreResource):
    """The exchanges' public buckets, read anonymously."""

    def bucket(self, exchange: Exchange) -> Bucket:
        return _access(self.s3, allow_http=self.allow_http).source(exchange)


class SyncResource(dg.ConfigurableResource[Any]):
    """Limits of a transfer. Unset fields are taken from the ``LAKEHOUSE_SYNC_*`` settings of the same name."""

    workers: int | None = Field(default=None, description="Objects that s5cmd copies at a time.")
    retries: int | None = Field(default=None, description="Retries of s5cmd per request.")
    stall_seconds: float | None = Field(
        default=None, description="Seconds without a finished object after which a batch is stopped."
    )
    batch_objects: int | None = Field(default=None, description="Objects per s5cmd process.")
    list_concurrency: int | None = Field(default=None, description="Listing requests at a time, of source and of lake.")

    def engine(self, source: Bucket, lake: Lake) -> Engine:
        """Build the engine; fields that are unset come from the environment."""
        # Imported where an archive run begins its work: definitions and other runs need no engine.
        from lakehouse_assets.sync.engine import Engine  # noqa: PLC0415

        given = {name: value for name, value in self.model_dump().items() if value is not None}
        options = read_group(SyncSettings, **given).options(
            read_group(LakeSettings).headers, read_group(SpendingSettings).prices
        )
        return Engine(source, lake, options)


def bucket_of(s3: S3Connection, name: str, *, allow_http: bool) -> Bucket:
    """The bucket of this name, reached as ``s3`` is configured."""
    return _access(s3, allow_http=allow_http).bucket(name)


def _access(s3: S3Connection, *, allow_http: bool) -> BucketAccess:
    return BucketAccess(
        endpoint_url=s3.endpoint_url,
        region=s3.region_name,
        access_key_id=s3.aws_access_key_id,
        secret_access_key=s3.aws_secret_access_key,
        session_token=s3.aws_session_token,
        profile=s3.profile_name,
        anonymous=s3.use_unsigned_session,
        use_ssl=s3.use_ssl,
        verify_tls=s3.verify is not False,
        allow_http=allow_http,
        max_attempts=s3.max_attempts,
        key_settings=("aws_access_key_id", "aws_secret_access_key"),
    )


def build_resources(settings: Settings) -> dict[str, dg.ConfigurableResource[Any]]:
    """Resources that refer to the settings' environment variables; a run reads their values when it starts.

    They refer only to variables that are set, since Dagster refuses to start a run for an unset one. The lake's bucket
    is always required.
    """
    source = SourceSettings
    return {
        "lake": _of_lake(LakeResource, LakeSettings, settings),
        "maintenance": _of_lake(
            partial(MaintenanceResource, default_chain=settings.maintenance.default_chain),
            MaintenanceSettings,
            settings,
        ),
        "source": SourceResource(
            s3=S3Connection(
                use_unsigned_session=True,
                endpoint_url=_variable(source, "endpoint_url"),
                region_name=_variable(source, "region"),
                max_attempts=settings.source.max_attempts,
                verify=settings.source.verify_tls,
            ),
            allow_http=settings.source.allow_http,
        ),
        "sync": SyncResource(),
    }


def _of_lake(
    resource: Callable[..., LakeResource], identity: type[LakeSettings | MaintenanceSettings], settings: Settings
) -> LakeResource:
    """The lake's bucket with the credentials of one identity."""
    lake = LakeSettings
    return resource(
        s3=S3Connection(
            endpoint_url=_variable(lake, "endpoint_url"),
            region_name=_variable(lake, "region"),
            aws_access_key_id=_variable(identity, "access_key_id"),
            aws_secret_access_key=_variable(identity, "secret_access_key"),
            aws_session_token=_variable(identity, "session_token"),
            profile_name=_variable(identity, "profile"),
            max_attempts=settings.lake.max_attempts,
            verify=settings.lake.verify_tls,
        ),
        bucket=dg.EnvVar(_name(lake, "bucket")),
        prefix=_variable(lake, "prefix") or "",
        name=_variable(lake, "name"),
        allow_http=settings.lake.allow_http,
    )


_Group = type[LakeSettings | SourceSettings | MaintenanceSettings]


def _name(group: _Group, field: str) -> str:
    return f"{group.model_config.get('env_prefix')}{field}".upper()


def _variable(group: _Group, field: str) -> str | None:
    name = _name(group, field)
    return dg.EnvVar(name) if os.environ.get(name) else None
