// The frame: which part is shown, the theme, and what is served.

import { api, el, notice, show } from "./kit.js";
import * as data from "./data.js";
import * as judge from "./judge.js";
import * as model from "./runs.js";
import * as score from "./score.js";

const PARTS = [
  ["score", "Score", score.render],
  ["data", "Data", data.render],
  ["judge", "Judge", judge.render],
  ["runs", "Runs", model.renderRuns],
  ["model", "Model", model.renderModel],
];
const panel = document.getElementById("panel");
const tabs = document.getElementById("tabs");
const themes = ["system", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");
let gone = new AbortController();
let served = null;

function stored(name) { try { return localStorage.getItem(name); } catch { return null; } }

function paint() {
  const wanted = stored("assay-theme") || "system";
  const now = wanted === "system" ? (dark.matches ? "dark" : "light") : wanted;
  document.documentElement.dataset.theme = now;
  document.getElementById("theme").textContent = `Theme: ${wanted}`;
}

function now() {
  const name = location.hash.slice(1).split("/")[0];
  return PARTS.some(([part]) => part === name) ? name : "score";
}

async function open() {
  const name = now();
  // what listens or waits for the part before is told that it is gone
  gone.abort();
  gone = new AbortController();
  const { signal } = gone;
  notice("");
  for (const tab of tabs.children) {
    const own = tab.dataset.part === name;
    tab.setAttribute("aria-selected", String(own));
    tab.tabIndex = own ? 0 : -1;
  }
  panel.setAttribute("aria-labelledby", `tab-${name}`);
  const [, , render] = PARTS.find(([part]) => part === name);
  try {
    await render(panel, served, signal);
  } catch (error) {
    if (signal.aborted) return;
    show(panel);
    notice(error.message);
  }
}

function steer(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = [...tabs.children];
  const next = all[(all.indexOf(event.target) + step + all.length) % all.length];
  next.focus();
  next.click();
}

for (const [name, title] of PARTS) {
  tabs.append(el("button", {
    type: "button", role: "tab", id: `tab-${name}`, "data-part": name, "aria-controls": "panel",
    onclick: () => { location.hash = name; },
  }, title));
}
tabs.addEventListener("keydown", steer);
document.getElementById("theme").addEventListener("click", () => {
  const next = themes[(themes.indexOf(stored("assay-theme") || "system") + 1) % themes.length];
  try { localStorage.setItem("assay-theme", next); } catch { /* a private window keeps nothing */ }
  paint();
});
dark.addEventListener("change", paint);
addEventListener("hashchange", open);
paint();
try {
  served = await api("/model");
  document.title = `${served.name} · assay`;
  document.getElementById("model-name").textContent = served.name;
  document.getElementById("model-facts").textContent =
    `${served.kind} · ${served.calibrated ? "calibrated" : "not calibrated"} · ${served.fingerprint}`;
} catch (error) {
  notice(error.message);
}
if (served) await open();
