"""The inventory of a drill: a complete one, with comments, for somebody who reads it first here."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from runbook.drill import app_server, cluster
from runbook.drill.state import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from runbook.drill.state import State

#: The name to give to `runbook diagnose`.
TARGET = "drill-db"
SERVICE = "shop"

_TEMPLATE = """\
# The inventory of a drill: one PostgreSQL with {max_connections} connection slots, of which an app
# can have {usable}, and app servers which are local processes. Written by `runbook drill start`;
# `runbook drill stop` removes it together with everything it names.
#
#   runbook diagnose {target} -i THIS_FILE
version: 1

hosts:
{hosts}
databases:
  {target}:
    connect:                     # the everyday door: a role with pg_monitor, pg_signal_backend
      host: {db_host}            # and pg_use_reserved_connections
      port: {db_port}
      dbname: postgres
      user: oncall
      password: {{file: {oncall}}}
    rescue:                      # for when no slot is left: a role with REPLICATION
      user: oncall_rescue
      password: {{file: {rescue}}}

services:
  {service}:
    hosts: app                   # the group of the hosts above
    manager:                     # no systemd here: a command restarts a server, another one
      command:                   # prints what changes with each start
        restart: {restart}
        status: {status}
    database: {target}
    role: {role}
    application_name: "shop-${{host.name}}"    # whose sessions are whose
    pool: {{processes: 1, size: {size}, overflow: 0}}   # per host; more has leaked
    gates:                       # what a restarted server must answer before the next one goes
      - http: {{url: "http://${{host.address}}:${{host.vars.port}}/healthz"}}
    rolling:
      batches: [1, "50%"]        # one server first, then half of them at a time
      min_available: "50%"
      max_failures: 0
      settle: 1s
      gate: {{successes: 2, interval: 200ms, deadline: 20s}}
"""

_HOST = """\
  {name}:
    address: {address}
    connection: local            # commands run on this machine, without SSH
    sudo: false                  # and as ourselves
    groups: [app]
    vars: {{port: {port}}}
"""


def render(root: Path, state: State) -> str:
    """Return the inventory's YAML."""
    layout = Layout(root=root)
    return _TEMPLATE.format(
        target=TARGET,
        service=SERVICE,
        role=cluster.APP_ROLE,
        max_connections=cluster.MAX_CONNECTIONS,
        usable=cluster.USABLE,
        hosts="".join(
            _HOST.format(name=app.name, address=cluster.HOST, port=app.port) for app in state.apps
        ),
        db_host=cluster.HOST,
        db_port=state.db_port,
        oncall=_quoted(str(layout.secret("oncall"))),
        rescue=_quoted(str(layout.secret("oncall_rescue"))),
        restart=_appctl(root, "restart"),
        status=_appctl(root, "status"),
        size=app_server.POOL_MAX,
    )


def _appctl(root: Path, verb: str) -> str:
    argv = [sys.executable, "-P", "-m", "runbook.drill.appctl", verb, "--dir", str(root)]
    return json.dumps([*argv, "--name", "${host.name}"], ensure_ascii=False)


def _quoted(text: str) -> str:
    # JSON's strings are YAML's too: a path with blanks, colons or quotes stays one value.
    return json.dumps(text, ensure_ascii=False)
