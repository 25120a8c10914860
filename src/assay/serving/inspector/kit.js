// Small tools that all parts share. Whatever a server or a person wrote becomes text nodes, and never markup.

export function el(tag, given = {}, ...children) {
  const svg = ["svg", "polyline", "line"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") for (const [key, set] of Object.entries(value)) node.style.setProperty(key, set);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (["value", "checked", "disabled", "selected", "hidden"].includes(name)) node[name] = value;
    else node.setAttribute(name === "cls" ? "class" : name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function show(place, ...children) {
  place.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

export class Problem extends Error {
  constructor(status, told) {
    const parts = [told.where ? `${told.where}: ${told.message}` : told.message];
    for (const name of ["expected", "got"]) if (told[name]) parts.push(`${name}: ${told[name]}`);
    if (told.remedy) parts.push(`try: ${told.remedy}`);
    super(parts.join("\n"));
    this.status = status;
  }
}

export function notice(text) {
  const place = document.getElementById("notice");
  place.textContent = text || "";
  place.hidden = !text;
}

async function askForKey() {
  const dialog = document.getElementById("key-dialog");
  const form = document.getElementById("key-form");
  const field = document.getElementById("key-field");
  const problem = document.getElementById("key-problem");
  if (dialog.open) return new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  dialog.showModal();
  return new Promise((done) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      const reply = await fetch("/session", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ key: field.value }),
      });
      if (!reply.ok) { problem.textContent = "This is not the key."; field.select(); return; }
      field.value = ""; problem.textContent = "";
      dialog.close();
      done();
    };
  });
}

export async function api(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  for (;;) {
    let reply;
    try {
      reply = await fetch(path, options);
    } catch {
      throw new Problem(0, { message: "The server does not answer.", remedy: "look whether it runs, then try again" });
    }
    if (reply.status === 401) { await askForKey(); continue; }
    const found = await reply.json().catch(() => ({}));
    if (!reply.ok) throw new Problem(reply.status, found.error || { message: `HTTP ${reply.status}` });
    return found;
  }
}

export const letter = (index) => index < 26 ? String.fromCharCode(65 + index) : String(index + 1);
export const fixed = (value, digits = 3) => value === null || value === undefined ? "–" : value.toFixed(digits);
export const signed = (value, digits = 3) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
export const percent = (p) => `${(100 * p).toFixed(p > 0.995 || p < 0.005 ? 1 : 0)} %`;
export const count = (n) => n.toLocaleString("en");

export function turns(messages) {
  const list = typeof messages === "string" ? [{ role: "user", content: messages }] : messages;
  if (list.length === 1 && list[0].role === "user") return [el("p", { cls: "text" }, list[0].content || "(empty)")];
  return list.map((turn) => el("div", { cls: "turn" }, el("div", { cls: "role" }, turn.role), el("div", { cls: "text" }, turn.content)));
}

export function promptText(messages) {
  return messages.length === 1 ? messages[0].content : messages.map((turn) => `${turn.role}: ${turn.content}`).join("\n\n");
}

export function whenTyping(event) {
  const at = event.target;
  return at instanceof HTMLElement && (at.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(at.tagName) && at.type !== "range");
}
