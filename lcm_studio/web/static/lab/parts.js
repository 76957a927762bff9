// Small pieces of both benches: formulas, fields, segmented choices, notes.
import { h } from "../registry.js";

export { colour, figure, night, onTheme } from "../chart/theme.js";

// "x_t = x_0 + t z": letters in italics, _ and ^ (with {} around more than one sign) as sub- and superscript; "words" upright.
export function formula(text, attrs = {}) {
  const node = h("span", { className: "lab-formula", ...attrs });
  const pattern = /"([^"]*)"|([_^])(\{[^}]*\}|[^\s(){}|,;])|([A-Za-zα-ωε]+)|([^_^A-Za-zα-ωε"]+)/g;
  for (const [, words, mark, raised, letters, other] of text.matchAll(pattern)) {
    if (words !== undefined) node.append(h("span", { className: "lab-word" }, words));
    else if (mark) node.append(h(mark === "_" ? "sub" : "sup", {}, raised.replace(/[{}]/g, "")));
    else if (letters) node.append(letters.length > 1 ? h("span", { className: "lab-word" }, letters) : h("i", {}, letters));
    else node.append(other);
  }
  return node;
}

export function chip(text, onclick, attrs = {}) {
  return h("button", { type: "button", className: "lcm-chip", onclick, ...attrs }, text);
}

export const press = (button, on) => button.setAttribute("aria-pressed", String(on));

// One of several: [[value, text], ...]; `set(value)` shows it without telling.
export function choice(label, options, value, onchange) {
  const buttons = options.map(([name, text, title]) => h("button", { type: "button", "data-value": name, title, onclick: () => pick(name, true) }, text));
  const node = h("span", { className: "lab-choice", role: "group", ariaLabel: label }, ...buttons);
  function pick(name, tell = false) {
    node.value = name;
    for (const b of buttons) press(b, b.dataset.value === String(name));
    if (tell) onchange?.(name);
  }
  node.set = pick;
  pick(value);
  return node;
}

export function select(label, options, value, onchange) {
  const node = h("select", { ariaLabel: label, onchange: () => onchange?.(node.value) }, ...options.map(([name, text]) => h("option", { value: name }, text)));
  node.value = value;
  return node;
}

export function number(label, value, { low, high, step = 1, onchange, title }) {
  const node = h("input", { type: "number", value, min: low, max: high, step, ariaLabel: label, title: title || label, inputMode: "decimal", onchange: () => onchange?.(Number(node.value)) });
  return node;
}

export function check(text, on, onchange, title) {
  const box = h("input", { type: "checkbox", checked: on, onchange: () => onchange(box.checked) });
  const node = h("label", { className: "lab-check", title }, box, h("span", {}, text));
  node.box = box;
  return node;
}

// A place for one sentence, beside what it is about.
export function noteplace() {
  const node = h("div", { className: "lab-note" });
  node.say = (text, kind = "error") => {
    node.replaceChildren(...(text ? [h("div", { className: `lcm-note lcm-${kind}`, role: kind === "error" ? "alert" : "status" }, text)] : []));
  };
  return node;
}

export function progress() {
  const bar = h("i");
  const words = h("span");
  const node = h("div", { className: "lab-progress", hidden: true, role: "status" }, h("b", {}, bar), words);
  node.show = (share, text) => {
    node.hidden = share === null;
    bar.style.width = `${100 * (share ?? 0)}%`;
    words.textContent = text || "";
  };
  return node;
}

export const card = (title, ...children) => h("section", { className: "lab-card" }, title ? h("h3", {}, ...[title].flat()) : null, ...children);
