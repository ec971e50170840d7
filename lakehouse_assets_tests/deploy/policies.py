"""IAM's policy evaluation, as far as deploy/aws needs it, and the mapping from S3 requests to actions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from lakehouse_assets_tests.deploy.rendered import DEPLOY
from lakehouse_assets_tests.faults.proxy import Request

ACTIONS = {
    "ListObjects": "s3:ListBucket",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CopyObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "DeleteObject": "s3:DeleteObject",
}
OF_BUCKET = {
    ("HEAD", ""): "s3:ListBucket",
    ("GET", "versioning"): "s3:GetBucketVersioning",
    ("GET", "location"): "s3:GetBucketLocation",
    ("GET", "uploads"): "s3:ListBucketMultipartUploads",
}
"""S3's operations and the actions that they require (Amazon S3 API Reference, "Required permissions")."""


@dataclass(frozen=True)
class Asked:
    """One action on one resource. ``context`` has the condition keys that the policies use."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def policy(name: str) -> list[dict[str, Any]]:
    return json.loads((DEPLOY / "aws" / f"{name}.json").read_text(encoding="utf-8"))["Statement"]


def allowed(statements: Sequence[Mapping[str, Any]], asked: Asked) -> bool:
    """Whether the statements allow the request. An explicit Deny wins; the default is to deny."""
    effects = [statement["Effect"] for statement in statements if _applies(statement, asked)]
    return "Allow" in effects and "Deny" not in effects


def denied(statements: Sequence[Mapping[str, Any]], asked: Asked) -> bool:
    """Whether a statement denies the request explicitly, as a bucket policy does."""
    return any(statement["Effect"] == "Deny" and _applies(statement, asked) for statement in statements)


def action_of(request: Request, name: str) -> Asked:
    """Action and resource of a recorded request, with ``name`` in place of its bucket."""
    operation = request.operation
    if operation == "OfBucket":
        asked_for = re.split("[=&]", request.target.partition("?")[2])[0]
        return Asked(OF_BUCKET[request.method, asked_for], f"arn:aws:s3:::{name}")
    resource = name if operation == "ListObjects" else f"{name}/{request.key}"
    return Asked(ACTIONS[operation], f"arn:aws:s3:::{resource}")


def _applies(statement: Mapping[str, Any], asked: Asked) -> bool:
    if not any(fnmatchcase(asked.action, pattern) for pattern in _list(statement["Action"])):
        return False
    if "NotResource" in statement:
        if any(fnmatchcase(asked.resource, pattern) for pattern in _list(statement["NotResource"])):
            return False
    elif not any(fnmatchcase(asked.resource, pattern) for pattern in _list(statement["Resource"])):
        return False
    return all(
        _holds(operator, asked.context.get(key), _list(values))
        for operator, conditions in statement.get("Condition", {}).items()
        for key, values in conditions.items()
    )


def _holds(operator: str, value: str | None, wanted: Sequence[str]) -> bool:
    if operator in {"StringEquals", "Bool"}:
        return value in wanted
    assert operator in {"StringNotEquals", "ArnNotEquals"}, operator
    return value not in wanted


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
