// The page: a conversation with /v1/chat/completions. What anybody says or a film is called is text, never markup.
"use strict";

(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

  // ---- what is kept in the browser: it may be forbidden, and then nothing is kept ----------------------------------

  const kept = (area) => ({
    get(name) { try { return area().getItem(name); } catch { return null; } },
    set(name, value) { try { value === null ? area().removeItem(name) : area().setItem(name, value); } catch { /* not kept */ } },
  });
  const ofTab = kept(() => sessionStorage);
  const ofBrowser = kept(() => localStorage);
  let sessionId = ofTab.get("crs-session");
  let token = ofTab.get("crs-token");

  const keepSession = (id) => { sessionId = id; ofTab.set("crs-session", id); };
  const keepToken = (text) => { token = text; ofTab.set("crs-token", text); };

  // ---- colours ---------------------------------------------------------------------------------------------------

  const theme = ofBrowser.get("crs-theme");
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches);
  const showTheme = () => byId("theme").setAttribute("aria-pressed", String(isDark()));
  function changeTheme() {
    root.dataset.theme = isDark() ? "light" : "dark";
    ofBrowser.set("crs-theme", root.dataset.theme);
    showTheme();
  }

  // ---- building ----------------------------------------------------------------------------------------------------

  function make(name, options = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(options)) {
      if (key === "class") element.className = value;
      else if (key === "text") element.textContent = value;
      else if (key === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
      else if (value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.filter(Boolean));
    return element;
  }

  function drawing(path) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 20 20");
    svg.setAttribute("aria-hidden", "true");
    line.setAttribute("d", path);
    svg.append(line);
    return svg;
  }

  const THOUGHTS = [
    ["liked", "Like", "M10 16.6 4 10.5a3.7 3.7 0 0 1 5.3-5.2l.7.8.7-.8a3.7 3.7 0 0 1 5.3 5.2z"],
    ["disliked", "Dislike", "M5.5 5.5l9 9m0-9-9 9"],
    ["seen", "Seen", "M4 10.8l4 4 8-9"],
  ];
  const HUES = {
    comedy: 42, family: 95, animation: 190, romance: 345, drama: 262, thriller: 212, crime: 228, horror: 0, action: 18,
    adventure: 150, fantasy: 285, "science fiction": 200, "sci-fi": 200, mystery: 245, war: 75, western: 30,
    documentary: 170, musical: 320, music: 320, history: 55, biography: 130,
  };

  function hueOf(item) {
    for (const genre of item.genres) if (genre.toLowerCase() in HUES) return HUES[genre.toLowerCase()];
    let sum = 0;
    for (const letter of item.title) sum += letter.codePointAt(0);
    return (sum * 37) % 360;
  }

  const named = (item) => (item.year ? `${item.title} (${item.year})` : item.title);
  const peopleOf = ({ directors, cast }) => {
    const names = cast.filter((name) => !directors.slice(0, 2).includes(name)).slice(0, 3).join(", ");
    return [directors.slice(0, 2).join(", "), names].filter(Boolean).join(" · ");
  };

  function cardOf(item) {
    const tile = make("span", { class: "tile", "aria-hidden": "true", text: Array.from(item.title)[0] || "?" });
    tile.style.setProperty("--hue", hueOf(item));
    const people = peopleOf(item.people);
    const card = make("article", { class: "card", tabindex: "-1", "aria-label": named(item) },
      make("header", {}, tile, make("div", {},
        make("h3", { text: item.title }), item.year && make("span", { class: "year", text: item.year }))),
      item.facts && make("p", { class: "facts", text: item.facts }),
      people && make("p", { class: "people", text: people }),
      item.plot && make("p", { class: "plot", text: item.plot }),
      item.why && make("p", { class: "why", text: item.why }));
    const thoughts = make("div", { class: "thoughts", role: "group", "aria-label": `What you think of ${named(item)}` });
    for (const [opinion, label, path] of THOUGHTS) {
      const button = make("button", { type: "button", "data-opinion": opinion, "aria-pressed": String(item.opinion === opinion) },
        drawing(path), make("span", { text: label }));
      button.addEventListener("click", () => think(item, opinion, thoughts));
      thoughts.append(button);
    }
    card.append(thoughts);
    card.addEventListener("click", (event) => { if (!event.target.closest("button") && !String(getSelection())) card.classList.toggle("open"); });
    return card;
  }

  function showItems(turn, items) {
    if (!items.length) return;
    const list = make("ul", { class: "cards", "aria-label": items.length === 1 ? "One film" : `${items.length} films` });
    for (const item of items) list.append(make("li", {}, cardOf(item)));
    list.querySelector(".card").tabIndex = 0;
    turn.append(list);
  }

  function showWishes(turn, wishes) {
    if (!wishes.length) return;
    turn.append(make("p", { class: "kept" }, "Keeping to ", make("b", { text: wishes.join(" · ") })));
  }

  function showNext(turn) {
    const list = make("ul", { class: "next", "aria-label": "Ways to go on" });
    for (const text of ["More like these", "Something else", "Why these?"]) {
      list.append(make("li", {}, make("button", { type: "button", text, on: { click: () => say(text) } })));
    }
    turn.append(list);
  }

  function addTurn(kind, text) {
    byId("welcome").hidden = true;
    byId("fresh").hidden = false;
    const who = { mine: "You said:", theirs: "Answer:", notice: "Note:" }[kind];
    const words = make("span", { text });
    const turn = make("li", { class: `turn ${kind}` },
      make("div", { class: "bubble" }, make("span", { class: "unseen", text: `${who} ` }), words));
    byId("turns").append(turn);
    return { turn, words };
  }

  const announce = (text) => { byId("status").textContent = text; };
  const toEnd = (turn) => {
    const room = byId("talk").clientHeight - 24;
    const block = turn.offsetHeight > room ? "start" : "end";
    turn.scrollIntoView({ block, behavior: isCalm() ? "auto" : "smooth" });
  };

  // ---- asking --------------------------------------------------------------------------------------------------------

  class Failure extends Error {
    constructor(status, code, message, waitS) { super(message); Object.assign(this, { status, code, waitS }); }
  }

  async function ask(path, { method = "GET", body, signal } = {}) {
    for (;;) {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      if (body) headers["Content-Type"] = "application/json";
      let answer;
      try {
        answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Failure(0, "away", "away");
      }
      if (answer.ok) return answer;
      const told = (await answer.json().catch(() => ({}))).error || {};
      if (answer.status === 401 && (await openDoor(Boolean(token)))) continue;
      throw new Failure(answer.status, told.code, told.message || "", Number(answer.headers.get("Retry-After")) || 0);
    }
  }

  let door = null;
  function openDoor(wasWrong) {
    byId("door-text").textContent = wasWrong
      ? "That token is not known here. Is it whole?"
      : "Whoever runs this service has given you one. It stays in this tab.";
    door ||= new Promise((resolve) => {
      const dialog = byId("door");
      const done = () => {
        const given = byId("token").value.trim();
        const goesOn = dialog.returnValue === "go" && Boolean(given);
        byId("token").value = "";
        if (goesOn) keepToken(given);
        door = null;
        resolve(goesOn);
      };
      dialog.returnValue = "";
      dialog.addEventListener("close", done, { once: true });
      dialog.showModal();
    });
    return door;
  }

  function inWords(failure) {
    if (failure.status === 0) return "The service cannot be reached. Is crs serve still running?";
    if (failure.status === 401) return "This service asks for a token.";
    if (failure.status === 429) return `That was quick. It can go on in ${failure.waitS || 1} s.`;
    if (failure.status === 413 || failure.code === "too_long") return "That message is too long. Could you say it in fewer words?";
    if (failure.code === "session_full") return "This conversation has become very long. Please begin a new one.";
    if (failure.status >= 500) return "Something went wrong on the other side. It may work in a moment.";
    return failure.message ? `That did not work: ${failure.message}.` : "That did not work.";
  }

  async function* eventsOf(answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Failure(0, "cut", "cut");
      text += value;
      const parts = text.split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const data = part.replace(/^data: /, "");
        if (data === "[DONE]") return;
        yield JSON.parse(data);
      }
    }
  }

  // Words appear one after the other, however they arrive; a long reply takes no longer than a second or so.
  function writer(words) {
    const waiting = [];
    let timer = 0;
    let whenDone = null;
    const step = () => {
      if (isCalm() || document.hidden) words.textContent += waiting.splice(0).join("");
      else words.textContent += waiting.splice(0, 1 + Math.floor(waiting.length / 24)).join("");
      timer = waiting.length ? setTimeout(step, 26) : 0;
      if (!timer && whenDone) whenDone();
    };
    return {
      add(text) { waiting.push(text); timer ||= setTimeout(step, 0); },
      rest() { clearTimeout(timer); words.textContent += waiting.splice(0).join(""); timer = 0; },
      done: () => new Promise((resolve) => { whenDone = resolve; if (!timer) resolve(); }),
    };
  }

  let answering = null;

  async function say(said) {
    const text = said.trim();
    if (!text || answering) return;
    document.querySelectorAll(".next, .notice").forEach((old) => old.remove());
    const mine = addTurn("mine", text);
    await answer(text, mine.turn);
  }

  async function answer(text, mine, isSecondTry = false) {
    const here = answering = new AbortController();
    const { turn, words } = addTurn("theirs", "");
    const dots = make("span", { class: "dots" }, make("i"), make("i"), make("i"));
    words.after(dots);
    toEnd(turn);
    announce("Thinking");
    const write = writer(words);
    try {
      const body = { messages: [{ role: "user", content: text }], stream: true };
      if (sessionId) body.session_id = sessionId;
      const reply = await ask("/v1/chat/completions", { method: "POST", body, signal: here.signal });
      let told = {};
      for await (const event of eventsOf(reply)) {
        const delta = event.choices[0]?.delta.content;
        if (event.crs?.session_id) keepSession(event.crs.session_id);
        if (event.crs?.items) told = event.crs;
        if (delta) { dots.remove(); write.add(delta); }
      }
      await write.done();
      finish(turn, words.textContent, told);
      toEnd(turn.offsetHeight + mine.offsetHeight > byId("talk").clientHeight ? mine : turn);
    } catch (error) {
      write.rest();
      dots.remove();
      if (!words.textContent) turn.remove();
      answering = null;
      if (error.code === "session_not_found" && !isSecondTry) {
        keepSession(null);
        addTurn("notice", "The earlier conversation has expired, so this begins a new one.");
        await answer(text, mine, true);
        return;
      }
      failed(error, () => answer(text, mine));
    } finally {
      if (answering === here) answering = null;
      showCount();
    }
  }

  function finish(turn, text, { items = [], wishes = [] }) {
    showItems(turn, items);
    showWishes(turn, wishes);
    if (items.length) showNext(turn);
    announce([text, ...items.map((item) => `${named(item)}. ${item.why}`)].join(" "));
  }

  function failed(error, again) {
    if (error.name === "AbortError") { announce("Stopped"); addTurn("notice", "Stopped."); return; }
    const text = inWords(error instanceof Failure ? error : new Failure(0, "cut", ""));
    const { turn, words } = addTurn("notice", text);
    announce(text);
    if (again) {
      words.after(make("button", { type: "button", text: "Try again", on: { click: () => { if (!answering) { turn.remove(); again(); } } } }));
    }
    toEnd(turn);
  }

  async function think(item, opinion, thoughts) {
    const buttons = [...thoughts.children];
    const before = buttons.map((button) => button.getAttribute("aria-pressed"));
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.opinion === opinion));
    announce(`${named(item)}: ${opinion}`);
    try {
      await ask("/v1/opinions", { method: "POST", body: { session_id: sessionId, item_id: item.item_id, opinion } });
    } catch (error) {
      buttons.forEach((button, num) => button.setAttribute("aria-pressed", before[num]));
      failed(error, null);
    }
  }

  // ---- beginning, and beginning anew ---------------------------------------------------------------------------------

  async function goOn() {
    try {
      const models = await (await ask("/v1/models")).json();
      byId("model").textContent = models.data[0].id;
      if (!sessionId) return;
      const session = await (await ask(`/v1/sessions/${encodeURIComponent(sessionId)}`)).json();
      let last = null;
      for (const [num, { role, text, items }] of session.turns.entries()) {
        if (role === "user" && session.turns[num + 1]?.role !== "assistant") continue; // a button said that
        last = addTurn(role === "user" ? "mine" : "theirs", text).turn;
        showItems(last, items.map((item) => ({ ...item, opinion: session.opinions[item.item_id] })));
      }
      if (last) { showWishes(last, session.wishes); toEnd(last); }
    } catch (error) {
      if (error.code === "session_not_found") keepSession(null);
      else failed(error, null);
    }
  }

  function begin() {
    if (answering) answering.abort();
    if (sessionId) ask(`/v1/sessions/${encodeURIComponent(sessionId)}`, { method: "DELETE" }).catch(() => {});
    keepSession(null);
    byId("turns").replaceChildren();
    byId("welcome").hidden = false;
    byId("fresh").hidden = true;
    announce("A new conversation");
    byId("text").focus();
  }

  // ---- keys ------------------------------------------------------------------------------------------------------------

  const cards = () => [...document.querySelectorAll(".card")];

  function focusCard(card) {
    if (!card) return;
    for (const other of card.closest(".cards").querySelectorAll(".card")) other.tabIndex = other === card ? 0 : -1;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest", behavior: isCalm() ? "auto" : "smooth" });
  }

  function onKey(event) {
    const card = event.target.closest?.(".card");
    const isWriting = event.target === byId("text");
    if (event.key === "Escape" && !byId("door").open) {
      if (answering) answering.abort();
      byId("text").focus();
    } else if (isWriting && event.key === "ArrowUp" && !byId("text").value && cards().length) {
      const newest = [...document.querySelectorAll(".cards")].pop();
      event.preventDefault();
      focusCard(newest.querySelector(".card"));
    } else if (card && !event.altKey && !event.ctrlKey && !event.metaKey) {
      const all = cards();
      const at = all.indexOf(card);
      const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
      if (event.key === "Enter" && event.target === card) card.classList.toggle("open");
      if (to === undefined) return;
      event.preventDefault();
      if (to >= all.length) byId("text").focus();
      else focusCard(all[Math.max(to, 0)]);
    }
  }

  function showCount() {
    const { value, maxLength } = byId("text");
    byId("send").disabled = !value.trim() || Boolean(answering);
    byId("count").textContent = value.length > maxLength - 300 ? `${value.length} of ${maxLength} characters` : "";
    if (!CSS.supports("field-sizing", "content")) {
      byId("text").style.height = "auto";
      byId("text").style.height = `${byId("text").scrollHeight + 2}px`;
    }
  }

  function send() {
    const text = byId("text").value;
    if (!text.trim() || answering) return;
    byId("text").value = "";
    const done = say(text);
    showCount();
    byId("text").focus();
    return done;
  }

  document.addEventListener("DOMContentLoaded", () => {
    showTheme();
    systemIsDark.addEventListener("change", showTheme);
    byId("theme").addEventListener("click", changeTheme);
    byId("fresh").addEventListener("click", begin);
    byId("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
    byId("text").addEventListener("input", showCount);
    byId("text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
    });
    byId("door-form").addEventListener("submit", (event) => { event.preventDefault(); byId("door").close("go"); });
    byId("door-close").addEventListener("click", () => byId("door").close(""));
    for (const button of byId("openings").querySelectorAll("button")) {
      button.addEventListener("click", () => { say(button.textContent); byId("text").focus(); });
    }
    document.addEventListener("keydown", onKey);
    showCount();
    goOn();
  });
})();
