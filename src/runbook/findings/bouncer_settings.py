"""Settings of a PgBouncer that are worth a word, and what is different between several."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runbook.findings.bouncers import Pool
    from runbook.model.bouncer_status import BouncerStatus

#: What is told; nothing that could be a secret.
NOTED = (
    "pool_mode",
    "default_pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "max_client_conn",
    "max_db_connections",
    "max_user_connections",
    "max_prepared_statements",
    "server_idle_timeout",
    "server_lifetime",
    "server_login_retry",
    "query_wait_timeout",
    "idle_transaction_timeout",
    "server_reset_query",
    "server_reset_query_always",
    "ignore_startup_parameters",
    "application_name_add_host",
    "auth_type",
    "client_tls_sslmode",
    "server_tls_sslmode",
)
#: From here on prepared statements of the protocol are kept apart in transaction mode.
PREPARED_SINCE = (1, 21)


def of_note(config: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that are told, as the console has them."""
    return {key: config[key] for key in NOTED if key in config}


def version_of(version: str) -> tuple[int, ...]:
    """Return (1, 18, 0) for `1.18.0`; () for what is no version."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def remarks(config: Mapping[str, str], version: str, pools: Iterable[Pool]) -> tuple[str, ...]:
    """Return what is worth knowing, and breaks nothing at this moment."""
    if not config:
        return ()
    said = []
    if any(pool.mode in {"transaction", "statement"} for pool in pools):
        said += _prepared(config, version)
    if config.get("query_wait_timeout") == "0":
        said.append("query_wait_timeout 0: a client that gets no server connection waits for ever")
    if config.get("server_idle_timeout") == "0":
        said.append("server_idle_timeout 0: idle server connections keep PostgreSQL's slots")
    if config.get("auth_type") in {"any", "trust"}:
        said.append(f"auth_type {config['auth_type']}: whoever reaches it comes in, as anybody")
    if config.get("server_reset_query_always") == "1":
        said.append("server_reset_query_always 1: every transaction pays for a reset")
    if config.get("application_name_add_host") == "0":
        said.append(
            "application_name_add_host 0: in PostgreSQL itself nothing tells which host a"
            " session serves"
        )
    return tuple(said)


def _prepared(config: Mapping[str, str], version: str) -> list[str]:
    told = "in transaction mode drivers have to be told not to prepare statements"
    if version_of(version)[:2] < PREPARED_SINCE:
        return [f"{version} does not keep prepared statements apart, as 1.21 does: {told}"]
    if config.get("max_prepared_statements") == "0":
        return [f"max_prepared_statements 0: {told}"]
    return []


def differences(statuses: Iterable[BouncerStatus]) -> tuple[str, ...]:
    """Return what is not the same in all PgBouncers of one database."""
    groups: dict[str, list[BouncerStatus]] = defaultdict(list)
    for status in statuses:
        if status.answers:
            groups[status.database].append(status)
    return tuple(
        f"{database}: {line}" for database, group in groups.items() for line in _different(group)
    )


def _different(group: list[BouncerStatus]) -> Iterable[str]:
    if line := _told("version", {one.name: one.version for one in group}):
        yield line
    for key in NOTED:
        if line := _told(key, {one.name: one.settings.get(key, "unknown") for one in group}):
            yield line


def _told(what: str, values: Mapping[str, str]) -> str:
    if len(set(values.values())) < 2:
        return ""
    return f"{what} is " + ", ".join(
        f"{value or 'empty'} ({name})" for name, value in values.items()
    )
