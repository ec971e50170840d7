"""Committing to the lake's Delta tables: tried again when another writer was first, deleting nothing."""

from __future__ import annotations

from deltalake import PostCommitHookProperties
from deltalake.exceptions import CommitFailedError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

DELETES_NOTHING = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""The sync identity may not delete; maintenance tidies the log."""


def commit_attempts(seconds: float) -> Retrying:
    """Attempts at a commit for at most ``seconds``; the last CommitFailedError is raised."""
    return Retrying(
        retry=retry_if_exception_type(CommitFailedError),
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
