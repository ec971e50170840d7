"""Queries the running webserver: whether all services are ready, and which sensors run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

REQUEST_SECONDS = 20.0

_STATE = """
query State {
  workspaceOrError {
    __typename
    ... on Workspace {
      locationEntries {
        loadStatus
        locationOrLoadError {
          __typename
          ... on PythonError { message }
          ... on RepositoryLocation {
            repositories { sensors { name sensorState { status } } }
          }
        }
      }
    }
  }
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
}
"""


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor of the code location."""

    name: str
    running: bool


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The state of the services: what is not ready yet, the load error if any, and the sensors."""

    waiting_for: str | None
    load_error: str | None = None
    sensors: tuple[Sensor, ...] = ()


class Webserver:
    """Dagster's webserver at a URL on loopback."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = build_opener(ProxyHandler({}))

    def state(self) -> ServiceState:
        """The current state; everything is ready when ``waiting_for`` is None. Does not raise if the server is down."""
        try:
            data = self._query(_STATE)
        except (OSError, HTTPException, ValueError):
            return ServiceState("the webserver")
        entries = data["workspaceOrError"].get("locationEntries", [])
        if not entries or any(entry["loadStatus"] != "LOADED" for entry in entries):
            return ServiceState("the code location")
        places = [entry["locationOrLoadError"] or {} for entry in entries]
        errors = [place["message"] for place in places if place.get("__typename") == "PythonError"]
        if errors:
            return ServiceState("the code location", load_error=errors[0])
        unhealthy = [
            status["daemonType"].lower().replace("_", " ")
            for status in data["instance"]["daemonHealth"]["allDaemonStatuses"]
            if status["required"] and not status["healthy"]
        ]
        waiting = f"the daemon ({', '.join(unhealthy)})" if unhealthy else None
        return ServiceState(waiting, sensors=tuple(each for place in places for each in _sensors(place)))

    def _query(self, text: str) -> dict[str, Any]:
        """Raises OSError, HTTPException or ValueError."""
        request = Request(  # noqa: S310 - the URL is our own
            f"{self._url}/graphql",
            data=json.dumps({"query": text}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=REQUEST_SECONDS) as response:
            answer = json.load(response)
        if answer.get("errors") or not answer.get("data"):
            raise ValueError(str(answer.get("errors")))
        return answer["data"]


def _sensors(location: dict[str, Any]) -> list[Sensor]:
    return [
        Sensor(
            name=sensor["name"],
            running=sensor["sensorState"]["status"] == "RUNNING",
        )
        for repository in location["repositories"]
        for sensor in repository["sensors"]
    ]
