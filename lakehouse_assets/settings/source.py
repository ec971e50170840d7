"""``LAKEHOUSE_SOURCE_*``."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.exchanges import Exchange
from lakehouse_assets.settings.base import Endpoint, MaxAttempts, Region, config
from lakehouse_assets.settings.buckets import BucketAccess


class SourceSettings(BaseSettings):
    """``LAKEHOUSE_SOURCE_*``: an endpoint that serves the exchanges' buckets in place of the exchanges."""

    model_config = config("SOURCE")

    endpoint_url: Endpoint | None = Field(
        default=None, description="S3 endpoint that serves the exchanges' buckets; unset for their own."
    )
    region: Region | None = Field(default=None, description="Region of that endpoint; the exchange's own when unset.")
    verify_tls: bool = Field(default=True, description="Verify the endpoint's TLS certificate.")
    allow_http: bool = Field(default=False, description="Allow plain HTTP to an endpoint other than loopback.")
    max_attempts: MaxAttempts = Field(default=5, description="Attempts per request, including the first.")

    def bucket(self, exchange: Exchange) -> Bucket:
        """An exchange's bucket, read anonymously."""
        return BucketAccess(
            endpoint_url=self.endpoint_url,
            region=self.region,
            anonymous=True,
            verify_tls=self.verify_tls,
            allow_http=self.allow_http,
            max_attempts=self.max_attempts,
        ).source(exchange)
