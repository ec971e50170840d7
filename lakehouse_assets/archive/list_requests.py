"""Requests pages of a bucket's listing: signs, sends and retries.

boto3 takes longer to parse a page than the store takes to write it. obstore accepts any XML as a page, hides the page's
end and token, and fails a complete folder because of one unusual key. Hence requests of our own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, NoCredentialsError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from urllib3.exceptions import HTTPError

from lakehouse_assets.archive.bucket import POOL_CONNECTIONS, Bucket, Credentials
from lakehouse_assets.archive.errors import StoreFault, fault_of, fault_of_text, one_line, store_error
from lakehouse_assets.archive.list_page import PAGE, NotAListingError, Page, PageRequest, read_page
from lakehouse_assets.errors import StoreError

if TYPE_CHECKING:
    from botocore.credentials import Credentials as ChainCredentials

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0

MAX_ANSWER_BYTES = 16 * 1024**2
"""Maximal size of an answer; a thousand keys of 1,024 bytes, with each byte escaped, take 5 MB."""

_WAIT = wait_random_exponential(multiplier=0.1, max=5.0)
_OK = 200


class _Refused(Exception):  # noqa: N818 - carries a fault to where the attempts are counted
    def __init__(self, fault: StoreFault) -> None:
        super().__init__(fault.code)
        self.fault = fault


class ListRequests:
    """Requests pages of one bucket; thread-safe. ``requests`` counts the received pages."""

    def __init__(self, bucket: Bucket) -> None:
        self.requests = 0
        self._bucket = bucket
        self._url = f"{bucket.endpoint.rstrip('/')}/{quote(bucket.name)}"
        self._session = URLLib3Session(
            verify=bucket.verify_tls,
            proxies=get_environ_proxies(self._url),
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            max_pool_connections=POOL_CONNECTIONS,
        )
        self._lock = threading.Lock()

    def page(self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = "") -> Page:
        """One page of keys that begin with ``prefix``, after the key ``after`` or from a page's ``token`` on.

        An invalid answer is retried up to the bucket's number of attempts. Raises StoreError.
        """
        parameters = {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": str(PAGE),
            "prefix": prefix,
            "delimiter": delimiter,
            "continuation-token": token or "",
            "start-after": "" if token else after,
        }
        query = {name: value for name, value in parameters.items() if value or name == "prefix"}
        attempts = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(self._bucket.max_attempts),
            wait=_WAIT,
            reraise=True,
        )
        try:
            page = attempts(self._once, query)
        except _Refused as refused:
            raise self.error(prefix, refused.fault) from refused
        except NotAListingError as error:
            raise self.error(prefix, error.fault) from error
        with self._lock:
            self.requests += 1
        return page

    def error(self, prefix: str, fault: StoreFault) -> StoreError:
        """The error of listing a prefix."""
        return store_error("Listing", fault, side=self._bucket.side, bucket=self._bucket.name, key=prefix)

    def _once(self, query: Mapping[str, str]) -> Page:
        status, body = self._send(f"{self._url}?{urlencode(query, quote_via=quote, safe='')}")
        if status != _OK:
            raise _Refused(_fault_of_answer(status, body))
        return read_page(body, PageRequest(self._bucket.name, query["prefix"]))

    def _send(self, url: str) -> tuple[int, bytes]:
        request = AWSRequest("GET", url, stream_output=True)
        try:
            if not self._bucket.anonymous:
                S3SigV4Auth(self._identity(), "s3", self._bucket.effective_region).add_auth(request)
            answer: Any = self._session.send(request.prepare())
            body = answer.raw.read(MAX_ANSWER_BYTES + 1)
            answer.raw.release_conn()
        except HTTPError as error:
            raise _Refused(StoreFault("Unreachable", one_line(str(error)))) from error
        except (BotoCoreError, OSError) as error:
            raise _Refused(fault_of(error)) from error
        if len(body) > MAX_ANSWER_BYTES:
            raise NotAListingError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        return answer.status_code, body

    def _identity(self) -> Any:
        """The current signing credentials; those of the default chain are renewed as they expire."""
        static = self._bucket.credentials
        if isinstance(static, Credentials):
            return _SigningCredentials(static)
        if self._chain_credentials is None:
            raise NoCredentialsError
        return self._chain_credentials.get_frozen_credentials()

    @cached_property
    def _chain_credentials(self) -> ChainCredentials | None:
        return self._bucket.session().get_credentials()


class _SigningCredentials:
    """Static credentials with the attribute names of botocore's signer."""

    def __init__(self, credentials: Credentials) -> None:
        self.access_key = credentials.access_key_id
        self.secret_key = credentials.secret_access_key
        self.token = credentials.session_token


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, _Refused):
        return not error.fault.is_final and error.fault.code != "NoCredentials"
    return isinstance(error, NotAListingError)


def _fault_of_answer(status: int, body: bytes) -> StoreFault:
    """The fault of an answer with an error status: S3's own code, or the status."""
    text = body[:MAX_ANSWER_BYTES].decode(errors="replace")
    if "<Code>" in text:
        return fault_of_text(text)
    excerpt = one_line(text, 80)
    return StoreFault(str(status), f"the endpoint answered {status}" + (f": {excerpt}" if excerpt else ""))
