"""Faults of a matrix file: strict YAML, and validation errors with their path in the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from yaml.constructor import ConstructorError

from lakehouse_assets.errors import InputError

Place: TypeAlias = tuple[int | str, ...]
"""A path inside the file: ``("datasets", 2, "intervals", 0)``."""

_FAULTS = "faults"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def fault(message: str) -> PydanticCustomError:
    """The exception for a validator to raise about its value."""
    return faults([((), message)])


def faults(messages: Iterable[tuple[Place, str]]) -> PydanticCustomError:
    """The exception for a validator to raise about several places below its value."""
    messages = tuple(messages)
    text = "; ".join(message for _, message in messages) or "not checked"
    # The signature asks for a literal so that templates are not built from input; this one has no fields.
    return PydanticCustomError(_FAULTS, text, {_FAULTS: messages})  # ty: ignore[invalid-argument-type]


def skipped() -> PydanticCustomError:
    """The exception for a validator to raise if a field that it depends on is invalid: the cause is reported once."""
    return faults(())


def faults_of(error: ValidationError, known_keys: Mapping[str, Sequence[str]]) -> list[tuple[Place, str]]:
    """Every fault of a validation as place and message, worded for somebody who writes YAML.

    ``known_keys`` are the keys that a mapping may have, by the field that holds it; the outermost is ``""``.
    """
    messages: list[tuple[Place, str]] = []
    for details in error.errors(include_url=False):
        place: Place = details["loc"]
        if details["type"] == _FAULTS:
            messages += [((*place, *below), text) for below, text in details["ctx"][_FAULTS]]
        elif details["type"] == "invalid_key" or place[-1:] == ("[key]",):
            # Pydantic reports the place of the key; the fault belongs to the mapping.
            holder = place[:-1] if details["type"] == "invalid_key" else place[:-2]
            messages.append((holder, f"the key {details['input']!r} is not text; put it in quotes"))
        elif details["type"] == "extra_forbidden":
            messages.append((place, unknown_key(place[-1], _keys_at(place[:-1], known_keys))))
        else:
            messages.append((place, _message(details, known_keys)))
    return messages


# Pydantic's own messages speak of Python; these are for somebody who writes YAML.
_MESSAGES = {
    "missing": "is missing",
    "model_type": "{value} is not a mapping of {keys}",
    "dict_type": "{value} is not a mapping of {keys}",
    "tuple_type": "{value} is not a list; write it in [brackets]",
    "list_type": "{value} is not a list; write one entry per line, each beginning with a dash",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "string_type": "{value} is not text; put it in quotes",
    "bool_type": "{value} is neither true nor false",
    "int_type": "{value} is not an integer",
    "greater_than_equal": "{value} is out of range; write {ge} or more",
    "less_than_equal": "{value} is out of range; write {le} or less",
    "enum": "{value} is not allowed; write {expected}",
}


def _message(details: ErrorDetails, known_keys: Mapping[str, Sequence[str]]) -> str:
    template = _MESSAGES.get(details["type"], "{value} is invalid: {reason}")
    return template.format(
        **details.get("ctx", {}),
        value=repr(details["input"]),
        keys=", ".join(_keys_at(details["loc"], known_keys)),
        reason=details["msg"],
    )


def _keys_at(place: Place, known_keys: Mapping[str, Sequence[str]]) -> Sequence[str]:
    holder = next((part for part in reversed(place) if isinstance(part, str)), "")
    return known_keys.get(holder, ())


def unknown_key(key: object, known: Sequence[str]) -> str:
    """``unknown key (did you mean 'intervals'?); the keys are ...``."""
    return f"unknown key{did_you_mean(str(key), known)}; the keys are {', '.join(known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'intervals'?)"``, or nothing if no known word is similar."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


def dotted(place: Place) -> str:
    """``datasets[2].intervals[0]``. Keys that are not plain words are quoted, so that the text stays on one line."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if part.isidentifier() else repr(part)
            text += f".{word}" if text else word
    return text


def parse_yaml(source: bytes, name: str) -> Any:
    """Read YAML. Dates stay text, and duplicate keys are refused.

    Raises InputError with the line number.
    """
    try:
        # A SafeLoader, which creates plain values only.
        return yaml.load(source, _Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}:" if mark else ""
        problem = error.problem or error.context or "it cannot be read"
        raise InputError(f"{name}:{line} invalid YAML: {_one_line(problem)}.") from error
    except RecursionError as error:
        raise InputError(f"{name}: invalid YAML: it is nested too deeply.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{name}: invalid YAML: {_one_line(str(error))}.") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())


class _Loader(yaml.SafeLoader):
    """Leaves dates as text: YAML would read 2024-01-01 as a date, 2024-01 as text, and report 2024-02-30 without its
    line."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise ConstructorError(problem=f"the key {key.value!r} is a duplicate", problem_mark=key.start_mark)
            seen.add(key.value)
        return node
