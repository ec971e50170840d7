"""Which symbols of a dataset the archive matrix selects."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, Strict, model_validator

from lakehouse_assets.archive.catalog.symbols import SymbolFacts, symbol_facts
from lakehouse_assets.archive.exchanges import exchange_named

ALL = "all"
"""The word that selects every interval, or every symbol."""

_Text: TypeAlias = Annotated[str, Field(min_length=1)]


class SymbolState(StrEnum):
    """Whether a symbol carries its exchange's settlement mark."""

    LISTED = "listed"
    SETTLED = "settled"


class SymbolFilter(BaseModel):
    """Selects symbols of a dataset. An empty filter selects all of them.

    A symbol is selected if its quote asset is among ``quote_assets`` (if given), a pattern of ``include`` matches (if
    given), and no pattern of ``exclude`` does. Patterns are those of fnmatch, match the whole symbol, and are
    case-sensitive. A symbol that ends with no known quote asset is selected only by a filter without ``quote_assets``.

    ``leveraged`` and ``stable_pairs``: true selects only those, false all others, by the tables of
    ``symbol_tables.py``. ``state`` refers to the exchange's mark of a settled contract (``CVCUSDTSETTLED``), not to
    whether a symbol still trades: a filter's result never changes with time, so a delisted symbol stays selected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quote_assets: tuple[_Text, ...] = ()
    include: tuple[_Text, ...] = ()
    exclude: tuple[_Text, ...] = ()
    leveraged: Annotated[bool | None, Strict()] = None
    stable_pairs: Annotated[bool | None, Strict()] = None
    state: SymbolState | None = None
    _market: tuple[str, str] = PrivateAttr(default=("binance", "spot"))

    @model_validator(mode="before")
    @classmethod
    def _from_all(cls, value: Any) -> Any:
        return {} if value == ALL else value

    def of_market(self, exchange: str, market: str) -> Self:
        """The same filter, with the quote assets of the given market."""
        bound = self.model_copy()
        bound._market = (exchange, market)  # noqa: SLF001
        return bound

    def __str__(self) -> str:
        """For display: ``quoted in USDT, without `*SETTLED*```."""
        parts = [
            f"quoted in {', '.join(self.quote_assets)}" if self.quote_assets else "",
            " or ".join(f"`{pattern}`" for pattern in self.include),
        ]
        parts += [
            "" if wanted is None else f"{'only' if wanted else 'no'} {kind}"
            for kind, wanted in (("leveraged tokens", self.leveraged), ("stable pairs", self.stable_pairs))
        ]
        parts.append(self.state or "")
        chosen = ", ".join(filter(None, parts)) or "all"
        return f"{chosen}, without {', '.join(f'`{pattern}`' for pattern in self.exclude)}" if self.exclude else chosen

    def selects(self, symbol: str) -> bool:
        """Whether the filter selects the symbol."""
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
        return all(option is None or option is fact for option, fact in wanted)

    @property
    def identity(self) -> dict[str, Any]:
        """The filter's fields, independent of order and repetition.

        Optional fields that are not set are left out, so that adding such a field to this class changes no existing
        filter's identity.
        """
        fields = self.model_dump(mode="json", exclude_none=True)
        return {name: sorted(set(value)) if isinstance(value, list) else value for name, value in fields.items()}
