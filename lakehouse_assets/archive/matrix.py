"""The archive matrix: the datasets that a lake mirrors, each with its intervals, symbols and dates.

It is written as YAML (see ``matrix.yaml`` beside this module) and read by :func:`load_matrix`. An invalid matrix raises
one InputError that lists every fault with the file's name and the path inside it:
``matrix.yaml: datasets[2].intervals[0]: ...``.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    Strict,
    ValidationError,
    model_validator,
)

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.layout import SymbolLocation
from lakehouse_assets.archive.matrix_errors import (
    Place,
    did_you_mean,
    dotted,
    faults,
    faults_of,
    parse_yaml,
    unknown_key,
)
from lakehouse_assets.archive.matrix_fields import (
    to_dataset,
    to_first_period,
    to_follow_from,
    to_intervals,
    to_partitions_per_run,
    to_symbols,
)
from lakehouse_assets.archive.period import Period
from lakehouse_assets.archive.symbol_filter import SymbolFilter
from lakehouse_assets.errors import InputError

MAX_PARTITIONS_PER_RUN = 366

_PACKAGED = "matrix.yaml"


class SyncMode(StrEnum):
    """How a dataset's objects are copied into the lake."""

    AUTO = "auto"
    DIRECT = "direct"
    RELAY = "relay"
    STAGED = "staged"


class Verify(StrEnum):
    """When a dataset's copies are read and compared with their published checksums.

    ``on_read``: when a table reads them, or on request. ``full`` and ``sampled``: after each sync of the archive asset.
    """

    ON_READ = "on_read"
    FULL = "full"
    SAMPLED = "sampled"


class OnBadFile(StrEnum):
    """What happens to a period of a table if an archive object of it is quarantined or missing.

    ``write_what_is_good``: the other objects are written. ``block``: the period is not rewritten.
    """

    BLOCK = "block"
    WRITE_WHAT_IS_GOOD = "write_what_is_good"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetEntry(_Model):
    """One dataset of the matrix, checked against what its exchange publishes.

    ``intervals`` are in the exchange's order, and empty if the data type has none. ``follow_from`` None means: from the
    day on which the sensor first runs. The sensor skips a ``paused`` dataset; runs started by a person are unaffected.
    """

    dataset: Annotated[InstanceOf[Dataset], BeforeValidator(to_dataset)]
    intervals: Annotated[tuple[str, ...], BeforeValidator(to_intervals)] = Field(default=None, validate_default=True)
    symbols: Annotated[SymbolFilter, AfterValidator(to_symbols)] = Field(
        default_factory=SymbolFilter, validate_default=True
    )
    first_period: Annotated[InstanceOf[Period], BeforeValidator(to_first_period)] = Field(
        default=None, validate_default=True
    )
    follow_from: Annotated[date | None, BeforeValidator(to_follow_from)] = None
    catch_up: Annotated[bool, Strict()] = False
    paused: Annotated[bool, Strict()] = False
    partitions_per_run: Annotated[
        int, Strict(), Field(ge=1, le=MAX_PARTITIONS_PER_RUN), BeforeValidator(to_partitions_per_run)
    ] = Field(default=None, validate_default=True)
    mode: SyncMode = SyncMode.AUTO
    verify: Verify = Verify.ON_READ
    on_bad_file: OnBadFile = OnBadFile.WRITE_WHAT_IS_GOOD

    @property
    def last_period(self) -> Period | None:
        """The last period of a publication that ended; None while it continues."""
        ended = self.dataset.publication.ended
        return None if ended is None else Period.containing(self.dataset.cadence, ended)

    @property
    def code_version(self) -> str:
        """Twelve hex digits that change with the definition of a complete period.

        They depend on the intervals and the symbol filter, not on the order in which these are written.
        """
        wanted = {"intervals": sorted(self.intervals), **self.symbols.identity}
        return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]


class ArchiveMatrix(_Model):
    """The datasets of the matrix, each once, in the order of the file."""

    entries: tuple[DatasetEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _datasets_are_unique(self) -> Self:
        first_index: dict[Dataset, int] = {}
        duplicates: list[tuple[Place, str]] = []
        for index, entry in enumerate(self.entries):
            first = first_index.setdefault(entry.dataset, index)
            if first != index:
                text = f"{entry.dataset} is listed twice; datasets[{first}] is the same"
                duplicates.append((("datasets", index, "dataset"), text))
        if duplicates:
            raise faults(duplicates)
        return self

    def entry(self, dataset_name: str) -> DatasetEntry:
        """The entry of a dataset. Raises an InputError that lists the datasets of the matrix."""
        names = [entry.dataset.name for entry in self.entries]
        if dataset_name in names:
            return self.entries[names.index(dataset_name)]
        raise InputError(
            f"{dataset_name!r} is not in the archive matrix{did_you_mean(dataset_name, names)}; "
            f"it has {', '.join(names)}."
        )


class _File(_Model):
    """The top level of the file; entries are validated one by one, after the defaults are applied."""

    defaults: dict[str, Any] = Field(default_factory=dict)
    datasets: list[dict[str, Any]] = Field(min_length=1)


_DEFAULTABLE = tuple(name for name in DatasetEntry.model_fields if name != "dataset")
_ENTRY_KEYS = {"": tuple(DatasetEntry.model_fields), "symbols": tuple(SymbolFilter.model_fields)}
_FILE_KEYS = {"": tuple(_File.model_fields), "datasets": _ENTRY_KEYS[""], "defaults": _DEFAULTABLE}


def load_matrix(path: Path | None = None) -> ArchiveMatrix:
    """Read a matrix; None reads the packaged one.

    ``defaults`` fill the fields that an entry lacks, as far as they apply: intervals and symbols only if the data type
    has any, ``first_period`` and ``follow_from`` no earlier than the exchange publishes. Raises InputError with every
    fault of the file.
    """
    if path is None:
        name, source = (
            _PACKAGED,
            resources.files(__package__ or "").joinpath(_PACKAGED).read_bytes(),
        )
    else:
        try:
            name, source = path.name, path.read_bytes()
        except OSError as error:
            raise InputError(f"The archive matrix {path} cannot be read: {error.strerror or error}.") from error
    document = parse_yaml(source, name)
    if not isinstance(document, dict):
        raise InputError(f"{name}: the file is not a mapping; start it with `datasets:`.")
    try:
        return ArchiveMatrix(entries=_entries(_File.model_validate(document)))
    except ValidationError as error:
        file_faults = faults_of(error, _FILE_KEYS)
    except _EntriesError as error:
        file_faults = error.faults
    # Fields from `defaults` are checked once per entry, but reported once.
    lines = dict.fromkeys(
        ": ".join(filter(None, (name, dotted(place), text.rstrip(".")))) for place, text in file_faults
    )
    raise InputError("; ".join(lines))


class _EntriesError(Exception):
    """The faults of all entries."""

    def __init__(self, entry_faults: list[tuple[Place, str]]) -> None:
        super().__init__(entry_faults)
        self.faults = entry_faults


def _entries(file: _File) -> tuple[DatasetEntry, ...]:
    """Every entry with the defaults applied. Raises _EntriesError."""
    entry_faults: list[tuple[Place, str]] = [
        (("defaults", key), unknown_key(key, _DEFAULTABLE)) for key in file.defaults if key not in _DEFAULTABLE
    ]
    entries = []
    for index, fields in enumerate(file.datasets):
        defaults = {key: file.defaults[key] for key in _DEFAULTABLE if key in file.defaults and key not in fields}
        for field in _inapplicable(fields.get("dataset")):
            defaults.pop(field, None)
        try:
            entries.append(DatasetEntry.model_validate(defaults | fields, context=frozenset(defaults)))
        except ValidationError as error:
            for place, text in faults_of(error, _ENTRY_KEYS):
                origin: Place = ("defaults",) if place[0] in defaults else ("datasets", index)
                entry_faults.append(((*origin, *place), text))
    if entry_faults:
        raise _EntriesError(entry_faults)
    return tuple(entries)


def _inapplicable(dataset_name: object) -> list[str]:
    """The fields that a dataset cannot have; none if its name is invalid, which is reported elsewhere."""
    try:
        dataset = Dataset.parse(str(dataset_name))
    except InputError:
        return []
    is_inapplicable = {
        "intervals": not dataset.publication.intervals,
        "symbols": dataset.layout.symbol_location is SymbolLocation.NOWHERE,
    }
    return [field for field, inapplicable in is_inapplicable.items() if inapplicable]
