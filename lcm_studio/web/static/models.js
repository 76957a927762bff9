// The models that are here, each with kind, size and licence; a click opens one.
import { h } from "./registry.js";

export function mountModels(tab, root, { props, watch, trigger }) {
  function draw() {
    const { rows = [], current = "" } = props.value || {};
    const row = (model) =>
      h("li", {}, h("button", { type: "button", className: "lcm-model", "aria-current": model.id === current ? "true" : null, onclick: () => trigger("pick", model.id) },
        h("strong", {}, model.id), h("span", {}, model.facts), model.licence ? h("small", {}, `Licence: ${model.licence}`) : null));
    root.replaceChildren(h("ul", { className: "lcm-models", "aria-label": "Models that are here" }, ...rows.map(row)));
  }
  watch("value", draw);
  draw();
}
