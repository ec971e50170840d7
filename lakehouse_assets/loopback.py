"""This machine, reached as such: no proxy of the environment is asked for it."""

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
    """Add this machine's names, and ``hosts``, to those for which the environment's proxies are not asked.

    Every client reads the environment by itself, and so do child processes. Some read the upper case, some the lower.
    Nothing is done where no proxy is named: with either variable, some clients stop asking the system for its own.
    """
    if not any(name.lower() in _PROXIES and value for name, value in environment.items()):
        return
    given = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    for name in ("NO_PROXY", "no_proxy"):
        excluded = [each.strip() for each in environment.get(name, given).split(",") if each.strip()]
        if "*" not in excluded:
            environment[name] = ",".join(dict.fromkeys([*excluded, *_NAMES, *hosts]))
