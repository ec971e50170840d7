"""Every environment variable that this project reads, validated, secrets as secrets.

Variables are ``LAKEHOUSE_<GROUP>_<FIELD>``: ``LAKEHOUSE_LAKE_BUCKET``, ``LAKEHOUSE_SYNC_WORKERS``.
Credentials that are not given here come from the AWS default chain. The command line reads them
at once (:func:`load_settings`); Dagster's resources name them, and resolve them where a run
starts (``orchestration/resources.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lakehouse_assets.archive import request_values
from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.archive.exchanges import Exchange
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.withdrawal import WithdrawalLimits
from lakehouse_assets.loopback import exclude_from_proxies, is_loopback
from lakehouse_assets.observability.incidents.alertmanager import Alertmanager
from lakehouse_assets.observability.incidents.messages import Links
from lakehouse_assets.observability.incidents.notification import Notifier, Route
from lakehouse_assets.sync.cost import CostLimit, Prices
from lakehouse_assets.sync.engine import EngineOptions
from lakehouse_assets.sync.movers.base import ObjectHeaders, TransferOptions

PREFIX = "LAKEHOUSE_"


def _secret(rule: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda value: SecretStr(rule(value.get_secret_value())))


BucketName = Annotated[str, AfterValidator(request_values.bucket)]
Endpoint = Annotated[str, AfterValidator(request_values.endpoint)]
Region = Annotated[str, AfterValidator(request_values.region)]
Profile = Annotated[str, AfterValidator(request_values.profile)]
Word = Annotated[str, AfterValidator(request_values.word)]
KeyId = Annotated[str, AfterValidator(request_values.token)]
Token = Annotated[SecretStr, _secret(request_values.token)]
SecretKey = Annotated[SecretStr, _secret(request_values.secret)]


def _config(group: str) -> SettingsConfigDict:
    # An empty variable is an unset one: compose files and manifests write them so.
    return SettingsConfigDict(
        env_prefix=f"{PREFIX}{group}_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # it may be a secret
    )


class LakeSettings(BaseSettings):
    """``LAKEHOUSE_LAKE_*``: the user's bucket."""

    model_config = _config("LAKE")

    bucket: BucketName | None = Field(default=None, description="Bucket of the lake.")
    prefix: Annotated[str, AfterValidator(request_values.prefix)] = Field(
        default="", description="Prefix in the bucket below which everything is written."
    )
    endpoint_url: Endpoint | None = Field(default=None, description="S3 endpoint; unset for AWS.")
    region: Region | None = Field(default=None, description="Region of the bucket; us-east-1 when unset.")
    access_key_id: Token | None = Field(default=None, description="Access key of the sync identity.")
    secret_access_key: SecretKey | None = Field(default=None, description="Secret key of the sync identity.")
    session_token: Token | None = Field(default=None, description="Token of temporary credentials.")
    profile: Profile | None = Field(default=None, description="Profile of the AWS configuration files.")
    verify_tls: bool = Field(default=True, description="Whether the endpoint's certificate is checked.")
    allow_http: bool = Field(default=False, description="Allow plain HTTP to an endpoint beyond loopback.")
    max_attempts: Annotated[int, Field(ge=1, le=50)] = Field(
        default=5, description="Attempts per request, the first one included."
    )
    storage_class: Word | None = Field(default=None, description="Storage class of every object, such as STANDARD_IA.")
    sse: Literal["AES256", "aws:kms"] | None = Field(default=None, description="Server-side encryption.")
    sse_kms_key_id: KeyId | None = Field(default=None, description="Key of aws:kms; the bucket's when unset.")
    acl: Word | None = Field(default=None, description="Canned ACL, such as bucket-owner-full-control.")
    tags: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict, description="Tags of every object: key=value, separated by commas."
    )

    @field_validator("tags", mode="before")
    @classmethod
    def _read_tags(cls, given: Any) -> Any:
        return tags_of(given) if isinstance(given, str) else given

    @property
    def headers(self) -> ObjectHeaders:
        """What every object is written with."""
        return ObjectHeaders(
            storage_class=self.storage_class,
            sse=self.sse,
            sse_kms_key_id=self.sse_kms_key_id,
            acl=self.acl,
            tags=self.tags,
        )

    @property
    def url(self) -> str:
        """The lake's URL for people; it names the variable where none is configured."""
        return "/".join(filter(None, (f"s3://{self.bucket or '$LAKEHOUSE_LAKE_BUCKET'}", self.prefix.strip("/"))))

    def lake(self) -> Lake:
        """The lake that the variables describe. Raises InputError when it is not configured."""
        if self.bucket is None:
            raise InputError(
                "No lake is configured: set LAKEHOUSE_LAKE_BUCKET (and LAKEHOUSE_LAKE_ENDPOINT_URL unless on "
                "AWS), or try the embedded one with: lakehouse demo"
            )
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise InputError("Set both LAKEHOUSE_LAKE_ACCESS_KEY_ID and LAKEHOUSE_LAKE_SECRET_ACCESS_KEY, or none.")
        credentials = None
        if self.access_key_id is not None and self.secret_access_key is not None:
            token = self.session_token.get_secret_value() if self.session_token else None
            credentials = Credentials(
                self.access_key_id.get_secret_value(), self.secret_access_key.get_secret_value(), token
            )
        bucket = Bucket(
            name=self.bucket,
            region=self.region,
            endpoint_url=self.endpoint_url,
            credentials=credentials,
            profile=self.profile,
            verify_tls=self.verify_tls,
            allow_http=self.allow_http,
            max_attempts=self.max_attempts,
        )
        return Lake(bucket, self.prefix)


class SourceSettings(BaseSettings):
    """``LAKEHOUSE_SOURCE_*``: where exchanges' buckets are, when not at the exchanges themselves."""

    model_config = _config("SOURCE")

    endpoint_url: Endpoint | None = Field(
        default=None,
        description="S3 endpoint that serves the exchanges' buckets; unset for the real ones.",
    )
    region: Region | None = Field(default=None, description="Region of that endpoint; unset for the exchange's own.")
    verify_tls: bool = Field(default=True, description="Whether the endpoint's certificate is checked.")
    allow_http: bool = Field(default=False, description="Allow plain HTTP to an endpoint beyond loopback.")
    max_attempts: Annotated[int, Field(ge=1, le=50)] = Field(
        default=5, description="Attempts per request, the first one included."
    )

    def bucket(self, exchange: Exchange) -> Bucket:
        """An exchange's bucket, read anonymously."""
        return source_bucket(
            exchange,
            endpoint_url=self.endpoint_url,
            region=self.region,
            verify_tls=self.verify_tls,
            allow_http=self.allow_http,
            max_attempts=self.max_attempts,
        )


class SyncSettings(BaseSettings):
    """``LAKEHOUSE_SYNC_*``: limits of a transfer."""

    model_config = _config("SYNC")

    workers: Annotated[int, Field(ge=1, le=4096)] = Field(default=256, description="Parallel copies of s5cmd.")
    retries: Annotated[int, Field(ge=0, le=100)] = Field(default=6, description="s5cmd's retries per request.")
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        default=3, description="Attempts at a batch's transient failures, the first one included."
    )
    stall_seconds: Annotated[float, Field(gt=0)] = Field(
        default=300.0, description="Seconds without any finished object after which a batch is ended."
    )
    deadline_seconds: Annotated[float, Field(gt=0)] = Field(
        default=6 * 3600.0, description="Seconds after which a batch is ended in any case."
    )
    batch_objects: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=20_000, description="Objects per s5cmd process."
    )
    list_concurrency: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=32, description="Parallel listing requests per side."
    )
    part_objects: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=12_000, description="Objects of a range that are planned and recorded at a time."
    )
    doubt_objects: Annotated[int, Field(ge=0)] = Field(
        default=10, description="So many objects may be missing in a source's listing at once, and count as withdrawn."
    )
    doubt_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.1,
        description="Or such a share of those that were there; a listing that lacks more is taken for an outage.",
    )
    doubt_hours: Annotated[float, Field(ge=0)] = Field(
        default=6.0, description="Hours after which the same listing is believed."
    )
    large_bytes: Annotated[int, Field(ge=1, le=5 * 1024**3)] = Field(
        default=5 * 1024**3, description="Objects above are copied in parts by the store; S3 allows 5 GiB at most."
    )
    part_bytes: Annotated[int, Field(ge=5 * 1024**2, le=5 * 1024**3)] = Field(
        default=16 * 1024**2, description="Size of a part of a multipart copy or upload."
    )
    relay_workers: Annotated[int, Field(ge=1, le=1024)] = Field(default=64, description="Objects relayed at a time.")
    relay_bytes: Annotated[int, Field(ge=1)] = Field(
        default=256 * 1024**2, description="Bytes of bodies that relay mode holds in memory."
    )
    scratch_dir: Path | None = Field(
        default=None, description="Scratch folder of staged mode; the system's when unset."
    )
    scratch_bytes: Annotated[int, Field(ge=1)] = Field(
        default=4 * 1024**3, description="Bytes that staged mode may hold on scratch at once."
    )

    def options(self, headers: ObjectHeaders | None = None, prices: Prices | None = None) -> EngineOptions:
        """Engine options; ``headers`` are what the lake's objects are written with."""
        if self.scratch_dir is not None and not self.scratch_dir.is_dir():
            raise InputError(f"LAKEHOUSE_SYNC_SCRATCH_DIR {self.scratch_dir} is not a folder.")
        return EngineOptions(
            list_concurrency=self.list_concurrency,
            part_objects=self.part_objects,
            doubt=WithdrawalLimits(objects=self.doubt_objects, share=self.doubt_share, hours=self.doubt_hours),
            prices=prices or Prices(),
            transfer=TransferOptions(
                workers=self.workers,
                retries=self.retries,
                attempts=self.attempts,
                stall_seconds=self.stall_seconds,
                deadline_seconds=self.deadline_seconds,
                batch_objects=self.batch_objects,
                headers=headers or ObjectHeaders(),
                large_bytes=self.large_bytes,
                part_bytes=self.part_bytes,
                relay_workers=self.relay_workers,
                relay_bytes=self.relay_bytes,
                scratch=self.scratch_dir,
                scratch_bytes=self.scratch_bytes,
            ),
        )


class DiscoverySettings(BaseSettings):
    """``LAKEHOUSE_DISCOVERY_*``: pace of the discovery sensors."""

    model_config = _config("DISCOVERY")

    tick_seconds: Annotated[int, Field(ge=5, le=86_400)] = Field(default=60, description="Seconds between ticks.")
    settle_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=300.0, description="A period's listing that did not change for so long is taken as whole."
    )
    budget_seconds: Annotated[float, Field(gt=0, le=40)] = Field(
        default=16.0, description="A tick begins no further listing after so long; Dagster ends it at 60 s."
    )
    rescan_days: Annotated[float, Field(gt=0, le=366)] = Field(
        default=7.0, description="Days within which every materialized or followed period is listed again."
    )
    first_retry_seconds: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=300.0, description="Pause after a failed run before the period is asked for again; doubles each time."
    )


_TAG = re.compile(r"[\w +\-=.:/@]*")
_MOST_TAGS, _TAG_KEY, _TAG_VALUE = 10, 128, 256
"""S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html"""


def tags_of(text: str) -> dict[str, str]:
    """Read ``team=quant,cost centre=42``. Raises ValueError for what S3 would refuse."""
    tags: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not key or not equals:
            raise ValueError(f"{item.strip()!r} is no tag; write key=value, separated by commas")
        if key in tags:
            raise ValueError(f"the tag {key!r} is given twice")
        if not (_TAG.fullmatch(key) and _TAG.fullmatch(value)) or len(key) > _TAG_KEY or len(value) > _TAG_VALUE:
            raise ValueError(
                f"S3 takes no tag {key}={value}: {_TAG_KEY} characters for the key and {_TAG_VALUE} for the value, "
                "letters, digits, spaces and + - = . _ : / @"
            )
        if key.lower().startswith("aws:"):
            raise ValueError(f"the tag {key!r} begins with aws:, which is reserved")
        tags[key] = value
    if len(tags) > _MOST_TAGS:
        raise ValueError(f"S3 takes {_MOST_TAGS} tags of an object, not {len(tags)}")
    return tags


class IncidentSettings(BaseSettings):
    """``LAKEHOUSE_INCIDENTS_*``: where trouble is noted, and who is told of it."""

    model_config = _config("INCIDENTS")

    tick_seconds: Annotated[int, Field(ge=5, le=120)] = Field(
        default=30, description="Seconds between looks; people are told within 5 minutes of a failure."
    )
    fallback_dir: Path | None = Field(
        default=None, description="Folder that keeps the incidents while the lake is away; Dagster's when unset."
    )
    alertmanager_url: Annotated[SecretStr, _secret(request_values.address)] | None = Field(
        default=None, description="Alertmanager that takes the incidents as alerts, such as https://host:9093."
    )
    alertmanager_token: Token | None = Field(default=None, description="Bearer token of that Alertmanager.")
    urls: SecretStr | None = Field(
        default=None, description="apprise URLs that are told of everything, separated by blanks."
    )
    routes_file: Path | None = Field(
        default=None, description="YAML file of routes: who is told of which severities, exchanges and roles."
    )
    dagster_url: Endpoint | None = Field(
        default=None, description="Where people open the Dagster UI, for links in messages."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=20)] = Field(
        default=10.0, description="Seconds that a channel has to take a message."
    )
    allow_http: bool = Field(default=False, description="Allow plain HTTP to an Alertmanager beyond loopback.")

    def notifier(self) -> Notifier:
        """Who is told of incidents. Raises InputError; makes no request."""
        alertmanager = None
        if self.alertmanager_url is not None:
            address = urlsplit(self.alertmanager_url.get_secret_value())
            if is_loopback(address.hostname or ""):
                exclude_from_proxies()
            elif address.scheme == "http" and not self.allow_http:
                raise InputError(
                    "LAKEHOUSE_INCIDENTS_ALERTMANAGER_URL is plain HTTP; use https, or set "
                    "LAKEHOUSE_INCIDENTS_ALLOW_HTTP."
                )
            alertmanager = Alertmanager(
                self.alertmanager_url, token=self.alertmanager_token, timeout=self.timeout_seconds
            )
        return Notifier(
            self.routes(), alertmanager=alertmanager, links=Links(self.dagster_url), timeout=self.timeout_seconds
        )

    def routes(self) -> list[Route]:
        """The routes file's, and one of ``urls`` that takes everything. Raises InputError without naming an address."""
        routes = [] if self.routes_file is None else _read_routes(self.routes_file)
        urls = self.urls.get_secret_value().split() if self.urls else []
        return routes + ([Route(name="urls", urls=tuple(map(SecretStr, urls)))] if urls else [])


def _read_routes(path: Path) -> list[Route]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[Literal["routes"], list[Route]]).validate_python(document)["routes"]
    except OSError as error:
        raise InputError(f"The routes file {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise InputError(f"The routes file {path} is no YAML, at line {line}.") from None
    except (ValidationError, KeyError) as error:
        faults = error.errors(include_input=False, include_url=False) if isinstance(error, ValidationError) else ()
        told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults) or "no routes"
        raise InputError(
            f"The routes file {path}: {told}. It is a list `routes` of name, urls and conditions."
        ) from None


Dollars = Annotated[float, Field(ge=0)]


class SpendingSettings(BaseSettings):
    """``LAKEHOUSE_SPENDING_*``: ceilings, none by default, and the prices that estimates are made with."""

    model_config = _config("SPENDING")

    max_dollars: Dollars | None = Field(default=None, description="A run estimated above refuses to start.")
    max_bytes: Annotated[int, Field(ge=0)] | None = Field(default=None, description="As max_dollars, in bytes to copy.")
    daily_max_dollars: Dollars | None = Field(
        default=None, description="Of all runs together that sensors started on one day (UTC)."
    )
    daily_max_bytes: Annotated[int, Field(ge=0)] | None = Field(default=None, description="As daily_max_dollars.")
    write_dollars_per_1000: Dollars = Field(default=Prices.write_per_1000, description="PUT, COPY, LIST requests.")
    transfer_dollars_per_gb: Dollars = Field(
        default=Prices.transfer_per_gb, description="Between regions of AWS; 0 where you do not pay for it."
    )
    budget_bytes: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Bytes that the lake's archive may grow to; reports/outlook says when."
    )
    budget_dollars_per_month: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="As budget_bytes, in dollars a month for what is stored."
    )
    storage_dollars_per_gb_month: Dollars = Field(default=Prices.storage_per_gb_month, description="What is kept.")

    @property
    def prices(self) -> Prices:
        return Prices(
            write_per_1000=self.write_dollars_per_1000,
            transfer_per_gb=self.transfer_dollars_per_gb,
            storage_per_gb_month=self.storage_dollars_per_gb_month,
        )

    @property
    def budget(self) -> float | None:
        """Bytes that may be stored by the smaller of the budgets; None without one."""
        sizes = [] if self.budget_bytes is None else [float(self.budget_bytes)]
        if self.budget_dollars_per_month is not None and self.storage_dollars_per_gb_month:
            sizes.append(self.budget_dollars_per_month / self.storage_dollars_per_gb_month * 1e9)
        return min(sizes, default=None)

    @property
    def per_run(self) -> CostLimit:
        return CostLimit(self.max_dollars, self.max_bytes, "LAKEHOUSE_SPENDING_MAX")

    @property
    def per_day(self) -> CostLimit:
        return CostLimit(self.daily_max_dollars, self.daily_max_bytes, "LAKEHOUSE_SPENDING_DAILY_MAX")


class TablesSettings(BaseSettings):
    """``LAKEHOUSE_TABLES_*``: how tables are kept."""

    model_config = _config("TABLES")

    retention_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        default=30, description="Days for which a version of a table stays readable after another replaced it."
    )


class MaintenanceSettings(BaseSettings):
    """``LAKEHOUSE_MAINTENANCE_*``: the identity that compacts and vacuums tables, and may delete below ``tables/``."""

    model_config = _config("MAINTENANCE")

    access_key_id: Token | None = Field(default=None, description="Access key of the maintenance identity.")
    secret_access_key: SecretKey | None = Field(default=None, description="Secret key of the maintenance identity.")
    session_token: Token | None = Field(default=None, description="Token of temporary credentials.")
    profile: Profile | None = Field(default=None, description="Profile of the AWS configuration files.")
    default_chain: bool = Field(
        default=False,
        description="Whether the AWS default chain of a maintenance run is that identity, as where its pod's service "
        "account has the role.",
    )


SHORTEST_RETENTION_DAYS = 30
"""Discovery counts the attempts at a period by its runs; by then the last has long been made."""


class RetentionSettings(BaseSettings):
    """``LAKEHOUSE_RETENTION_*``: how long Dagster's database keeps runs that nothing needs any more."""

    model_config = _config("RETENTION")

    days: Annotated[int, Field(ge=SHORTEST_RETENTION_DAYS)] | None = Field(
        default=None,
        description="Runs that ended so many days ago are deleted nightly, save the last word on any partition or "
        "check; unset: none are.",
    )


class Settings(BaseSettings):
    """All settings, each group from its own variables."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    matrix: Path | None = Field(default=None, description="Archive matrix to use instead of the packaged one.")
    lake: LakeSettings = Field(default_factory=LakeSettings)
    source: SourceSettings = Field(default_factory=SourceSettings)
    sync: SyncSettings = Field(default_factory=SyncSettings)
    discovery: DiscoverySettings = Field(default_factory=DiscoverySettings)
    incidents: IncidentSettings = Field(default_factory=IncidentSettings)
    spending: SpendingSettings = Field(default_factory=SpendingSettings)
    tables: TablesSettings = Field(default_factory=TablesSettings)
    maintenance: MaintenanceSettings = Field(default_factory=MaintenanceSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)


Group = TypeVar("Group", bound=BaseSettings)

_GROUPS = {
    group.__name__: str(group.model_config.get("env_prefix")).removeprefix(PREFIX)
    for group in (
        LakeSettings,
        SourceSettings,
        SyncSettings,
        DiscoverySettings,
        SpendingSettings,
        IncidentSettings,
        TablesSettings,
        MaintenanceSettings,
        RetentionSettings,
    )
}


def variables(group: type[BaseSettings] = Settings) -> Iterator[str]:
    """The name of every environment variable of a group and the groups in it."""
    prefix = str(group.model_config.get("env_prefix"))
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            yield from variables(field.annotation)
        else:
            yield f"{prefix}{name}".upper()


def load_settings() -> Settings:
    """Read the environment. Raises InputError naming every variable that cannot be used."""
    return read_group(Settings)


def read_group(group: type[Group], **given: Any) -> Group:
    """Read one group from the environment, ``given`` values first. Raises InputError as load_settings does."""
    try:
        return group(**given)
    except ValidationError as error:
        prefix = PREFIX + _GROUPS.get(error.title, "")
        faults = "; ".join(
            f"{prefix}{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise InputError(f"Settings: {faults}.") from None


def source_bucket(
    exchange: Exchange,
    *,
    endpoint_url: str | None,
    region: str | None,
    verify_tls: bool,
    allow_http: bool,
    max_attempts: int,
) -> Bucket:
    """An exchange's bucket, read anonymously, at its own endpoint or at a given one."""
    return Bucket(
        name=exchange.bucket,
        region=region or exchange.region,
        endpoint_url=endpoint_url or exchange.endpoint_url,
        anonymous=True,
        verify_tls=verify_tls,
        allow_http=allow_http,
        max_attempts=max_attempts,
        max_requests=exchange.max_requests,
        server_side_copy=exchange.server_side_copy,
    )
