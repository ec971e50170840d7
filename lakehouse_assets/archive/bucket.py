"""An S3 bucket and how to reach it: one description, from which every client is made.

Three clients read the same description, so that none can reach a bucket that another cannot:
boto3 (single requests), obstore (listings, streams) and s5cmd (batches; it takes its
credentials from the environment only).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ProfileNotFound
from botocore.loaders import create_loader
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.redaction import register_secret

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

POOL_CONNECTIONS = 64

CREDENTIALS_KEPT = timedelta(minutes=9)
"""How long obstore uses credentials of the default chain: botocore renews temporary ones that have
less than 10 minutes left, so what it hands out is good for that long (obstore would keep them for 30)."""


_SERVICE_MODELS = create_loader()
"""One for all sessions, since it keeps what it has read: S3's model takes 0.2 s of every client otherwise."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Static credentials. They never appear in a repr, and from then on in no log, span or error."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        register_secret(self.secret_access_key)
        register_secret(self.session_token)

    def session_arguments(self) -> dict[str, Any]:
        """For a boto3 session."""
        return {
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, its endpoint and the identity that reads or writes it.

    ``endpoint_url`` is None for AWS itself. Without ``credentials`` and not ``anonymous``, the
    AWS default chain of the process is used (environment, ``profile``, web identity, instance
    role). Plain HTTP is refused except on loopback or with ``allow_http``. ``max_attempts`` includes
    the first attempt; s5cmd has its own number of retries. ``max_requests`` bounds requests at a time;
    None is no bound of the bucket's own. From a bucket without ``server_side_copy`` no store copies.
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

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("The bucket has no name; set it (for the lake: LAKEHOUSE_LAKE_BUCKET).")
        if self.endpoint_url is None:
            return
        scheme, host = _scheme_and_host(self.endpoint_url)
        if scheme not in {"http", "https"} or not host:
            raise InputError(
                f"The endpoint {self.endpoint_url!r} of bucket {self.name} is not a URL; "
                "write it as https://host[:port]."
            )
        if scheme == "http" and not self.allow_http and not is_loopback(host):
            raise InputError(
                f"The endpoint {self.endpoint_url} of bucket {self.name} is plain HTTP; use https, "
                "or allow it with allow_http (LAKEHOUSE_LAKE_ALLOW_HTTP or LAKEHOUSE_SOURCE_ALLOW_HTTP)."
            )

    @property
    def url(self) -> str:
        """``s3://bucket``."""
        return f"s3://{self.name}"

    @property
    def effective_region(self) -> str:
        """The region requests are signed for; ``us-east-1`` where nothing says otherwise."""
        return self.region or "us-east-1"

    @property
    def plain_http(self) -> bool:
        return self.endpoint_url is not None and self.endpoint_url.startswith("http://")

    @property
    def bodies_are_safe(self) -> bool:
        """Whether nobody on the way can change a body: by TLS, or on this machine. Elsewhere its SHA-256 is signed,
        for which every body is hashed once more on both sides."""
        return not self.plain_http or is_loopback(_scheme_and_host(self.endpoint_url or "")[1])

    @property
    def is_on_aws(self) -> bool:
        return _provider(self.endpoint_url) == _provider(None)

    def same_provider_as(self, other: Bucket) -> bool:
        """Whether one server can copy between the two (same endpoint; AWS counts as one)."""
        return _provider(self.endpoint_url) == _provider(other.endpoint_url)

    def at_most(self, requests: int) -> int:
        """So many requests at a time, or as many as the bucket allows."""
        return requests if self.max_requests is None else min(requests, self.max_requests)

    def with_name(self, name: str) -> Bucket:
        return replace(self, name=name)

    def session(self) -> boto3.Session:
        """A boto3 session of this identity. Raises InputError for a profile that does not exist."""
        given = self.credentials is not None or self.anonymous
        # A given identity is not looked up: a stale AWS_PROFILE of the environment does not matter.
        core = botocore.session.Session(session_vars={"profile": (None, None, None, None)} if given else None)
        core.register_component("data_loader", _SERVICE_MODELS)
        try:
            return boto3.Session(
                botocore_session=core,
                region_name=self.effective_region,
                profile_name=None if given else self.profile,
                **(self.credentials.session_arguments() if self.credentials else {}),
            )
        except ProfileNotFound as error:
            raise InputError(
                f"{error}; it is named by LAKEHOUSE_LAKE_PROFILE or AWS_PROFILE, for bucket {self.name}."
            ) from error

    def boto3_client(self) -> S3Client:
        """A boto3 S3 client: path-style, so that dotted names pass TLS; thread-safe."""
        config = Config(
            s3={"addressing_style": "path"},
            # boto3 calls the number of retries max_attempts; this one includes the first attempt.
            retries={"total_max_attempts": self.max_attempts, "mode": "standard"},
            max_pool_connections=POOL_CONNECTIONS,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        if self.anonymous:
            config = config.merge(Config(signature_version=UNSIGNED))
        return self.session().client("s3", endpoint_url=self.endpoint_url, verify=self.verify_tls, config=config)

    def object_store(self, *, timeout: timedelta | None = None) -> S3Store:
        """An obstore store: path-style, same identity, ``max_attempts`` attempts per request."""
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
            "unsigned_payload": self.bodies_are_safe,
        }
        if self.endpoint_url is not None:
            options["endpoint"] = self.endpoint_url
        if self.anonymous:
            return S3Store(self.name, skip_signature=True, **options)
        if self.credentials is None:
            provider = Boto3CredentialProvider(self.session(), ttl=CREDENTIALS_KEPT)
            return S3Store(self.name, credential_provider=provider, **options)
        return S3Store(
            self.name,
            access_key_id=self.credentials.access_key_id,
            secret_access_key=self.credentials.secret_access_key,
            **({"session_token": self.credentials.session_token} if self.credentials.session_token else {}),
            **options,
        )

    def environment(self) -> dict[str, str]:
        """The ``AWS_*`` variables that give a child process this identity."""
        if self.credentials is None:
            return {"AWS_PROFILE": self.profile} if self.profile else {}
        return {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
            **({"AWS_SESSION_TOKEN": self.credentials.session_token} if self.credentials.session_token else {}),
        }


def _scheme_and_host(url: str) -> tuple[str, str]:
    """Both empty for what is no URL or has no possible port."""
    try:
        parts = urlsplit(url)
        possible = parts.port != 0
    except ValueError:
        return "", ""
    return (parts.scheme, parts.hostname or "") if possible else ("", "")


def _provider(endpoint_url: str | None) -> str:
    """What serves an endpoint: ``aws``, or the endpoint itself."""
    if endpoint_url is None or (urlsplit(endpoint_url).hostname or "").endswith(".amazonaws.com"):
        return "aws"
    return endpoint_url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
