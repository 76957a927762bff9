// The bar above the canvas: pens, brush size, colours; history; zoom; which picture is seen.
import { h } from "../registry.js";
import { icon } from "./icons.js";
import { PENS } from "./pens.js";

const PALETTE = ["#ffffff", "#1b2a4a", "#5aa9e6", "#f4a259", "#e4572e", "#7a4b2a", "#2f7d32", "#9ccc65", "#f2d16b", "#8d99ae", "#b26fc4", "#111111"];
const VIEWS = [
  ["picture", "Picture", "The picture that is worked on"],
  ["result", "Result", "The result; a click on it shows the picture"],
  ["split", "Split", "Both, with a divider to drag"],
  ["beside", "Side by side", "Both, one beside the other"],
];
// Shares of the picture (left, top, width, height) for a mask without a pointer.
const AREAS = { "Left half": [0, 0, 0.5, 1], "Right half": [0.5, 0, 0.5, 1], "Top half": [0, 0, 1, 0.5], "Bottom half": [0, 0.5, 1, 0.5], Middle: [0.25, 0.25, 0.5, 0.5], Everything: [0, 0, 1, 1] };

export class Bar {
  constructor(desk) {
    this.desk = desk;
    const act = (name, title, run, id) => h("button", { type: "button", className: "lcm-tool lcm-iconed", title, ariaLabel: title, id, onclick: run }, icon(name));
    this.pens = Object.entries(PENS).map(([name, { title, words }]) => {
      const button = act(name, `${title}. ${words}`, () => this.choose(name));
      button.dataset.pen = name;
      return button;
    });
    this.size = h("input", { type: "range", min: 2, max: 200, value: desk.pens.size, ariaLabel: "Brush size", oninput: () => this.resize(Number(this.size.value)) });
    this.well = h("input", { type: "color", value: desk.pens.colour, ariaLabel: "Stroke colour", oninput: (e) => this.colour(e.target.value) });
    this.palette = h("span", { className: "lcm-palette" }, ...PALETTE.map((c) => h("button", { type: "button", ariaLabel: `Colour ${c}`, title: c, style: `background:${c}`, onclick: () => this.colour(c) })), this.well);
    this.area = h("select", { ariaLabel: "Add an area to the mask", title: "Add an area to the mask", onchange: () => this.addArea() }, h("option", { value: "" }, "Area ..."), ...Object.keys(AREAS).map((name) => h("option", {}, name)));
    this.swap = h("button", { type: "button", className: "lcm-tool", title: "Swap what is kept and what may change", onclick: () => desk.invert() }, "Invert");
    this.masks = h("span", { className: "lcm-pens" }, this.area, this.swap);
    this.brushes = h("div", { className: "lcm-brushes", role: "toolbar", ariaLabel: "Brush" }, h("span", { className: "lcm-pens" }, ...this.pens), h("label", { className: "lcm-size-of-brush" }, h("span", {}, "Size"), this.size), this.palette, this.masks, act("clear", "Take away all that was painted", () => desk.clear()));
    this.undo = act("undo", "Nothing to undo", () => desk.history.undo(), "edit-undo");
    this.redo = act("redo", "Nothing to redo", () => desk.history.redo(), "edit-redo");
    this.fit = h("button", { type: "button", className: "lcm-tool lcm-zoom", title: "Fit into the window", onclick: () => desk.view.fit() }, "100%");
    this.views = h("div", { className: "lcm-views", role: "radiogroup", ariaLabel: "What is shown", hidden: true }, ...VIEWS.map(([name, title, words]) => h("button", { type: "button", role: "radio", className: "lcm-tool", title: words, "data-view": name, onclick: () => desk.look(name) }, title)));
    this.goOn = h("button", { type: "button", className: "lcm-tool lcm-accented", id: "edit-go-on", title: "Make the result the picture, for the next tool", hidden: true, onclick: () => desk.goOn() }, "Go on with the result");
    this.node = h("div", { className: "lcm-bar" }, h("div", { className: "lcm-pens" }, this.undo, this.redo), this.brushes, h("span", { className: "lcm-grow" }), this.goOn, this.views, h("div", { className: "lcm-pens" }, act("minus", "Zoom out", () => desk.view.zoom(1 / 1.4)), this.fit, act("plus", "Zoom in", () => desk.view.zoom(1.4))));
    this.choose("brush");
  }

  choose(name) {
    this.desk.pens.pen = name;
    for (const button of this.pens) button.ariaPressed = String(button.dataset.pen === name);
  }

  resize(size) {
    this.desk.pens.size = Math.min(200, Math.max(2, Math.round(size)));
    this.size.value = this.desk.pens.size;
    this.desk.outline();
  }

  colour(value) {
    this.desk.pens.colour = value;
    this.well.value = value;
    this.choose("brush");
  }

  addArea() {
    const share = AREAS[this.area.value];
    this.area.value = "";
    if (share) this.desk.fill(share);
  }

  // What does nothing for the tool, or for what is shown, is not there.
  follow({ paints, masks, sketching, view, result, empty }) {
    this.brushes.hidden = !paints || empty || !["picture", "beside"].includes(view);
    this.palette.hidden = !sketching;
    this.masks.hidden = !masks;
    for (const button of this.pens) {
      const { masks: onlyMasks, strokes } = PENS[button.dataset.pen];
      button.hidden = (onlyMasks && !masks) || (strokes && !sketching);
      if (button.hidden && button.ariaPressed === "true") this.choose("brush");
    }
    this.views.hidden = this.goOn.hidden = !result;
    for (const button of this.views.children) button.ariaChecked = String(button.dataset.view === view);
    this.node.hidden = empty;
  }

  // The states of the history, to be seen.
  steps({ done, undone }) {
    for (const [button, steps, word] of [[this.undo, done, "Undo"], [this.redo, undone, "Redo"]]) {
      button.disabled = !steps.length;
      button.title = button.ariaLabel = steps.length ? `${word}: ${steps.at(-1).words}` : `Nothing to ${word.toLowerCase()}`;
    }
  }

  zoomed(scale) {
    this.fit.textContent = `${Math.round(100 * scale)}%`;
  }
}
