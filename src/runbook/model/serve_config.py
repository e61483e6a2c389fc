"""The configuration of `runbook serve`: who may call, what that leads to, and who is told.

Typed and closed like the inventory, and read by the same reader. Its keys are a promise to users:
docs/serve.md shows every one of them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from runbook.model.inventory import Closed, Name, Scalar, Secret
from runbook.model.patterns import check_pattern
from runbook.model.units import Duration

#: An id of PagerDuty's, as it gives them: letters and digits (inferred from its examples).
PagerDutyId = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{7,14}$")]
SlackUser = Annotated[str, StringConstraints(pattern=r"^[UW][A-Z0-9]{5,20}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,99}$")]
_HTTPS = r"^(https://|http://(127\.0\.0\.1|localhost)[:/])[^\s]{1,2000}$"


def _https(value: object) -> object:
    if isinstance(value, str) and not re.search(_HTTPS, value):
        raise ValueError(
            f"{value!r:.60} is no https:// address; http:// goes to 127.0.0.1 and localhost alone"
        )
    return value


HttpsUrl = Annotated[str, StringConstraints(pattern=_HTTPS), BeforeValidator(_https)]
ClockTime = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
EndTime = Annotated[str, StringConstraints(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
SourceName = Literal["pagerduty", "pagerduty-action", "pagerduty-workflow", "alertmanager", "slack"]
#: viewer: reads. approver: answers questions as well. operator: cancels and resumes as well.
Role = Literal["viewer", "approver", "operator"]


def _number(value: object) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


_SEVERAL = Field(min_length=1, max_length=100)
#: One value, or any of a list. Which it is, is told by its shape: one mistake is told once.
OneOrMore = Annotated[
    Annotated[str, Tag("one")] | Annotated[tuple[str, ...], _SEVERAL, Tag("several")],
    Discriminator(_number),
]
OneOrMoreIds = Annotated[
    Annotated[PagerDutyId, Tag("one")]
    | Annotated[tuple[PagerDutyId, ...], _SEVERAL, Tag("several")],
    Discriminator(_number),
]
OneOrMoreNames = Annotated[
    Annotated[Name, Tag("one")] | Annotated[tuple[Name, ...], _SEVERAL, Tag("several")],
    Discriminator(_number),
]


class Listen(Closed):
    """Where it listens."""

    address: str = Field("127.0.0.1", description="127.0.0.1 unless a proxy is elsewhere")
    port: Annotated[int, Field(ge=0, le=65535)] = 8425
    url: HttpsUrl | None = Field(
        None, description="how people reach it: links in notes begin with this"
    )
    hosts: tuple[str, ...] = Field(
        (), description="further names that a request's Host may have, beside address and url"
    )


class Hook(Closed):
    """One address that a source calls: `POST /hooks/NAME`."""

    source: SourceName
    secrets: Annotated[tuple[Secret, ...], Field(min_length=1, max_length=10)] = Field(
        ..., description="all that hold now: while one is rotated, the old one and the new one"
    )
    header: HeaderName | None = Field(
        None, description="the header that carries the secret, where the source does not sign"
    )


class When(Closed):
    """What an alert must be for a rule to hold; what is left out may be anything."""

    event: OneOrMore | None = None
    service: OneOrMoreIds | None = None
    priority: OneOrMore | None = None
    urgency: Literal["high", "low"] | None = None
    labels: dict[str, OneOrMore] = Field(
        default_factory=dict, description="each has exactly this value, or one of these"
    )
    by: OneOrMore | None = Field(None, description="who caused it, as an id at the source")


class FromAlert(Closed):
    """A name that an alert gives, taken only if the inventory has it."""

    label: str
    of: Literal["database", "service", "host"] = "database"
    pattern: Annotated[str, Field(max_length=500), AfterValidator(check_pattern)] | None = Field(
        None, description="a regular expression for the whole value; its first group is the name"
    )


def _kind(value: object) -> str:
    if isinstance(value, dict | FromAlert):
        return "FromAlert"
    return "several" if isinstance(value, list | tuple) else "one"


def _scalar(value: object) -> object:
    if not isinstance(value, str | int | float):
        raise ValueError(  # noqa: TRY004 - pydantic
            f"{value!r:.60} is neither text, a number, true or false, a list of them, nor a mapping"
            " with label"
        )
    return value


_One = Annotated[Scalar, BeforeValidator(_scalar)]
Target = Annotated[
    Annotated[Name, Tag("one")] | Annotated[FromAlert, Tag("FromAlert")],
    Discriminator(lambda value: "one" if _kind(value) == "several" else _kind(value)),
]
#: A parameter's value: fixed, or a name that an alert gives.
Given = Annotated[
    Annotated[_One, Tag("one")]
    | Annotated[list[_One], Tag("several")]
    | Annotated[FromAlert, Tag("FromAlert")],
    Discriminator(_kind),
]


class Approval(Closed):
    """Who has to say yes before anything is changed."""

    by: tuple[Name, ...] = Field((), description="people of this file; empty: any approver")
    within: Duration = Field(1800.0, description="how long it may be answered; then it is given up")


def _none(value: object) -> object:
    if value != "none":
        raise ValueError(f"{value!r:.60} is neither none nor a mapping with by and within")
    return value


Approved = Annotated[
    Annotated[Approval, Tag("Approval")]
    | Annotated[Literal["none"], BeforeValidator(_none), Tag("word")],
    Discriminator(lambda value: "Approval" if isinstance(value, dict | Approval) else "word"),
]


class Rate(Closed):
    """So many runs at most in so long a time."""

    most: Annotated[int, Field(ge=1, le=10_000)]
    per: Duration


class Hours(Closed):
    """When a rule holds; outside of it an alert is kept and not acted upon."""

    days: Annotated[tuple[Day, ...], Field(min_length=1)] = Field(
        ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
        description="on which they begin: Friday's night goes on until Saturday morning",
    )
    after: ClockTime = Field("00:00", alias="from")
    to: EndTime = Field("24:00", description="before `from`, it is on the next day")
    timezone: str = Field("UTC", description="a name of the IANA database, as in Europe/Vienna")


class TellPagerDuty(Closed):
    """What a run does to the incident that it works on."""

    notes: bool = True
    acknowledge: bool = False
    resolve: bool = Field(False, description="once it is proved to be healed, not before")
    status_update: bool = False
    custom_field: str | None = Field(None, description="gets the result in one line")


class Tell(Closed):
    """Who is told of a run."""

    pagerduty: TellPagerDuty | None = Field(
        None, description="the incident that the alert is about, or --pd-incident"
    )
    to: tuple[Name, ...] = Field((), description="names of `notify`")
    change_event: bool = Field(
        True, description="send PagerDuty a change event for what was changed"
    )


class Rule(Closed):
    """Which alert leads to which run. No rule, no run."""

    name: Name
    hook: OneOrMoreNames
    when: When = When()
    run: Annotated[str, Field(min_length=1, max_length=1000)] = Field(
        ..., description="a shipped playbook's name, or a path from this file"
    )
    target: Target | None = Field(None, description="a name of the inventory's, or a label with it")
    params: dict[str, Given] = Field(
        default_factory=dict, description="fixed values, or names of the inventory that labels have"
    )
    mode: Literal["rehearse", "real"] = "rehearse"
    approval: Approved = Field(
        Approval(), description="for mode real: asked before anything is changed; none: nobody is"
    )
    cooldown: Duration = Field(600.0, description="after a run on this target, none for so long")
    rate: Rate = Field(Rate(most=6, per=3600.0), description="for each target")
    hours: Hours | None = None
    max_age: Duration = Field(900.0, description="an older event is acknowledged and not acted on")
    tell: Tell = Tell()


class Limits(Closed):
    """What holds for all rules together."""

    queue: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        2000, description="events that wait; more are answered 503, and come again"
    )
    runs: Rate = Rate(most=30, per=3600.0)
    at_once: Annotated[int, Field(ge=1, le=100)] = 4


class Person(Closed):
    """Somebody who looks, approves or cancels, and how they are known, one way at least."""

    role: Role = "viewer"
    token: Secret | None = Field(None, description="signs in at the browser's page with it")
    slack: SlackUser | None = Field(None, description="their id in Slack, as in U2CERLKJA")
    pagerduty: PagerDutyId | None = Field(None, description="their id in PagerDuty")

    @model_validator(mode="after")
    def _known_somehow(self) -> Self:
        if self.token is None and self.slack is None and self.pagerduty is None:
            raise ValueError("nothing tells who this is: give token, slack or pagerduty")
        return self


class PagerDuty(Closed):
    """PagerDuty's REST API, for notes and incidents."""

    token: Secret
    sender: str = Field(
        ..., alias="from", pattern=r"^[^@\s]+@[^@\s]+$", description="a user's e-mail address"
    )
    region: Literal["us", "eu"] = "us"
    api: HttpsUrl | None = Field(None, description="instead of the region's: a proxy, a test")
    routing_key: Secret | None = Field(
        None, description="of an Events API v2 integration: change events, `runbook notify`"
    )
    events: HttpsUrl | None = Field(None, description="instead of the region's")
    user: PagerDutyId | None = Field(
        None, description="the user that the token acts as: its own notes and acks come to nothing"
    )


class Notify(Closed):
    """Somewhere else that is told: a Slack incoming webhook, or any address that takes JSON.

    The address is a secret itself: whoever has it may write there.
    """

    slack: Secret | None = Field(None, description="the address of a Slack incoming webhook")
    webhook: Secret | None = Field(None, description="an address that takes JSON")
    sign_with: Secret | None = Field(
        None, description="a webhook's body is signed with it: X-Runbook-Signature"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.slack is None) == (self.webhook is None):
            raise ValueError("it is exactly one of slack and webhook")
        if self.sign_with is not None and self.webhook is None:
            raise ValueError("sign_with is for a webhook; Slack does not look at signatures")
        return self


class ServeConfig(Closed):
    """The whole file."""

    version: Literal[1]
    inventory: str | None = Field(None, description="a path from this file; else as -i says")
    listen: Listen = Listen()
    hooks: dict[Name, Hook] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    limits: Limits = Limits()
    people: dict[Name, Person] = Field(default_factory=dict)
    pagerduty: PagerDuty | None = None
    notify: dict[Name, Notify] = Field(default_factory=dict)


def tell_as_data(tell: Tell, incident: str | None) -> dict[str, Any]:
    """Return what a run's request keeps of whom to tell; see `Request.tell`."""
    return {**tell.model_dump(mode="json"), "incident": incident}
