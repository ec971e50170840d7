"""Candles and trades in the formats that the backtesting programs freqtrade and nautilus_trader load.

Neither program has to be installed. freqtrade reads one feather file of candles per pair and timeframe
(``--data-format-ohlcv feather``, class FeatherDataHandler). The data wranglers of nautilus_trader
(``nautilus_trader.persistence.wranglers``) take pandas frames with the column ``timestamp`` as the index: call
``.to_pandas().set_index("timestamp")`` on the frames returned by this module.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lakehouse_assets.errors import InputError

_OHLCV = ("open", "high", "low", "close", "volume")


def freqtrade_candles(candles: pl.DataFrame) -> pl.DataFrame:
    """Candles of one symbol and interval as ``date open high low close volume``, sorted by ``date``.

    ``date`` is the opening time in UTC with milliseconds, ``volume`` as in the klines table (in the base asset, in
    coin-margined markets in contracts). ``candles`` are rows of a klines table. Raises InputError when they have
    several symbols or intervals.
    """
    _require_one(candles, "symbol", "interval")
    return candles.sort("time").select(
        pl.col("time").cast(pl.Datetime("ms", "UTC")).alias("date"), *(pl.col(name) for name in _OHLCV)
    )


def freqtrade_file(base: str, quote: str, interval: str, *, settle: str | None = None) -> Path:
    """The path of a pair's candles below freqtrade's ``user_data/data/<exchange>``.

    It is ``BTC_USDT-1h.feather`` for a spot pair and ``futures/BTC_USDT_USDT-1h-futures.feather`` for a futures
    pair, whose settlement asset is ``settle``.
    """
    if settle is None:
        return Path(f"{base}_{quote}-{interval}.feather")
    return Path("futures") / f"{base}_{quote}_{settle}-{interval}-futures.feather"


def write_freqtrade(candles: pl.DataFrame, data_dir: Path, file: Path) -> Path:
    """Write a pair's candles as freqtrade's feather file ``data_dir / file``, and return its path.

    An existing file is replaced. Raises InputError as `freqtrade_candles` does.
    """
    target = data_dir / file
    target.parent.mkdir(parents=True, exist_ok=True)
    # Feather version 2 is Arrow's IPC file format; pandas cannot read string views.
    freqtrade_candles(candles).write_ipc(target, compression="lz4", compat_level=pl.CompatLevel.oldest())
    return target


def nautilus_bars(candles: pl.DataFrame) -> pl.DataFrame:
    """Candles of one symbol and interval as ``timestamp open high low close volume`` for BarDataWrangler, sorted.

    ``timestamp`` is the time at which the candle closed, in UTC with nanoseconds. nautilus_trader stamps a bar with
    its end, so that a backtest never sees a price before it was known; ``time`` of a klines table is the opening time.
    ``candles`` need the column ``close_time``. Raises InputError when they have several symbols or intervals.
    """
    _require_one(candles, "symbol", "interval")
    # close_time is the last instant of the candle, :59.999 or :59.999999 depending on the file's unit.
    closed = pl.col("close_time").dt.truncate("1s").dt.offset_by("1s")
    return candles.sort("time").select(
        closed.cast(pl.Datetime("ns", "UTC")).alias("timestamp"), *(pl.col(name) for name in _OHLCV)
    )


def nautilus_trades(trades: pl.DataFrame) -> pl.DataFrame:
    """Trades of one symbol as ``timestamp price quantity side trade_id`` for TradeTickDataWrangler, sorted by time.

    ``timestamp`` is UTC with nanoseconds, ``side`` (the taker's) is ``BUY`` or ``SELL``, ``trade_id`` is text.
    ``trades`` are rows of a trades or aggTrades table. Raises InputError when they have several symbols.
    """
    _require_one(trades, "symbol")
    id_column = "trade_id" if "trade_id" in trades.columns else "agg_trade_id"
    return trades.sort("time", id_column).select(
        pl.col("time").cast(pl.Datetime("ns", "UTC")).alias("timestamp"),
        "price",
        pl.col("size").alias("quantity"),
        pl.col("side").str.to_uppercase(),
        pl.col(id_column).cast(pl.String).alias("trade_id"),
    )


def _require_one(rows: pl.DataFrame, *names: str) -> None:
    for name in names:
        if name in rows.columns and rows[name].n_unique() > 1:
            examples = ", ".join(sorted(map(str, rows[name].unique()))[:3])
            raise InputError(f"Pass rows of one {name} only; these have {examples}.")
