"""The lake: the user's bucket, and the prefix below which this project writes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import polars as pl

from lakehouse_assets.archive import request_values
from lakehouse_assets.archive.bucket import TOKEN_VARIABLES, Bucket, Credentials
from lakehouse_assets.archive.errors import CLIENT_ERRORS, StoreFault, fault_of, store_error
from lakehouse_assets.archive.key_pages import KeyPages
from lakehouse_assets.archive.list_page import KEY_SCHEMA
from lakehouse_assets.archive.request_values import validated
from lakehouse_assets.errors import InputError, Side, StoreError
from lakehouse_assets.loopback import LOOPBACK


@dataclass(frozen=True, slots=True)
class Lake:
    """A bucket and a prefix in it; ``prefix`` is empty or ends with a slash. ``name``: see :attr:`label`."""

    bucket: Bucket
    prefix: str = ""
    name: str | None = None

    def __post_init__(self) -> None:
        prefix = validated(
            request_values.prefix, self.prefix, f"The lake prefix {self.prefix!r} (LAKEHOUSE_LAKE_PREFIX)"
        )
        object.__setattr__(self, "prefix", f"{prefix}/" if prefix else "")
        if self.name is not None:
            name = validated(request_values.lake_name, self.name, f"The lake name {self.name!r} (LAKEHOUSE_LAKE_NAME)")
            object.__setattr__(self, "name", name)

    def key(self, relative: str) -> str:
        """The bucket key of a path in the lake."""
        return self.prefix + relative

    def url(self, relative: str = "") -> str:
        return f"{self.bucket.url}/{self.key(relative)}"

    @property
    def label(self) -> str:
        """The name, or bucket and prefix, such as ``lake/mirror``: tells the lakes of one Dagster instance apart."""
        return label_of(self.bucket.name, self.prefix, self.name)

    def error(self, operation: str, place: str, cause: BaseException | StoreFault) -> StoreError:
        """The error of a request for ``place`` that the lake refused or failed."""
        return store_error(operation, cause, side=Side.LAKE, bucket=self.bucket.name, key=self.key(place))

    def objects_below(self, folder: str) -> pl.DataFrame:
        """The objects below a folder: KEY_SCHEMA, each ``key`` relative to the folder. Raises StoreError."""
        root = self.key(f"{folder}/")
        listed = pl.concat([KEY_SCHEMA.to_frame(), *KeyPages(self.bucket).below(root)])
        return listed.with_columns(pl.col("key").str.strip_prefix(root))

    def require_listing(self, folder: str, *, max_attempts: int | None = None) -> None:
        """Raises StoreError unless the lake answers with a listing of the folder; one request."""
        bucket = self.bucket if max_attempts is None else replace(self.bucket, max_attempts=max_attempts)
        KeyPages(bucket).first(self.key(f"{folder}/"), "")

    @property
    def delta_options(self) -> dict[str, str]:
        """Storage options for delta-rs. Commits are conditional writes, so two writers never overwrite each other.

        Credentials are resolved now; a table object must not outlive temporary credentials.
        """
        bucket = self.bucket
        options = {
            "aws_region": bucket.effective_region,
            "aws_conditional_put": "etag",
            "aws_virtual_hosted_style_request": "false",
            "allow_http": str(bucket.plain_http).lower(),
            "allow_invalid_certificates": str(not bucket.verify_tls).lower(),
            "aws_endpoint_url": bucket.endpoint,
            # Set explicitly: from the environment they would override the endpoint or change the requests.
            "aws_endpoint_url_s3": bucket.endpoint,
            "aws_skip_signature": "false",
            "aws_s3_express": "false",
            "aws_request_payer": "false",
            # For a proxy set by AWS_PROXY_URL or PROXY_URL, which ignores NO_PROXY.
            "proxy_excludes": f"{LOOPBACK},localhost",
        }
        # Static credentials need no session: creating one takes 30 ms, and a sync opens its manifest twice.
        credentials = bucket.credentials or bucket.session().get_credentials()
        if credentials is None:
            raise InputError(
                f"No credentials for {self.url()}: set LAKEHOUSE_LAKE_ACCESS_KEY_ID and "
                "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY, or the AWS default chain."
            )
        if not isinstance(credentials, Credentials):
            frozen = credentials.get_frozen_credentials()
            credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        options["aws_access_key_id"] = credentials.access_key_id
        options["aws_secret_access_key"] = credentials.secret_access_key
        if credentials.session_token:
            options["aws_session_token"] = credentials.session_token
        elif foreign := [name for name in os.environ if name.lower() in TOKEN_VARIABLES and os.environ[name]]:
            # An empty token would override it, but AWS and R2 refuse that.
            raise InputError(
                f"The variable {foreign[0]} is set, and delta-rs would send it to {self.url()} as the session token of "
                "keys that have none: unset it for this process, or, if it belongs to these keys, set "
                "LAKEHOUSE_LAKE_SESSION_TOKEN to it."
            )
        return options


def label_of(bucket: str, prefix: str, name: str | None) -> str:
    """The label of the lake in a bucket, see :attr:`Lake.label`."""
    return name or f"{bucket}/{prefix}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Versioning:
    """Whether the bucket itself keeps former versions of objects. ``reason`` says how this is known."""

    enabled: bool
    reason: str


def versioning_of(lake: Lake) -> Versioning:
    """Ask the bucket. A refused request counts as off, so that we keep former versions ourselves."""
    try:
        status = lake.bucket.boto3_client().get_bucket_versioning(Bucket=lake.bucket.name).get("Status", "Off")
    except CLIENT_ERRORS as error:
        return Versioning(enabled=False, reason=f"the bucket did not answer: {fault_of(error)}")
    return Versioning(enabled=status == "Enabled", reason=f"the bucket says {status}")
