// The model's vocabulary: a click adds a phrase to the prompt or takes it out again.
import { field, h, type } from "./registry.js";

const parse = (text) => text.split(",").map((s) => s.trim()).filter(Boolean);

export function mountChips(tab, root, { props, watch }) {
  const input = () => field(`${tab}-prompt`);

  function toggle(phrase) {
    const phrases = parse(input().value);
    const at = phrases.findIndex((p) => p.toLowerCase() === phrase.toLowerCase());
    if (at >= 0) phrases.splice(at, 1);
    else phrases.push(phrase);
    type(input(), phrases.join(", "));
    mark();
  }

  function mark() {
    const on = new Set(parse(input()?.value || "").map((p) => p.toLowerCase()));
    for (const chip of root.querySelectorAll(".lcm-chip")) chip.ariaPressed = String(on.has(chip.textContent.toLowerCase()));
    for (const group of root.querySelectorAll(".lcm-group")) {
      const n = group.querySelectorAll('[aria-pressed="true"]').length;
      group.querySelector("summary small").textContent = n ? String(n) : "";
    }
  }

  function draw() {
    const { groups = [], examples = [] } = props.value || {};
    const boxes = groups.map(([name, phrases], i) =>
      h("details", { className: "lcm-group", open: i < 2 && innerWidth > 720 }, h("summary", {}, name, h("small")), h("div", { className: "lcm-chips" }, ...phrases.map((p) => h("button", { type: "button", className: "lcm-chip", ariaPressed: "false", onclick: () => toggle(p) }, p)))),
    );
    const tries = examples.map((e) => h("button", { type: "button", className: "lcm-example", onclick: () => { type(input(), e); mark(); } }, e));
    root.replaceChildren(
      tries.length ? h("div", { className: "lcm-examples", role: "group", ariaLabel: "Example prompts" }, h("span", { className: "lcm-soft" }, "Try"), ...tries) : "",
      boxes.length ? h("div", { className: "lcm-vocabulary", role: "group", ariaLabel: "Words the model knows" }, ...boxes) : "",
    );
    mark();
  }

  watch("value", draw);
  draw();
  document.addEventListener("input", (e) => e.target === input() && mark());
  setInterval(mark, 1000); // the prompt also changes without typing (restore)
}
