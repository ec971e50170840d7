"""An S3 bucket and how to reach it: one description, from which every client is created.

Three clients are configured from it, so that all of them reach the same buckets: boto3 (single requests), obstore
(listings, streams) and s5cmd (batches; it takes its credentials from the environment only). What needs
boto3 is in ``boto3_clients.py``, which is imported where a client is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.store import S3Store

from lakehouse_assets.archive import request_values
from lakehouse_assets.archive.request_values import scheme_and_host, validated
from lakehouse_assets.errors import InputError, Side
from lakehouse_assets.loopback import exclude_from_proxies, is_loopback
from lakehouse_assets.observability.telemetry.redaction import register_secret

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Credential

POOL_CONNECTIONS = 64

TOKEN_VARIABLES = {"aws_session_token", "aws_token", "session_token", "token"}
"""Variables, in lower case, whose value delta-rs adds as a session token to keys without one."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Static credentials. They are left out of the repr, and registered to be redacted from logs, spans and errors."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises InputError for values that no request can carry."""
        rules = {
            "access_key_id": request_values.token,
            "secret_access_key": request_values.secret,
            "session_token": request_values.token,
        }
        for name, rule in rules.items():
            value = getattr(self, name)
            if name == "session_token" and not value:
                continue
            what = f"The {name} (LAKEHOUSE_LAKE_{name.upper()}, or that of another identity)"
            object.__setattr__(self, name, validated(rule, value, what))
        register_secret(self.secret_access_key)
        register_secret(self.session_token)

    def session_arguments(self) -> dict[str, Any]:
        """Arguments of a boto3 session."""
        return {
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
        }

    def obstore_credential(self) -> S3Credential:
        """The credential provider of an obstore store."""
        return {
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "token": self.session_token or None,
            "expires_at": None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, its endpoint and the identity that reads or writes it.

    ``endpoint_url`` is None for AWS itself. Without ``credentials``, and if not ``anonymous``, the AWS default chain of
    the process applies (environment, ``profile``, web identity, instance role). Plain HTTP is refused except on
    loopback or with ``allow_http``. ``max_attempts`` includes the first attempt; s5cmd has its own number of retries.
    ``max_requests`` limits concurrent requests; None means no limit. Without ``server_side_copy``, objects are never
    copied from the bucket by the store itself. ``side`` says whose bucket it is, for errors.
    """

    name: str
    region: str | None = None
    endpoint_url: str | None = None
    credentials: Credentials | None = None
    profile: str | None = None
    anonymous: bool = False
    verify_tls: bool = True
    allow_http: bool = False
    max_attempts: int = 5
    max_requests: int | None = None
    server_side_copy: bool = True
    side: Side = Side.LAKE

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("The bucket has no name; set it (for the lake: LAKEHOUSE_LAKE_BUCKET).")
        rules = {"name": request_values.bucket, "region": request_values.region, "profile": request_values.profile}
        for field_name, rule in rules.items():
            if value := getattr(self, field_name):
                what = f"The {field_name} {value!r} of bucket {self.name!r}"
                object.__setattr__(self, field_name, validated(rule, value, what))
        if self.endpoint_url is not None:
            self._validate_endpoint(self.endpoint_url)

    def _validate_endpoint(self, endpoint_url: str) -> None:
        url = validated(request_values.endpoint, endpoint_url, f"The endpoint of bucket {self.name}")
        object.__setattr__(self, "endpoint_url", url)
        scheme, host = scheme_and_host(url)
        if is_loopback(host):
            exclude_from_proxies(host)
        elif scheme == "http" and not self.allow_http:
            raise InputError(
                f"The endpoint {url} of bucket {self.name} is plain HTTP; use https, "
                "or allow it with allow_http (LAKEHOUSE_LAKE_ALLOW_HTTP or LAKEHOUSE_SOURCE_ALLOW_HTTP)."
            )

    @property
    def url(self) -> str:
        """``s3://bucket``."""
        return f"s3://{self.name}"

    @property
    def effective_region(self) -> str:
        """The region for which requests are signed, by default ``us-east-1``."""
        return self.region or "us-east-1"

    @property
    def endpoint(self) -> str:
        """The URL to which every request goes, by default that of AWS in the region.

        Every client gets it explicitly, since by default each reads different settings (AWS_ENDPOINT_URL and
        AWS_ENDPOINT_URL_S3, configuration files, AWS_USE_FIPS_ENDPOINT).
        """
        domain = "amazonaws.com.cn" if self.effective_region.startswith("cn-") else "amazonaws.com"
        return self.endpoint_url or f"https://s3.{self.effective_region}.{domain}"

    @property
    def plain_http(self) -> bool:
        return self.endpoint_url is not None and self.endpoint_url.startswith("http://")

    @property
    def transport_is_secure(self) -> bool:
        """Whether bodies cannot be changed in transit, because of TLS or loopback. Otherwise their SHA-256 is signed,
        which costs one more hash on both sides."""
        return not self.plain_http or is_loopback(scheme_and_host(self.endpoint_url or "")[1])

    @property
    def is_on_aws(self) -> bool:
        return _provider(self.endpoint_url) == _provider(None)

    def same_provider_as(self, other: Bucket) -> bool:
        """Whether one server can copy between the two buckets: same endpoint, or both on AWS."""
        return _provider(self.endpoint_url) == _provider(other.endpoint_url)

    def at_most(self, requests: int) -> int:
        """The number of concurrent requests, reduced to the bucket's limit."""
        return requests if self.max_requests is None else min(requests, self.max_requests)

    def with_name(self, name: str) -> Bucket:
        return replace(self, name=name)

    def session(self) -> boto3.Session:
        """A boto3 session of this identity. Raises InputError for a profile that does not exist, or for a variable of
        the default chain that no request can carry."""
        from lakehouse_assets.archive.boto3_clients import session_of  # noqa: PLC0415 - see the module's docstring

        return session_of(self)

    def boto3_client(self) -> S3Client:
        """A boto3 S3 client, thread-safe. Raises as :meth:`session`."""
        from lakehouse_assets.archive.boto3_clients import client_of  # noqa: PLC0415 - see the module's docstring

        return client_of(self)

    def object_store(self, *, timeout: timedelta | None = None) -> S3Store:
        """An obstore store of the same identity, path-style, with ``max_attempts`` attempts per request."""
        client_options: dict[str, Any] = {
            "allow_http": self.plain_http,
            "allow_invalid_certificates": not self.verify_tls,
        }
        if timeout is not None:
            client_options["timeout"] = timeout
        options: dict[str, Any] = {
            "region": self.effective_region,
            "virtual_hosted_style_request": False,
            "client_options": client_options,
            "retry_config": {"max_retries": self.max_attempts - 1},
            "unsigned_payload": self.transport_is_secure,
            "skip_signature": self.anonymous,
            "endpoint": self.endpoint,
            # Set explicitly: from the environment they would override the endpoint or change the requests.
            "aws_endpoint_url_s3": self.endpoint,
            "s3_express": False,
            "request_payer": False,
        }
        if self.anonymous:
            return S3Store(self.name, **options)
        if self.credentials is None:
            from lakehouse_assets.archive.boto3_clients import provider_of  # noqa: PLC0415 - see the module's docstring

            provider: Any = provider_of(self)
        else:
            # Not as options: obstore would add a session token of the environment to keys without one.
            provider = self.credentials.obstore_credential
        return S3Store(self.name, credential_provider=provider, **options)

    def environment(self) -> dict[str, str]:
        """The ``AWS_*`` variables that pass this identity to a child process."""
        if self.credentials is None:
            return {"AWS_PROFILE": self.profile} if self.profile else {}
        return {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
            **({"AWS_SESSION_TOKEN": self.credentials.session_token} if self.credentials.session_token else {}),
        }


def _provider(endpoint_url: str | None) -> str:
    """The provider of an endpoint: ``aws``, or the endpoint itself."""
    if endpoint_url is None or (urlsplit(endpoint_url).hostname or "").endswith(".amazonaws.com"):
        return "aws"
    return endpoint_url.rstrip("/")
