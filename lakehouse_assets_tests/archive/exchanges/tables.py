"""One test table per exchange: published keys with their parsed parts, and unrecognized keys with their reason.

A place is market, data type, cadence, symbol, interval, period and part; ``-`` if absent.
Binance's tables are in ``archive/test_binance_grammar.py``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    keys: dict[str, str]
    unrecognized: dict[str, str]


_NEW = "historical_data/futures/daily"

TABLES = {
    "bybit": Table(
        keys={
            "trading/BTCUSDT/BTCUSDT2026-07-25.csv.gz": "derivatives trades daily BTCUSDT - 2026-07-25 -",
            "trading/ETH-27JUN25/ETH-27JUN252024-08-23.csv.gz": "derivatives trades daily ETH-27JUN25 - 2024-08-23 -",
            "trading/10000LADYSUSDT/10000LADYSUSDT2024-01-01.csv.gz": (
                "derivatives trades daily 10000LADYSUSDT - 2024-01-01 -"
            ),
            "spot/BTCUSDT/BTCUSDT_2026-07-25.csv.gz": "spot trades daily BTCUSDT - 2026-07-25 -",
            "spot/BTCUSDT/BTCUSDT-2022-11.csv.gz": "spot trades monthly BTCUSDT - 2022-11 -",
            "premium_index/BTCUSD/BTCUSD2019-10-01_premium_index.csv.gz": (
                "derivatives premium_index daily BTCUSD - 2019-10-01 -"
            ),
            "spot_index/BTCUSD/BTCUSD2020-01-01_index_price.csv.gz": (
                "derivatives spot_index daily BTCUSD - 2020-01-01 -"
            ),
        },
        unrecognized={
            "trading/DATAOLD01USDT/DATAUSDT2024-08-23.csv.gz": "its folder is of another symbol",
            "kline_for_metatrader4/ADAUSDT/2021/ADAUSDT_15_2021-01-01_2021-01-31.csv.gz": "UTC+3",
            "trade/option/BTC/2026-08-03_BTC_USDT.trades.csv.zip": "unannounced tree of options",
            "mark_kline/option/BTC/2026-08-03.csv.zip": "unannounced tree of options",
            "trading/BTCUSDT/index.html": "index page",
            "trading/BTCUSDT/": "folder marker",
            "trading/BTCUSDT/BTCUSDT2024-02-30.csv.gz": "2024-02-30 is not a date",
            "spot/BTCUSDT/BTCUSDT-2022-13.csv.gz": "2022-13 is not a date",
            "spot/BTCUSDT/BTCUSDT_2022-11.csv.gz": "not of the data set's form",
            "spot/BTCUSDT/ETHUSDT-2022-11.csv.gz": "its folder is of another symbol",
            "trading/../secret2024-01-01.csv.gz": "not of the data set's form",
            "README": "outside every known data set",
        },
    ),
    "bitmex": Table(
        keys={
            "data/trade/20141122.csv.gz": "derivatives trade daily * - 2014-11-22 -",
            "data/quote/20240229.csv.gz": "derivatives quote daily * - 2024-02-29 -",
        },
        unrecognized={
            "data/trade/": "folder marker",
            "data/trade/20230229.csv.gz": "20230229 is not a date",
            "data/trade/2024-01-01.csv.gz": "not of the data set's form",
            "data/trade/XBTUSD-20240101.csv.gz": "not of the data set's form",
            "data/orderBookL2/20240101.csv.gz": "outside every known data set",
            "index.html": "web assets",
        },
    ),
    "gate": Table(
        keys={
            "spot/deals/201801/ADA_BTC-201801.csv.gz": "spot deals monthly ADA_BTC - 2018-01 -",
            "spot/candlesticks_1h/202607/BTC_USDT-202607.csv.gz": "spot candlesticks monthly BTC_USDT 1h 2026-07 -",
            "spot/candlesticks_1m/202608/0G_USDT-20260801.csv.gz": "spot candlesticks daily 0G_USDT 1m 2026-08-01 -",
            "spot/orderbooks/202609/BTC_USDT-2026092720.csv.gz": "spot orderbooks daily BTC_USDT - 2026-09-27 20",
            "spot/orderbooks_slice/202108/BTC_USDT-2021080103.gz": (
                "spot orderbooks_slice daily BTC_USDT - 2021-08-01 03"
            ),
            "futures_usdt/trades/202607/BTC_USDT-202607.csv.gz": "futures_usdt trades monthly BTC_USDT - 2026-07 -",
            "futures_usdt/mark_prices/202107/BTC_USDT-202107.csv.gz": (
                "futures_usdt mark_prices monthly BTC_USDT - 2021-07 -"
            ),
            "futures_usdt/funding_updates/202007/BTC_USDT-202007.csv.gz": (
                "futures_usdt funding_updates monthly BTC_USDT - 2020-07 -"
            ),
            "futures_usdt/funding_applies/202007/BTC_USDT-202007.csv.gz": (
                "futures_usdt funding_applies monthly BTC_USDT - 2020-07 -"
            ),
            "futures_usdt/candlesticks_5m/202601/BTC_USDT-202601.csv.gz": (
                "futures_usdt candlesticks monthly BTC_USDT 5m 2026-01 -"
            ),
            "futures_usdt/orderbooks/202107/1INCH_USDT-2021071200.csv.gz": (
                "futures_usdt orderbooks daily 1INCH_USDT - 2021-07-12 00"
            ),
            "futures_usdt/orderbooks_slice/202408/BTC_USDT-2024080100.gz": (
                "futures_usdt orderbooks_slice daily BTC_USDT - 2024-08-01 00"
            ),
            "futures_btc/trades/202003/BTC_USD-202003.csv.gz": "futures_btc trades monthly BTC_USD - 2020-03 -",
            "futures_btc/mark_prices/202003/BTC_USD-202003.csv.gz": (
                "futures_btc mark_prices monthly BTC_USD - 2020-03 -"
            ),
            "futures_btc/funding_updates/202003/BTC_USD-202003.csv.gz": (
                "futures_btc funding_updates monthly BTC_USD - 2020-03 -"
            ),
            "futures_btc/funding_applies/202003/BTC_USD-202003.csv.gz": (
                "futures_btc funding_applies monthly BTC_USD - 2020-03 -"
            ),
            "futures_btc/candlesticks_1h/202107/BTC_USD-202107.csv.gz": (
                "futures_btc candlesticks monthly BTC_USD 1h 2021-07 -"
            ),
            "futures_btc/orderbooks/202212/BTC_USD-2022120123.csv.gz": (
                "futures_btc orderbooks daily BTC_USD - 2022-12-01 23"
            ),
            "futures_btc/orderbooks_slice/202212/BTC_USD-2022120123.gz": (
                "futures_btc orderbooks_slice daily BTC_USD - 2022-12-01 23"
            ),
            "delivery_usdt/trades/202305/BTC_USDT-202305.csv.gz": "delivery_usdt trades monthly BTC_USDT - 2023-05 -",
            "delivery_usdt/orderbooks/202305/BTC_USDT_20230512-2023050508.csv.gz": (
                "delivery_usdt orderbooks daily BTC_USDT_20230512 - 2023-05-05 08"
            ),
            "tradfi/candlesticks_15m/202608/A-20260803.csv.gz": "tradfi candlesticks daily A 15m 2026-08-03 -",
            "tradfi/candlesticks_1h/202605/BRK.B-202605.csv.gz": "tradfi candlesticks monthly BRK.B 1h 2026-05 -",
        },
        unrecognized={
            "spot/candlesticks_1m/202412/BTC_USDT-20241130.csv.gz": "its folder is of another month",
            "spot/orderbooks/202212/BTC_USDT-2022113023.csv.gz": "its folder is of another month",
            "spot/deals/202106/BTC_USD-202003.csv.gz": "its folder is of another month",
            "spot/orderbooks/202609/BTC_USDT-2026092724.csv.gz": "not of the data set's form",
            "spot/candlesticks_15m/202609/BTC_USDT-202609.csv.gz": "interval 15m is not published monthly",
            "spot/candlesticks_1m/201802/ABT_ETH-20180201.csv": "uncompressed twin",
            "spot/deals/202113/BTC_USDT-202113.csv.gz": "202113 is not a date",
            "spot/deals/202101/BRK.B-202101.csv.gz": "not of the data set's form",
            "tradfi/candlesticks_1h/202605/..-202605.csv.gz": "not of the data set's form",
            "spot/201905/BTC_USDT-201905.csv.gz": "a month lies where a data type belongs",
            "spot_index/202312/slice_index_1702857600": "snapshot of all pairs",
            "hk/deals/202301/BTC_USDT-202301.csv.gz": "another company's exchange",
            "futures_usd/trades/202211/BTC_USD-202211.csv.gz": "ended in 2022",
            "spot/deals/202101/": "folder marker",
            "spot/news/202101/BTC_USDT-202101.csv.gz": "outside every known data set",
        },
    ),
    "htx": Table(
        keys={
            "historical_data/spot/daily/trades/BTC-USDT/BTC-USDT-trades-2026-02-01.zip": (
                "spot trades daily BTC-USDT - 2026-02-01 -"
            ),
            "historical_data/spot/daily/klines/BTC-USDT/15m/BTC-USDT-klines-15m-2026-08-23.zip": (
                "spot klines daily BTC-USDT 15m 2026-08-23 -"
            ),
            "historical_data/spot/daily/orderbook/lv400/M-USDT/M-USDT-l2orderbook-400lv-2026-07-13.tar.gz": (
                "spot orderbook daily M-USDT - 2026-07-13 -"
            ),
            f"{_NEW}/trades/BTC-USDT-260206/BTC-USDT-260206-trades-2026-02-01.zip": (
                "futures trades daily BTC-USDT-260206 - 2026-02-01 -"
            ),
            f"{_NEW}/klines/TRX-USD-PERP/1m/TRX-USD-PERP-klines-1m-2026-07-02.zip.CHECKSUM": (
                "futures klines daily TRX-USD-PERP 1m 2026-07-02 -"
            ),
            f"{_NEW}/index-klines/BTC-USDT-PERP/15m/BTC-USDT-PERP-index-klines-15m-2026-02-01.zip": (
                "futures index_klines daily BTC-USDT-PERP 15m 2026-02-01 -"
            ),
            f"{_NEW}/mark-klines/BTC-USDT-PERP/15m/BTC-USDT-PERP-mark-price-klines-15m-2026-02-01.zip": (
                "futures mark_klines daily BTC-USDT-PERP 15m 2026-02-01 -"
            ),
            f"{_NEW}/funding-rates/BTC-USDT-PERP/BTC-USDT-PERP-fundingRates-2026-02-01.zip": (
                "futures funding_rates daily BTC-USDT-PERP - 2026-02-01 -"
            ),
            f"{_NEW}/orderbook/lv150/BTC-USDT-PERP/BTC-USDT-PERP-l2orderbook-150lv-2026-05-28.tar.gz": (
                "futures orderbook daily BTC-USDT-PERP - 2026-05-28 -"
            ),
            "data/trades/spot/daily/BTCUSDT/BTCUSDT-trades-2020-06-01.zip": (
                "old_spot trades daily BTCUSDT - 2020-06-01 -"
            ),
            "data/klines/spot/daily/BTCUSDT/15min/BTCUSDT-15min-2020-06-01.zip": (
                "old_spot klines daily BTCUSDT 15min 2020-06-01 -"
            ),
            "data/klines/spot/daily/HTUSDT/60min/HTUSDT-60min-2021-01-01.CHECKSUM": (
                "old_spot klines daily HTUSDT 60min 2021-01-01 -"
            ),
            "data/trades/linear-swap/daily/BTC-USDT/BTC-USDT-trades-2021-01-01.CHECKSUM": (
                "old_linear_swap trades daily BTC-USDT - 2021-01-01 -"
            ),
            "data/orderbook/spot/daily/lv400/PIXEL-USDT/PIXEL-USDT-l2orderbook-400lv-2026-06-21.tar.gz": (
                "old_spot orderbook daily PIXEL-USDT - 2026-06-21 -"
            ),
            "data/trades/future/daily/ADA200807/ADA200807-trades-2020-07-31.zip": (
                "old_future trades daily ADA200807 - 2020-07-31 -"
            ),
            "data/trades/linear-swap/daily/BTC-USDT/BTC-USDT-trades-2026-01-05.zip": (
                "old_linear_swap trades daily BTC-USDT - 2026-01-05 -"
            ),
            "data/klines/linear-swap/daily/BTC-USDT-230407/60min/BTC-USDT-230407-60min-2023-04-01.zip": (
                "old_linear_swap klines daily BTC-USDT-230407 60min 2023-04-01 -"
            ),
            "data/index-klines/linear-swap/daily/1INCH-USDT/15min/1INCH-USDT-15min-2021-07-02.zip": (
                "old_linear_swap index_klines daily 1INCH-USDT 15min 2021-07-02 -"
            ),
            "data/mark-price-klines/linear-swap/daily/BTC-USDT-230707/15min/BTC-USDT-230707-15min-2023-07-07.zip": (
                "old_linear_swap mark_klines daily BTC-USDT-230707 15min 2023-07-07 -"
            ),
            "data/trades/option/daily/BTC-USDT-200828-C-10500/BTC-USDT-200828-C-10500-trades-2020-08-26.zip": (
                "old_option trades daily BTC-USDT-200828-C-10500 - 2020-08-26 -"
            ),
        },
        unrecognized={
            "data/klines/spot/remark.txt": "describes the columns",
            "data/klines/spot/daily/BTCUSDT/15min/BTCUSDT-15min-2020-06-01.zip.CHECKSUM": "not of the data set's form",
            "data/klines/spot/daily/BTCUSDT/1year/BTCUSDT-1year-2020-06-01.zip": "interval 1year is not published",
            "data/klines/spot/daily/BTCUSDT/1min/BTCUSDT-15min-2020-06-01.zip": "its folder is of another interval",
            "historical_data/spot/daily/klines/BTC-USDT/1m/BTC-USDT-1m-2026-02-01.zip": "not of the data set's form",
            "historical_data/spot/daily/trades/": "folder marker",
            "assets/logo.png": "no archive file",
            "data/liquidations/swap/daily/BTC-USD/a.zip": "outside every known data set",
        },
    ),
    "kucoin": Table(
        keys={
            "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-05-13.zip": "spot trades daily BTCUSDT - 2024-05-13 -",
            "data/spot/daily/klines/0GUSDT/12h/0GUSDT-12h-2025-09-22.zip": "spot klines daily 0GUSDT 12h 2025-09-22 -",
            "data/spot/daily/depth/orderbooklv50/0G-USDT/0G-USDT-orderbooklv50-2025-09-22.zip": (
                "spot depth daily 0G-USDT - 2025-09-22 -"
            ),
            "data/futures/daily/trades/XBTUSDTM/XBTUSDTM-trades-2025-09-22.zip": (
                "futures trades daily XBTUSDTM - 2025-09-22 -"
            ),
            "data/futures/daily/fundingRates/1INCHUSDTM/1INCHUSDTM-fundingRates-2023-01-01.zip": (
                "futures fundingRates daily 1INCHUSDTM - 2023-01-01 -"
            ),
            "data/futures/daily/klines/ADAUSDTM/1h/ADAUSDTM-1h-2024-05-06.zip.CHECKSUM": (
                "futures klines daily ADAUSDTM 1h 2024-05-06 -"
            ),
            "data/futures/daily/index/ADAUSDTM/1h/ADAUSDTM-1h-2024-05-06.zip": (
                "futures index daily ADAUSDTM 1h 2024-05-06 -"
            ),
            "data/futures/daily/mark/ADAUSDTM/1h/ADAUSDTM-1h-2024-05-06.zip": (
                "futures mark daily ADAUSDTM 1h 2024-05-06 -"
            ),
            "data/futures/daily/depth/orderbooklv50/0GUSDTM/0GUSDTM-orderbooklv50-2026-08-01.zip": (
                "futures depth daily 0GUSDTM - 2026-08-01 -"
            ),
        },
        unrecognized={
            "data/futures/daily/depth/": "folder marker",
            "data/spot/daily/klines/0GUSDT/12h/0GUSDT-1h-2025-09-22.zip": "its folder is of another interval",
            "data/spot/daily/klines/0GUSDT/7m/0GUSDT-7m-2025-09-22.zip": "interval 7m is not published daily",
            "data/spot/monthly/trades/BTCUSDT/BTCUSDT-trades-2024-05.zip": "outside every known data set",
            "index.html": "web assets",
        },
    ),
}
