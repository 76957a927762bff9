// The model's vocabulary and example prompts, one group open at a time; a click adds a phrase or takes it out.
import { field, h, type } from "./registry.js";

const parse = (text) => text.split(",").map((s) => s.trim()).filter(Boolean);

export function mountChips(tab, root, { props, watch }) {
  const input = () => field(`${tab}-prompt`);
  let open = null;

  function toggle(phrase) {
    const phrases = parse(input().value);
    const at = phrases.findIndex((p) => p.toLowerCase() === phrase.toLowerCase());
    if (at >= 0) phrases.splice(at, 1);
    else phrases.push(phrase);
    write(phrases.join(", "));
  }

  function write(text) {
    type(input(), text);
    mark();
  }

  function mark() {
    const on = new Set(parse(input()?.value || "").map((p) => p.toLowerCase()));
    for (const chip of root.querySelectorAll(".lcm-chip")) chip.ariaSelected = String(on.has(chip.textContent.toLowerCase()));
    for (const group of root.querySelectorAll(".lcm-group")) {
      const n = (group.phrases || []).filter((p) => on.has(p.toLowerCase())).length;
      group.querySelector("small").textContent = n || "";
    }
  }

  // Arrow keys go through the phrases of a group and through the groups; one of each takes the Tab key.
  function step(e) {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (!way) return;
    e.preventDefault();
    const all = [...e.currentTarget.children];
    const next = all[(all.indexOf(document.activeElement) + way + all.length) % all.length];
    for (const one of all) one.tabIndex = one === next ? 0 : -1;
    next.focus();
    if (next.role === "tab") {
      next.click();
      root.querySelector(".lcm-group[aria-selected=true]")?.focus();
    }
  }

  function draw() {
    const { groups = [], examples = [] } = props.value || {};
    const pages = [...(examples.length ? [["examples", null]] : []), ...groups];
    if (!pages.some(([name]) => name === open)) open = pages[0]?.[0] ?? null;
    const names = pages.map(([name, phrases]) => {
      const button = h("button", { type: "button", className: "lcm-group", role: "tab", "aria-selected": String(name === open), tabIndex: name === open ? 0 : -1, onclick: () => { open = name; draw(); } }, name, h("small"));
      button.phrases = phrases;
      return button;
    });
    const page = pages.find(([name]) => name === open);
    const body = !page
      ? ""
      : page[1]
        ? h("div", { className: "lcm-chips", role: "listbox", "aria-multiselectable": "true", "aria-label": page[0], onkeydown: step }, ...page[1].map((p, i) => h("button", { type: "button", className: "lcm-chip", role: "option", tabIndex: i ? -1 : 0, onclick: () => toggle(p) }, p)))
        : h("div", { className: "lcm-examples", role: "group", "aria-label": "Example prompts" }, ...examples.map((e) => h("button", { type: "button", className: "lcm-example", onclick: () => write(e) }, e)));
    root.replaceChildren(...(names.length > 1 ? [h("div", { className: "lcm-groups", role: "tablist", "aria-label": "Words the model knows", onkeydown: step }, ...names)] : []), body);
    mark();
  }

  watch("value", draw);
  draw();
  document.addEventListener("input", (e) => e.target === input() && mark());
  setInterval(mark, 1000); // the prompt also changes without typing (restore)
}
