"""sudo's listing: is this very command proved to need no password?"""

from __future__ import annotations

import pytest

from runbook.model.sudo import sudo_problem, sudo_user, sudoers_line

RESTART = ("/usr/bin/systemctl", "restart", "shop.service")

HEAD = """Matching Defaults entries for oncall on web-01:
    env_reset, mail_badpass, secure_path=/usr/sbin\\:/usr/bin, use_pty

User oncall may run the following commands on web-01:
"""

#: As sudo 1.9.13 prints it to a pipe.
LONG = HEAD + (
    "    (root) NOPASSWD: /usr/bin/systemctl restart shop.service, /usr/bin/systemctl restart"
    " long.service, PASSWD: /usr/bin/systemctl restart other.service, /bin/ls, NOPASSWD:"
    " /usr/bin/systemctl status a\\:b\\,c\n"
    '    (ALL : ALL) NOEXEC: NOPASSWD: /usr/bin/id ""\n'
    "    (www-data) NOPASSWD: /usr/bin/systemctl restart web.service\n"
    "    (root) NOPASSWD: /usr/bin/systemctl restart app-*, !/usr/bin/systemctl restart app-db\n"
    "    (root) CWD=/tmp TIMEOUT=30 NOPASSWD: /usr/bin/true\n"
)

#: The same, folded as sudo prints it where it believes to face a terminal.
FOLDED = """Matching Defaults entries for oncall on web-01:
    env_reset, mail_badpass,
    secure_path=/usr/sbin\\:/usr/bin,
    use_pty

User oncall may run the following commands on web-01:
    (root) NOPASSWD: /usr/bin/systemctl restart shop.service,
        /usr/bin/systemctl restart long.service,
        PASSWD: /usr/bin/systemctl restart other.service, /bin/ls, NOPASSWD:
        /usr/bin/systemctl status a\\:b\\,c
    (ALL : ALL) NOEXEC: NOPASSWD: /usr/bin/id ""
    (www-data) NOPASSWD: /usr/bin/systemctl restart web.service
    (root) NOPASSWD: /usr/bin/systemctl restart app-*, !/usr/bin/systemctl
        restart app-db
    (root) CWD=/tmp TIMEOUT=30 NOPASSWD: /usr/bin/true
"""


def restart(unit: str) -> tuple[str, ...]:
    return ("/usr/bin/systemctl", "restart", unit)


@pytest.mark.parametrize("listing", [LONG, FOLDED], ids=["long lines", "folded"])
@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (restart("shop.service"), None),
        (restart("long.service"), None),
        # The trap: another NOPASSWD rule exists, this one wants a password.
        (restart("other.service"), "password"),
        (("/bin/ls",), "password"),
        (("/usr/bin/systemctl", "status", "a:b,c"), None),
        (("/usr/bin/id",), None),
        (("/usr/bin/id", "-u"), "no sudoers rule"),
        # Allowed as somebody else is not allowed as root.
        (restart("web.service"), "no sudoers rule"),
        (restart("app-1"), "unproven"),
        (restart("app-db"), "forbids"),
        (("/usr/bin/true",), None),
        (("/usr/bin/true", "--anything"), None),
        (restart("shop"), "no sudoers rule"),
        (("/usr/bin/systemctl", "--quiet", "restart", "shop.service"), "no sudoers rule"),
        (("/bin/systemctl", "restart", "shop.service"), "no sudoers rule"),
    ],
)
def test_only_a_nopasswd_rule_for_the_identical_argv_proves(
    listing: str, argv: tuple[str, ...], says: str | None
) -> None:
    problem = sudo_problem(listing, argv)
    if says is None:
        assert problem is None
    else:
        assert says in (problem or "")


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("    (ALL) NOPASSWD: ALL\n", None),
        ("    (ALL : ALL) ALL\n", "password"),
        # The last rule that matches decides.
        ("    (ALL) NOPASSWD: ALL\n    (root) PASSWD: /usr/bin/systemctl\n", "password"),
        ("    (ALL : ALL) ALL\n    (root) NOPASSWD: /usr/bin/systemctl\n", None),
        ("    (root) NOPASSWD: /usr/bin/\n", None),
        ("    (ALL, !root) NOPASSWD: ALL\n", "no sudoers rule"),
        ("    (root) NOPASSWD: ALL, !/usr/bin/systemctl restart shop.service\n", "forbids"),
        # A pattern puts in doubt what was proved, unless it says the same.
        ("    (root) NOPASSWD: ALL\n    (root) PASSWD: /usr/bin/systemctl r*\n", "unproven"),
        ("    (root) NOPASSWD: ALL\n    (root) NOPASSWD: /usr/bin/systemctl r*\n", None),
        ("    (root) NOPASSWD: /usr/bin/systemctl ^restart .*$\n", "unproven"),
        ("", "no sudoers rule"),
    ],
)
def test_rules_in_their_order(rules: str, says: str | None) -> None:
    problem = sudo_problem(HEAD + rules, RESTART)
    assert problem is None if says is None else says in (problem or "")


def test_defaults_count_too() -> None:
    rules = "    (ALL : ALL) ALL\n"
    assert sudo_problem(HEAD.replace("use_pty", "!authenticate") + rules, RESTART) is None
    terminal = HEAD.replace("use_pty", "requiretty") + "    (ALL) NOPASSWD: ALL\n"
    assert "terminal" in (sudo_problem(terminal, RESTART) or "")
    assert sudo_problem(terminal.replace("requiretty", "!requiretty"), RESTART) is None


def test_no_listing_is_no_proof() -> None:
    assert sudo_problem("", RESTART) is not None


def test_root_needs_no_password() -> None:
    listing = HEAD.replace("oncall", "root") + "    (ALL : ALL) ALL\n"
    assert sudo_user(listing) == "root"
    assert sudo_problem(listing, RESTART) is None


def test_the_line_that_mends_it_is_proved_by_itself() -> None:
    argv = restart("a:b,c.service")
    line = sudoers_line("oncall", argv)
    assert line == "oncall ALL=(root) NOPASSWD: /usr/bin/systemctl restart a\\:b\\,c.service"
    rule = line.removeprefix("oncall ALL=")
    assert sudo_problem(HEAD + f"    {rule}\n", argv) is None


def test_a_rule_for_another_user_proves_nothing_for_root_and_the_other_way_round() -> None:
    web = ("/usr/bin/systemctl", "restart", "web.service")
    assert sudo_problem(LONG, web, "www-data") is None
    assert sudo_problem(LONG, web) is not None
    assert sudo_problem(LONG, RESTART, "www-data") is not None
    assert sudo_problem(LONG, ("/usr/bin/id",), "www-data") is None  # (ALL : ALL)
    assert sudoers_line("oncall", ("/bin/sh",), "postgres").startswith("oncall ALL=(postgres) ")


def test_a_rule_without_a_user_speaks_of_root() -> None:
    listing = HEAD + "    NOPASSWD: /bin/sh\n"
    assert sudo_problem(listing, ("/bin/sh",)) is None
    assert sudo_problem(listing, ("/bin/sh",), "postgres") is not None
