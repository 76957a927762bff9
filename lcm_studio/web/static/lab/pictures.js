// The bench on pictures: the samplers on real networks, the self-consistency strip, inversion.
import { h } from "../registry.js";
import { card, choice, noteplace, number } from "./parts.js";
import { Compare } from "./pictures_compare.js";
import { Invert } from "./pictures_invert.js";
import { Trace } from "./pictures_trace.js";

export class Pictures {
  constructor(schema, { onlink }) {
    this.onlink = onlink;
    this.prompt = h("textarea", { rows: 2, id: "lab-prompt", ariaLabel: "Prompt", value: "sunset, snowy mountains, lake, a few pine trees" });
    this.seed = number("Seed", 7, { low: 0, high: 2 ** 32 - 1 });
    this.guidance = h("input", { type: "number", step: "any", placeholder: "model's own", ariaLabel: "Guidance scale", title: "Guidance scale; empty: the model's own" });
    const shared = { conditions: () => ({ prompt: this.prompt.value, seed: Number(this.seed.value), guidance: this.guidance.value === "" ? null : Number(this.guidance.value) }) };
    this.views = { compare: new Compare(schema, shared), trace: new Trace(schema, shared), invert: new Invert(schema, shared) };
    this.pick = choice("View", [["compare", "Side by side"], ["trace", "Self-consistency"], ["invert", "There and back"]], "compare", (name) => this.show(name));
    this.place = h("div", { className: "lab-view" });
    this.cards = h("div", { className: "lab-cards" });
    this.saved = noteplace();
    this.side = h("div", { className: "lab-side" },
      card("Prompt and seed", this.prompt, h("div", { className: "lab-fields" }, h("label", {}, "Seed", this.seed), h("label", {}, "Guidance", this.guidance)), h("div", { className: "lab-tools" }, h("button", { type: "button", className: "lcm-tool", title: "Copy an address that brings these settings back", onclick: () => this.link() }, "Link")), this.saved),
      this.cards);
    this.node = h("div", { className: "lab-split" }, h("div", { className: "lab-view" }, this.pick, this.place), this.side);
    this.show("compare");
  }

  show(name) {
    this.name = name;
    this.pick.set(name);
    this.place.replaceChildren(this.views[name].node);
    this.cards.replaceChildren(...this.views[name].side);
    this.node.dataset.view = name;
  }

  start(address) {
    if (address.has("prompt")) this.prompt.value = address.get("prompt");
    if (address.has("seed")) this.seed.value = address.get("seed");
    if (address.has("guidance")) this.guidance.value = address.get("guidance");
    const name = address.get("view");
    if (this.views[name]) {
      this.views[name].read(address);
      this.show(name);
    }
    this.node.dataset.ready = "1";
  }

  async link() {
    const values = new URLSearchParams({ bench: "pictures", view: this.name, prompt: this.prompt.value, seed: this.seed.value });
    if (this.guidance.value !== "") values.set("guidance", this.guidance.value);
    this.views[this.name].write(values);
    const address = this.onlink(values);
    try {
      await navigator.clipboard.writeText(address);
      this.saved.say("The link is copied; the address bar has it too.", "info");
    } catch {
      this.saved.say("The address bar has the link.", "info");
    }
  }
}
