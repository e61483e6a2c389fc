"""Importing Ansible inventories: the same hosts, groups and vars as Ansible itself says.

`ansible/*.json` is what `ansible-inventory --list` prints of the fixtures beside it; see
`ansible/record.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runbook import wiring
from runbook.cli.main import cli
from runbook.model.ansible_convert import UNKNOWN_ADDRESS, Imported, inventory_data
from runbook.model.errors import InvalidDocument
from runbook.model.fleet import Fleet
from runbook.model.inventory_text import inventory_text

FIXTURES = Path(__file__).parent / "ansible"


def _imported(path: Path) -> tuple[Fleet, Imported]:
    imported = wiring.import_ansible(str(path))
    text = inventory_text(inventory_data(imported), iter(()))
    return wiring.check_inventory(text, "inventory.yaml"), imported


def _from(tmp_path: Path, **files: str) -> tuple[Fleet, list[str]]:
    """Import a folder of these files (`__` in a name stands for `/`, `_dot_` for `.`)."""
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("_dot_", ".").replace("_dash_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    fleet, imported = _imported(tmp_path)
    return fleet, _said(imported)


def _said(imported: Imported) -> list[str]:
    return [
        f"{f'{Path(r.place.file).name}:{r.place.line}: ' if r.place else ''}{r.owner}: {r.what}"
        for r in imported.remarks
    ]


def _members(said: dict[str, Any], group: str) -> set[str]:
    below = said.get(group, {})
    return set(below.get("hosts", [])).union(
        *(_members(said, c) for c in below.get("children", []))
    )


# --- as Ansible itself ---------------------------------------------------------------------------

RECORDED = [("shop/hosts.ini", "shop.json"), ("fleet", "fleet.json")]


@pytest.mark.parametrize(("source", "record"), RECORDED)
def test_hosts_and_groups_are_those_that_ansible_has(source: str, record: str) -> None:
    said = json.loads((FIXTURES / record).read_text("utf-8"))
    fleet, _ = _imported(FIXTURES / source)
    elsewhere = {"desk-1"}  # reached by winrm
    assert set(fleet.hosts) == _members(said, "all") - elsewhere
    for group in said.keys() - {"_meta", "all", "ungrouped"}:
        ours = {host.name for host in fleet.hosts.values() if group in host.groups}
        assert ours == _members(said, group) - elsewhere, group


@pytest.mark.parametrize(("source", "record"), RECORDED)
def test_vars_are_those_that_ansible_has_or_are_told_to_be_missing(
    source: str, record: str
) -> None:
    said = json.loads((FIXTURES / record).read_text("utf-8"))["_meta"]["hostvars"]
    fleet, imported = _imported(FIXTURES / source)
    told = {remark.what.split()[0] for remark in imported.remarks}
    count = 0
    for name, host in fleet.hosts.items():
        theirs = {k: v for k, v in said.get(name, {}).items() if not k.startswith("ansible_")}
        for key, value in host.vars.items():
            assert (type(value), value) == (type(theirs[key]), theirs[key]), (name, key)
            count += 1
        assert theirs.keys() - host.vars.keys() <= told, name
    assert count > 30


@pytest.mark.parametrize(("source", "record"), RECORDED)
def test_hosts_are_reached_as_ansible_reaches_them(source: str, record: str) -> None:
    said = json.loads((FIXTURES / record).read_text("utf-8"))["_meta"]["hostvars"]
    fleet, imported = _imported(FIXTURES / source)
    for name, host in fleet.hosts.items():
        theirs = said.get(name, {})
        user = theirs.get("ansible_ssh_user", theirs.get("ansible_user"))
        port = theirs.get("ansible_ssh_port", theirs.get("ansible_port"))
        address = theirs.get("ansible_ssh_host", theirs.get("ansible_host", name))
        assert (host.ssh.user, host.ssh.port) == (user, port), name
        assert host.address == (UNKNOWN_ADDRESS if name in imported.unreachable else address)


def test_the_ways_in_that_are_options_of_ssh() -> None:
    shop, _ = _imported(FIXTURES / "shop" / "hosts.ini")
    assert shop.host("web-a").ssh.jump == "jump@bastion.example.net"
    fleet, _ = _imported(FIXTURES / "fleet")
    edge = fleet.host("edge-1").ssh
    assert (edge.jump, edge.known_hosts) == ("hop1,hop2", "~/.ssh/edge_hosts")
    assert fleet.host("edge-3").local


def test_what_is_not_carried_over_is_told_with_its_place() -> None:
    _, imported = _imported(FIXTURES / "shop" / "hosts.ini")
    said = _said(imported)
    for expected in (
        "all.yml:9: group all: template is a Jinja2 template",
        "all.yml:10: group all: vaulted is encrypted by Ansible Vault",
        "all.yml:13: group all: api_token looks like a secret",
        "hosts.ini:34: group shop: listed is a list",
        "hosts.ini:35: group shop: db_password looks like a secret",
        "hosts.ini:13: host desk-1: ansible_connection is 'winrm'; runbook knows ssh and local",
    ):
        assert expected in said
    _, imported = _imported(FIXTURES / "fleet")
    said = _said(imported)
    assert any(s.startswith("cloud.aws_ec2.yml:1: ") and "plugin amazon.aws" in s for s in said)
    assert any(s.startswith("dynamic.sh:1: ") and "was not run" in s for s in said)


def test_nothing_secret_is_in_what_is_written() -> None:
    for source, _ in RECORDED:
        fleet, _ = _imported(FIXTURES / source)
        assert "never-carried" not in str([dict(host.vars) for host in fleet.hosts.values()])


# --- what must not be guessed --------------------------------------------------------------------


def test_an_address_that_is_a_template_leads_nowhere(tmp_path: Path) -> None:
    fleet, said = _from(
        tmp_path,
        hosts="web-1 ansible_host={{ip}}\nweb-2 ansible_port=ssh\nweb-3 ansible_user={{u}}\n",
    )
    addresses = [host.address for host in fleet.hosts.values()]
    assert addresses == [UNKNOWN_ADDRESS, UNKNOWN_ADDRESS, "web-3"]
    assert "hosts:2: host web-2: ansible_port is 'ssh', no port" in said


def test_a_value_that_is_left_out_does_not_let_a_lower_one_through(tmp_path: Path) -> None:
    fleet, _ = _from(
        tmp_path,
        hosts="[web]\nweb-1 tier={{t}} ansible_user={{u}}\nweb-2\n"
        "[web:vars]\ntier=front\nansible_user=deploy\n",
    )
    assert "tier" not in fleet.host("web-1").vars
    assert fleet.host("web-1").ssh.user is None
    assert fleet.host("web-2").vars["tier"] == "front"
    assert fleet.host("web-2").ssh.user == "deploy"


def test_each_layer_wins_over_those_before_it(tmp_path: Path) -> None:
    """all, group, files of all, files of groups, host, files of hosts: as Ansible has them."""
    fleet, _ = _from(
        tmp_path,
        hosts="[web]\nweb-1 e=host f=host\n"
        "[web:vars]\nb=web\nc=web\nd=web\ne=web\nf=web\n"
        "[all:vars]\na=all\nb=all\nc=all\nd=all\ne=all\nf=all\n",
        group_vars__all="{c: all-file, d: all-file, e: all-file, f: all-file}",
        group_vars__web="{d: web-file, e: web-file, f: web-file}",
        host_vars__web_dash_1="{f: host-file}",
    )
    assert " ".join(str(value) for _, value in sorted(fleet.host("web-1").vars.items())) == (
        "all web all-file web-file host host-file"
    )


def test_a_var_whose_name_no_program_takes_is_left_out(tmp_path: Path) -> None:
    fleet, said = _from(tmp_path, hosts="web-1 a\0b=1\n")
    assert dict(fleet.host("web-1").vars) == {}
    assert len(said) == 1
    assert "has a NUL character in its name" in said[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("db_password", "x"),
        ("PGPASSWORD", "x"),
        ("ansible_become_pass", "x"),
        ("ansible_ssh_pass", "x"),
        ("api_token", "x"),
        ("aws_secret_access_key", "x"),
        ("apikey", "x"),
        ("smtp_pw", "x"),
        ("dsn", "postgres://shop:x@db/shop"),
        ("tls_key", "-----BEGIN PRIVATE KEY-----"),
    ],
)
def test_what_looks_like_a_secret_is_left_out_and_named(
    tmp_path: Path, name: str, value: str
) -> None:
    fleet, said = _from(tmp_path, hosts=f"web-1 {name}='{value}'\n")
    assert dict(fleet.host("web-1").vars) == {}
    assert f"hosts:1: host web-1: {name} looks like a secret" in said


@pytest.mark.parametrize(
    "pair", ["password_file=/run/x", "passive_ports=21", "compass=north", "token_ttl=5"]
)
def test_what_only_sounds_like_a_secret_is_carried_over(tmp_path: Path, pair: str) -> None:
    fleet, said = _from(tmp_path, hosts=f"web-1 {pair}\n")
    assert list(fleet.host("web-1").vars) == [pair.partition("=")[0]]
    assert said == []


def test_a_vaulted_file_of_vars_is_named(tmp_path: Path) -> None:
    vault = "$ANSIBLE_VAULT;1.1;AES256\n3132\n"
    _, said = _from(tmp_path, hosts="[web]\nweb-1\n", group_vars__web=vault)
    assert said == [
        "web:1: group web: encrypted by Ansible Vault: what these vars set or overrule is not known"
    ]


def test_names_that_cannot_be_ours(tmp_path: Path) -> None:
    fleet, said = _from(tmp_path, hosts="[a/b]\nfd00::7 ansible_user=u\nuser@host\nweb-1\n")
    assert next((h.name, h.address) for h in fleet.hosts.values()) == ("fd00-7", "fd00::7")
    assert fleet.select("a-b") == ("fd00-7", "user-host", "web-1")
    assert fleet.host("user-host").address == UNKNOWN_ADDRESS
    assert "group a/b: is called a-b here" in said


@pytest.mark.parametrize(
    ("options", "jump"),
    [
        ("-o ProxyJump=a,b", "a,b"),
        ('-o "ProxyJump a"', "a"),
        ("-oProxyJump=a", "a"),
        ("-J a -C -o ControlMaster=auto", "a"),
        ("-o ProxyCommand='ssh -W %h:%p -p 2222 -l me bastion'", "me@bastion:2222"),
        ("-o ProxyCommand='ssh -i key -W %h:%p bastion'", None),
        ("-o ProxyCommand='nc -X 5 %h %p'", None),
    ],
)
def test_jump_hosts(tmp_path: Path, options: str, jump: str | None) -> None:
    fleet, said = _from(
        tmp_path, hosts_dot_ini=f"[all:vars]\nansible_ssh_common_args={options}\n[w]\na\n"
    )
    assert fleet.host("a").ssh.jump == jump
    assert (jump is None) == any("ansible_ssh_common_args has" in remark for remark in said)


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[web\nx=1", "hosts.ini:1:1"),
        ("[web:kids]\na", "no sections of the kind 'kids'"),
        (
            "[web:vars]\na=1",
            "hosts.ini:1:1: these are the vars of 'web', which no section declares",
        ),
        ("[web:children]\nnone", "[web:children] names 'none', which no section declares"),
        ("[web]\na b", "'b' is no key=value"),
        ("[web]\na 'b", "cannot be read: No closing quotation"),
        ("[web]\nw[1-3]", "is no range"),
        ("[web]\nw[1:999999999]", "more than 100,000 hosts"),
        ("[web]\nw" + "[0:9]" * 300, "characters"),
        ("[a:children]\nb\n[b:children]\na", "a would stand below itself"),
        ("[web:vars]\nnothing\n[web]", "'nothing' is no key=value"),
    ],
)
def test_mistakes_of_ini(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "hosts.ini"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidDocument) as caught:
        wiring.import_ansible(str(path))
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("all: {hosts: [a]}", "hosts.yml:1:14: hosts of all is no mapping"),
        ("all: {children: {b: {children: {b: }}}}", "b would stand below itself"),
        ("all: {hosts: {a: 5}}", "the vars of 'a' are no mapping"),
        ("[a]", "an inventory is a mapping"),
        ("a: {" * 70, "nested more than 60 levels"),
        ("a: *b", "nothing above is anchored as &b"),
        ("a: [b\nc: d", "is not closed"),
    ],
)
def test_mistakes_of_yaml(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidDocument) as caught:
        wiring.import_ansible(str(path))
    assert complaint in str(caught.value)


def test_mistakes_of_all_files_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument) as caught:
        _from(tmp_path, one_dot_ini="[x:kids]\n", two_dot_yml="all: {hosts: [a]}", three="a b\n")
    assert len(caught.value.problems) == 3


def test_a_folder_without_hosts_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match="has no file of hosts"):
        wiring.import_ansible(str(tmp_path))
    with pytest.raises(InvalidDocument, match="does not exist"):
        wiring.import_ansible(str(tmp_path / "hosts"))


# --- the command ---------------------------------------------------------------------------------


def test_the_command_writes_a_file_that_validates_and_is_tidy(tmp_path: Path) -> None:
    target = tmp_path / "inventory.yaml"
    run = CliRunner()
    done = run.invoke(cli, ["inventory", "import", str(FIXTURES / "fleet"), "-o", str(target)])
    assert done.exit_code == 0, done.output
    text = target.read_text("utf-8")
    assert "\n  app1: {groups: [site-a, blue, app], vars: {port: 9000}}\n" in text
    assert "# MEND FIRST" in text
    assert "host edge-2: ansible_host is a Jinja2 template" in text
    assert "9 hosts, 6 groups, 5 remarks" in done.stderr
    checked = run.invoke(cli, ["inventory", "validate", "-i", str(target)])
    assert checked.exit_code == 0, checked.output
    again = run.invoke(cli, ["inventory", "import", str(FIXTURES / "fleet"), "-o", str(target)])
    assert again.exit_code == 2
    assert "exists; --force overwrites it" in again.stderr


def test_without_o_the_inventory_alone_is_on_stdout(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["inventory", "import", str(FIXTURES / "shop" / "hosts.ini")])
    assert wiring.check_inventory(done.stdout, "stdout").host("pg-1").address == "fd00::5"
    assert "looks like a secret" in done.stderr
