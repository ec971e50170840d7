"""Access control of the embedded store: identities with generated keys, and bucket policies.

SeaweedFS grants rights at two levels. Identities have coarse actions (``Write:bucket`` includes deleting). Bucket
policies then allow anonymous reads, or deny a single action to one identity.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse_assets.archive.bucket import Credentials
from lakehouse_assets.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ADMIN, SYNC, MAINTENANCE = "admin", "sync", "maintenance"
TABLES_PREFIX = "tables/"
# SeaweedFS 4.48 has only this account; a principal without it matches nobody, and causes no error.
_ACCOUNT = "000000000000"
_POLICY_VERSION = "2012-10-17"


@dataclass(frozen=True, slots=True)
class Identities:
    """The three identities of a store."""

    admin: Credentials
    sync: Credentials
    maintenance: Credentials


def load_or_create(path: Path, *, source_buckets: Sequence[str], lake_bucket: str) -> Identities:
    """Read the identities' keys from SeaweedFS' identity file, or generate them, and write the file (0600).

    Existing keys are kept; rights are rewritten for the given buckets.
    """
    known = _read(path) if path.exists() else {}
    keys = {name: known.get(name) or _new_key(name) for name in (ADMIN, SYNC, MAINTENANCE)}
    reading = [f"{action}:{bucket}" for bucket in source_buckets for action in ("Read", "List")]
    lake = [f"{action}:{lake_bucket}" for action in ("Read", "List", "Write")]
    actions = {
        ADMIN: ["Admin", "Read", "List", "Write", "Tagging"],
        SYNC: [*reading, *lake],
        MAINTENANCE: lake,
    }
    _write_private(
        path,
        {
            "identities": [
                {
                    "name": name,
                    "credentials": [{"accessKey": key.access_key_id, "secretKey": key.secret_access_key}],
                    "actions": actions[name],
                }
                for name, key in keys.items()
            ]
        },
    )
    return Identities(keys[ADMIN], keys[SYNC], keys[MAINTENANCE])


def source_policy(bucket: str) -> str:
    """Allow anonymous get and list, as in the exchanges' own buckets."""
    return _policy(
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
    )


def lake_policy(bucket: str) -> str:
    """`sync` may delete nothing; `maintenance` may delete below ``tables/`` only."""
    deleting = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    return _policy(
        {
            "Effect": "Deny",
            "Principal": _principal(SYNC),
            "Action": deleting,
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        },
        {
            "Effect": "Deny",
            "Principal": _principal(MAINTENANCE),
            "Action": deleting,
            "NotResource": [f"arn:aws:s3:::{bucket}/{TABLES_PREFIX}*"],
        },
    )


def _principal(name: str) -> dict[str, str]:
    return {"AWS": f"arn:aws:iam::{_ACCOUNT}:user/{name}"}


def _policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": _POLICY_VERSION, "Statement": list(statements)})


def _new_key(name: str) -> Credentials:
    return Credentials(f"{name}-{secrets.token_hex(8)}", secrets.token_urlsafe(32))


def _read(path: Path) -> dict[str, Credentials]:
    try:
        identities = json.loads(path.read_text(encoding="utf-8"))["identities"]
        return {
            identity["name"]: Credentials(
                identity["credentials"][0]["accessKey"], identity["credentials"][0]["secretKey"]
            )
            for identity in identities
        }
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"The identity file {path} cannot be read ({type(error).__name__}); "
            "restore it, or remove it so that new keys are generated."
        ) from error


def _write_private(path: Path, content: dict[str, Any]) -> None:
    """Replace a file atomically; no other user can read it at any time."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
