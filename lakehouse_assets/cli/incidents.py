"""``lakehouse incidents``: shows the incidents in the lake, and acknowledges and resolves them."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape

from lakehouse_assets.cli import output
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.incident_store import LakeIncidentStore, fallback_file
from lakehouse_assets.observability.incidents.lifecycle import acknowledge, resolve
from lakehouse_assets.observability.incidents.model import Incident, IncidentState, Note
from lakehouse_assets.observability.incidents.notification import Notifier
from lakehouse_assets.observability.incidents.period_bits import FoldedPeriods
from lakehouse_assets.observability.incidents.service import IncidentService
from lakehouse_assets.settings import load_settings


def run_list(*, every: bool, as_json: bool) -> int:
    """Print open incidents (``every``: resolved ones too) and dead letters. Returns 1 if any incident is open."""
    state = _service().read(_now())
    shown = state.live()
    if every:
        closed = [incident for incident in state.incidents.values() if not incident.phase.is_live]
        shown += sorted(closed, key=lambda incident: incident.opened, reverse=True)
    if as_json:
        letters = [letter.model_dump(mode="json", exclude={"body"}) for letter in state.dead_letters]
        output.print_json({"incidents": [_document(incident) for incident in shown], "undelivered": letters})
    else:
        _print_list(shown, state)
    return int(bool(state.live()))


def run_show(id_: str, *, as_json: bool) -> int:
    """Print one incident and its signals. Returns 0."""
    incident = _service().read(_now()).get(id_)
    if as_json:
        folded = {subject: periods for subject, periods, _ in _folded(incident)}
        output.print_json(_document(incident) | {"signals": _signals(incident), "periods_beyond": folded})
        return 0
    _print_one(incident)
    return 0


def run_ack(id_: str, *, who: str | None, text: str, as_json: bool) -> int:
    """Acknowledge an incident and print it. Returns 0."""
    note = _note(who, text)
    state = _service().change(lambda state: acknowledge(state, id_, note), note.at)
    return _print_changed(state, id_, as_json=as_json)


def run_resolve(id_: str, *, who: str | None, text: str, as_json: bool) -> int:
    """Resolve an incident and print it. Returns 0. The incident sensor sends the notification."""
    note = _note(who, text)
    state = _service().change(lambda state: resolve(state, id_, note), note.at)
    return _print_changed(state, id_, as_json=as_json)


def _service() -> IncidentService:
    settings = load_settings()
    lake, folder = settings.lake.lake(), settings.incidents.fallback_dir
    return IncidentService(LakeIncidentStore(lake, folder and fallback_file(folder, lake)), Notifier())


def _now() -> datetime:
    return datetime.now(UTC)


def _note(who: str | None, text: str) -> Note:
    if who is None:
        try:
            who = getpass.getuser()
        except (OSError, KeyError):
            raise InputError("Your login name is unknown: give your name with --by NAME.") from None
    return Note(who=who, at=_now(), text=text)


def _print_changed(state: IncidentState, id_: str, *, as_json: bool) -> int:
    incident = state.get(id_)
    if as_json:
        output.print_json(_document(incident))
    else:
        note = incident.resolved or incident.acknowledged
        by = f" by {note.who}" if note else ""
        output.stdout().print(escape(f"{incident.id} is {incident.state}{by}."))
    return 0


def _document(incident: Incident) -> dict[str, Any]:
    fields = incident.model_dump(mode="json", exclude={"members", "folded", "told"})
    return {**fields, "state": incident.state, "title": incident.title, "firing": incident.firing_count}


def _signals(incident: Incident) -> list[dict[str, Any]]:
    return [
        {**member.signal.model_dump(mode="json"), **member.model_dump(mode="json", exclude={"signal"})}
        for member in incident.members.values()
    ]


def _folded(incident: Incident) -> list[tuple[str, list[str], FoldedPeriods]]:
    """Subject and firing periods of the periods that are kept without their signals."""
    return [
        (stem.partition("|")[2], list(folded.periods()), folded)
        for stem, folded in incident.folded.items()
        if len(folded)
    ]


def _print_list(shown: list[Incident], state: IncidentState) -> None:
    console = output.stdout()
    if not shown:
        console.print("No incident is open.")
    else:
        listed = output.table("Incidents (UTC)", ["id", "state", "severity", "since", "incident"], ["signals"])
        for incident in shown:
            since = f"{incident.opened:%Y-%m-%d %H:%M}"
            count = f"{incident.firing_count:,}"
            listed.add_row(incident.id, incident.state, incident.severity, since, escape(incident.title), count)
        console.print(listed)
    for letter in state.dead_letters:
        console.print(escape(f"undelivered: {letter.incident}: {letter.reason} ({letter.attempts} attempts)"))


def _print_one(incident: Incident) -> None:
    console = output.stdout()
    console.print(escape(f"{incident.id}: {incident.state}, {incident.severity}"))
    console.print(escape(incident.title))
    for name, note in (("acknowledged", incident.acknowledged), ("resolved", incident.resolved)):
        if note is not None:
            console.print(escape(f"{name} by {note.who or 'lakehouse'} at {note.at:%Y-%m-%d %H:%M} UTC: {note.text}"))
    listed = output.table("Signals (UTC)", ["asset", "period", "since", "cleared", "problem"], ["times"])
    for member in incident.members.values():
        signal = member.signal
        cleared = f"{member.cleared:%Y-%m-%d %H:%M}" if member.cleared else "-"
        since = f"{member.first:%Y-%m-%d %H:%M}"
        listed.add_row(signal.subject, signal.period or "-", since, cleared, escape(signal.text), str(member.times))
    for subject, periods, folded in _folded(incident):
        more = f"{len(periods):,} more, {periods[0]} to {periods[-1]}"
        listed.add_row(subject, more, f"{folded.first:%Y-%m-%d %H:%M}", "-", escape(folded.text), str(len(periods)))
    console.print(listed)
