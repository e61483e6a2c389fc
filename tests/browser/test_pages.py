"""The pages in a real browser, over real runs: watched, approved, denied, stopped; by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser.chromium import browser as a_browser
from browser.stage import PATIENCE_S, Stage, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("playwright", reason="an extra: tools/venv.sh drill,dev,browser")
pytestmark = pytest.mark.slow

PHONE = {"width": 360, "height": 740}
#: How far a page reaches beyond the right edge of the screen, in pixels.
OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for all tests of this file."""
    with a_browser() as started:
        yield started


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A shop of three hosts, and pages that are served."""
    monkeypatch.setenv("RUNBOOK_STATE", str(tmp_path / "state"))
    made = Stage(tmp_path)
    with made.serving():
        yield made
    made.close()


class Visit:
    """Somebody in a window of their own; what the console complains of is a failure."""

    def __init__(self, chromium: Browser, stage: Stage, **window: Any) -> None:
        self.stage = stage
        self.complaints: list[str] = []
        self.context = chromium.new_context(base_url=stage.url, **window)
        self.context.set_default_timeout(PATIENCE_S * 1000)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: Any) -> None:
        # A page that answers 409 or 403 is told in the console as well; that is no complaint.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def sign_in(self, name: str) -> Page:
        """Sign in by the form."""
        self.page.goto("/sign-in")
        self.page.fill("#token", self.stage.token(name))
        self.page.press("#token", "Enter")
        self.page.wait_for_url("**/runs")
        return self.page


@pytest.fixture
def visit(chromium: Browser, stage: Stage) -> Iterator[Any]:
    """Opens windows; at the end no console may have complained."""
    visits: list[Visit] = []

    def open_one(**window: Any) -> Visit:
        visits.append(Visit(chromium, stage, **window))
        return visits[-1]

    yield open_one
    for each in visits:
        each.context.close()
    assert [line for each in visits for line in each.complaints] == []


def test_a_yes_in_the_browser_lets_the_run_go_on_to_its_end_before_ones_eyes(
    stage: Stage, visit: Any
) -> None:
    page = visit().sign_in("dana")
    run_id = stage.asking(approvers=("dana",), answer_within_s=600.0)
    # The list shows it by itself, and so does the title of a tab in the background.
    page.get_by_text("Asked of you").wait_for()
    page.wait_for_function("document.title.startsWith('(1)')")
    page.get_by_role("link", name="rolling-restart shop").click()
    page.get_by_role("heading", name="Waiting for your answer").wait_for()
    assert page.locator(".touches li").all_inner_texts() == list(
        stage.view(run_id).waiting["touches"]  # type: ignore[index]
    )
    stage.hold("web-1")
    page.fill("#comment", "seen the graphs")
    page.get_by_role("button", name="Approve 3 changes").click()
    page.get_by_text("Approved by dana@browser").wait_for()
    # Stages, gates and the end come without anybody doing anything.
    page.get_by_role("heading", name="Going on").wait_for()
    page.locator(".hosts li", has_text="web-1").get_by_text("restarting", exact=True).wait_for()
    stage.sick.add("web-1")
    stage.let_go("web-1")
    page.locator(".hosts li", has_text="web-1").get_by_text("gating", exact=True).wait_for()
    assert stage.restarted() == ["web-1"]
    stage.sick.clear()
    page.get_by_role("heading", name="Done").wait_for()
    assert page.locator(".hosts .pill").all_inner_texts() == ["done"] * 3
    assert page.locator("#said").inner_text() == "rolling-restart shop: Done"
    assert stage.ended(run_id) == "done"
    assert stage.restarted() == stage.hosts
    [said] = [e.data for e in stage.journal.run(run_id).events if e.kind == "answered"]  # type: ignore[union-attr]
    assert (said["by"], said["comment"]) == ("dana@browser", "seen the graphs")


def test_a_no_in_the_browser_is_a_no(stage: Stage, visit: Any) -> None:
    run_id = stage.asking()
    page = visit().sign_in("dana")
    page.goto(f"/runs/{run_id}")
    page.get_by_role("button", name="Deny").click()
    page.get_by_role("heading", name="Refused, nothing changed").wait_for()
    assert stage.ended(run_id) == "refused"
    assert stage.restarted() == []


def test_what_is_typed_stays_while_the_page_renews_itself(stage: Stage, visit: Any) -> None:
    run_id = stage.asking()
    page = visit().sign_in("dana")
    page.goto(f"/runs/{run_id}")
    page.fill("#comment", "half a sent")
    page.locator("#fresh", has_text="Renewed at").wait_for()
    # Something else on the page changes meanwhile.
    stage.journal.append(run_id, _word("somebody looks"))
    page.locator(".log", has_text="somebody looks").wait_for()
    assert page.input_value("#comment") == "half a sent"
    assert page.evaluate("document.activeElement.id") == "comment"


def _word(what: str) -> Any:
    from runbook.model.events import Event

    return Event(kind="noted", at=1.8e9, data={"what": what, "by": "eve@desk"})


def test_who_was_slower_sees_who_was_first(stage: Stage, visit: Any) -> None:
    run_id = stage.asking()
    dana, eve = visit(java_script_enabled=False).sign_in("dana"), visit().sign_in("eve")
    dana.goto(f"/runs/{run_id}")
    eve.goto(f"/runs/{run_id}")
    eve.get_by_role("button", name="Deny").click()
    eve.get_by_text("Denied by eve@browser").wait_for()
    dana.get_by_role("button", name="Approve").click()
    words = dana.locator("#notice").inner_text()
    assert words.startswith("It was answered already: no, by eve@browser")
    assert stage.ended(run_id) == "refused"


def test_an_operator_stops_a_run_that_is_at_work(stage: Stage, visit: Any) -> None:
    stage.hold("web-1")
    run_id = stage.submit(confirmed_by="rule restart-shop")
    page = visit().sign_in("otto")
    page.goto(f"/runs/{run_id}")
    page.get_by_text("Stop this run").click()
    # What was opened stays open while the page renews itself.
    page.locator(".hosts .pill", has_text="restarting").first.wait_for()
    page.get_by_role("button", name="Stop rolling-restart shop").click()
    page.get_by_role("heading", name="Stopping").wait_for()
    stage.let_go("web-1")
    page.get_by_role("heading", name="Stopped").wait_for()
    assert stage.ended(run_id) == "interrupted"
    assert stage.restarted() == ["web-1"]


def test_without_a_mouse(stage: Stage, visit: Any) -> None:
    run_id = stage.asking()
    page = visit().page
    page.goto("/runs")
    page.locator("#token:focus").wait_for()
    page.keyboard.type(stage.token("dana"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs")
    _tab_to(page, "To the content")
    _tab_to(page, "rolling-restart shop")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{run_id}")
    _tab_to(page, "")
    page.keyboard.type("by hand")
    _tab_to(page, "Approve 3 changes")
    page.keyboard.press("Space")
    page.get_by_text("Approved by dana@browser").wait_for()
    assert stage.ended(run_id) == "done"


def _tab_to(page: Page, words: str) -> None:
    """Press Tab until what has these words, or the field, has the focus, and is seen to have it."""
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        tag = focused.evaluate("e => e.tagName")
        if (words and words in focused.inner_text()) or (not words and tag == "TEXTAREA"):
            assert focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
            return
    raise AssertionError(f"{words!r} cannot be reached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_hangs_over_the_edge(stage: Stage, visit: Any, scheme: str) -> None:
    stage.ended(stage.submit(confirmed_by="rule restart-shop"))
    run_id = stage.asking()
    page = visit(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True).sign_in(
        "otto"
    )
    for path in ("/runs", f"/runs/{run_id}", "/inbox", f"/runs/{run_id}/report"):
        page.goto(path)
        assert page.evaluate(OVERHANG) == 0, path
    page.goto(f"/runs/{run_id}")
    # What is asked is seen without scrolling, and its button is large enough for a thumb.
    assert page.get_by_role("heading", name="Waiting for your answer").bounding_box()["y"] < 300
    assert page.get_by_role("button", name="Approve").bounding_box()["height"] >= 44


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(stage: Stage, visit: Any, scheme: str) -> None:
    run_id = stage.asking()
    page = visit(color_scheme=scheme).sign_in("otto")
    for path in ("/runs", f"/runs/{run_id}"):
        page.goto(path)
        assert page.evaluate(_TOO_FAINT) == [], path
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(13, 17, 23)") is (scheme == "dark")


#: Texts with less contrast than WCAG's AA asks for (4.5; 3 where large), with their ratio.
_TOO_FAINT = """() => {
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest('svg, .away, .skip, noscript')) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(style.color).slice(0, 3)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.push([e.textContent.trim().slice(0, 40), ratio]);
  }
  return faint;
}"""


def test_without_javascript_everything_can_be_read_and_answered(stage: Stage, visit: Any) -> None:
    run_id = stage.asking()
    page = visit(java_script_enabled=False).sign_in("dana")
    page.get_by_role("link", name="rolling-restart shop").click()
    page.get_by_role("button", name="Approve 3 changes").click()
    page.get_by_text("Approved by dana@browser").wait_for()
    assert stage.ended(run_id) == "done"
    page.goto(f"/runs/{run_id}")
    assert page.locator(".hosts .pill").all_inner_texts() == ["done"] * 3
    assert page.locator("svg.track rect").count() > 6


def test_the_report_opens_in_its_own_style(stage: Stage, visit: Any) -> None:
    run_id = stage.submit(rehearsal=True)
    stage.ended(run_id)
    page = visit().sign_in("vera")
    page.goto(f"/runs/{run_id}")
    page.get_by_role("link", name="Full report").click()
    page.get_by_role("heading", name="rolling-restart shop (rehearsal)").wait_for()
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.verdict')).borderRadius") != "0px"
    )


def test_a_page_says_when_it_is_out_of_date(stage: Stage, visit: Any) -> None:
    window = visit()
    run_id = stage.asking()
    page = window.sign_in("dana")
    page.goto(f"/runs/{run_id}")
    page.locator("#fresh", has_text="Renewed at").wait_for()
    window.context.set_offline(True)
    page.locator("#fresh.stale", has_text="No answer from runbook serve since").wait_for()
    window.context.set_offline(False)
    page.locator("#fresh", has_text="Renewed at").wait_for()
    window.context.clear_cookies()
    page.locator("#fresh.stale", has_text="You were signed out").wait_for()
    until(lambda: page.get_by_role("link", name="Sign in again").is_visible())
