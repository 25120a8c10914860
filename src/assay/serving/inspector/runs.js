// Reports of runs, and the card of the served model.

import { api, el, percent, show } from "./kit.js";

export async function renderRuns(panel, served, signal) {
  if (!served.page.includes("runs")) {
    show(panel, el("h1", {}, "Runs"), el("p", { cls: "lead" },
      "No folder of runs is served. Start with assay serve MODEL --runs FOLDER to read their reports here."));
    return;
  }
  const runs = await api("/runs");
  if (signal.aborted) return;
  show(panel,
    el("h1", {}, "Reports of runs"),
    runs.length === 0 && el("p", { cls: "lead" }, "No report lies below this folder yet: train, study, align and evaluate --out write them."),
    runs.length > 0 && el("div", { cls: "card scroll" }, el("table", { cls: "wide" },
      el("thead", {}, el("tr", {}, el("th", {}, "Report"), el("th", {}, "Folder"), el("th", { cls: "number" }, "Accuracy"), el("th", { cls: "number" }, "Calibration error"), el("th", {}, "Written"))),
      el("tbody", {}, runs.map((run) => el("tr", {},
        el("td", {}, el("a", { href: `/runs/${run.name.split("/").map(encodeURIComponent).join("/")}/report.html`, target: "_blank", rel: "noopener" }, run.title)),
        el("td", { cls: "muted" }, run.name),
        el("td", { cls: "number" }, run.figures.accuracy === undefined ? "" : percent(run.figures.accuracy)),
        el("td", { cls: "number" }, run.figures.ece === undefined ? "" : run.figures.ece.toFixed(3)),
        el("td", { cls: "muted" }, run.changed.replace("T", " ").slice(0, 16))))))));
}

const titled = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

export async function renderModel(panel, served, signal) {
  const told = await api("/model");
  if (signal.aborted) return;
  const rows = [
    ["Name", told.name], ["Fingerprint", told.fingerprint], ["Kind", told.kind], ["Backbone", told.backbone], ["Head", told.head],
    ["Members", told.members], ["Tells how sure it is", told.uncertain ? "yes" : "no"],
    ["Calibration", told.calibration ? Object.entries(told.calibration).map(([name, value]) => `${name.replaceAll("_", " ")}: ${typeof value === "number" ? Number(value.toPrecision(4)) : value}`).join("; ") : "none"],
    ["Scores of tokens", told.token_scores ? "in one pass" : `not in one pass: ${told.why_no_token_scores}`],
    ["Prototypes", told.prototypes || null], ["Template", told.template],
    ["Longest text", `${told.max_length_tokens} tokens, prompts cut on the ${told.truncation}`],
    ...Object.entries(told.data || {}).map(([name, value]) => [titled(name), typeof value === "object" ? JSON.stringify(value) : String(value)]),
    ["Versions", Object.entries(told.versions || {}).map(([name, version]) => `${name} ${version}`).join(", ")],
  ];
  show(panel,
    el("h1", {}, told.name),
    el("div", { cls: "card scroll" }, el("table", { cls: "wide" }, el("tbody", {},
      rows.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) =>
        el("tr", {}, el("th", { scope: "row" }, name), el("td", { cls: "text" }, String(value))))))),
    el("p", { cls: "muted small" }, "For programs: ", el("a", { href: "/openapi.json" }, "/openapi.json"), ", ", el("a", { href: "/metrics" }, "/metrics"), "."));
}
