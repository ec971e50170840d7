"""What people read of an incident, and where its links lead."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from lakehouse_assets.observability.incidents.causes import Role, Severity
from lakehouse_assets.observability.incidents.lifecycle import Kind, Notice
from lakehouse_assets.observability.incidents.model import Incident, telling


@dataclass(frozen=True, slots=True)
class Links:
    """Deep links into the Dagster UI; none without its ``base`` URL."""

    base: str | None = None

    def run(self, run_id: str) -> str | None:
        return self.base and f"{self.base.rstrip('/')}/runs/{quote(run_id)}"

    def partition(self, asset: str, period: str | None) -> str | None:
        where = f"?view=partitions&partition={quote(period)}" if period else ""
        return self.base and f"{self.base.rstrip('/')}/assets/{quote(asset)}{where}"

    def of(self, incident: Incident) -> tuple[str | None, str | None]:
        """Run and partition of the signal that tells most."""
        for member in telling(incident.members.values()):
            signal = member.signal
            run = self.run(signal.run_id) if signal.run_id else None
            return run, self.partition(signal.subject, signal.period) if "/" in signal.subject else None
        return None, None


@dataclass(frozen=True, slots=True)
class Message:
    """What a person reads. ``scope`` is an exchange or ``lake``."""

    incident: str
    title: str
    body: str
    severity: Severity
    scope: str
    role: Role
    is_good_news: bool = False


def message_of(notice: Notice, links: Links) -> Message:
    """A notice in words: what, since when, of what, where to look, what to do."""
    incident = notice.incident
    lines = [incident.summary()]
    if incident.escalated and incident.acknowledged is None and notice.kind is Kind.WORSENED:
        lines.append("Nobody has acknowledged it yet.")
    if incident.resolved is not None:
        who = f" by {incident.resolved.who}" if incident.resolved.who else ""
        lines = [
            f"Resolved{who}: {incident.resolved.text or 'done'}.",
            f"It began {incident.opened:%Y-%m-%d %H:%M} UTC.",
        ]
    run, partition = links.of(incident)
    lines += [f"Run: {run}"] if run else []
    lines += [f"Partition: {partition}"] if partition else []
    if incident.phase.is_live:
        lines.append(f"Look after it: lakehouse incidents ack {incident.id}")
    return Message(
        incident=incident.id,
        title=f"[{incident.severity}] {incident.title} ({notice.kind})",
        body="\n".join(lines),
        severity=incident.severity,
        scope=incident.scope,
        role=incident.rule.role,
        is_good_news=notice.kind is Kind.RESOLVED,
    )
