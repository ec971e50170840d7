"""An environment in which clients reach servers on this machine, whatever the user's own settings are."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from lakehouse_assets.archive.bucket import TOKEN_VARIABLES
from lakehouse_assets.loopback import exclude_from_proxies


def keep_to_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove AWS variables and variables that are read as session tokens, and exclude loopback from proxies.

    boto3 looks up the profile in AWS_PROFILE even if it is given static credentials.
    """
    for name in list(environment):
        if name.startswith("AWS_") or name.lower() in TOKEN_VARIABLES:
            del environment[name]
    exclude_from_proxies(environment=environment)
