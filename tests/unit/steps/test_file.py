"""The verb `file`, on real files of this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runbook.adapters.host_door import Errand
from runbook.adapters.local_command import LocalDoor
from runbook.model.effects import CommandOutcome, PutFile
from runbook.model.errors import ChangeInRehearsal, ConnectionLost
from runbook.model.fleet import ResolvedHost
from runbook.model.host_files import LARGEST, sha256
from runbook.model.plan import Result
from runbook.steps.file import FILE
from runbook.steps.file_args import FileArgs, with_line
from runbook.steps.file_diff import masked, shown_diff
from unit.steps.here import FLEET, Here, context

#: Some limits do not hold root back.
as_user = pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "app.conf"
    path.write_text("size = 5\nname = shop\n")
    path.chmod(0o640)
    return path


def put(path: Path, here: Here | None = None, **given: Any) -> Result:
    return (here or Here()).run(FILE, hosts="me", path=str(path), **given)


def left(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


# ---- writing -------------------------------------------------------------------------------


def test_a_file_is_replaced_with_its_rights_and_a_backup(conf: Path) -> None:
    result = put(conf, content="size = 9\n")
    assert (result.status, result.data["changed"]) == ("ok", True)
    assert conf.read_text() == "size = 9\n"
    assert conf.stat().st_mode & 0o777 == 0o640
    backup = conf.with_name("app.conf.runbook-R1")
    assert backup.read_text() == "size = 5\nname = shop\n"
    assert left(conf) == ["app.conf", "app.conf.runbook-R1"]
    assert result.by_hand[1] == f"cp -p {backup} {conf}  # undoes it"


def test_what_would_change_is_shown_line_by_line(conf: Path) -> None:
    here = Here()
    prepared = here.prepare(FILE, hosts="me", path=str(conf), content="size = 9\nname = shop\n")
    assert prepared.data["diff"].splitlines()[2:] == [
        "@@ -1,2 +1,2 @@",
        "-size = 5",
        "+size = 9",
        " name = shop",
    ]
    digest = sha256("size = 9\nname = shop\n")[:12]
    assert prepared.touches == (
        f"me: keep what {conf} was as {conf}.runbook-R1",
        f"me: write {conf} (sha256 {digest})",
    )
    assert conf.read_text() == "size = 5\nname = shop\n"


def test_what_is_there_already_is_not_written(conf: Path) -> None:
    here = Here()
    result = put(conf, here, content="size = 5\nname = shop\n")
    assert (result.status, result.data["changed"], here.changes) == ("ok", False, [])
    assert left(conf) == ["app.conf"]


def test_a_new_file_has_0644_and_its_undo_is_rm(tmp_path: Path) -> None:
    path = tmp_path / "new file"
    result = put(path, content="x\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("x\n", 0o644)
    assert result.by_hand[1] == f"rm '{path}'  # undoes it"
    assert left(path) == ["new file"]


def test_an_empty_file_and_umlauts_and_no_line_end(tmp_path: Path) -> None:
    for text in ("", "ü", "a\r\nb", "x" * 300_000):
        assert put(tmp_path / "f", content=text, backup=False).status == "ok"
        assert (tmp_path / "f").read_bytes() == text.encode()
    assert left(tmp_path / "f") == ["f"]


def test_mode_alone_is_a_change(conf: Path) -> None:
    result = put(conf, content=conf.read_text(), mode="0600")
    assert (result.status, conf.stat().st_mode & 0o777) == ("ok", 0o600)
    assert "mode 640 -> 0600" in result.data["diff"]
    assert put(conf, content=conf.read_text(), mode="600").data["changed"] is False


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_an_owner_is_kept_or_given(conf: Path) -> None:
    os.chown(conf, 65534, 65534)
    put(conf, content="a\n")
    assert (conf.stat().st_uid, conf.stat().st_gid) == (65534, 65534)
    result = put(conf, content="a\n", owner="root")
    assert "owner nobody:nogroup -> root" in result.data["diff"]
    assert (conf.stat().st_uid, conf.stat().st_gid) == (0, 65534)


def test_nobody_can_read_new_content_before_it_has_its_rights(conf: Path) -> None:
    """The file beside it is 0600 from the start, whatever our umask is."""
    conf.chmod(0o600)
    before = os.umask(0)
    try:
        put(conf, content="secret\n", backup=False)
    finally:
        os.umask(before)
    assert conf.stat().st_mode & 0o777 == 0o600


# ---- lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "match", "after"),
    [
        ("", None, "b = 2\n"),
        ("a\n", None, "a\nb = 2\n"),
        ("a", None, "a\nb = 2\n"),
        ("a\nb = 2\nc\n", None, "a\nb = 2\nc\n"),
        ("a\n#b = 1\nc\n", r"^#?\s*b\s*=", "a\nb = 2\nc\n"),
        ("a\nb = 2\n", r"^#?\s*b\s*=", "a\nb = 2\n"),
        ("a\n", r"^b\s*=", "a\nb = 2\n"),
        ("b = 1", r"^b\s*=", "b = 2"),
    ],
)
def test_a_line_is_set(content: str, match: str | None, after: str) -> None:
    assert with_line(content, "b = 2", match) == after
    assert with_line(after, "b = 2", match) == after


def test_a_line_in_a_real_file(conf: Path) -> None:
    assert put(conf, line="size = 7", match="^size *=").status == "ok"
    assert conf.read_text() == "size = 7\nname = shop\n"


def test_which_line_was_meant_is_not_guessed(conf: Path) -> None:
    conf.write_text("a = 1\nb\na = 2\n")
    result = put(conf, line="a = 3", match="^a =")
    assert (result.status, conf.read_text()) == ("failed", "a = 1\nb\na = 2\n")
    assert "finds 2 lines (1, 3)" in result.summary


# ---- what stands in the way ----------------------------------------------------------------


def test_what_has_changed_since_it_was_shown_is_not_overwritten(conf: Path) -> None:
    args = FileArgs(hosts="me", path=str(conf), content="mine\n")
    here = Here()
    prepared = here.prepare(FILE, hosts="me", path=str(conf), content="mine\n")
    conf.write_text("theirs\n")
    result = here.act(FILE, args, context(prepared=prepared.data), prepared.touches)
    assert (result.status, here.changes, conf.read_text()) == ("failed", [], "theirs\n")
    assert "has changed since it was shown" in result.summary


@pytest.mark.parametrize(
    ("meddle", "said"),
    [
        (lambda path: path.write_text("theirs\n"), "has changed"),
        (lambda path: path.unlink(), "no longer there"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "symbolic link"),
        (lambda path: (path.unlink(), path.mkdir()), "no regular file"),
    ],
)
def test_nor_what_changes_at_the_last_moment(conf: Path, meddle: Any, said: str) -> None:
    result = put(conf, Here(lambda _change: meddle(conf)), content="mine\n")
    assert result.status == "failed"
    assert said in result.summary
    assert left(conf) == (["app.conf"] if "no longer" not in said else [])
    assert conf.is_dir() or not conf.exists() or "mine" not in conf.read_text()


def test_a_file_that_appears_at_the_last_moment_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new"

    def appear(_change: Any) -> None:
        path.write_text("theirs")

    result = put(path, Here(appear), content="mine\n")
    assert (result.status, path.read_text()) == ("failed", "theirs")
    assert "is there by now" in result.summary


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.symlink_to("elsewhere"), "is a symbolic link to elsewhere"),
        (lambda p: p.mkdir(), "is a directory"),
        (os.mkfifo, "is a fifo"),
        (lambda p: p.write_bytes(b"\xff\xfe"), "no UTF-8 text"),
        (lambda p: p.write_bytes(b"a\x00b"), "no UTF-8 text"),
        (lambda p: p.write_text("x" * (LARGEST + 1)), "bytes"),
        (lambda p: (p.write_text("x"), p.with_name("other").hardlink_to(p)), "2 hard links"),
    ],
)
def test_what_is_no_ordinary_file_is_refused(tmp_path: Path, make: Any, said: str) -> None:
    path = tmp_path / "odd"
    make(path)
    here = Here()
    result = put(path, here, content="x\n")
    assert (result.status, here.changes) == ("failed", [])
    assert said in result.summary


def test_a_link_is_followed_when_it_is_said(conf: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("app.conf")
    assert put(link, content="new\n", follow=True).status == "ok"
    assert (link.is_symlink(), conf.read_text()) == (True, "new\n")
    (tmp_path / "astray").symlink_to("no/such/folder")
    assert put(tmp_path / "astray", content="x", follow=True).status == "failed"


def test_a_folder_that_is_not_there_is_told_before_anything(tmp_path: Path) -> None:
    result = put(tmp_path / "no" / "file", content="x")
    assert (result.status, result.hint) == ("failed", "make the folder first")


@as_user
def test_a_folder_that_may_not_be_written_to_is_told_before_anything(conf: Path) -> None:
    conf.parent.chmod(0o500)
    try:
        result = put(conf, content="x")
    finally:
        conf.parent.chmod(0o700)
    assert "may not be written to" in result.summary
    assert "sudo: true" in result.hint


def test_content_that_arrives_by_halves_is_not_put_in_place(conf: Path) -> None:
    class Cutting(LocalDoor):
        def _run(self, host: ResolvedHost, errand: Errand) -> CommandOutcome:
            return super()._run(host, replace(errand, stdin=errand.stdin[:4]))

    change = PutFile(
        host="me", path=str(conf), content="new content\n", expected=sha256(conf.read_text())
    )
    outcome = Cutting(FLEET, rehearsal=False).perform(change)
    assert outcome.exit_code == 4  # type: ignore[union-attr]
    assert (conf.read_text(), left(conf)) == ("size = 5\nname = shop\n", ["app.conf"])


def test_nor_is_what_changes_while_the_content_arrives(conf: Path) -> None:
    class Meddling(LocalDoor):
        def _run(self, host: ResolvedHost, errand: Errand) -> CommandOutcome:
            arrives = 'cat > "$new"'
            script = errand.argv[2].replace(arrives, f'{arrives}; echo theirs > "$path"')
            return super()._run(host, replace(errand, argv=("sh", "-c", script, *errand.argv[3:])))

    before = sha256(conf.read_text())
    change = PutFile(host="me", path=str(conf), content="mine\n", expected=before)
    outcome = Meddling(FLEET, rehearsal=False).perform(change)
    assert outcome.exit_code == 3  # type: ignore[union-attr]
    assert (conf.read_text(), left(conf)) == ("theirs\n", ["app.conf"])


def test_what_root_writes_looks_like_it() -> None:
    change = PutFile(
        host="me", path="/etc/x", content="x", expected="y", backup="/etc/x.R1", sudo=True
    )
    assert change.sentence() == "on me: sudo write /etc/x"
    digest = sha256("x")[:12]
    assert change.footprint() == {
        f"me: sudo write /etc/x (sha256 {digest})",
        "me: sudo keep what /etc/x was as /etc/x.R1",
    }


def test_a_rehearsals_door_writes_nothing(conf: Path) -> None:
    change = PutFile(host="me", path=str(conf), content="x", expected="")
    with pytest.raises(ChangeInRehearsal):
        LocalDoor(FLEET, rehearsal=True).perform(change)


# ---- after a crash, and back ---------------------------------------------------------------


def test_an_answer_that_was_lost_is_unknown_with_what_to_look_at(conf: Path) -> None:
    def lose(_change: Any) -> None:
        raise ConnectionLost("cut", hint="look")

    result = put(conf, Here(lose), content="x\n")
    assert result.status == "unknown"
    assert result.by_hand[0].startswith(
        f"sha256sum {conf}  # written: {sha256(chr(120) + chr(10))[:12]}"
    )


@pytest.mark.parametrize("written", [True, False])
def test_after_a_crash_the_file_says_whether_it_was_written(conf: Path, written: bool) -> None:
    args = FileArgs(hosts="me", path=str(conf), content="new\n")
    here = Here()
    prepared = here.prepare(FILE, hosts="me", path=str(conf), content="new\n")
    if written:
        conf.write_text("new\n")
    ctx = context(prepared=prepared.data, crashed={"intended": ["write"], "changed": []})
    result = here.act(FILE, args, ctx, prepared.touches)
    assert (result.status, conf.read_text(), len(here.changes)) == ("ok", "new\n", int(not written))
    assert FILE.after_crash == "probe"


def test_a_backup_of_the_same_run_is_not_written_over(conf: Path) -> None:
    put(conf, content="second\n")
    put(conf, content="third\n")
    backup = conf.with_name("app.conf.runbook-R1")
    assert backup.read_text() == "size = 5\nname = shop\n"


def test_what_a_run_wrote_can_be_taken_back(conf: Path) -> None:
    put(conf, content="new\n", mode="0600")
    result = put(conf, restore="R1", backup=False)
    assert (result.status, conf.read_text()) == ("ok", "size = 5\nname = shop\n")
    assert conf.stat().st_mode & 0o777 == 0o640


def test_without_a_backup_there_is_nothing_to_take_back(conf: Path) -> None:
    result = put(conf, restore="R0")
    assert (result.status, conf.read_text()) == ("failed", "size = 5\nname = shop\n")
    assert "kept no backup" in result.hint


# ---- arguments -----------------------------------------------------------------------------


def test_host_values_are_filled_in_but_not_in_a_files_content(tmp_path: Path) -> None:
    path = str(tmp_path / "f-${host.name}")
    here = Here()
    assert here.run(FILE, hosts="me", path=path, content="${host.vars.port}\n").status == "ok"
    assert (tmp_path / "f-me").read_text() == "8000\n"
    text = "${host.name} ${HOME}\n"
    assert here.run(FILE, hosts="me", path=path, from_file="x", content=text).status == "ok"
    assert (tmp_path / "f-me").read_text() == "${host.name} ${HOME}\n"


def test_a_file_that_was_not_read_with_the_playbook_is_not_taken_for_empty(conf: Path) -> None:
    here = Here()
    result = here.run(FILE, hosts="me", path=str(conf), from_file="x.conf")
    assert (result.status, here.changes) == ("failed", [])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "it has none"),
        ({"content": "x", "line": "y"}, "content and line"),
        ({"content": "x", "restore": "R"}, "content and restore"),
        ({"line": "a\nb"}, "more than one line"),
        ({"content": "x", "match": "x"}, "there is no line"),
        ({"line": "b", "match": "("}, "no regular expression"),
        ({"line": "b", "match": "^a"}, "every run would add it"),
        ({"content": "x", "path": "etc/x"}, "no absolute path"),
        ({"content": "x", "path": "/etc/../x"}, "no absolute path"),
        ({"content": "x", "path": "/etc/"}, "no absolute path"),
        ({"content": "x", "mode": "888"}, "mode"),
        ({"content": "x", "mode": 644}, "mode"),
        ({"content": "x", "owner": "root; id"}, "owner"),
        ({"content": "x" * (LARGEST + 1)}, "at most"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        FileArgs.model_validate({"hosts": "me", "path": "/etc/x", **given})


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("db_password = hunter2", "db_password = …"),
        ('  "apiKey": "abc",', '  "apiKey": …'),
        ("url = postgres://shop:hunter2@db/shop", "url = postgres://shop:…@db/shop"),
        ("Authorization: Bearer abcdefghijk", "Authorization: Bearer …"),
        ("size = 5", "size = 5"),
        ("# tokens are counted", "# tokens are counted"),
    ],
)
def test_what_looks_like_a_secret_is_not_shown(line: str, shown: str) -> None:
    assert masked(line) == shown


def test_a_private_key_is_not_shown() -> None:
    key = "a\n-----BEGIN RSA PRIVATE KEY-----\nabc\ndef\n-----END RSA PRIVATE KEY-----\nb"
    assert "abc" not in masked(key)
    assert masked(key).count("\n") == key.count("\n")
    assert masked(key).endswith("\nb")


def test_a_secret_is_neither_in_the_diff_nor_in_any_other_word(conf: Path) -> None:
    conf.write_text("password = old-one\n")
    here = Here()
    result = put(conf, here, line="password = new-one", match="^password")
    prepared = here.prepare(FILE, hosts="me", path=str(conf), line="password = x", match="^pass")
    assert "a value that is not shown here changes" in result.data["diff"]
    for said in (result, prepared):
        assert not any(word in repr(said) for word in ("old-one", "new-one"))


def test_a_long_diff_is_cut(conf: Path) -> None:
    result = put(conf, content="".join(f"{n}\n" for n in range(2000)))
    lines = result.data["diff"].splitlines()
    assert len(lines) == 401
    assert "more lines of the diff are not shown" in lines[-1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x" * 1_000_000, "y" * 1_000_000),
        ("a b\n" * 100_000, "b a\n" * 100_000),
        ("token" * 200_000, "://:" * 200_000),
        (" " * 1_000_000, "password" + " " * 1_000_000),
    ],
)
def test_no_text_makes_the_diff_long_or_slow(old: str, new: str) -> None:
    """Quadratic work on these takes minutes: the test would not come to its end."""
    assert sum(map(len, shown_diff("a", "b", old, new))) < 200_000


def test_a_diff_of_a_long_file_has_the_files_own_line_numbers() -> None:
    lines = [f"{n}\n" for n in range(50_000)]
    old = "".join(lines)
    lines[40_000] = "new\n"
    assert shown_diff("a", "b", old, "".join(lines))[2] == "@@ -39998,7 +39998,7 @@"
