// Renews the parts of a page that change, for as long as its run goes on.
"use strict";

(() => {
  const live = document.querySelector("[data-live]");
  const fresh = document.getElementById("fresh");
  const said = document.getElementById("said");
  if (!live) return;

  const EVERY_MS = 1500;
  const EVERY_HIDDEN_MS = 10000;
  // What each part was as the server wrote it: a part that is the same is left alone, with
  // whatever somebody has typed, selected or opened in it.
  const written = new Map();
  for (const part of live.querySelectorAll("[data-part]")) {
    written.set(part.dataset.part, part.outerHTML);
  }
  let timer = 0;

  const version = () => live.querySelector("[data-version]")?.dataset.version ?? "";
  const clock = () => new Date().toISOString().slice(11, 19) + " UTC";

  function replace(fragment) {
    const page = new DOMParser().parseFromString(fragment, "text/html");
    for (const part of page.querySelectorAll("[data-part]")) {
      const name = part.dataset.part;
      const source = part.outerHTML;
      const old = live.querySelector(`[data-part="${CSS.escape(name)}"]`);
      if (!old || written.get(name) === source) continue;
      written.set(name, source);
      put(old, document.importNode(part, true));
    }
  }

  function put(old, part) {
    for (const open of old.querySelectorAll("details[open][id]")) {
      part.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
    }
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    old.replaceWith(part);
    if (!focused) return;
    // Whoever was in the middle of it hears where they are now.
    const same = focused.id && part.querySelector(`#${CSS.escape(focused.id)}`);
    (same || part.querySelector("[tabindex]") || document.getElementById("main")).focus();
  }

  function announce() {
    const state = live.querySelector("[data-version]");
    if (state?.dataset.title) document.title = state.dataset.title;
    const words = state?.dataset.say ?? "";
    if (said && said.textContent !== words) said.textContent = words;
  }

  function stale(text, link) {
    fresh.classList.add("stale");
    fresh.textContent = text;
    if (!link) return;
    const way = document.createElement("a");
    way.href = link;
    way.textContent = "Sign in again";
    fresh.append(" ", way);
  }

  let since = clock();
  async function look() {
    try {
      const answer = await fetch(`${live.dataset.live}?seen=${encodeURIComponent(version())}`, {
        headers: { Accept: "text/html" },
        signal: AbortSignal.timeout(10000),
      });
      if (answer.status === 401) {
        stale(`You were signed out; this is how it stood at ${since}.`, "/sign-in");
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      if (answer.status === 200) replace(await answer.text());
      announce();
      since = clock();
      fresh.classList.remove("stale");
      fresh.textContent = `Renewed at ${since}.`;
      if (live.querySelector("[data-over]")) {
        fresh.textContent = "";
        return;
      }
    } catch {
      stale(`No answer from runbook serve since ${since}: what is shown may be old.`);
    }
    timer = setTimeout(look, document.hidden ? EVERY_HIDDEN_MS : EVERY_MS);
  }

  function tick() {
    for (const left of document.querySelectorAll("[data-left]")) {
      const seconds = Math.round(Number(left.dataset.left) - Date.now() / 1000);
      const minutes = Math.floor(seconds / 60);
      left.textContent = seconds <= 0 ? "(expired)"
        : minutes > 0 ? `(${minutes} min left)` : `(${seconds} s left)`;
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !timer) return;
    clearTimeout(timer);
    look();
  });
  // A button that is pressed twice says one thing.
  document.addEventListener("submit", (event) => {
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  });
  setInterval(tick, 1000);
  tick();
  timer = setTimeout(look, EVERY_MS);
})();
