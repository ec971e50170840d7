"""For any order and repetition of signals, there is one open incident per cause, and no signal is lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.observability.incidents.causes import LAKE, Cause
from lakehouse_assets.observability.incidents.lifecycle import mark_notified, notices, observe
from lakehouse_assets.observability.incidents.merging import merge
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
    """Signals, and batches that contain each of them at least once."""
    signals = draw(st.lists(SIGNALS, min_size=1, max_size=14))
    repeated = draw(st.lists(st.sampled_from(signals), max_size=8))
    order = draw(st.permutations([*signals, *repeated]))
    size = draw(st.integers(1, 5))
    return signals, [order[start : start + size] for start in range(0, len(order), size)]


def play(batches: list[list[Signal]]) -> IncidentState:
    """One batch every seven minutes, so that incidents are resolved, and opened again, between them."""
    state = IncidentState()
    for number, batch in enumerate(batches):
        state = observe(state, batch, at(30 + 7 * number))
        state = mark_notified(state, notices(state), at(30 + 7 * number))
        check_one_incident_per_cause(state)
    return state


def check_one_incident_per_cause(state: IncidentState) -> None:
    open_ones = Counter((incident.scope, incident.cause) for incident in state.live())
    assert set(open_ones.values()) <= {1}
    for incident in state.live():
        assert (incident.scope == LAKE) == (incident.cause is Cause.LAKE_REFUSES)


def check_that_no_signal_is_lost(state: IncidentState, signals: list[Signal]) -> None:
    """A key whose last signal fires is in exactly one incident; one whose last signal is clear fires in none."""
    counts = Counter(key for incident in state.live() for key in incident.members)
    assert set(counts.values()) <= {1}
    firing = {key for incident in state.live() for key, member in incident.members.items() if member.is_firing}
    # At the same moment, a problem counts more than a recovery.
    last = {signal.key: signal.firing for signal in sorted(signals, key=lambda signal: (signal.at, signal.firing))}
    assert firing == {key for key, is_firing in last.items() if is_firing}


@given(deliveries())
def test_any_order_and_repetition(delivered: tuple[list[Signal], list[list[Signal]]]) -> None:
    signals, batches = delivered
    check_that_no_signal_is_lost(play(batches), signals)


@given(deliveries(), deliveries())
def test_merging_the_states_of_two_writers(
    ours: tuple[list[Signal], list[list[Signal]]], theirs: tuple[list[Signal], list[list[Signal]]]
) -> None:
    state = merge(play(ours[1]), play(theirs[1]), at(200))
    check_one_incident_per_cause(state)
    check_that_no_signal_is_lost(state, [*ours[0], *theirs[0]])


@given(deliveries())
def test_repeated_signals_cause_no_notification(delivered: tuple[list[Signal], list[list[Signal]]]) -> None:
    signals, batches = delivered
    state = play(batches)
    state = observe(state, signals, at(202))
    state = mark_notified(state, notices(state), at(202))
    assert notices(observe(state, signals, at(203))) == []
