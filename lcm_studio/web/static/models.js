// The models that are here, each with kind, size and licence, a picture and when it was last used; a click opens one.
import { h, url } from "./registry.js";

function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  if (past < 90) return "just now";
  if (past < 5400) return `${Math.round(past / 60)} min ago`;
  if (past < 129600) return `${Math.round(past / 3600)} h ago`;
  return new Date(1000 * seconds).toLocaleDateString();
}

export function mountModels(tab, root, { props, watch, trigger }) {
  let known = null; // of each model: used, picture; null until the studio was asked
  const buttons = new Map();
  const fact = (model) => known?.[model.id] || {};

  function content(model) {
    const { used, picture } = fact(model);
    const image = picture ? h("img", { src: url(`studio/${picture}`), alt: "", loading: "lazy", onerror: (e) => e.target.remove() }) : null;
    const lines = [h("strong", {}, model.name), h("span", {}, model.facts), model.licence ? h("small", {}, `Licence: ${model.licence}`) : null, used ? h("small", {}, `Last used ${ago(used)}`) : null];
    return [h("span", { className: "lcm-model-picture" }, image), h("span", { className: "lcm-model-facts" }, lines)];
  }

  function draw() {
    const { rows = [], current = "" } = props.value || {};
    buttons.clear();
    // those that were used lately first; of the others the order of the folders
    const sorted = [...rows].sort((a, b) => (fact(b).used || 0) - (fact(a).used || 0));
    for (const model of sorted) buttons.set(model, h("button", { type: "button", className: "lcm-model", "aria-current": model.id === current ? "true" : null, onclick: () => trigger("pick", model.id) }, content(model)));
    root.replaceChildren(h("ul", { className: "lcm-models", "aria-label": "Models that are here" }, [...buttons.values()].map((button) => h("li", {}, button))));
  }

  async function look() {
    const answer = await fetch(url("studio/models")).catch(() => null);
    const first = known === null;
    known = answer?.ok ? await answer.json() : known || {};
    if (first) draw();
    else for (const [model, button] of buttons) button.replaceChildren(...content(model)); // nothing moves under a hand
  }

  root.style.minHeight = "1px"; // what has no size is never in sight
  watch("value", () => known !== null && draw());
  // asked each time that the list comes into sight
  new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && look()).observe(root);
}
