"""What the groups of settings share: the prefix, the configuration and the types of checked values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from lakehouse_assets.archive import request_values

PREFIX = "LAKEHOUSE_"


def secret(rule: Callable[[str], str]) -> AfterValidator:
    """Applies a rule of `request_values` to a secret."""
    return AfterValidator(lambda value: SecretStr(rule(value.get_secret_value())))


BucketName = Annotated[str, AfterValidator(request_values.bucket)]
Endpoint = Annotated[str, AfterValidator(request_values.endpoint)]
Region = Annotated[str, AfterValidator(request_values.region)]
Profile = Annotated[str, AfterValidator(request_values.profile)]
LakeName = Annotated[str, AfterValidator(request_values.lake_name)]
Word = Annotated[str, AfterValidator(request_values.word)]
KeyId = Annotated[str, AfterValidator(request_values.token)]
Token = Annotated[SecretStr, secret(request_values.token)]
SecretKey = Annotated[SecretStr, secret(request_values.secret)]
MaxAttempts = Annotated[int, Field(ge=1, le=50)]


def config(group: str) -> SettingsConfigDict:
    """The configuration of the group whose variables start with ``LAKEHOUSE_<group>_``."""
    # Compose files and manifests write an unset variable as an empty one.
    return SettingsConfigDict(
        env_prefix=f"{PREFIX}{group}_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # it may be a secret
    )
