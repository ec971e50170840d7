"""Object store errors, reduced to a code, one line of text, and whether a retry makes sense.

obstore, boto3 and s5cmd word the same refusal differently; this module unifies them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from obstore.exceptions import BaseError as ObstoreError

from lakehouse_assets.errors import ErrorKind, Side, StoreError, printable
from lakehouse_assets.observability.telemetry.redaction import redact

CLIENT_ERRORS = (ClientError, BotoCoreError, ObstoreError)
"""The clients' exceptions; :func:`store_error` turns them into a StoreError."""

_CODE = re.compile(r"<Code>([^<]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_STATUS = re.compile(r"\bstatus code:?[\s\u21b3]+(\d{3})\b")  # delta-rs puts an arrow between the two
_REQUEST_IDS = re.compile(r"\s*status code: \d+, request id: .*$", re.DOTALL)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # delta-rs formats its errors for a terminal
_S5CMD_CODE = re.compile(r"^([A-Z]\w+): ")

UNKNOWN = "Unknown"
"""The code of a client's own error, which has no code of the store."""

CONDITION_IGNORED = "ConditionIgnored"
"""The code of a store that ignores a request's condition."""

_OF_REQUEST = {
    CONDITION_IGNORED,
    "400",
    "405",
    "411",
    "501",
    "InvalidArgument",
    "InvalidRequest",
    "MethodNotAllowed",
    "MissingContentLength",
    "MissingContentMD5",
    "NotImplemented",
    "NotSupported",
    "UnsupportedHeader",
    "UnsupportedOperation",
    "XNotImplemented",
}
_FINAL = {
    *_OF_REQUEST,
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "Deadline",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "NoSuchBucket",
    "NoSuchKey",
    "NotFound",
    "PermanentRedirect",
    "SignatureDoesNotMatch",
    "403",
    "404",
}
_OVERTAKEN = "Overtaken"
_NOT_TRIED = "NotTried"
_CAUSE = "the copies before it failed: "
_OF_OBJECT = {
    "NoSuchKey",
    "NoSuchVersion",
    "NotFound",
    _OVERTAKEN,
    "PreconditionFailed",
    "Rewritten",
    "UnsayableKey",
    "404",
}
_THROTTLES = {"SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded", "Throttling", "429", "503"}
_PASSING = {
    *_THROTTLES,
    "500",
    "502",
    "504",
    "Corrupt",
    "InternalError",
    "RequestError",
    "RequestTimeout",
    "ShortRead",
}
_KINDS: dict[str, ErrorKind] = {
    **dict.fromkeys(_OF_REQUEST - {"400", "InvalidArgument", "InvalidRequest"}, ErrorKind.UNSUPPORTED),
    **dict.fromkeys({"500", "502", "504", "Corrupt", "InternalError", "RequestError", "ShortRead"}, ErrorKind.SERVER),
    **dict.fromkeys(_THROTTLES, ErrorKind.THROTTLED),
    **dict.fromkeys({"NoSuchBucket", "NoSuchKey", "NoSuchVersion", "NotFound", "404"}, ErrorKind.ABSENT),
    **dict.fromkeys(
        {
            "AccessDenied",
            "AllAccessDisabled",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "NoCredentials",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "403",
        },
        ErrorKind.ACCESS,
    ),
    **dict.fromkeys({"Deadline", "Interrupted", "RequestTimeout", "Unreachable"}, ErrorKind.UNREACHABLE),
    **dict.fromkeys(
        {_OVERTAKEN, "ConditionalRequestConflict", "PreconditionFailed", "Rewritten", "412"}, ErrorKind.CONFLICT
    ),
    "NotAListing": ErrorKind.IMPLAUSIBLE,
}
_ADVICE = {
    "AccessDenied": "check the credentials and the bucket's policy",
    "AuthorizationHeaderMalformed": "check the bucket's region",
    "ExpiredToken": "the temporary credentials expired; renew them",
    "InvalidAccessKeyId": "check the access key",
    "InvalidRequest": "the bucket requires something that this request lacks; Object Lock with a default retention "
    "requires checksums, which are not sent: use a bucket without it",
    "MissingContentMD5": "the bucket requires checksums, which are not sent: use a bucket that does not",
    "NoCredentials": "set credentials (for the lake: LAKEHOUSE_LAKE_ACCESS_KEY_ID and "
    "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY, or the AWS default chain)",
    "NoSuchBucket": "check the bucket's name and region",
    "NotAListing": "the endpoint is failing, or a proxy answers for it; the answer is ignored",
    "PermanentRedirect": "check the bucket's region",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": "check the secret key",
    "Unreachable": "check the endpoint and the network",
}


@dataclass(frozen=True, slots=True)
class StoreFault:
    """A refused or failed request: S3's error code (or our own), the server's message, and advice.

    ``of_lake``: the lake refused or failed the request, not the source.
    """

    code: str
    message: str
    of_lake: bool = False

    @property
    def is_final(self) -> bool:
        """Whether a retry is pointless."""
        return self.code in _FINAL

    @property
    def is_of_object(self) -> bool:
        """Whether the fault concerns one object only, so that others may succeed."""
        return self.code in _OF_OBJECT

    @classmethod
    def overtaking(cls) -> StoreFault:
        """A write that the lake refused because the object has changed since it was listed."""
        return cls(_OVERTAKEN, "another run has changed the object in the lake meanwhile", of_lake=True)

    @classmethod
    def not_tried(cls, cause: StoreFault) -> StoreFault:
        """A copy that was not tried because those before it failed."""
        return cls(_NOT_TRIED, f"{_CAUSE}{cause}")

    @property
    def is_overtaking(self) -> bool:
        return self.code == _OVERTAKEN

    @property
    def is_refused_condition(self) -> bool:
        """Whether the request's condition did not hold, or a concurrent write was in progress (AWS has a separate code
        for that)."""
        return self.code in {"412", "PreconditionFailed", "ConditionalRequestConflict"}

    @property
    def is_unknown_to_store(self) -> bool:
        """Whether the store does not implement a part of the request, such as a condition."""
        return self.code in {"NotImplemented", "501"}

    @property
    def is_of_request(self) -> bool:
        """Whether the store does not support this kind of request, or a header of it; another kind may work."""
        return self.code in _OF_REQUEST

    @property
    def is_throttle(self) -> bool:
        """Whether the store throttles requests."""
        return self.code in _THROTTLES

    @property
    def is_passing(self) -> bool:
        """Whether the fault is transient, even if no request has succeeded yet."""
        return self.code in _PASSING

    @property
    def kind(self) -> ErrorKind:
        return _KINDS.get(self.code, ErrorKind.OTHER)

    @property
    def advice(self) -> str | None:
        return _ADVICE.get(self.code)

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}" if self.message else self.code
        return f"{text} ({self.advice})" if self.advice else text


def code_of(fault: str) -> str:
    """The code of a fault that was turned into text, as outcomes have it; of a copy that was not tried, its cause's."""
    return fault.removeprefix(f"{_NOT_TRIED}: {_CAUSE}").partition(":")[0].partition(" ")[0]


def fault_of(error: BaseException) -> StoreFault:
    """Reduce a client's exception to a fault."""
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        return StoreFault(str(details.get("Code", UNKNOWN)), one_line(str(details.get("Message", ""))))
    if isinstance(error, NoCredentialsError | CredentialRetrievalError):
        return StoreFault("NoCredentials", one_line(str(error)))
    if isinstance(error, BotoConnectionError | HTTPClientError):
        return StoreFault("Unreachable", one_line(str(error)))
    return fault_of_text(str(error))


def fault_of_text(text: str) -> StoreFault:
    """Reduce the text of an obstore or s5cmd error to a fault."""
    text = _COLOURS.sub("", text[:_READ]).partition("\n\nDebug source:")[0]
    if code := _CODE.search(text):
        message = _MESSAGE.search(text)
        return StoreFault(code.group(1), one_line(message.group(1)) if message else "")
    if code := _S5CMD_CODE.match(text):
        if code.group(1) in {"RequestError", "RequestCanceled"} and _is_unreachable(text):
            return StoreFault("Unreachable", one_line(text))
        return StoreFault(code.group(1), one_line(_REQUEST_IDS.sub("", text[code.end() :])))
    if status := _STATUS.search(text):
        return StoreFault(status.group(1), one_line(text))
    return StoreFault(_code_by_words(text), one_line(text))


def store_error(
    operation: str, cause: BaseException | StoreFault, *, side: Side, bucket: str | None = None, key: str = ""
) -> StoreError:
    """The StoreError for a client's exception or a fault."""
    fault = cause if isinstance(cause, StoreFault) else fault_of(cause)
    return StoreError(operation, fault, side=side, bucket=bucket, key=key, kind=fault.kind)


def _code_by_words(text: str) -> str:
    # obstore does not follow redirects, since the signature is for the first region.
    if "Received redirect" in text:
        return "PermanentRedirect"
    if _is_unreachable(text):
        return "Unreachable"
    return "Interrupted" if _says(text, _INTERRUPTED) else UNKNOWN


_NEVER_SENT = ("connection refused", "dns error", "error sending request", "no such host")
_INTERRUPTED = ("timed out", "connection reset", "connection closed", "broken pipe", "response body")


def _is_unreachable(text: str) -> bool:
    return _says(text, _NEVER_SENT)


def _says(text: str, signs: tuple[str, ...]) -> bool:
    lowered = text.lower()
    return any(sign in lowered for sign in signs)


_READ = 8192
"""Characters of a text that are examined; searching a megabyte for secrets takes minutes."""


def one_line(text: str, limit: int = 300) -> str:
    """A message from outside, safe to show: on one line, shortened, without secrets."""
    # A server's or client's message may repeat what it received, at any length.
    line = printable(" ".join(redact(_COLOURS.sub("", text[:_READ])).split()).rstrip("."))
    return line if len(line) <= limit else line[: limit - 1] + "…"
