"""Perfect files of every data type that becomes a table: each column of a file, and each column of the table, by the
fact that it contains.

Facts (market_facts.py) are what happened: a candle, a trade. A line here says how an exchange writes them
(file_forms.py), and what the table should contain. It follows what is known of the exchanges' files (columns, headers,
units), never the schemas that read them.
"""

from __future__ import annotations

from datetime import date

from lakehouse_assets_tests.orchestration.tables.file_forms import Form, Kind
from lakehouse_assets_tests.orchestration.tables.market_facts import (
    LABELS_MOVED,
    NEARER_SINCE,
    aggregated_trades,
    book_depth,
    book_tickers,
    candles,
    contract_trades,
    funding,
    liquidations,
    metrics,
    option_summaries,
    quotes,
    trades,
    volatility,
)

# Binance

_MICROSECONDS_SINCE = date(2025, 1, 1)
_HEADERS_SINCE = date(2022, 8, 11)
_eight_decimals = "{:.8f}".format

_KLINES = (
    "open_time=time:ms open high low close volume={volume} close_time:ms quote_volume={quote} count taker_buy_volume="
    "{taker} taker_buy_quote_volume={taker_quote} ignore=0"
)
_TRADED = _KLINES.format(volume="base", quote="quote", taker="taker_base", taker_quote="taker_quote")
_OF_CONTRACTS = _KLINES.format(volume="contracts", quote="base", taker="taker_contracts", taker_quote="taker_base")
_COMPUTED = _KLINES.format(volume="0", quote="0", taker="0", taker_quote="0")
_DEPTH = "timestamp=time:text percentage depth notional"
_BEST_MATCH = " is_best_match=yes"


def _spot(columns: str) -> tuple[Form, ...]:
    """Never a header; microseconds since 2025."""
    return Form(columns, ""), Form(columns.replace(":ms", ":us"), "", _MICROSECONDS_SINCE)


def _futures(columns: str) -> tuple[Form, ...]:
    """A header since 2022."""
    return Form(columns, ""), Form(columns, since=_HEADERS_SINCE)


def _binance_futures(market: str) -> dict[str, Kind]:
    cm = market == "cm"
    size, value = ("contracts", "base") if cm else ("base", "quote")
    volumes = (
        "volume=contracts close_time base_volume=base trade_count=count taker_buy_volume=taker_contracts "
        "taker_buy_base_volume=taker_base"
        if cm
        else "volume=base close_time quote_volume=quote trade_count=count taker_buy_volume=taker_base "
        "taker_buy_quote_volume=taker_quote"
    )
    metric_columns = (
        "create_time=label:text symbol sum_open_interest=interest sum_open_interest_value=value "
        "count_toptrader_long_short_ratio=top_accounts sum_toptrader_long_short_ratio=top_positions "
        "count_long_short_ratio=accounts sum_taker_long_short_vol_ratio=takers"
    )
    computed = Kind(candles, "time open high low close close_time count", _futures(_COMPUTED))
    trade_id = "id" if cm else "id_with_gaps"
    return {
        "klines": Kind(candles, f"time open high low close {volumes}", _futures(_OF_CONTRACTS if cm else _TRADED)),
        "markPriceKlines": computed,
        "indexPriceKlines": computed,
        "premiumIndexKlines": computed,
        "trades": Kind(
            trades,
            f"time trade_id={trade_id} price size={size} side {value}_size={value}",
            _futures(f"id={trade_id} price qty={size} {value}_qty={value} time:ms is_buyer_maker=side:maker"),
        ),
        "aggTrades": Kind(
            aggregated_trades,
            f"time agg_trade_id=id price size={size} side first_trade_id=first_id last_trade_id=last_id",
            _futures(
                f"agg_trade_id=id price quantity={size} first_trade_id=first_id last_trade_id=last_id "
                "transact_time=time:ms is_buyer_maker=side:maker"
            ),
        ),
        "fundingRate": Kind(
            funding,
            "time funding_interval_hours=hours funding_rate=rate",
            (Form("calc_time=time:ms funding_interval_hours=hours last_funding_rate=rate"),),
        ),
        "metrics": Kind(
            metrics,
            "time create_time=label open_interest=interest open_interest_value=value "
            "top_long_short_account_ratio=top_accounts top_long_short_position_ratio=top_positions "
            "global_long_short_account_ratio=accounts taker_long_short_volume_ratio=takers",
            (Form(metric_columns), *(() if cm else (Form(metric_columns, since=LABELS_MOVED),))),
        ),
        "bookDepth": Kind(
            book_depth,
            "time percentage depth notional",
            (Form(_DEPTH), Form(_DEPTH, since=NEARER_SINCE)),
        ),
        "bookTicker": Kind(
            book_tickers,
            "time update_id=id bid_price bid_size ask_price ask_size event_time=sent",
            (
                Form(
                    "update_id=id best_bid_price=bid_price best_bid_qty=bid_size best_ask_price=ask_price "
                    "best_ask_qty=ask_size transaction_time=time:ms event_time=sent:ms"
                ),
            ),
        ),
    }


_BINANCE = {
    "spot": {
        "klines": Kind(
            candles,
            "time open high low close volume=base close_time quote_volume=quote trade_count=count "
            "taker_buy_volume=taker_base taker_buy_quote_volume=taker_quote",
            _spot(_TRADED),
            _eight_decimals,
        ),
        "trades": Kind(
            trades,
            "time trade_id=id price size=base side quote_size=quote best_match=yes",
            _spot(f"id price qty=base quote_qty=quote time:ms is_buyer_maker=side:Maker{_BEST_MATCH}"),
            _eight_decimals,
        ),
        "aggTrades": Kind(
            aggregated_trades,
            "time agg_trade_id=id price size=base side first_trade_id=first_id last_trade_id=last_id best_match=yes",
            _spot(
                "agg_id=id price qty=base first_id last_id timestamp=time:ms is_buyer_maker=side:Maker" + _BEST_MATCH
            ),
            _eight_decimals,
        ),
    },
    "um": _binance_futures("um"),
    "cm": _binance_futures("cm")
    | {
        "liquidationSnapshot": Kind(
            liquidations,
            "time side order_type time_in_force original_size=size price average_price order_status last_fill_size="
            "last_fill filled_size=size",
            (
                Form(
                    "time:ms side:upper order_type time_in_force original_quantity=size price average_price "
                    "order_status last_fill_quantity=last_fill accumulated_fill_quantity=size"
                ),
            ),
            rows_twice=True,
        )
    },
    "option": {
        "BVOLIndex": Kind(
            volatility,
            "time base_asset quote_asset index_value",
            (Form("calc_time=time:ms symbol base_asset quote_asset index_value"),),
        ),
        "EOHSummary": Kind(
            option_summaries,
            "symbol=underlying time contract option_type strike_price=strike expiration open high low close volume "
            "quote_volume=value bid_price ask_price bid_size ask_size bid_iv ask_iv mark_price mark_iv delta gamma "
            "vega theta open_interest=interest open_interest_value=interest_value",
            (
                Form(
                    "date=time:date hour=time:hour symbol=contract underlying type=letter strike=date_and_strike open "
                    "high low close volume_contracts=volume volume_usdt=value best_bid_price=bid_price best_ask_price="
                    "ask_price best_bid_qty=bid_size best_ask_qty=ask_size best_buy_iv=bid_iv best_sell_iv=ask_iv "
                    "mark_price mark_iv delta gamma vega theta openinterest_contracts=interest "
                    "openinterest_usdt=interest_value"
                ),
            ),
            _eight_decimals,
        ),
    },
}

# Bybit, BitMEX

_CONTRACT_TRADES = (
    "timestamp={time} symbol side:title size price tickDirection=tick trdMatchID=uuid grossValue=gross:e "
    "homeNotional=home foreignNotional=foreign"
)
_CONTRACT_TABLE = (
    "symbol time{ns} trade_id=uuid price size side tick_direction=tick gross_value=gross base_size=base "
    "quote_size=quote"
)
_BYBIT_CONTRACTS = _CONTRACT_TRADES.format(time="time:s4")
_BYBIT_SPOT = "id=number timestamp=time:ms price volume=base side"
_A_COLUMN_MORE = date(2025, 3, 1)
"""The date is not known."""

_BYBIT = {
    "derivatives": {
        "trades": Kind(
            contract_trades,
            _CONTRACT_TABLE.format(ns=""),
            (Form(_BYBIT_CONTRACTS, newest_first=True), Form(f"{_BYBIT_CONTRACTS} RPI=0", since=_A_COLUMN_MORE)),
        )
    },
    "spot": {
        "trades": Kind(
            trades,
            "time trade_id=number price size=base side",
            (Form(_BYBIT_SPOT), Form(f"{_BYBIT_SPOT} rpi=0", since=_A_COLUMN_MORE)),
        )
    },
}

_BITMEX_TRADES = _CONTRACT_TRADES.format(time="ns:stamp")
_BITMEX = {
    "derivatives": {
        "trade": Kind(
            contract_trades,
            _CONTRACT_TABLE.format(ns=" ts_ns=ns"),
            (Form(_BITMEX_TRADES), Form(f"{_BITMEX_TRADES} trdType=order_type", since=date(2024, 1, 1))),
        ),
        "quote": Kind(
            quotes,
            "symbol time ts_ns=ns bid_price bid_size ask_price ask_size",
            (
                Form(
                    "timestamp=ns:stamp symbol bidSize=bid_size bidPrice=bid_price askPrice=ask_price askSize=ask_size"
                ),
            ),
        ),
    }
}

# Gate: no header, the newest row first; 1 is sell and 2 is buy, as the exchange says


def _gate(columns: str) -> tuple[Form, ...]:
    return (Form(columns, "", newest_first=True),)


def _gate_candles(volume: str) -> Kind:
    return Kind(
        candles,
        f"time open high low close volume={volume}",
        _gate(f"timestamp=time:s volume={volume} close high low open"),
    )


_GATE_TRADES = Kind(
    trades, "time trade_id=id price size=contracts side", _gate("timestamp=time:s6 id price size=signed_contracts")
)
_GATE = {
    "spot": {
        "deals": Kind(
            trades,
            "time trade_id=id price size=base side",
            _gate("timestamp=time:s6 id price size=base side:number"),
        ),
        "candlesticks": _gate_candles("base"),
    },
    "futures_usdt": {"trades": _GATE_TRADES, "candlesticks": _gate_candles("contracts")},
    "futures_btc": {"trades": _GATE_TRADES, "candlesticks": _gate_candles("contracts")},
    "delivery_usdt": {"trades": _GATE_TRADES},
    "tradfi": {"candlesticks": _gate_candles("base")},
}

# HTX

_OLD_HEADERS_SINCE = date(2026, 3, 1)


def _old_htx(market: str, columns: str, header: str) -> tuple[Form, ...]:
    """A header, with other names, since March 2026; options ended in 2021."""
    headed = () if market == "old_option" else (Form(columns, header, _OLD_HEADERS_SINCE),)
    return Form(columns, ""), *headed


def _old_market(market: str) -> dict[str, Kind]:
    spot, turnover = market == "old_spot", market in {"old_linear_swap", "old_option"}
    vol, volumes = ("quote", "base quote_volume=quote") if spot else ("contracts", "contracts base_volume=base")
    sizes = "amount=base" if spot else "amount=contracts quantity=base" + (" trade_turnover=quote" if turnover else "")
    volume_headers = (
        "Volume (Base Currency)"
        if spot
        else "Volume (in Contracts),Volume (in Base Currency)" + (",Turnover" if turnover else "")
    )
    return {
        "klines": Kind(
            candles,
            f"time open high low close volume={volumes}",
            _old_htx(
                market,
                f"id=time:s open close high low vol={vol} amount=base",
                "timestamp,open,close,high,low,vol,amount",
            ),
        ),
        "trades": Kind(
            trades,
            f"time trade_id=id price side {'size=base' if spot else 'size=contracts base_size=base'}"
            + (" quote_size=quote" if turnover else ""),
            _old_htx(
                market,
                f"id ts=time:ms price {sizes} direction=side",
                f"Trade ID,Trade Time,Trade Price,{volume_headers},Side (buy/sell)",
            ),
        ),
    }


def _new_market(size: str) -> dict[str, Kind]:
    return {
        "klines": Kind(
            candles,
            f"time open high low close volume={size} base_volume=base quote_volume=quote",
            (Form(f"instId=symbol open high low close vol={size} volCcy=base volCcyQuote=quote ts=time:ms"),),
        ),
        "trades": Kind(
            trades,
            f"time trade_id=id price size={size} side",
            (Form(f"instId=symbol tradeId=id px=price side size={size} ts=time:ms"),),
        ),
    }


_HTX = {
    "spot": _new_market("base"),
    "futures": _new_market("contracts"),
    **{
        market: _old_market(market)
        for market in ("old_spot", "old_future", "old_swap", "old_linear_swap", "old_option")
    },
}

# KuCoin


def _kucoin_trades(size: str) -> Kind:
    return Kind(
        trades,
        f"time trade_id=id_text price size={size} side",
        (Form(f"trade_id=id_text trade_time=time:ms price size={size} side:upper"),),
    )


_KUCOIN = {
    "spot": {
        "trades": _kucoin_trades("base"),
        "klines": Kind(
            candles,
            "time open high low close volume=base quote_volume=quote",
            (Form("time:s open close high low volume=base turnover=quote"),),
        ),
    },
    "futures": {
        "trades": _kucoin_trades("contracts"),
        "klines": Kind(
            candles,
            "time open high low close volume=contracts",
            (Form("time:ms open high low close volume=contracts"),),
        ),
        "fundingRates": Kind(funding, "symbol time funding_rate=rate", (Form("symbol time:ms fundingRate=rate"),)),
    },
}

KINDS: dict[tuple[str, str, str], Kind] = {
    (exchange, market, data_type): kind
    for exchange, markets in {
        "binance": _BINANCE,
        "bybit": _BYBIT,
        "bitmex": _BITMEX,
        "gate": _GATE,
        "htx": _HTX,
        "kucoin": _KUCOIN,
    }.items()
    for market, kinds in markets.items()
    for data_type, kind in kinds.items()
}
"""By exchange, market and data type."""
