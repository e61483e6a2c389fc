"""What a pool budget is made from, gathered on real hosts: counts, processes, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .lab import DB, POOL, UNIT, env_text, password, shop_environment

if TYPE_CHECKING:
    from .command import Command
    from .lab import Lab

BOUNCER = "bouncer-01"
SETTINGS = {
    "size": {"env_file": "/etc/shop.env", "key": "POOL_SIZE"},
    "overflow": {"environment": "MAX_OVERFLOW"},
    "processes": {"file": "/opt/shop/gunicorn.conf.py", "match": r"^workers = (\d+)$"},
    "url": {"env_file": "/etc/shop.env", "key": "DATABASE_URL"},
}


def facts(runbook: Command, *words: str) -> Any:
    """Run the shipped playbook, and return the facts that it gathered."""
    ran = runbook("run", "pool-plan", DB, "-p", "window=1s", "--format", "json", *words)
    assert password("shop") not in ran.stdout + ran.stderr
    (step,) = ran.json()["steps"]
    return step["targets"][DB]["data"]["facts"]


def test_warm_pools_behind_nothing_and_behind_a_pgbouncer(lab: Lab, runbook: Command) -> None:
    """Three hosts with warm pools; then one of them comes through a PgBouncer."""
    runbook.declare_shop(settings=SETTINGS)
    first, second, third = lab.apps
    # Root alone may read it, and on one host the login is no sudoer for `sh`.
    lab.put(first, "/etc/shop.env", env_text(shop_environment(first)), 0o600)
    lab.sudoers(first, "oncall ALL=(root) NOPASSWD: /usr/bin/ss, /usr/bin/sh")
    lab.put(second, "/etc/shop.env", "# pools\n" + env_text(shop_environment(second)), 0o600)
    for host, n in zip(lab.apps, (5, 3, 1), strict=True):
        lab.http(host, f"/warm?n={n}", "POST")
    found = facts(runbook)
    (shop,) = found["services"]
    assert (found["server"]["used"], shop["now"], shop["busy_mean"]) == (9, 9, 0.0)
    assert {h["host"]: (h["now"], h["peak"]) for h in shop["hosts"]} == {
        "app-1": (5, 5),
        "app-2": (3, 3),
        "app-3": (1, 1),
    }
    assert all(sum(p["now"] for p in h["processes"]) == h["now"] for h in shop["hosts"])
    assert {p["name"] for h in shop["hosts"] for p in h["processes"]} == {"gunicorn"}
    told = {(c["host"], c["name"]): c for c in found["configured"] if c["declared"]}
    assert told["app-1", "size"]["value"] == str(POOL["size"])
    assert told["app-1", "size"]["source"] == "/etc/shop.env line 3, POOL_SIZE"
    assert told["app-3", "url"]["value"] == f"postgresql+psycopg2://shop:…@{DB}:5432/shop"
    assert told["app-2", "processes"]["source"] == "/opt/shop/gunicorn.conf.py line 4"
    assert ("app-2", "size") not in told
    assert ("app-1", "overflow") not in told
    also = {(c["host"], c["name"], c["source"]) for c in found["configured"] if not c["declared"]}
    assert ("app-3", "overflow", "/etc/shop.env line 4, MAX_OVERFLOW") in also
    assert ("app-2", "threads", "/opt/shop/gunicorn.conf.py line 6, threads") in also
    assert not [1 for _, name, _ in also if name == "processes"]
    unseen = "\n".join(found["unseen"])
    assert "app-2: services.shop.settings.size: /etc/shop.env may not be read" in unseen
    assert "oncall ALL=(root) NOPASSWD: /bin/sh" in unseen
    assert f"overflow: {UNIT} has no MAX_OVERFLOW in its Environment; it is in" in unseen

    lab.start_pgbouncer(lab.db)
    runbook.declare(
        services={"shop": {"settings": SETTINGS}},
        pgbouncers={BOUNCER: lab.bouncer_entry(lab.db)},
    )
    lab.point_shop(first, lab.db)
    lab.http(first, "/warm?n=2", "POST")
    lab.stop_host(third)
    found = facts(runbook)
    (shop,) = found["services"]
    (pool,) = found["bouncers"]
    assert (pool["bouncer"], pool["pool"], pool["budget"]) == (BOUNCER, "shop/shop", 5)
    assert (pool["clients"] >= 2, pool["now"] >= 1, pool["waiting"]) == (True, True, 0)
    assert {h["host"]: h["now"] for h in shop["hosts"]}["app-1"] == 0
    assert found["server"]["used"] == shop["now"] + pool["now"]
    (url,) = [c for c in found["configured"] if (c["host"], c["name"]) == ("app-1", "url")]
    assert url["value"].endswith(f"@{DB}:6432/shop")
    assert any(w.startswith("app-3") and "was not told" in w for w in found["unseen"])
