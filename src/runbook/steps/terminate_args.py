"""What the step `terminate` is given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runbook.model.inventory import Closed, Name
from runbook.model.leaks import LeakPolicy, missing
from runbook.model.units import Duration, Percent


class TerminateArgs(Closed):
    """What `terminate` is given."""

    database: Name = Field(description="the inventory's name of the database")
    which: Literal["leaked", "blockers"] = Field(
        "leaked", description="sessions that are proved leaked, or the roots of lock pile-ups"
    )
    idle_in_transaction_over: Duration = Field(
        300.0, description="in a transaction without a word for this long counts as leaked"
    )
    headroom: Percent = Field(20, description="stop when this share of the usable slots is free")
    max_sessions: Annotated[int, Field(ge=1)] = Field(
        100, description="no more than this in one run; the inventory's max_terminated also holds"
    )
    batch_max: Annotated[int, Field(ge=1)] = Field(10, description="sessions in one batch, at most")
    batch_share: Percent = Field(10, description="of the whole list in one batch, at most")
    watch: tuple[Duration, ...] = Field(
        (15.0, 60.0), description="when to look for sessions that came back; [] does not look"
    )

    @property
    def policy(self) -> LeakPolicy:
        """Return what counts as leaked."""
        return LeakPolicy(
            idle_in_transaction_s=self.idle_in_transaction_over,
            headroom_percent=self.headroom,
            max_sessions=self.max_sessions,
            which=self.which,
        )


def slots_missing(args: TerminateArgs, used: int, usable: int) -> int:
    """Return how many slots are missing for the wanted headroom; 0 or less when there is enough."""
    return missing(usable, used, args.headroom)
