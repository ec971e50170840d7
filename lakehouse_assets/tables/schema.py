"""The registry of all table schemas, by (exchange, market, data type)."""

from __future__ import annotations

from lakehouse_assets.errors import InputError
from lakehouse_assets.tables.schemas import binance, binance_options, bitmex, bybit, gate, htx, kucoin
from lakehouse_assets.tables.schemas.model import TableSchema

TABLES: tuple[TableSchema, ...] = (
    *binance.TABLES,
    *binance_options.TABLES,
    *bybit.TABLES,
    *bitmex.TABLES,
    *gate.TABLES,
    *htx.TABLES,
    *kucoin.TABLES,
)

_BY_NAME = {(schema.exchange, schema.market, schema.data_type): schema for schema in TABLES}


def schema_of(exchange: str, market: str, data_type: str) -> TableSchema:
    """The schema of a table. Raises InputError that names the tables which exist."""
    schema = _BY_NAME.get((exchange, market, data_type))
    if schema is not None:
        return schema
    problem = f"There is no table {exchange}/{market}/{data_type}"
    for parent, children in (
        (f"{exchange}/{market}", [s.data_type for s in TABLES if (s.exchange, s.market) == (exchange, market)]),
        (exchange, [s.market for s in TABLES if s.exchange == exchange]),
    ):
        if children:
            raise InputError(f"{problem}; {parent} has {', '.join(dict.fromkeys(children))}.")
    raise InputError(f"{problem}; there are tables of {', '.join(dict.fromkeys(s.exchange for s in TABLES))}.")
