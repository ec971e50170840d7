"""Facts that the spelling of a symbol does not reveal: leveraged tokens, pegs, aliases, reused tickers.

These are explicit tables, since suffixes mislead: JUP and SYRUP end like BTCUP, but are coins. An asset that is missing
here counts as an ordinary one; a row is added when the exchange announces it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date


def _tokens(underlyings: str, suffixes: str) -> frozenset[str]:
    return frozenset(asset + suffix for asset in underlyings.split() for suffix in suffixes.split())


def _joined(*groups: Iterable[str]) -> frozenset[str]:
    return frozenset(asset for group in groups for asset in group)


LEVERAGED: Mapping[str, frozenset[str]] = {
    "binance": _joined(
        _tokens(
            "1INCH AAVE ADA BCH BNB BTC DOT EOS ETH FIL LINK LTC SUSHI SXP TRX UNI XLM XRP XTZ YFI",
            "UP DOWN",
        ),
        ("BULL", "BEAR"),
        _tokens("BNB EOS ETH XRP", "BULL BEAR"),
    ),
    "bybit": _joined(
        _tokens("BTC DOT ETH XRP", "3L 3S"),
        _tokens("ADA APE ATOM AVAX DOGE EOS ETC FTM GMT LINK LTC MATIC SAND", "2L 2S"),
    ),
    "gate": _tokens(
        "AAVE ADA ATOM AVAX BCH BNB BSV BTC DOGE DOT EOS ETC ETH FARTCOIN FIL LINK LTC PEPE SOL TRX UNI XLM XRP XTZ "
        "ZEC",
        "3L 3S 5L 5S",
    ),
    "htx": _joined(
        _tokens("BCH BSV BTC EOS ETH FIL LINK LTC XRP ZEC", "3L 3S"),
        _tokens("DOT UNI", "2L 2S"),
        ("BTC1S", "ETH1S"),
    ),
    "kucoin": _joined(
        _tokens(
            "AAVE ADA ATOM AVAX AXS BCH BNB BTC DOGE DOT EOS ETH FTM GALAX LINK LTC LUNA MANA MATIC NEAR SAND SOL "
            "SUSHI UNI VET XRP",
            "3L 3S",
        ),
        _tokens("BTC ETH", "UP DOWN"),
    ),
}
"""Base assets that are leveraged tokens of an exchange's spot market."""


PEGS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "USD", "BFUSD", "BUSD", "DAI", "FDUSD", "FRAX", "GUSD", "HUSD", "LUSD", "PAX", "PYUSD", "RLUSD",
            "SUSD", "TUSD", "U", "USD1", "USDC", "USDD", "USDE", "USDP", "USDS", "USDSB", "USDT", "USDY", "UST",
            "USTC", "VAI", "XUSD",
        ),
        "USD",
    ),
    **dict.fromkeys(("EUR", "AEUR", "EURC", "EURI", "EURR", "EURT"), "EUR"),
    **dict.fromkeys(("IDR", "BIDR", "IDRT"), "IDR"),
    **dict.fromkeys(("KRW", "BKRW"), "KRW"),
    **dict.fromkeys(("NGN", "BNGN"), "NGN"),
    **dict.fromkeys(("VND", "BVND"), "VND"),
}  # fmt: skip
"""The currency that an asset is, or is pegged to (UST lost its peg in May 2022)."""


ALIASES: Mapping[str, Mapping[str, str]] = {
    "binance": {"BCC": "BCH", "BCHABC": "BCH", "BCHSV": "BSV"},
    "bitmex": {"XBT": "BTC"},
    "kucoin": {"XBT": "BTC"},
}
"""Other names of an asset, per exchange: on Binance BCC was Bitcoin Cash, elsewhere it was BitConnect."""


@dataclass(frozen=True, slots=True)
class TickerAssignment:
    """The asset that a ticker denotes from ``since`` to ``until``, both included; None is open-ended."""

    asset: str
    since: date | None = None
    until: date | None = None


REUSED_TICKERS: Mapping[tuple[str, str, str], tuple[TickerAssignment, ...]] = {
    **{
        # Litentry's contracts were settled, but the archive repeats their last price until Lighter's listing.
        ("binance", market, "LIT"): (
            TickerAssignment("LITENTRY", until=date(2025, 1, 31)),
            TickerAssignment("LIGHTER", since=date(2025, 12, 23)),
        )
        for market in ("spot", "um")
    },
    ("binance", "spot", "LUNA"): (
        TickerAssignment("LUNC", until=date(2022, 5, 30)),
        TickerAssignment("LUNA2", since=date(2022, 5, 31)),
    ),
}
"""Tickers that denoted several assets in turn, by (exchange, market, base asset)."""
