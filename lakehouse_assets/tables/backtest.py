"""Candles and trades in the shape in which backtesting programs load them.

Neither program is needed here. freqtrade reads feather files of candles, a file per pair and timeframe
(its ``--data-format-ohlcv feather``, class FeatherDataHandler). nautilus_trader's data wranglers take pandas
frames (``nautilus_trader.persistence.wranglers``); ``.to_pandas()`` of what is returned here is such a frame
once its column ``timestamp`` is the index.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lakehouse_assets.errors import InputError

_OHLCV = ("open", "high", "low", "close", "volume")


def freqtrade_candles(candles: pl.DataFrame) -> pl.DataFrame:
    """``date open high low close volume`` of one symbol and interval, sorted; ``date`` is UTC in milliseconds.

    ``candles`` are rows of a klines table. Raises InputError where they are of several symbols or intervals.
    """
    _require_one(candles, "symbol", "interval")
    return candles.sort("time").select(
        pl.col("time").cast(pl.Datetime("ms", "UTC")).alias("date"), *(pl.col(name) for name in _OHLCV)
    )


def freqtrade_file(base: str, quote: str, interval: str, *, settle: str | None = None) -> Path:
    """Where freqtrade looks for a pair's candles, below ``user_data/data/<exchange>``.

    ``settle`` is the settlement asset of a futures pair: ``futures/BTC_USDT_USDT-1h-futures.feather``; a
    spot pair is ``BTC_USDT-1h.feather``.
    """
    if settle is None:
        return Path(f"{base}_{quote}-{interval}.feather")
    return Path("futures") / f"{base}_{quote}_{settle}-{interval}-futures.feather"


def write_freqtrade(candles: pl.DataFrame, data_dir: Path, file: Path) -> Path:
    """Write a pair's candles for freqtrade below ``data_dir`` and return the file, which is replaced."""
    target = data_dir / file
    target.parent.mkdir(parents=True, exist_ok=True)
    # Feather version 2 is Arrow's IPC file; pandas reads no string views.
    freqtrade_candles(candles).write_ipc(target, compression="lz4", compat_level=pl.CompatLevel.oldest())
    return target


def nautilus_bars(candles: pl.DataFrame) -> pl.DataFrame:
    """``timestamp open high low close volume`` for BarDataWrangler: ``timestamp`` is when a candle closed, UTC.

    nautilus_trader stamps a bar with its end, so that a backtest never sees a price before it was known;
    ``time`` of a klines table is the opening. Raises InputError where rows are of several symbols or intervals.
    """
    _require_one(candles, "symbol", "interval")
    # Its last instant is 59.999 or 59.999999, by the unit of the file.
    closed = pl.col("close_time").dt.truncate("1s").dt.offset_by("1s")
    return candles.sort("time").select(
        closed.cast(pl.Datetime("ns", "UTC")).alias("timestamp"), *(pl.col(name) for name in _OHLCV)
    )


def nautilus_trades(trades: pl.DataFrame) -> pl.DataFrame:
    """``timestamp price quantity side trade_id`` for TradeTickDataWrangler, sorted, of one symbol.

    ``trades`` are rows of a trades or aggTrades table. Raises InputError where they are of several symbols.
    """
    _require_one(trades, "symbol")
    number = "trade_id" if "trade_id" in trades.columns else "agg_trade_id"
    return trades.sort("time", number).select(
        pl.col("time").cast(pl.Datetime("ns", "UTC")).alias("timestamp"),
        "price",
        pl.col("size").alias("quantity"),
        pl.col("side").str.to_uppercase(),
        pl.col(number).cast(pl.String).alias("trade_id"),
    )


def _require_one(rows: pl.DataFrame, *names: str) -> None:
    for name in names:
        if name in rows.columns and rows[name].n_unique() > 1:
            several = ", ".join(sorted(map(str, rows[name].unique()))[:3])
            raise InputError(f"Rows of one {name} are converted at a time; these have {several}.")
