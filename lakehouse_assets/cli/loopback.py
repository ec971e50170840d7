"""An environment in which a server on this machine is reached, whatever the user's own is set up for."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

LOOPBACK = "127.0.0.1"


def keep_to_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove AWS' variables and exclude loopback from proxies.

    A profile that AWS_PROFILE names is looked up by boto3 even where static credentials are given,
    and the HTTP clients would ask HTTP_PROXY for 127.0.0.1.
    """
    for name in [name for name in environment if name.startswith("AWS_")]:
        del environment[name]
    for name in ("NO_PROXY", "no_proxy"):
        others = [each for each in environment.get(name, "").split(",") if each]
        environment[name] = ",".join(dict.fromkeys([*others, LOOPBACK, "localhost"]))
