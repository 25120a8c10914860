// Score responses to one prompt, and show why.

import { api, count, el, fixed, letter, notice, percent, show, signed } from "./kit.js";

// What is typed stays while other parts are looked at.
export const draft = { prompt: "", responses: ["", ""], truncated: false, chat: null };

export function openWith(prompt, responses) {
  draft.chat = prompt.length === 1 && prompt[0].role === "user" ? null : prompt;
  draft.prompt = draft.chat ? "" : prompt[0].content;
  draft.responses = responses;
  location.hash = "score";
}

export async function render(panel, served, signal) {
  const results = el("div", { id: "results", "aria-live": "polite" });
  const fields = el("div", { cls: "columns" });
  const go = el("button", { type: "button", cls: "main", id: "go" }, "Score");

  const draw = () => {
    show(fields, draft.responses.map((text, index) => el("div", { cls: "card" },
      el("div", { cls: "row" },
        el("label", { for: `response-${index}`, cls: "grow" }, `Response ${letter(index)}`),
        draft.responses.length > 1 && el("button", {
          type: "button", cls: "quiet", "aria-label": `Remove response ${letter(index)}`,
          onclick: () => { draft.responses.splice(index, 1); draw(); },
        }, "Remove")),
      el("textarea", { id: `response-${index}`, rows: 5, value: text, spellcheck: "false",
        oninput: (event) => { draft.responses[index] = event.target.value; } }))));
  };

  const run = async () => {
    notice("");
    go.disabled = true;
    go.textContent = "Scoring…";
    try {
      const prompt = draft.chat || draft.prompt;
      const tokens = served.token_scores || (draft.truncated && served.kind !== "policy");
      const found = await api("/v1/lists", {
        lists: [{ prompt, responses: draft.responses }], tokens, truncated: tokens && !served.token_scores,
        prototypes: served.prototypes ? 3 : 0, read: true,
      });
      show(results, shown(found.lists[0], served));
    } catch (error) {
      if (!signal.aborted) notice(error.message);
    } finally {
      go.disabled = false;
      go.textContent = "Score";
    }
  };
  go.addEventListener("click", run);
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
  };
  const own = new AbortController(); // also where this part is drawn anew
  signal.addEventListener("abort", () => own.abort());
  document.addEventListener("keydown", keys, { signal: own.signal });

  show(panel,
    el("h1", {}, "What does the model prefer, and why?"),
    el("p", { cls: "lead" }, "A prompt and two or more responses. Differences of scores are log-odds; a score alone has no meaning."),
    el("div", { cls: "card" },
      draft.chat
        ? [el("h3", {}, "Conversation"), el("div", { cls: "tall" }, draft.chat.map((turn) => el("div", { cls: "turn" },
            el("div", { cls: "role" }, turn.role), el("div", { cls: "text" }, turn.content)))),
          el("button", { type: "button", cls: "quiet", onclick: () => { draft.chat = null; own.abort(); render(panel, served, signal); } }, "Write another prompt")]
        : [el("label", { for: "prompt" }, "Prompt"),
          el("textarea", { id: "prompt", rows: 3, value: draft.prompt, spellcheck: "false",
            oninput: (event) => { draft.prompt = event.target.value; } })]),
    fields,
    el("div", { cls: "row", style: { margin: "1rem 0 1.4rem" } },
      go,
      el("button", { type: "button", onclick: () => { draft.responses.push(""); draw(); } }, "Add a response"),
      !served.token_scores && served.kind !== "policy" && el("label", { cls: "check" },
        el("input", { type: "checkbox", checked: draft.truncated, onchange: (event) => { draft.truncated = event.target.checked; } }),
        "Scores of tokens (one pass for each)"),
      el("span", { cls: "muted small" }, el("kbd", {}, "Ctrl"), " + ", el("kbd", {}, "Enter"))),
    results);
  draw();
  if (draft.responses.some((text) => text) && (draft.prompt || draft.chat)) await run();
}

function shown(list, served) {
  const { scores, order } = list;
  const lows = scores.map((score) => score.value - 2 * (score.std || 0));
  const highs = scores.map((score) => score.value + 2 * (score.std || 0));
  const low = Math.min(...lows), high = Math.max(...highs);
  const largest = Math.max(1e-9, ...scores.flatMap((score) => credits(score).map(Math.abs)));
  const along = scores.flatMap((score) => score.prefix_scores || []);
  const range = [Math.min(...along), Math.max(...along)];
  return [
    el("div", { cls: "card", id: "verdict" }, verdict(list, served)),
    scores.some((score) => score.tokens) && el("p", { cls: "legend" }, "lowers the score", el("i"), "raises it"),
    el("div", { cls: "columns" }, order.map((index, rank) =>
      card(scores[index], index, rank, { low, high, largest, range }))),
  ];
}

function verdict(list, served) {
  const { scores, probabilities, margins, stds, order } = list;
  const unsure = !served.calibrated && el("p", { cls: "muted small" },
    "This model is not calibrated: probabilities are those of a temperature of 1.");
  if (scores.length < 2) return [el("p", { cls: "verdict" }, "One response: nothing to compare it with."), unsure];
  if (scores.length === 2) {
    const p = probabilities[0][1], std = stds && stds[0][1];
    const winner = p > 0.5 ? "A" : p < 0.5 ? "B" : null;
    return [
      el("p", { cls: "verdict" }, winner
        ? `${winner} is preferred, with a probability of ${percent(Math.max(p, 1 - p))}`
        : "Neither is preferred"),
      el("div", { cls: "split", role: "img", "aria-label": `A ${percent(p)}, B ${percent(1 - p)}` },
        el("span", { cls: "a", style: { width: `${100 * p}%` } }, p > 0.12 && `A ${percent(p)}`),
        el("span", { cls: "b" }, p < 0.88 && `B ${percent(1 - p)}`)),
      el("p", { cls: "muted small" }, `Margin of A over B: ${signed(margins[0][1])}`,
        std !== undefined && std !== null && ` ± ${fixed(std)} (one standard deviation of the model's own doubt)`),
      unsure,
    ];
  }
  return [
    el("p", { cls: "verdict" }, `Best first: ${order.map(letter).join(", ")}`),
    el("div", { cls: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", {}, "P(row is better)"), order.map((k) => el("th", { cls: "number" }, letter(k))))),
      el("tbody", {}, order.map((row) => el("tr", {}, el("th", { scope: "row" }, letter(row)),
        order.map((column) => el("td", { cls: "number" }, row === column ? "" : percent(probabilities[row][column])))))))),
    unsure,
  ];
}

function card(score, index, rank, { low, high, largest, range }) {
  const at = (value) => `${high > low ? 4 + 92 * (value - low) / (high - low) : 50}%`;
  return el("article", { cls: "card result", "aria-label": `Response ${letter(index)}` },
    el("div", { cls: "score-line" },
      el("span", { cls: rank === 0 ? "badge best" : "badge" }, letter(index)),
      el("span", { cls: "value" }, fixed(score.value)),
      score.std !== undefined && el("span", { cls: "muted" }, `± ${fixed(score.std)}`),
      el("span", { cls: "chip" }, `${count(score.tokens_read)} tokens read`)),
    el("div", { cls: "scale", "aria-hidden": "true" },
      score.std !== undefined && el("span", { cls: "range", style: {
        left: at(score.value - 2 * score.std), width: `calc(${at(score.value + 2 * score.std)} - ${at(score.value - 2 * score.std)})` } }),
      el("span", { cls: "dot", style: { left: at(score.value) } })),
    cut(score),
    score.tokens && heat(score, largest, range),
    score.prototypes && prototypes(score.prototypes),
    el("details", {}, el("summary", {}, "What the model read"), el("p", { cls: "text small tall" }, score.read)));
}

function cut(score) {
  if (!score.truncated) return null;
  const parts = [];
  if (score.cut_prompt_tokens) parts.push(`${count(score.cut_prompt_tokens)} tokens of the prompt`);
  if (score.cut_response_tokens) parts.push(`${count(score.cut_response_tokens)} tokens of the response`);
  return el("p", { cls: "warning" }, `Too long for the model: ${parts.join(" and ")} were not read. What it read is below.`);
}

function credits(score) {
  const at = score.prefix_scores || [];
  return at.slice(1).map((value, k) => value - at[k]);
}

function heat(score, largest, range) {
  const credit = credits(score);
  const told = el("p", { cls: "reading" });
  const mark = el("line", { cls: "mark", y1: "0", y2: "100", x1: "-1", x2: "-1" });
  const rest = `The prompt alone: ${fixed(score.prefix_scores[0])}. Point at a token, or step through with ← and →.`;
  let now = -1;
  const tokens = score.tokens.map((text, k) => el("span", {
    cls: "token", "data-k": k, title: `credit ${signed(credit[k])}, score so far ${fixed(score.prefix_scores[k + 1])}`,
    style: { background: `rgb(var(--${credit[k] < 0 ? "orange" : "blue"}-rgb) / ${(0.6 * Math.min(1, Math.abs(credit[k]) / largest)).toFixed(3)})` },
  }, text));
  const choose = (k) => {
    if (now >= 0) tokens[now].classList.remove("now");
    now = k;
    if (k < 0) { told.textContent = rest; mark.setAttribute("x1", "-1"); mark.setAttribute("x2", "-1"); return; }
    tokens[k].classList.add("now");
    told.textContent = `“${score.tokens[k].trim() || score.tokens[k]}”: credit ${signed(credit[k])}, score so far ${fixed(score.prefix_scores[k + 1])}`;
    for (const side of ["x1", "x2"]) mark.setAttribute(side, String(100 * (k + 1) / credit.length));
  };
  const place = el("div", {
    cls: "heat text", tabindex: "0", role: "group", "aria-label": "Response by tokens; arrow keys step through it",
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !tokens.length) return;
      event.preventDefault();
      choose(Math.min(tokens.length - 1, Math.max(0, now + step)));
    },
    onmouseover: (event) => { const k = event.target.dataset?.k; if (k !== undefined) choose(Number(k)); },
    onmouseleave: () => choose(-1),
  }, tokens.length ? tokens : "(no token)");
  told.setAttribute("aria-live", "polite");
  told.textContent = rest;
  return [place, spark(score.prefix_scores, range, mark), told];
}

function spark(values, [low, high], mark) {
  const width = Math.max(1, values.length - 1);
  const y = (value) => high > low ? 96 - 92 * (value - low) / (high - low) : 50;
  const points = values.map((value, k) => `${(100 * k / width).toFixed(2)},${y(value).toFixed(2)}`).join(" ");
  const start = String(y(values[0]));
  return el("svg", { cls: "spark", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img",
    "aria-label": `Score along the response, from ${fixed(values[0])} to ${fixed(values[values.length - 1])}` },
  el("line", { x1: "0", x2: "100", y1: start, y2: start }), el("polyline", { points }), mark);
}

function prototypes(list) {
  return el("details", { open: true }, el("summary", {}, "Nearest prototypes"),
    list.map((one) => el("div", { cls: "prototype" },
      el("div", { cls: "row small" },
        el("span", { cls: `chip ${one.class === "chosen" ? "good" : one.class === "rejected" ? "bad" : ""}` }, one.class ?? "prototype"),
        el("span", {}, `weight ${percent(one.weight)}`),
        one.score !== undefined && el("span", { cls: "muted" }, `own score ${fixed(one.score)}`)),
      el("div", { cls: "bar-bed" }, el("div", { cls: "bar", style: { width: `${100 * one.weight}%` } })),
      (one.nearest || []).slice(0, 2).map((near) => el("blockquote", {},
        near.prompt && el("div", { cls: "clip one muted" }, near.prompt),
        el("div", { cls: "clip" }, near.response ?? near.text ?? ""))))));
}
