// People judge pairs: a strength from much better to much worse, by mouse or keyboard, with undo.
// A judgement stays in this browser until the server has acknowledged it.

import { api, count, el, notice, percent, show, turns, whenTyping } from "./kit.js";

const STEPS = [
  [3, "First much better"], [2, "First better"], [1, "First slightly"], [0, "Tie"],
  [-1, "Second slightly"], [-2, "Second better"], [-3, "Second much better"],
];
const PENDING = "assay-unsent", NAME = "assay-annotator";
const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
const store = (name, value) => { try { value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value); } catch { /* kept here only */ } };
const listed = () => { try { return JSON.parse(stored(PENDING) || "[]"); } catch { return []; } };
// What was not acknowledged: here, and in the browser's store for the case that the page is closed.
const state = { annotator: stored(NAME) || "", unsent: listed() };
const keep = (unsent) => { state.unsent = unsent; store(PENDING, unsent.length ? JSON.stringify(unsent) : null); };

export async function render(panel, served, signal) {
  if (!served.page.includes("judge")) {
    show(panel, el("h1", {}, "Judge"), el("p", { cls: "lead" },
      "No pairs are served for judging. Start with assay serve MODEL --judging.pairs DATA: the folder that assay select made, or data with unjudged pairs."));
    return;
  }
  let now = null, chosen = 0, began = 0, busy = null, last = null, asked = 0;
  const work = el("div", { id: "work" });
  const facts = el("div", { id: "progress" });

  const status = async () => {
    const own = ++asked;
    const told = await api("/judge/status");
    if (own !== asked) return; // a later question was answered before
    const share = told.pairs ? 100 * (told.pairs - told.remaining) / told.pairs : 0;
    const all = told.agreement;
    show(facts, el("div", { cls: "card" },
      el("div", { cls: "row" },
        el("strong", {}, `${count(told.remaining)} of ${count(told.pairs)} pairs remain`),
        el("span", { cls: "muted small" }, `${count(told.judgements)} judgements`),
        el("span", { cls: "muted small" }, all.units
          ? `agreement: ${all.agreeing === null ? "–" : percent(all.agreeing)} of decided votes on ${count(all.units)} pairs with two or more${all.alpha === null ? "" : `; Krippendorff's alpha ${all.alpha.toFixed(2)}`}`
          : "agreement: no pair has two judgements yet"),
        el("a", { href: "/judge/export", download: "comparisons.jsonl", id: "export" }, "Export as comparisons")),
      el("div", { cls: "progress", style: { margin: ".6rem 0" } }, el("span", { style: { width: `${share}%` } })),
      told.annotators.length > 0 && el("div", { cls: "scroll" }, el("table", {},
        el("thead", {}, el("tr", {}, ["Annotator", "Judged", "Passed over", "Agrees with others", "on pairs"].map((title, k) => el("th", { cls: k ? "number" : "" }, title)))),
        el("tbody", {}, told.annotators.map((one) => el("tr", {}, el("td", {}, one.name),
          [count(one.judged), count(one.passed), one.agreeing === null ? "–" : percent(one.agreeing), count(one.compared)].map((text) => el("td", { cls: "number" }, text))))))),
    ));
  };

  const later = () => status().catch((error) => notice(error.message));

  const next = async () => {
    const told = await api(`/judge/next?annotator=${encodeURIComponent(state.annotator)}`);
    if (signal.aborted) return;
    now = told.pair; last = told.last; chosen = 0; began = performance.now();
    draw(told.reason);
  };

  const draw = (reason) => {
    if (!now) {
      show(work, el("div", { cls: "card" }, el("p", { cls: "verdict" }, reason === "nothing is left for you" ? "Nothing is left for you. Thank you!" : "Others are judging all that is left."),
        el("div", { cls: "row" }, el("button", { type: "button", onclick: () => guarded(next) }, "Look again"), undoButton())));
      return;
    }
    show(work,
      el("div", { cls: "card" }, el("h3", {}, "Prompt"), el("div", { cls: "tall" }, turns(now.prompt))),
      el("div", { cls: "columns" },
        el("div", { cls: "card" }, el("h3", {}, "First response"), el("div", { cls: "text tall", id: "first" }, now.first || "(empty)")),
        el("div", { cls: "card" }, el("h3", {}, "Second response"), el("div", { cls: "text tall", id: "second" }, now.second || "(empty)"))),
      el("div", { cls: "bottom" },
        el("input", { type: "range", id: "strength", min: -3, max: 3, step: 1, value: String(-chosen), "aria-label": "How much better is one response?",
          "aria-valuetext": STEPS.find(([k]) => k === chosen)[1],
          oninput: (event) => choose(-Number(event.target.value)) }),
        el("div", { cls: "steps", role: "radiogroup", "aria-label": "How much better is one response?" }, STEPS.map(([k, title], place) =>
          el("button", { type: "button", role: "radio", "data-strength": k, "aria-checked": String(k === chosen), onclick: () => { choose(k); guarded(send); } },
            title, el("kbd", {}, place + 1)))),
        el("div", { cls: "row", style: { "margin-top": ".7rem" } },
          el("button", { type: "button", cls: "main", id: "send", onclick: () => guarded(send) }, "Judge ", el("kbd", {}, "Enter")),
          undoButton(),
          el("button", { type: "button", id: "pass", onclick: () => guarded(() => send(null)) }, "Pass over ", el("kbd", {}, "S")),
          el("span", { cls: "muted small" }, el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " move the slider, ", el("kbd", {}, "1"), " to ", el("kbd", {}, "7"), " judge at once"))));
  };

  const undoButton = () => el("button", { type: "button", id: "undo", disabled: !last, onclick: () => guarded(undo) }, "Undo ", el("kbd", {}, "U"));

  const choose = (k) => {
    chosen = Math.max(-3, Math.min(3, k));
    const slider = document.getElementById("strength");
    if (!slider) return;
    slider.value = String(-chosen);
    slider.setAttribute("aria-valuetext", STEPS.find(([step]) => step === chosen)[1]);
    for (const button of work.querySelectorAll("[data-strength]")) button.setAttribute("aria-checked", String(Number(button.dataset.strength) === chosen));
  };

  const send = async (strength = chosen) => {
    if (await settle()) return proceed(); // what was lost on the way is there now: look at what is next
    if (!now) return;
    const body = {
      token: crypto.randomUUID ? crypto.randomUUID() : [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
      pair: now.id, annotator: state.annotator, strength, turned: now.turned, seconds: (performance.now() - began) / 1000,
    };
    keep([...state.unsent, body]);
    await settle();
    await proceed();
  };

  const proceed = async () => {
    await next();
    later();
  };

  // Send what was not acknowledged, and say whether there was any. Tokens make sure that it counts once.
  const settle = async () => {
    if (!state.unsent.length) return false;
    while (state.unsent.length) {
      const [first, ...rest] = state.unsent;
      try {
        await api("/judge", first);
      } catch (error) {
        if (error.status === 0 || error.status >= 500 || error.status === 429) throw error;
        keep(rest);
        if (error.status !== 409) throw error; // judged already: what stands is what counts
      }
      keep(rest);
    }
    return true;
  };

  const undo = async () => {
    if (await settle()) await next(); // the last one is the one that was lost on the way
    if (!last) return;
    await api("/judge/undo", { token: last, annotator: state.annotator });
    await proceed();
  };

  // One thing at a time. A judgement while another one is under way is dropped: its pair was not seen yet.
  const guarded = async (act) => {
    while (busy && act === undo) await busy;
    if (busy) return;
    let done;
    busy = new Promise((resolve) => { done = resolve; });
    notice("");
    try {
      await act();
    } catch (error) {
      notice(state.unsent.length ? `${error.message}\nYour judgement is kept in this browser, and sent with the next key.` : error.message);
    } finally {
      busy = null;
      done();
    }
  };

  const keys = (event) => {
    if (event.repeat || whenTyping(event) || event.ctrlKey || event.metaKey || event.altKey || !state.annotator) return;
    const onButton = event.target instanceof HTMLButtonElement;
    if (event.key >= "1" && event.key <= "7" && now) { choose(STEPS[Number(event.key) - 1][0]); guarded(send); }
    else if (event.key === "Enter" && !onButton) guarded(send);
    else if (event.key === "ArrowLeft" && event.target.id !== "strength" && event.target.role !== "tab") choose(chosen + 1);
    else if (event.key === "ArrowRight" && event.target.id !== "strength" && event.target.role !== "tab") choose(chosen - 1);
    else if (event.key === "u" || event.key === "U") guarded(undo);
    else if (event.key === "s" || event.key === "S") guarded(() => send(null));
    else return;
    event.preventDefault();
  };

  const begin = async () => {
    const field = document.getElementById("annotator");
    state.annotator = field.value.trim();
    store(NAME, state.annotator || null);
    if (state.annotator) await guarded(async () => { await settle(); await proceed(); });
    else show(work, el("p", { cls: "muted" }, "Give your name to begin: judgements of several people are kept apart."));
  };

  show(panel,
    el("h1", {}, "Which response is better?"),
    el("div", { cls: "card row" },
      el("div", { cls: "grow" }, el("label", { for: "annotator" }, "Your name"),
        el("input", { type: "text", id: "annotator", maxlength: 100, value: state.annotator, autocomplete: "name",
          onchange: begin, onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); event.target.blur(); } } })),
      el("p", { cls: "muted small grow", style: { margin: 0 } }, "Pairs come in the order in which a judgement helps the model most. The two responses are shown in random order.")),
    work, facts);
  document.addEventListener("keydown", keys, { signal });
  later();
  await begin();
}
