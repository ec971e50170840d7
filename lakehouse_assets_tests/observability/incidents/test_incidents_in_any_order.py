"""Whatever the order of signals and however often they come: one open incident per cause, no signal lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.observability.incidents.causes import LAKE, Cause
from lakehouse_assets.observability.incidents.lifecycle import mark_notified, merge, notices, observe
from lakehouse_assets.observability.incidents.model import IncidentState, Signal
from lakehouse_assets_tests.observability.signals import at, signal

SIGNALS = st.builds(
    lambda cause, exchange, subject, source, minute, firing: signal(
        cause, minute, exchange=exchange, subject=f"{exchange}/{subject}", source=source, firing=firing
    ),
    st.sampled_from(Cause),
    st.sampled_from(["binance", "bybit"]),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["sync", "checksums"]),
    st.integers(0, 90),
    st.booleans(),
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Signal], list[list[Signal]]]:
    """Signals, and batches in which each of them comes at least once."""
    signals = draw(st.lists(SIGNALS, min_size=1, max_size=14))
    again = draw(st.lists(st.sampled_from(signals), max_size=8))
    order = draw(st.permutations([*signals, *again]))
    size = draw(st.integers(1, 5))
    return signals, [order[start : start + size] for start in range(0, len(order), size)]


def play(batches: list[list[Signal]]) -> IncidentState:
    """One batch every seven minutes, so that incidents are resolved, and opened again, between them."""
    book = IncidentState()
    for number, batch in enumerate(batches):
        book = observe(book, batch, at(30 + 7 * number))
        book = mark_notified(book, notices(book), at(30 + 7 * number))
        check_that_causes_are_open_once(book)
    return book


def check_that_causes_are_open_once(book: IncidentState) -> None:
    open_ones = Counter((incident.scope, incident.cause) for incident in book.live())
    assert set(open_ones.values()) <= {1}
    for incident in book.live():
        assert (incident.scope == LAKE) == (incident.cause is Cause.LAKE_REFUSES)


def check_that_nothing_is_lost(book: IncidentState, signals: list[Signal]) -> None:
    """What fired last is firing in one incident; what was cleared last is firing in none."""
    held = Counter(key for incident in book.live() for key in incident.members)
    assert set(held.values()) <= {1}
    firing = {key for incident in book.live() for key, member in incident.members.items() if member.is_firing}
    # At the same moment, something wrong counts more than something right.
    last = {each.key: each.firing for each in sorted(signals, key=lambda each: (each.at, each.firing))}
    assert firing == {key for key, is_firing in last.items() if is_firing}


@given(deliveries())
def test_any_order_and_repetition(delivered: tuple[list[Signal], list[list[Signal]]]) -> None:
    signals, batches = delivered
    check_that_nothing_is_lost(play(batches), signals)


@given(deliveries(), deliveries())
def test_two_writers_whose_books_are_merged(
    ours: tuple[list[Signal], list[list[Signal]]], theirs: tuple[list[Signal], list[list[Signal]]]
) -> None:
    book = merge(play(ours[1]), play(theirs[1]), at(200))
    check_that_causes_are_open_once(book)
    check_that_nothing_is_lost(book, [*ours[0], *theirs[0]])


@given(deliveries())
def test_hearing_it_all_again_tells_nobody_anything(delivered: tuple[list[Signal], list[list[Signal]]]) -> None:
    signals, batches = delivered
    book = play(batches)
    book = observe(book, signals, at(202))
    book = mark_notified(book, notices(book), at(202))
    assert notices(observe(book, signals, at(203))) == []
