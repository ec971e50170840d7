"""Names of Dagster's pools. Pools belong to the instance: the lake's label keeps the pools of two lakes apart."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse_assets.tables.table import Table


@dataclass(frozen=True, slots=True)
class Pools:
    """The pools of one lake, such as ``lake:mirror:archive_binance``.

    ``lake`` is the lake's label. Without one, where definitions are loaded without a lake, names have no such part.
    """

    lake: str = ""

    def archive(self, exchange: str) -> str:
        """One per exchange: runs that read one source share its request limit."""
        return self._name(f"archive_{exchange}")

    def verification(self, exchange: str) -> str:
        """One per exchange, for runs that read copies in the lake."""
        return self._name(f"verify_{exchange}")

    def catalog(self, exchange: str) -> str:
        return self._name(f"catalog_{exchange}")

    def table(self, table: Table) -> str:
        """One per table: a second concurrent writer would only run into commit conflicts."""
        return self._name(f"table_{table.sql_name}")

    @property
    def maintenance(self) -> str:
        return self._name("maintenance")

    def _name(self, name: str) -> str:
        # No label contains a colon, so two lakes have no pool in common; a slash would end a name in the UI's URLs.
        return ":".join([*self.lake.split("/"), name] if self.lake else [name])


NO_LAKE = Pools()
