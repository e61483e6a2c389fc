"""The verbs `shell`, `script`, `file` and `notify` on real hosts, over SSH and with sudo."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .lab import SHOP_SUDO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .command import Command, Ran
    from .lab import Lab

CONF = "/etc/shop/pool.conf"
SH = "oncall ALL=(root) NOPASSWD: /bin/sh, /usr/bin/sh, /usr/bin/env"


class Books:
    """Playbooks of one step or a few, written and run."""

    def __init__(self, runbook: Command, folder: Path) -> None:
        self._runbook, self.folder = runbook, folder

    def run(self, *steps: dict[str, Any], code: int = 0, words: tuple[str, ...] = ()) -> Ran:
        """Run steps; words are given to the command, `--yes` where nothing else is said."""
        book = {"version": 1, "name": "mine", "steps": list(steps)}
        path = self.folder / "book.yaml"
        path.write_text(json.dumps(book))
        return self._runbook("run", str(path), *(words or ("--yes",)), code=code)

    def results(self, *steps: dict[str, Any], code: int = 0) -> dict[str, Any]:
        """Run steps, and return the results of the last one by target."""
        ran = self.run(*steps, code=code, words=("--yes", "--format", "json"))
        targets: dict[str, Any] = ran.json()["steps"][-1]["targets"]
        return targets


@pytest.fixture
def books(runbook: Command, lab: Lab, tmp_path: Path) -> Iterator[Books]:
    for host in lab.apps:
        lab.sudoers(host, SHOP_SUDO, SH)
        lab.exec(host, ["sh", "-c", "rm -rf /etc/shop /tmp/never; mkdir /etc/shop"])
        lab.put(host, CONF, "size = 5\nname = shop\n", 0o640)
        lab.exec(host, ["chown", "root:postgres", CONF])
    yield Books(runbook, tmp_path)
    for host in lab.apps:
        lab.exec(host, ["rm", "-rf", "/etc/shop"])


def state(lab: Lab) -> list[str]:
    """Mode, owner and content of the file on every app host."""
    argv = ["sh", "-c", f"stat -c '%a %U:%G' {CONF}; cat {CONF}"]
    return [lab.exec(host, argv).stdout for host in lab.apps]


def entries(lab: Lab) -> set[str]:
    return {lab.exec(host, ["ls", "-A", "/etc/shop"]).stdout for host in lab.apps}


SIZE: dict[str, Any] = {
    "name": "size",
    "file": {
        "hosts": "app-*",
        "path": CONF,
        "line": "size = 9",
        "match": "^size *=",
        "sudo": True,
    },
}
BEFORE = "640 root:postgres\nsize = 5\nname = shop\n"
AFTER = "640 root:postgres\nsize = 9\nname = shop\n"


def test_a_line_is_shown_then_written_then_taken_back(books: Books, lab: Lab) -> None:
    rehearsed = books.run(SIZE, words=("--dry-run",))
    assert "-size = 5 +size = 9" in rehearsed.said
    assert "on app-1, app-2, app-3:" in rehearsed.said
    assert state(lab) == [BEFORE] * 3
    assert entries(lab) == {"pool.conf\n"}
    ran = books.run(SIZE, words=("--yes", "--format", "json"))
    run_id = ran.json()["run_id"]
    assert state(lab) == [AFTER] * 3
    assert entries(lab) == {f"pool.conf\npool.conf.runbook-{run_id}\n"}
    again = books.results(SIZE)
    assert [result["data"]["changed"] for result in again.values()] == [False] * 3
    back = {**SIZE, "file": {"hosts": "app-*", "path": CONF, "restore": run_id, "sudo": True}}
    books.run(back)
    assert state(lab) == [BEFORE] * 3


def test_the_printed_undo_works_as_it_is_printed(books: Books, lab: Lab) -> None:
    result = books.results(SIZE)["app-2"]
    undo = next(line for line in result["by_hand"] if line.endswith("# undoes it"))
    assert undo.startswith("ssh ")
    remote = undo.removesuffix("  # undoes it").split("@", 1)[1].split(" ", 1)[1]
    done = lab.exec(lab.apps[1], ["sh", "-c", remote])
    assert done.rc == 0, done
    assert state(lab) == [AFTER, BEFORE, AFTER]


def test_without_the_right_it_is_told_before_anything_changes(books: Books, lab: Lab) -> None:
    plain = {**SIZE, "file": {**SIZE["file"], "sudo": False}}
    ran = books.run(plain, code=3)
    assert "may not be read by this user" in ran.said
    assert "sudo: true" in ran.said
    lab.sudoers(lab.apps[2], SHOP_SUDO)
    ran = books.run(SIZE, code=3)
    assert "app-3: /etc/shop/pool.conf could not be looked at" in ran.said
    assert state(lab) == [BEFORE] * 3


def test_a_user_cannot_give_away_what_it_does_not_own(books: Books, lab: Lab) -> None:
    """The folder is open, the file another's: it would come to belong to oncall."""
    for host in lab.apps:
        lab.exec(host, ["sh", "-c", f"chmod 777 /etc/shop; chmod 644 {CONF}"])
    plain = {**SIZE, "file": {**SIZE["file"], "sudo": False}}
    ran = books.run(plain, code=1)
    assert "would come to belong to oncall:oncall" in ran.said
    assert entries(lab) == {"pool.conf\n"}
    assert "size = 5" in state(lab)[0]


def test_a_file_that_moves_between_the_question_and_the_answer(
    books: Books, runbook: Command, lab: Lab
) -> None:
    (books.folder / "book.yaml").write_text(
        json.dumps({"version": 1, "name": "mine", "steps": [SIZE]})
    )
    running = runbook.start("run", str(books.folder / "book.yaml"), columns=100)
    running.wait_for("Go ahead?")
    lab.put(lab.apps[0], CONF, "size = 7\n")
    running.answer("y")
    ran = running.finish(1)
    assert "has changed since it was shown" in ran.said
    assert lab.exec(lab.apps[0], ["cat", CONF]).stdout == "size = 7\n"


def test_a_script_runs_whole_and_leaves_nothing(books: Books, lab: Lab) -> None:
    (books.folder / "who.sh").write_text(
        '#!/bin/bash\nset -eu\ncat\narr=("$@")\necho "${arr[0]} $(id -un) $TAG $0"\nls -A ~ /tmp\n'
    )
    before = {host.name: lab.exec(host, ["ls", "-A", "/home/oncall", "/tmp"]) for host in lab.apps}
    step = {
        "name": "who",
        "script": {
            "hosts": "app-*",
            "file": "who.sh",
            "args": ["it's ${host.name}"],
            "env": {"TAG": "a b"},
            "sudo": True,
        },
    }
    results = books.results(step)
    for name, result in results.items():
        assert result["data"]["stdout"].startswith(f"it's {name} root a b "), result
    for host in lab.apps:
        after = lab.exec(host, ["ls", "-A", "/home/oncall", "/tmp"]).stdout
        assert after == before[host.name].stdout


def test_a_shell_line_gets_its_values_as_words(books: Books, lab: Lab) -> None:
    hostile = "'; touch /tmp/never; '$(touch /tmp/never)"
    line = {"name": "say", "shell": {"hosts": "app-1", "line": 'echo "$1"', "args": [hostile]}}
    result = books.results(line)["app-1"]
    assert result["data"]["stdout"] == f"{hostile}\n"
    assert lab.exec(lab.apps[0], ["ls", "/tmp/never"]).rc != 0


def test_a_chat_that_is_down_does_not_stop_the_run(books: Books, lab: Lab) -> None:
    address = books.folder / "chat"
    address.write_text("http://127.0.0.1:9/T0/secret\n")
    address.chmod(0o600)
    webhook = {"file": str(address)}
    tell: dict[str, Any] = {
        "name": "tell",
        "notify": {"message": "begun", "webhook": webhook, "timeout": "3s"},
    }
    ran = books.run(tell, SIZE)
    assert "NOT delivered (POST to the webhook in the file" in ran.said
    assert "secret" not in ran.said
    assert state(lab) == [AFTER] * 3
