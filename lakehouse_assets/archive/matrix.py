"""The archive matrix: the datasets a lake wants, each with its intervals, symbols and dates.

It is written as YAML (see ``matrix.yaml`` beside this module) and read by :func:`load_matrix`.
Whatever is wrong in it is told as an InputError, one line with every fault, each with the name
of the file and the path inside it: ``matrix.yaml: datasets[2].intervals[0]: ...``.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
    Strict,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from lakehouse_assets.archive.catalog.symbols import SymbolFacts, symbol_facts
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.grammar import SymbolPlace
from lakehouse_assets.archive.matrix_errors import (
    Place,
    did_you_mean,
    dotted,
    fault,
    faults,
    faults_of,
    parse_yaml,
    skipped,
    unknown_key,
)
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.errors import InputError

ALL = "all"
"""The word for every interval, or every symbol."""

MAX_PARTITIONS_PER_RUN = 366
_PARTITIONS_PER_RUN = {Cadence.DAILY: 31, Cadence.MONTHLY: 12}

_PACKAGED = "matrix.yaml"

_Text: TypeAlias = Annotated[str, Field(min_length=1)]


class SyncMode(StrEnum):
    """How a dataset's objects are brought into the lake."""

    AUTO = "auto"
    DIRECT = "direct"
    RELAY = "relay"
    STAGED = "staged"


class Verify(StrEnum):
    """When a dataset's copies are read and compared with their published checksums.

    ``on_read``: by whoever reads them (tables), or when a person asks. ``full`` and ``sampled``
    follow the archive asset.
    """

    ON_READ = "on_read"
    FULL = "full"
    SAMPLED = "sampled"


class SymbolState(StrEnum):
    """Whether a symbol bears its exchange's mark of settlement."""

    LISTED = "listed"
    SETTLED = "settled"


class OnBadFile(StrEnum):
    """What a quarantined or missing archive object does to its period of the table.

    ``write_what_is_good``: the others are written. ``block``: the period stays as it was.
    """

    BLOCK = "block"
    WRITE_WHAT_IS_GOOD = "write_what_is_good"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SymbolFilter(_Model):
    """Which symbols of a dataset are wanted. An empty filter wants all of them.

    A symbol is selected when its quote asset is among ``quote_assets`` (if any), a pattern of
    ``include`` matches (if any), and none of ``exclude`` does. Patterns are those of fnmatch,
    match the whole symbol, and heed upper and lower case. A symbol that ends with no known
    quote asset is selected only by a filter without ``quote_assets``.

    ``leveraged`` and ``stable_pairs``: true wants only those, false all but those, by the tables
    of ``symbol_tables.py``. ``state`` heeds the exchange's mark of a contract that was wound up
    (``CVCUSDTSETTLED``), not whether a symbol still trades: a filter's answer never changes with time,
    so a delisted symbol stays wanted.
    """

    quote_assets: tuple[_Text, ...] = ()
    include: tuple[_Text, ...] = ()
    exclude: tuple[_Text, ...] = ()
    leveraged: Annotated[bool | None, Strict()] = None
    stable_pairs: Annotated[bool | None, Strict()] = None
    state: SymbolState | None = None
    _market: tuple[str, str] = PrivateAttr(default=("binance", "spot"))

    @model_validator(mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        return {} if value == ALL else value

    def of_market(self, exchange: str, market: str) -> Self:
        """The same filter, reading quote assets as the given market has them."""
        bound = self.model_copy()
        bound._market = (exchange, market)  # noqa: SLF001
        return bound

    def __str__(self) -> str:
        """For people: ``quoted in USDT, without `*SETTLED*```."""
        parts = [
            f"quoted in {', '.join(self.quote_assets)}" if self.quote_assets else "",
            " or ".join(f"`{pattern}`" for pattern in self.include),
        ]
        parts += [
            "" if wanted is None else f"{'only' if wanted else 'no'} {what}"
            for what, wanted in (("leveraged tokens", self.leveraged), ("stable pairs", self.stable_pairs))
        ]
        parts.append(self.state or "")
        chosen = ", ".join(filter(None, parts)) or "all"
        return f"{chosen}, without {', '.join(f'`{pattern}`' for pattern in self.exclude)}" if self.exclude else chosen

    def selects(self, symbol: str) -> bool:
        """Whether the symbol is wanted."""
        exchange, market = self._market
        if self.quote_assets and exchange_named(exchange).quote_asset(symbol, market) not in self.quote_assets:
            return False
        kinds = (self.leveraged, self.stable_pairs, self.state)
        if any(kind is not None for kind in kinds) and not self._is_of_kind(symbol_facts(exchange, market, symbol)):
            return False
        if self.include and not any(fnmatchcase(symbol, pattern) for pattern in self.include):
            return False
        return not any(fnmatchcase(symbol, pattern) for pattern in self.exclude)

    def _is_of_kind(self, facts: SymbolFacts) -> bool:
        wanted = (
            (self.leveraged, facts.leveraged),
            (self.stable_pairs, facts.stable_pair),
            (None if self.state is None else self.state is SymbolState.SETTLED, facts.settled),
        )
        return all(asked is None or asked is fact for asked, fact in wanted)

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that select, in a form that heeds neither order nor repetition.

        Fields of one of three states are left out where they say nothing, so that adding such a
        field to this class changes no existing filter's identity.
        """
        fields = self.model_dump(mode="json", exclude_none=True)
        return {name: sorted(set(value)) if isinstance(value, list) else value for name, value in fields.items()}


# Validators of a dataset's fields. Each may look at the fields declared before its own; where
# one of those is faulty it is `skipped`, so that only the cause is told.


def _dataset_of(info: ValidationInfo) -> Dataset:
    dataset = info.data.get("dataset")
    if not isinstance(dataset, Dataset):
        raise skipped()
    return dataset


def _dataset(value: Any) -> Any:
    if isinstance(value, Dataset):
        return value
    if not isinstance(value, str):
        raise fault(f"{value!r} is not a dataset; write it as binance/um/klines/daily")
    try:
        return Dataset.parse(value)
    except InputError as error:
        raise fault(str(error)) from None


def _intervals(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    dataset = _dataset_of(info)
    published = dataset.publication.intervals
    name = dataset.name.rsplit("/", 1)[0]
    choose = f"choose from {', '.join(published)}, or write all"
    if not published:
        if value:
            raise fault(f"{name} has no intervals; remove the field")
        return ()
    if value is None or value in ((), []):
        raise fault(f"{name} is published by interval; {choose}")
    if value == ALL:
        return published
    if not isinstance(value, list | tuple):
        raise fault(f"{value!r} is not a list; write [{published[0]}], or all")
    found: list[tuple[Place, str]] = []
    for index, interval in enumerate(value):
        if interval not in published:
            message = f"{name} is not published {dataset.cadence} at interval {interval!r}; {choose}"
            found.append(((index,), message))
        elif interval in value[:index]:
            found.append(((index,), f"{interval!r} is listed twice"))
    if found:
        raise faults(found)
    return tuple(interval for interval in published if interval in value)


def _symbols(value: SymbolFilter, info: ValidationInfo) -> SymbolFilter:
    dataset = _dataset_of(info)
    if dataset.layout.symbol_place is SymbolPlace.NOWHERE and value.model_dump() != SymbolFilter().model_dump():
        raise fault(f"each file of {dataset} holds all symbols; remove the field")
    quotes = dataset.source.quote_assets.get(dataset.market, ())
    found: list[tuple[Place, str]] = []
    for index, quote in enumerate(value.quote_assets):
        if quote not in quotes:
            what = f"{quote!r} is not a known quote asset of {dataset.group}{did_you_mean(quote, quotes)}"
            found.append((("quote_assets", index), f"{what}; known are {', '.join(quotes)}"))
    if found:
        raise faults(found)
    return value.of_market(dataset.exchange, dataset.market)


def _day(value: Any, form: str) -> str:
    """Text of a date as YAML or a caller may give it."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return value
    raise fault(f"{value!r} is not a date; write it as {form}")


def _first_period(value: Any, info: ValidationInfo) -> Period:
    dataset = _dataset_of(info)
    publication = dataset.publication
    published_first = Period.containing(dataset.cadence, publication.first)
    if value is None:
        return published_first
    try:
        form = "YYYY-MM-DD" if dataset.cadence is Cadence.DAILY else "YYYY-MM"
        first = value if isinstance(value, Period) else dataset.period(_day(value, form))
    except InputError as error:
        raise fault(str(error)) from None
    if first.cadence is not dataset.cadence:
        raise fault(f"{first} is a {first.cadence} period, but {dataset} is published {dataset.cadence}")
    if first < published_first:
        if _is_default(info):
            return published_first
        raise fault(f"{dataset} begins with {published_first}; {first} is before that")
    if publication.ended and first > Period.containing(dataset.cadence, publication.ended):
        ended = Period.containing(dataset.cadence, publication.ended)
        raise fault(f"{dataset} ended with {ended}; {first} is after that")
    return first


def _follow_from(value: Any, info: ValidationInfo) -> date | None:
    first = info.data.get("first_period")
    if not isinstance(first, Period):
        raise skipped()
    if value is None:
        return None
    try:
        day = Period.parse(_day(value, "YYYY-MM-DD"), Cadence.DAILY).start
    except InputError as error:
        raise fault(str(error)) from None
    if day < first.start:
        if _is_default(info):
            return first.start
        raise fault(f"{day} is before the first period, {first}, of {info.data['dataset']}")
    return day


def _partitions_per_run(value: Any, info: ValidationInfo) -> Any:
    return _PARTITIONS_PER_RUN[_dataset_of(info).cadence] if value is None else value


def _is_default(info: ValidationInfo) -> bool:
    """Whether the field's value comes from ``defaults``: then it means "or later, as published"."""
    return bool(info.context) and info.field_name in info.context


class DatasetEntry(_Model):
    """One dataset of the matrix, checked against what its exchange publishes.

    ``intervals`` are in the exchange's order, and empty where the data type has none.
    ``follow_from`` None means: from the day the sensor first runs. A ``paused`` one is not watched
    by it; runs that a person starts go on.
    """

    dataset: Annotated[InstanceOf[Dataset], BeforeValidator(_dataset)]
    intervals: Annotated[tuple[str, ...], BeforeValidator(_intervals)] = Field(default=None, validate_default=True)
    symbols: Annotated[SymbolFilter, AfterValidator(_symbols)] = Field(
        default_factory=SymbolFilter, validate_default=True
    )
    first_period: Annotated[InstanceOf[Period], BeforeValidator(_first_period)] = Field(
        default=None, validate_default=True
    )
    follow_from: Annotated[date | None, BeforeValidator(_follow_from)] = None
    catch_up: Annotated[bool, Strict()] = False
    paused: Annotated[bool, Strict()] = False
    partitions_per_run: Annotated[
        int, Strict(), Field(ge=1, le=MAX_PARTITIONS_PER_RUN), BeforeValidator(_partitions_per_run)
    ] = Field(default=None, validate_default=True)
    mode: SyncMode = SyncMode.AUTO
    verify: Verify = Verify.ON_READ
    on_bad_file: OnBadFile = OnBadFile.WRITE_WHAT_IS_GOOD

    @property
    def last_period(self) -> Period | None:
        """The last period of a publication that ended; None while it goes on."""
        ended = self.dataset.publication.ended
        return None if ended is None else Period.containing(self.dataset.cadence, ended)

    @property
    def code_version(self) -> str:
        """Twelve hex digits that change when what makes a period complete changes.

        That is intervals and symbol filter; the order they are written in does not matter.
        """
        wanted = {"intervals": sorted(self.intervals), **self.symbols.identity}
        return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]


class ArchiveMatrix(_Model):
    """Every wanted dataset, each once, in the order written."""

    entries: tuple[DatasetEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        places: dict[Dataset, int] = {}
        found: list[tuple[Place, str]] = []
        for index, entry in enumerate(self.entries):
            first = places.setdefault(entry.dataset, index)
            if first != index:
                found.append((("datasets", index, "dataset"), f"{entry.dataset} is already datasets[{first}]"))
        if found:
            raise faults(found)
        return self

    def entry(self, dataset_name: str) -> DatasetEntry:
        """The entry of a dataset, or InputError naming those of the matrix."""
        names = [entry.dataset.name for entry in self.entries]
        if dataset_name in names:
            return self.entries[names.index(dataset_name)]
        raise InputError(
            f"{dataset_name!r} is not in the archive matrix{did_you_mean(dataset_name, names)}; "
            f"it has {', '.join(names)}."
        )


class _File(_Model):
    """The file's top level; entries are read one by one, once the defaults are applied."""

    defaults: dict[str, Any] = Field(default_factory=dict)
    datasets: list[dict[str, Any]] = Field(min_length=1)


_DEFAULTABLE = tuple(name for name in DatasetEntry.model_fields if name != "dataset")
_ENTRY_KEYS = {"": tuple(DatasetEntry.model_fields), "symbols": tuple(SymbolFilter.model_fields)}
_FILE_KEYS = {"": tuple(_File.model_fields), "datasets": _ENTRY_KEYS[""], "defaults": _DEFAULTABLE}


def load_matrix(path: Path | None = None) -> ArchiveMatrix:
    """Read a matrix; None reads the one that the package brings.

    ``defaults`` fill the fields that an entry lacks, as far as they can apply: intervals and symbols
    only where the data type has some, ``first_period`` and ``follow_from`` no earlier than the
    exchange publishes. Raises InputError with every fault found.
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
        raise InputError(f"{name}: the file is not a mapping; it begins with `datasets:`.")
    try:
        return ArchiveMatrix(entries=_entries(_File.model_validate(document)))
    except ValidationError as error:
        found = faults_of(error, _FILE_KEYS)
    except _EntriesError as error:
        found = error.found
    # Fields from `defaults` are checked once per entry, and told once.
    told = dict.fromkeys(": ".join(filter(None, (name, dotted(place), text.rstrip(".")))) for place, text in found)
    raise InputError("; ".join(told))


class _EntriesError(Exception):
    """Faults of all entries together."""

    def __init__(self, found: list[tuple[Place, str]]) -> None:
        super().__init__(found)
        self.found = found


def _entries(file: _File) -> tuple[DatasetEntry, ...]:
    """Every entry with the defaults applied. Raises _EntriesError."""
    found: list[tuple[Place, str]] = [
        (("defaults", key), unknown_key(key, _DEFAULTABLE)) for key in file.defaults if key not in _DEFAULTABLE
    ]
    entries = []
    for index, written in enumerate(file.datasets):
        lacking = {key: file.defaults[key] for key in _DEFAULTABLE if key in file.defaults and key not in written}
        for field in _inapplicable(written.get("dataset")):
            lacking.pop(field, None)
        try:
            entries.append(DatasetEntry.model_validate(lacking | written, context=frozenset(lacking)))
        except ValidationError as error:
            for place, text in faults_of(error, _ENTRY_KEYS):
                origin: Place = ("defaults",) if place[0] in lacking else ("datasets", index)
                found.append(((*origin, *place), text))
    if found:
        raise _EntriesError(found)
    return tuple(entries)


def _inapplicable(dataset_name: object) -> list[str]:
    """Fields that a dataset cannot have; none where its name is faulty, which is told elsewhere."""
    try:
        dataset = Dataset.parse(str(dataset_name))
    except InputError:
        return []
    lacks = {
        "intervals": not dataset.publication.intervals,
        "symbols": dataset.layout.symbol_place is SymbolPlace.NOWHERE,
    }
    return [field for field, lacking in lacks.items() if lacking]
