"""boto3's part of a bucket: sessions, clients, and the default chain's credentials.

Imported where a client is made, by the methods of :class:`~lakehouse_assets.archive.bucket.Bucket`: importing boto3
takes as long as importing Polars, while listings, streams and s5cmd with static credentials need none of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ProfileNotFound
from botocore.loaders import create_loader
from obstore.auth.boto3 import Boto3CredentialProvider

from lakehouse_assets.archive import request_values
from lakehouse_assets.archive.bucket import POOL_CONNECTIONS, Bucket
from lakehouse_assets.archive.request_values import validated
from lakehouse_assets.errors import InputError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CREDENTIALS_TTL = timedelta(minutes=9)
"""How long obstore caches credentials of the default chain. botocore renews temporary credentials that have less than
10 minutes left, so those it returns are valid for that long (obstore's own default is 30 minutes)."""

_SERVICE_MODELS = create_loader()
"""Shared by all sessions, since it caches service models: loading the model of S3 takes 0.2 s per client otherwise."""

_CHAIN_VARIABLES: dict[str, Callable[[str], str]] = {
    "AWS_ACCESS_KEY_ID": request_values.token,
    "AWS_SECRET_ACCESS_KEY": request_values.secret,
    "AWS_SESSION_TOKEN": request_values.token,
}
"""Variables that the default chain uses verbatim."""


def session_of(bucket: Bucket) -> boto3.Session:
    """A session of the bucket's identity. Raises InputError for a profile that does not exist, or for a variable of
    the default chain that no request can carry."""
    is_explicit = bucket.credentials is not None or bucket.anonymous
    for name, rule in () if is_explicit else _CHAIN_VARIABLES.items():
        if (value := os.environ.get(name)) and validated(rule, value, f"The variable {name}") != value:
            raise InputError(f"The variable {name} has surrounding blanks or line breaks; remove them.")
    # An explicit identity ignores profiles, so that a stale AWS_PROFILE does no harm.
    core = botocore.session.Session(session_vars={"profile": (None, None, None, None)} if is_explicit else None)
    core.register_component("data_loader", _SERVICE_MODELS)
    try:
        return boto3.Session(
            botocore_session=core,
            region_name=bucket.effective_region,
            profile_name=None if is_explicit else bucket.profile,
            **(bucket.credentials.session_arguments() if bucket.credentials else {}),
        )
    except ProfileNotFound as error:
        raise InputError(
            f"{error}; LAKEHOUSE_LAKE_PROFILE or AWS_PROFILE names it for bucket {bucket.name}."
        ) from error


def client_of(bucket: Bucket) -> S3Client:
    """An S3 client, thread-safe. It uses path-style URLs, since dotted bucket names do not match TLS certificates."""
    config = Config(
        s3={
            "addressing_style": "path",
            "payload_signing_enabled": not bucket.transport_is_secure,
            "use_accelerate_endpoint": False,
            "use_dualstack_endpoint": False,
        },
        use_dualstack_endpoint=False,
        use_fips_endpoint=False,
        # boto3's max_attempts counts retries only; this setting includes the first attempt.
        retries={"total_max_attempts": bucket.max_attempts, "mode": "standard"},
        max_pool_connections=POOL_CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    if bucket.anonymous:
        config = config.merge(Config(signature_version=UNSIGNED))
    return session_of(bucket).client("s3", endpoint_url=bucket.endpoint, verify=bucket.verify_tls, config=config)


def provider_of(bucket: Bucket) -> Boto3CredentialProvider:
    """The default chain's credentials for obstore, renewed as they expire. Raises as :func:`session_of`."""
    return Boto3CredentialProvider(session_of(bucket), ttl=CREDENTIALS_TTL)
