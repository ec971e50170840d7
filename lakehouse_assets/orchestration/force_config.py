"""The run configuration `force`, which saved launchpads and scripts may still call `again`."""

import dagster as dg
from pydantic import Field

# No `from __future__ import annotations` here: Dagster reads the annotations.


class ForceConfig(dg.Config):
    """Run configuration of work that is skipped where nothing changed."""

    force: bool = Field(default=False, description="Do the work even where nothing changed.")
    again: bool = Field(default=False, description="The former name of `force`.")

    @property
    def is_forced(self) -> bool:
        """Whether either name is set."""
        return self.force or self.again
