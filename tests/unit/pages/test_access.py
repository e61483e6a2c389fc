"""Who is let in at the pages: tokens, sessions, roles, forms of other people's pages, headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.serve.pages.access import SESSION_S
from unit.pages.world import DIGEST, FROM_OURS, PEOPLE, House, form_of, hidden

PAGES = ("/runs", "/runs/r1", "/inbox", "/runs/r1/report")
PARTS = ("/runs/live", "/runs/r1/live", "/runs/r1.json", "/runs.json")
ACTS = ("/runs/r1/answer", "/runs/r1/cancel", "/runs/r1/resume")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house with one run that waits."""
    made = House(tmp_path)
    made.begin()
    made.ask()
    return made


def test_nobody_sees_anything_without_signing_in(house: House) -> None:
    client = house.client()
    for path in PAGES:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"][:8]) == (303, "/sign-in"), path
        assert "rolling" not in answer.text
    for path in PARTS:
        assert client.get(path).status_code == 401, path
    for path in ACTS:
        assert client.post(path, headers=FROM_OURS).status_code == 303, path
    assert house.kinds()[-1] == "finished"


def test_a_token_signs_in_and_leads_to_what_was_wanted(house: House) -> None:
    client = house.client()
    assert client.get("/runs/r1").headers["location"] == "/sign-in?next=/runs/r1"
    answer = client.sign_in(house.tokens["DANA"], "/sign-in?next=/runs/r1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/r1")
    assert "dana" in client.get("/runs/r1").text


@pytest.mark.parametrize(
    "elsewhere",
    ["//evil.example", "https://evil.example/runs", "/runs/../x", "/sign-out", "/runs\\x"],
)
def test_nobody_is_led_elsewhere(house: House, elsewhere: str) -> None:
    client = house.client()
    answer = client.sign_in(house.tokens["DANA"], f"/sign-in?next={elsewhere}")
    assert answer.headers["location"] == "/runs"


@pytest.mark.parametrize("token", ["", "wrong", "token-of-dana-4712x", "nobody", "\u00ed\u00a0"])
def test_a_wrong_token_does_not(house: House, token: str) -> None:
    client = house.client()
    answer = client.sign_in(token)
    assert answer.status_code == 403
    assert "Nobody in `people` has this token" in answer.text
    assert client.get("/runs").status_code == 303


def test_who_has_an_empty_token_cannot_sign_in(house: House) -> None:
    house.tokens["VERA"] = ""
    assert house.client().sign_in("").status_code == 403


def test_guessing_is_slowed_down_and_those_inside_stay(house: House) -> None:
    inside, client = house.client("dana"), house.client()
    for _ in range(10):
        assert client.sign_in("a guess").status_code == 403
    blocked = client.sign_in(house.tokens["DANA"])
    assert blocked.status_code == 429
    assert int(blocked.headers["retry-after"]) <= 61
    assert inside.get("/runs").status_code == 200


def test_guessing_bearer_tokens_is_slowed_down_as_well(house: House) -> None:
    client = house.client()
    for _ in range(10):
        client.get("/runs.json", headers={"Authorization": "Bearer a guess"})
    right = {"Authorization": f"Bearer {house.tokens['VERA']}"}
    assert client.get("/runs.json", headers=right).status_code == 401


def test_a_script_reads_with_a_bearer_token_and_says_nothing_with_it(house: House) -> None:
    client, right = house.client(), {"Authorization": f"Bearer {house.tokens['OTTO']}"}
    run = client.get("/runs/r1.json", headers=right).json()
    assert run["schema_version"] == 1
    assert (run["standing"], run["waiting"]["hash"]) == ("waiting", DIGEST)
    assert client.get("/runs/nope.json", headers=right).status_code == 404
    assert client.get("/runs.json", headers=right).json()["runs"][0]["run"]["run_id"] == "r1"
    for path in ACTS:
        assert client.post(path, headers={**right, **FROM_OURS}).status_code == 401
    assert client.get("/runs.json", headers={"Authorization": "Basic eA=="}).status_code == 401


def test_a_session_outlives_a_restart_of_serve(house: House) -> None:
    before = house.client("dana")
    after = house.client()
    after.cookies = before.cookies
    assert after.get("/runs").status_code == 200


def test_a_session_ends(house: House) -> None:
    client = house.client("dana")
    house.at += SESSION_S + 1
    assert client.get("/runs").status_code == 303


def test_a_session_ends_with_its_token(house: House) -> None:
    client = house.client("dana")
    house.tokens["DANA"] = "another one"
    after = house.client()
    after.cookies = client.cookies
    assert after.get("/runs").status_code == 303


def test_who_signs_out_is_out_with_the_same_cookie_as_well(house: House) -> None:
    client = house.client("dana")
    kept = dict(client.cookies)
    answer = client.act("/sign-out", page="/runs")
    assert answer.status_code == 303
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    again = house.client()
    again.cookies.update(kept)
    assert again.get("/runs").status_code == 303


def test_the_cookie_is_for_us_alone(house: House, tmp_path: Path) -> None:
    cookie = house.client().sign_in(house.tokens["DANA"]).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    behind_tls = House(tmp_path / "tls", url="https://runbook.example")
    client = behind_tls.client()
    said = client.get("/sign-in").headers["set-cookie"]
    assert said.startswith("__Host-runbook-before=")
    assert "Secure" in said


def test_the_file_of_sessions_signs_nobody_in(house: House) -> None:
    client = house.client("dana")
    path = house.folder / "sessions.db"
    assert path.stat().st_mode & 0o777 == 0o600
    kept = b"".join(p.read_bytes() for p in house.folder.glob("sessions.db*"))
    assert client.cookies["runbook"].encode() not in kept
    assert house.tokens["DANA"].encode() not in kept


# ---- forms ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver.evil.example"},
        {"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://testserver", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {},
    ],
)
def test_a_form_from_another_page_is_refused(house: House, headers: dict[str, str]) -> None:
    client = house.client("otto")
    fields = hidden(form_of(client.get("/runs/r1").text, "/runs/r1/answer"))
    for path in ACTS:
        answer = client.post(path, data={**fields, "answer": "yes"}, headers=headers)
        assert answer.status_code == 403, path
    assert "answered" not in house.kinds()
    assert house.started == []


@pytest.mark.parametrize("token", ["", "x", "0" * 40])
def test_a_form_without_this_sessions_token_is_refused(house: House, token: str) -> None:
    client = house.client("dana")
    fields = {"key": "confirm", "digest": DIGEST, "answer": "yes", "form_token": token}
    assert client.fill("/runs/r1/answer", fields).status_code == 403
    assert "answered" not in house.kinds()


def test_another_sessions_token_is_no_good(house: House) -> None:
    dana, otto = house.client("dana"), house.client("otto")
    fields = hidden(form_of(otto.get("/runs/r1").text, "/runs/r1/answer"))
    assert dana.fill("/runs/r1/answer", {**fields, "answer": "yes"}).status_code == 403
    assert "answered" not in house.kinds()


def test_signing_in_takes_a_form_of_ours_as_well(house: House) -> None:
    client = house.client()
    client.get("/sign-in")
    token = {"token": house.tokens["DANA"]}
    assert client.post("/sign-in", data=token, headers=FROM_OURS).status_code == 403
    fields = {**token, **hidden(client.get("/sign-in").text)}
    foreign = {"Origin": "https://evil.example"}
    assert client.post("/sign-in", data=fields, headers=foreign).status_code == 403


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"answer=yes&" + b"x" * 20_000, "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(1000)), "application/x-www-form-urlencoded"),
        (b"a=%ff%fe", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b'{"answer": "yes"}', "application/json"),
        (b"", "text/plain"),
    ],
)
def test_what_is_no_form_of_ours_is_refused(house: House, body: bytes, kind: str) -> None:
    client = house.client("dana")
    answer = client.post(
        "/runs/r1/answer", content=body, headers={**FROM_OURS, "Content-Type": kind}
    )
    assert answer.status_code == 403
    assert "answered" not in house.kinds()


# ---- headers --------------------------------------------------------------------------------


def test_every_page_forbids_itself_what_it_does_not_need(house: House) -> None:
    client = house.client("otto")
    for path in (*PAGES, *PARTS, "/sign-in", "/runs/nope"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none';"), path
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self'" in policy or "script-src" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
    for path in (*PAGES[:3], "/sign-in"):
        page = client.get(path).text
        assert "style=" not in page, path
        assert " onclick" not in page
        assert page.count("<script") == page.count('<script src="/static/live.js" defer>')


def test_the_report_is_shut_in(house: House) -> None:
    answer = house.client("vera").get("/runs/r1/report")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]
    assert answer.status_code == 200


def test_without_people_nobody_gets_in(tmp_path: Path) -> None:
    empty = House(tmp_path, people={name: PEOPLE[name] for name in ("nobody",)})
    assert empty.client().sign_in("anything").status_code == 403
