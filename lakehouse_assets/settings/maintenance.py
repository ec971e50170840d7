"""``LAKEHOUSE_MAINTENANCE_*``."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from lakehouse_assets.settings.base import Profile, SecretKey, Token, config


class MaintenanceSettings(BaseSettings):
    """``LAKEHOUSE_MAINTENANCE_*``: the identity that compacts and vacuums tables; it may delete below ``tables/``."""

    model_config = config("MAINTENANCE")

    access_key_id: Token | None = Field(default=None, description="Access key of the maintenance identity.")
    secret_access_key: SecretKey | None = Field(default=None, description="Secret key of the maintenance identity.")
    session_token: Token | None = Field(default=None, description="Session token of temporary credentials.")
    profile: Profile | None = Field(default=None, description="Profile in the AWS configuration files.")
    default_chain: bool = Field(
        default=False,
        description="Use the AWS default chain of maintenance runs as that identity, for example where the pod's "
        "service account has the role.",
    )
