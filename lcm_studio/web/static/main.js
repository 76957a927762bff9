// The page's own scripts: draws what gr.HTML mounts ask for, one module per kind.
import "./stream.js"; // first: Gradio sends events as soon as it is drawn
import { mountStage } from "./stage.js";
import { mountHistory } from "./history.js";
import { mountChips } from "./chips.js";
import { mountCurves } from "./curves.js";
import { mountDrop } from "./drop.js";
import { mountHeader } from "./header.js";
import { mountLive } from "./live.js";
import { mountLora } from "./lora.js";
import { mountModels } from "./models.js";
import { mountTools } from "./tools.js";
import { h, registry, say } from "./registry.js";
import "./fields.js";
import "./choosers.js";
import "./keys.js";
import "./pending.js";
import "./place.js";
import "./forms.js";
import "./stick.js";
import "./again.js";
import "./sheets.js";

const kinds = {
  stage: mountStage,
  history: mountHistory,
  chips: mountChips,
  curves: mountCurves,
  drop: mountDrop,
  header: mountHeader,
  live: mountLive,
  lora: mountLora,
  models: mountModels,
  tools: mountTools,
  note(tab, el, { props, watch }) {
    registry.set("note", tab, el);
    watch("value", () => say(tab, props.value));
  },
  about(_tab, el, { props, watch }) {
    const draw = () => {
      const { id, name } = props.value || {};
      if (id) registry.set("model-name", id, name);
      el.replaceChildren(h("p", { className: "lcm-about" }, props.value?.text || "", props.value?.note ? h("br") : null, props.value?.note || null));
    };
    watch("value", draw);
    draw();
  },
  wire: (name, _el, ctx) => registry.set("channel", name, (data) => ctx.trigger("message", JSON.stringify(data))),
};

document.documentElement.dataset.studio = "scripts";

export function mount(kind, tab, element, ctx) {
  document.getElementById("lcm-splash")?.remove();
  const target = element.querySelector(".lcm-mount") || element;
  kinds[kind](tab, target, ctx);
}
