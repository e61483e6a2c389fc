"""A world with HAProxies in front of `shop`: sockets that answer as HAProxy 2.6 was seen to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runbook.model.effects import ChangeCommand, CommandOutcome, ReadCommand
from runbook.model.fleet import Fleet
from runbook.model.inventory import Inventory
from unit.steps.shop_world import LISTING, World, outcome, read_well
from unit.steps.shop_world import fleet as plain_fleet

STATE_HEAD = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight"
STAT_HEAD = "# pxname,svname,qcur,qmax,scur,smax,status"
SOCAT = "/usr/bin/socat -t5 - UNIX-CONNECT\\:/run/haproxy/admin.sock"


def fleet(on: Any = "lb-1", *, shop: dict[str, Any] | None = None, **drain: Any) -> Fleet:
    """The hosts of `shop_world` behind one HAProxy, or several."""
    haproxy = {"haproxy": {"on": on, "backend": "shop"}, "deadline": "10s", **drain}
    document = plain_fleet(drain=haproxy, **(shop or {})).inventory.model_dump(exclude_none=True)
    document["hosts"] |= {name: {"address": f"10.0.2.{name[-1]}"} for name in ("lb-1", "lb-2")}
    return Fleet(Inventory.model_validate(document))


@dataclass(kw_only=True)
class Server:
    """One server of a backend."""

    op: int = 2
    admin: int = 0
    weight: int = 1
    sessions: int = 0


@dataclass(kw_only=True)
class Balanced(World):
    """A world whose balancers hold what they are told."""

    fleet: Fleet = field(default_factory=fleet)
    #: By balancer and host.
    servers: dict[tuple[str, str], Server] = field(default_factory=dict)
    #: What a balancer's socket answers instead, by balancer.
    says: dict[str, CommandOutcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.read = lambda _world, effect: self._read(effect)
        self.restart = lambda _world, effect: self._made(effect)

    def server(self, host: str = "web-1", balancer: str = "lb-1") -> Server:
        return self.servers.setdefault((balancer, host), Server())

    def sentences(self) -> list[str]:
        """Every change that was made, in order."""
        return [change.sentence() for change in self.changes]

    def restarts(self) -> int:
        return sum("systemctl restart" in sentence for sentence in self.sentences())

    def _read(self, effect: ReadCommand) -> CommandOutcome:
        if effect.argv[0] == "pgrep":
            return outcome(1)
        if "socat" not in effect.argv[0]:
            listing = LISTING + f"    (root) NOPASSWD: {SOCAT}\n"
            return outcome(0, listing) if "sudo" in effect.argv else read_well(effect)
        if effect.host in self.says:
            return self.says[effect.host]
        return outcome(0, self._answer(effect.host))

    def _answer(self, balancer: str) -> str:
        servers = {f"web-{n}": self.server(f"web-{n}", balancer) for n in range(1, 5)}
        states = [
            f"3 shop {n} {name} 10.0.1.{n} {s.op} {s.admin} {s.weight}"
            for n, (name, s) in enumerate(servers.items(), start=1)
        ]
        stats = [f"shop,{name},0,0,{s.sessions},9,UP" for name, s in servers.items()]
        return "\n".join([STATE_HEAD, *states, "", STAT_HEAD, *stats, "", ""])

    def _made(self, effect: Any) -> CommandOutcome:
        if isinstance(effect, ChangeCommand):
            _set, _server, where, _state, state = effect.stdin.split()
            self.server(where.partition("/")[2], effect.host).admin = 8 if state == "drain" else 0
            return outcome(0, "\n")
        return self.restart_well(effect.host)
