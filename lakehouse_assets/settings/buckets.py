"""A bucket from settings, whether they come from environment variables or from a Dagster resource."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.archive.exchanges import Exchange
from lakehouse_assets.errors import InputError, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAccess:
    """How buckets are reached, and with which identity.

    Without keys, and unless ``anonymous``, the AWS default chain supplies the credentials. ``use_ssl`` matters only
    where no endpoint is given. ``key_settings`` are the names of the two key settings, for the error message.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    anonymous: bool = False
    use_ssl: bool = True
    verify_tls: bool = True
    allow_http: bool = False
    max_attempts: int = 5
    key_settings: tuple[str, str] = ("access_key_id", "secret_access_key")

    def bucket(self, name: str) -> Bucket:
        """The bucket of this name. Raises InputError if only one of the two keys is set."""
        url = self.endpoint_url
        if url is None and not self.use_ssl:
            url = f"http://s3.{self.region or 'us-east-1'}.amazonaws.com"
        return Bucket(
            name=name,
            region=self.region,
            endpoint_url=url,
            credentials=self._credentials(name),
            profile=self.profile,
            anonymous=self.anonymous,
            verify_tls=self.verify_tls,
            allow_http=self.allow_http,
            max_attempts=self.max_attempts,
        )

    def source(self, exchange: Exchange) -> Bucket:
        """An exchange's bucket, in the exchange's own region and at its own endpoint where none is set."""
        bucket = replace(
            self, region=self.region or exchange.region, endpoint_url=self.endpoint_url or exchange.endpoint_url
        ).bucket(exchange.bucket)
        return replace(
            bucket,
            max_requests=exchange.max_requests,
            server_side_copy=exchange.server_side_copy,
            side=Side.SOURCE,
        )

    def _credentials(self, name: str) -> Credentials | None:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise InputError(f"Bucket {name}: set both {' and '.join(self.key_settings)}, or neither.")
        if not self.access_key_id or not self.secret_access_key:
            return None
        return Credentials(self.access_key_id, self.secret_access_key, self.session_token)
