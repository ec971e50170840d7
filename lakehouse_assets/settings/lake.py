"""``LAKEHOUSE_LAKE_*``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from lakehouse_assets.archive import request_values
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake, label_of
from lakehouse_assets.settings.base import (
    BucketName,
    Endpoint,
    KeyId,
    LakeName,
    MaxAttempts,
    Profile,
    Region,
    SecretKey,
    Token,
    Word,
    config,
)
from lakehouse_assets.settings.buckets import BucketAccess
from lakehouse_assets.sync.movers.base import ObjectHeaders


class LakeSettings(BaseSettings):
    """``LAKEHOUSE_LAKE_*``: the user's bucket."""

    model_config = config("LAKE")

    bucket: BucketName | None = Field(default=None, description="Bucket of the lake.")
    prefix: Annotated[str, AfterValidator(request_values.prefix)] = Field(
        default="", description="Prefix in the bucket; everything is written below it."
    )
    name: LakeName | None = Field(
        default=None,
        description="Name of the lake in Dagster's tags and pools, of letters, digits, - and _; bucket and prefix when "
        "unset. For two lakes that have bucket and prefix in common, at two endpoints.",
    )
    endpoint_url: Endpoint | None = Field(default=None, description="S3 endpoint; unset for AWS.")
    region: Region | None = Field(default=None, description="Region of the bucket; us-east-1 when unset.")
    access_key_id: Token | None = Field(default=None, description="Access key of the sync identity.")
    secret_access_key: SecretKey | None = Field(default=None, description="Secret key of the sync identity.")
    session_token: Token | None = Field(default=None, description="Session token of temporary credentials.")
    profile: Profile | None = Field(default=None, description="Profile in the AWS configuration files.")
    verify_tls: bool = Field(default=True, description="Verify the endpoint's TLS certificate.")
    allow_http: bool = Field(default=False, description="Allow plain HTTP to an endpoint other than loopback.")
    max_attempts: MaxAttempts = Field(default=5, description="Attempts per request, including the first.")
    storage_class: Word | None = Field(default=None, description="Storage class of every object, such as STANDARD_IA.")
    sse: Literal["AES256", "aws:kms"] | None = Field(default=None, description="Server-side encryption.")
    sse_kms_key_id: KeyId | None = Field(default=None, description="Key for aws:kms; the bucket's own when unset.")
    acl: Word | None = Field(default=None, description="Canned ACL, such as bucket-owner-full-control.")
    tags: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict, description="Tags of every object: key=value, separated by commas."
    )

    @field_validator("tags", mode="before")
    @classmethod
    def _read_tags(cls, given: Any) -> Any:
        return parse_tags(given) if isinstance(given, str) else given

    @property
    def headers(self) -> ObjectHeaders:
        """The headers with which every object is written."""
        return ObjectHeaders(
            storage_class=self.storage_class,
            sse=self.sse,
            sse_kms_key_id=self.sse_kms_key_id,
            acl=self.acl,
            tags=self.tags,
        )

    @property
    def url(self) -> str:
        """The lake's URL for display; it shows the variable's name where no bucket is set."""
        return "/".join(filter(None, (f"s3://{self.bucket or '$LAKEHOUSE_LAKE_BUCKET'}", self.prefix.strip("/"))))

    @property
    def label(self) -> str:
        """The lake's label (``Lake.label``); empty where no bucket is set."""
        return label_of(self.bucket, self.prefix, self.name) if self.bucket else ""

    def lake(self) -> Lake:
        """The configured lake. Raises InputError where none is configured."""
        if self.bucket is None:
            raise InputError(
                "No lake is configured: set LAKEHOUSE_LAKE_BUCKET (and LAKEHOUSE_LAKE_ENDPOINT_URL unless on "
                "AWS), or try the embedded one with: lakehouse demo"
            )
        access = BucketAccess(
            endpoint_url=self.endpoint_url,
            region=self.region,
            access_key_id=_plain(self.access_key_id),
            secret_access_key=_plain(self.secret_access_key),
            session_token=_plain(self.session_token),
            profile=self.profile,
            verify_tls=self.verify_tls,
            allow_http=self.allow_http,
            max_attempts=self.max_attempts,
            key_settings=("LAKEHOUSE_LAKE_ACCESS_KEY_ID", "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY"),
        )
        return Lake(access.bucket(self.bucket), self.prefix, self.name)


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


_TAG = re.compile(r"[\w +\-=.:/@]*")
_MAX_TAGS, _MAX_TAG_KEY, _MAX_TAG_VALUE = 10, 128, 256
"""S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html"""


def parse_tags(text: str) -> dict[str, str]:
    """Parse ``team=quant,cost centre=42``. Raises ValueError for tags that S3 would reject."""
    tags: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not key or not equals:
            raise ValueError(f"{item.strip()!r} is not a tag; write key=value, separated by commas")
        if key in tags:
            raise ValueError(f"the tag {key!r} is given twice")
        if (
            not (_TAG.fullmatch(key) and _TAG.fullmatch(value))
            or len(key) > _MAX_TAG_KEY
            or len(value) > _MAX_TAG_VALUE
        ):
            raise ValueError(
                f"S3 does not accept the tag {key}={value}: a key has at most {_MAX_TAG_KEY} characters and a value "
                f"{_MAX_TAG_VALUE}; letters, digits, spaces and + - = . _ : / @ are allowed"
            )
        if key.lower().startswith("aws:"):
            raise ValueError(f"the tag {key!r} begins with aws:, which is reserved")
        tags[key] = value
    if len(tags) > _MAX_TAGS:
        raise ValueError(f"S3 accepts at most {_MAX_TAGS} tags per object, not {len(tags)}")
    return tags
