"""Messages about incidents, and their links into the Dagster UI."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from lakehouse_assets.observability.incidents.causes import Role, Severity
from lakehouse_assets.observability.incidents.lifecycle import Notice, NoticeKind
from lakehouse_assets.observability.incidents.model import Incident, most_relevant_first


@dataclass(frozen=True, slots=True)
class Links:
    """Links into the Dagster UI; None without its ``base`` URL."""

    base: str | None = None

    def run(self, run_id: str) -> str | None:
        return self.base and f"{self.base.rstrip('/')}/runs/{quote(run_id)}"

    def partition(self, asset: str, period: str | None) -> str | None:
        query = f"?view=partitions&partition={quote(period)}" if period else ""
        return self.base and f"{self.base.rstrip('/')}/assets/{quote(asset)}{query}"

    def of(self, incident: Incident) -> tuple[str | None, str | None]:
        """Links to the run and the partition of the most relevant signal."""
        for member in most_relevant_first(incident.members.values()):
            signal = member.signal
            run = self.run(signal.run_id) if signal.run_id else None
            return run, self.partition(signal.subject, signal.period) if "/" in signal.subject else None
        return None, None


@dataclass(frozen=True, slots=True)
class Message:
    """A message for people. ``scope`` is an exchange or ``lake``."""

    incident: str
    title: str
    body: str
    severity: Severity
    scope: str
    role: Role
    is_good_news: bool = False


def message_of(notice: Notice, links: Links) -> Message:
    """The message for a notice: what is wrong, since when, with links and the command to acknowledge it."""
    incident = notice.incident
    lines = [incident.summary()]
    if incident.escalated and incident.acknowledged is None and notice.kind is NoticeKind.WORSENED:
        lines.append("It has not been acknowledged.")
    if incident.resolved is not None:
        by = f" by {incident.resolved.who}" if incident.resolved.who else ""
        lines = [
            f"Resolved{by}: {incident.resolved.text or 'done'}.",
            f"Started at {incident.opened:%Y-%m-%d %H:%M} UTC.",
        ]
    run, partition = links.of(incident)
    lines += [f"Run: {run}"] if run else []
    lines += [f"Partition: {partition}"] if partition else []
    if incident.phase.is_live:
        lines.append(f"Acknowledge: lakehouse incidents ack {incident.id}")
    return Message(
        incident=incident.id,
        title=f"[{incident.severity}] {incident.title} ({notice.kind})",
        body="\n".join(lines),
        severity=incident.severity,
        scope=incident.scope,
        role=incident.rule.role,
        is_good_news=notice.kind is NoticeKind.RESOLVED,
    )
