"""The one exception hierarchy that a user meets.

Every message says what was tried, on what, and what to do next, in one line: the command
line prints it as it is.
"""


class LakehouseError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(LakehouseError):
    """Something a user wrote (argument, matrix, setting) cannot be used as it stands."""


class StoreError(LakehouseError):
    """An object store refused or failed a request that was tried often enough."""


class DamagedError(StoreError):
    """A record in the lake is not whole: the store answers, and what it holds cannot be read.

    The message names what mends it; trying again does not.
    """


def printable(text: str) -> str:
    """A text of somebody else's as it may be shown: control characters and marks that turn the direction of writing,
    by which a name can look like another, are escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
