// Browse files of judgements: where the model is most wrong, most unsure, or least like another model.

import { api, count, el, notice, percent, promptText, show } from "./kit.js";
import { openWith } from "./score.js";

const ORDERS = [
  ["mistakes", "Most confident mistakes"],
  ["uncertain", "Most uncertain"],
  ["disagreement", "Largest disagreement of two models"],
  ["file", "As in the file"],
];
const PAGE = 20;
const state = { file: 0, by: "mistakes", search: "", start: 0 };

export async function render(panel, served, signal) {
  if (!served.page.includes("data")) {
    show(panel, el("h1", {}, "Data"), el("p", { cls: "lead" },
      "No file of judgements is served. Start with assay serve MODEL --data FILE to see where the model is wrong."));
    return;
  }
  const files = await api("/data");
  if (signal.aborted) return;
  state.file = Math.min(state.file, files.length - 1);
  const list = el("div", { id: "pairs" });
  const facts = el("p", { cls: "muted small", "aria-live": "polite" });
  const pages = el("div", { cls: "row" });
  let timer = null;
  signal.addEventListener("abort", () => clearTimeout(timer));

  const load = async () => {
    clearTimeout(timer);
    try {
      const query = new URLSearchParams({ by: state.by, search: state.search, start: state.start, count: PAGE });
      const found = await api(`/data/${state.file}?${query}`);
      if (signal.aborted) return;
      notice(found.error || "");
      const done = found.scored + found.refused >= found.pairs_in_all || found.error;
      const part = !done ? `${count(found.scored)} of ${count(found.pairs_in_all)} pairs scored so far` : `${count(found.pairs_in_all)} pairs`;
      facts.textContent = `${part}; ${count(found.found)} shown here${found.refused ? `; ${count(found.refused)} cannot be scored` : ""}${found.left_out ? `; ${count(found.left_out)} records of the file are left out (--rows)` : ""}`;
      show(list, found.pairs.length ? found.pairs.map((pair) => row(pair)) : el("p", { cls: "muted" }, found.scored ? "None." : "Scoring has begun…"));
      show(pages, found.found > PAGE && [
        el("button", { type: "button", disabled: state.start === 0, onclick: () => { state.start = Math.max(0, state.start - PAGE); load(); } }, "Earlier"),
        el("span", { cls: "muted small" }, `${count(state.start + 1)} to ${count(Math.min(found.found, state.start + PAGE))}`),
        el("button", { type: "button", disabled: state.start + PAGE >= found.found, onclick: () => { state.start += PAGE; load(); } }, "Later"),
      ]);
      if (!done) timer = setTimeout(load, 2000);
    } catch (error) {
      if (!signal.aborted) notice(error.message);
    }
  };
  const change = (name, value) => { state[name] = value; state.start = 0; return load(); };

  show(panel,
    el("h1", {}, "Where is the model wrong, or unsure?"),
    el("p", { cls: "lead" }, "Judged pairs of a file, with what the model says of each. Choose one to see why."),
    el("div", { cls: "card row" },
      files.length > 1 && el("div", { cls: "grow" }, el("label", { for: "file" }, "File"),
        el("select", { id: "file", onchange: (event) => change("file", Number(event.target.value)) },
          files.map((file) => el("option", { value: file.number, selected: file.number === state.file }, file.name)))),
      el("div", { cls: "grow" }, el("label", { for: "order" }, "Show"),
        el("select", { id: "order", onchange: (event) => change("by", event.target.value) },
          ORDERS.filter(([name]) => name !== "disagreement" || files[0].against).map(([name, title]) =>
            el("option", { value: name, selected: name === state.by }, title)))),
      el("div", { cls: "grow" }, el("label", { for: "search" }, "Containing"),
        el("input", { type: "search", id: "search", value: state.search, oninput: (event) => {
          clearTimeout(timer);
          const value = event.target.value;
          timer = setTimeout(() => change("search", value), 250);
        } }))),
    facts, list, pages);
  await load();
}

function row(pair) {
  const judged = pair.target > 0.5 ? "A" : pair.target < 0.5 ? "B" : "a tie";
  const p = pair.model && pair.model.probability;
  const right = pair.model && pair.target !== 0.5 && (p - 0.5) * (pair.target - 0.5) > 0;
  return el("button", { type: "button", cls: "pair-row", onclick: () => openWith(pair.prompt, [pair.a, pair.b]) },
    el("div", { cls: "row" },
      el("span", { cls: "chip" }, `judged: ${judged}${pair.annotator ? ` by ${pair.annotator}` : ""}`),
      pair.model && el("span", { cls: `chip ${pair.target === 0.5 ? "" : right ? "good" : "bad"}` }, `model: A ${percent(p)}`),
      pair.against && el("span", { cls: "chip" }, `other model: A ${percent(pair.against.probability)}`)),
    el("div", { cls: "clip", style: { "margin-top": ".4rem" } }, promptText(pair.prompt)),
    el("div", { cls: "sides small" },
      el("div", { cls: "clip" }, el("strong", {}, "A  "), pair.a || "(empty)"),
      el("div", { cls: "clip" }, el("strong", {}, "B  "), pair.b || "(empty)")));
}
