"""An environment in which a server on this machine is reached, whatever the user's own is set up for."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from lakehouse_assets.archive.bucket import TOKEN_VARIABLES
from lakehouse_assets.loopback import exclude_from_proxies


def keep_to_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove AWS' variables, and what is taken for one, and exclude loopback from proxies.

    A profile that AWS_PROFILE names is looked up by boto3 even where static credentials are given.
    """
    for name in list(environment):
        if name.startswith("AWS_") or name.lower() in TOKEN_VARIABLES:
            del environment[name]
    exclude_from_proxies(environment=environment)
