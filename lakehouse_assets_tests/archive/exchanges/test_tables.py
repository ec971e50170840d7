"""Keys of each exchange parse as written by hand, and all other keys are unrecognized."""

from __future__ import annotations

import pytest

from lakehouse_assets.archive.exchanges import EXCHANGES, exchange_named
from lakehouse_assets.archive.exchanges.grammar import ParsedKey, UnrecognizedKey
from lakehouse_assets.archive.exchanges.layout import HOURS
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets_tests.archive.exchanges.tables import TABLES
from lakehouse_assets_tests.paths import ROOT

KEYS = [(name, key, place) for name, table in TABLES.items() for key, place in table.keys.items()]
UNRECOGNIZED = [(name, key, reason) for name, table in TABLES.items() for key, reason in table.unrecognized.items()]

# Data sets without any public key; their form is assumed to be that of their siblings.
UNSEEN = {
    ("htx", "old_future", "klines"),
    ("htx", "old_future", "index_klines"),
    ("htx", "old_future", "mark_klines"),
    ("htx", "old_swap", "trades"),
    ("htx", "old_swap", "klines"),
    ("htx", "old_swap", "index_klines"),
    ("htx", "old_swap", "mark_klines"),
    ("htx", "old_option", "klines"),
    ("htx", "old_option", "index_klines"),
    ("htx", "old_option", "mark_klines"),
}


@pytest.mark.parametrize(("exchange", "key", "place"), KEYS)
def test_a_key_parses_as_written_by_hand_and_is_rebuilt_from_its_parts(exchange: str, key: str, place: str) -> None:
    source = exchange_named(exchange)
    parsed = source.parse(key)
    assert isinstance(parsed, ParsedKey), parsed
    parts = (
        parsed.market,
        parsed.data_type,
        parsed.cadence,
        parsed.symbol,
        parsed.interval,
        parsed.period,
        parsed.part,
    )
    assert " ".join(str(word or "-") for word in parts) == place
    made = source.layout(parsed.market, parsed.data_type, parsed.cadence).key_of(
        symbol=parsed.symbol, interval=parsed.interval, period=parsed.period, part=parsed.part
    )
    assert (source.sidecar_of(made) if parsed.is_sidecar else made) == key


@pytest.mark.parametrize(("exchange", "key", "reason"), UNRECOGNIZED)
def test_another_key_is_unrecognized_with_its_reason(exchange: str, key: str, reason: str) -> None:
    unrecognized = exchange_named(exchange).parse(key)
    assert isinstance(unrecognized, UnrecognizedKey), unrecognized
    assert unrecognized.key == key
    assert reason in unrecognized.reason


def test_every_exchange_has_a_table_and_every_publication_a_key_in_it() -> None:
    assert {*TABLES, "binance"} == set(EXCHANGES)
    for name, table in TABLES.items():
        source = exchange_named(name)
        parsed = [source.parse(key) for key in table.keys]
        seen = {(p.market, p.data_type, p.cadence) for p in parsed if isinstance(p, ParsedKey)}
        assert {p.id for p in source.publications if (name, p.market, p.data_type) not in UNSEEN} == seen


def test_every_rule_for_unrecognized_keys_matches_a_key_of_its_table() -> None:
    for name, table in TABLES.items():
        source = exchange_named(name)
        reasons = {
            unrecognized.reason
            for key in table.unrecognized
            if isinstance(unrecognized := source.parse(key), UnrecognizedKey)
        }
        assert {rule.reason for rule in source.unrecognized_rules} <= reasons


def test_the_readme_s_table_matches_the_declarations() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in readme.splitlines() if line.startswith("| `")]
    documented = {row[0].strip("`"): row[1:] for row in rows if row[0].strip("`") in EXCHANGES}
    cut = {Cadence.DAILY: "day", Cadence.MONTHLY: "month"}
    for name, exchange in EXCHANGES.items():
        cadences = {cut[publication.cadence] for publication in exchange.publications}
        by_hour = {"hour" for layout in exchange.layouts.values() if layout.parts == HOURS}
        bucket, region, by, checksums, mode, day, terms = documented[name]
        assert (bucket, region, day) == (f"`{exchange.bucket}`", exchange.region, exchange.timezone)
        assert set(by.split(", ")) == cadences | by_hour
        algorithm = exchange.checksum.algorithm if exchange.checksum else "none"
        assert checksums.lower().replace("-", "") == algorithm
        assert mode == ("direct" if exchange.server_side_copy else "relay")
        assert terms == f"[terms]({exchange.terms.url})"
    assert list(documented) == list(EXCHANGES)
