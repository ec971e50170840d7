"""Connections to this machine, without the environment's proxies."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import MutableMapping

LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost", "::1")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "grpc_proxy"}


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def exclude_from_proxies(*hosts: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Exclude this machine's names and ``hosts`` from the environment's proxies.

    Sets both NO_PROXY and no_proxy, since clients and child processes read one or the other. Does nothing if the
    environment names no proxy, because with either variable some clients ignore the system's own proxy settings.
    """
    if not any(name.lower() in _PROXIES and value for name, value in environment.items()):
        return
    default = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    for name in ("NO_PROXY", "no_proxy"):
        excluded = [host.strip() for host in environment.get(name, default).split(",") if host.strip()]
        if "*" not in excluded:
            environment[name] = ",".join(dict.fromkeys([*excluded, *_NAMES, *hosts]))
