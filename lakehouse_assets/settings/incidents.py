"""``LAKEHOUSE_INCIDENTS_*``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings

from lakehouse_assets.archive import request_values
from lakehouse_assets.errors import InputError
from lakehouse_assets.loopback import exclude_from_proxies, is_loopback
from lakehouse_assets.observability.incidents.alertmanager import Alertmanager
from lakehouse_assets.observability.incidents.messages import Links
from lakehouse_assets.observability.incidents.notification import Notifier, Route
from lakehouse_assets.settings.base import Endpoint, Token, config, secret


class IncidentSettings(BaseSettings):
    """``LAKEHOUSE_INCIDENTS_*``: where incidents are kept, and who is notified."""

    model_config = config("INCIDENTS")

    tick_seconds: Annotated[int, Field(ge=5, le=120)] = Field(
        default=30, description="Seconds between ticks; notifications go out within 5 minutes of a failure."
    )
    fallback_dir: Path | None = Field(
        default=None,
        description="Folder that keeps the incidents while the lake is unavailable; Dagster's storage folder when "
        "unset.",
    )
    alertmanager_url: Annotated[SecretStr, secret(request_values.address)] | None = Field(
        default=None, description="Alertmanager that receives incidents as alerts, such as https://host:9093."
    )
    alertmanager_token: Token | None = Field(default=None, description="Bearer token for that Alertmanager.")
    urls: SecretStr | None = Field(
        default=None, description="apprise URLs that receive every notification, separated by blanks."
    )
    routes_file: Path | None = Field(
        default=None,
        description="YAML file of routes: which severities, exchanges and roles are sent to which apprise URLs.",
    )
    dagster_url: Endpoint | None = Field(default=None, description="URL of the Dagster UI, for links in messages.")
    timeout_seconds: Annotated[float, Field(gt=0, le=20)] = Field(
        default=10.0, description="Seconds within which a channel must accept a message."
    )
    allow_http: bool = Field(default=False, description="Allow plain HTTP to an Alertmanager other than on loopback.")

    def notifier(self) -> Notifier:
        """The configured notifier. Raises InputError; makes no request."""
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
        """The routes of the file, and one from ``urls`` that takes everything. Raises InputError, without addresses."""
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
        raise InputError(f"The routes file {path} is not valid YAML, at line {line}.") from None
    except (ValidationError, KeyError) as error:
        faults = error.errors(include_input=False, include_url=False) if isinstance(error, ValidationError) else ()
        reason = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults) or "no routes"
        raise InputError(
            f"The routes file {path}: {reason}. It needs a list `routes` with name, urls and conditions of each route."
        ) from None
