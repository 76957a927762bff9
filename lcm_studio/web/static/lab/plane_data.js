// Which distribution: by name, from a picture's dark pixels, or drawn by hand.
import { h } from "../registry.js";
import { card, chip, formula, noteplace, press } from "./parts.js";
import { post } from "./wire.js";

const MOST = 600;

export class Data {
  constructor(schema, { onchange }) {
    Object.assign(this, { schema, onchange, value: { name: "moons" }, strokes: [] });
    this.note = noteplace();
    this.file = h("input", { type: "file", accept: "image/*", hidden: true, onchange: () => this.file.files[0] && this.picture(this.file.files[0]) });
    this.chips = Object.entries(schema.distributions).map(([name, title]) => chip(title, () => this.choose({ name }), { "data-name": name }));
    this.chips.push(chip("A picture…", () => this.file.click(), { "data-name": "picture", title: "The dark pixels of a picture become the distribution" }));
    this.chips.push(chip("Draw", () => this.open(), { "data-name": "drawn", id: "lab-draw", title: "Draw your own points" }));
    this.canvas = h("canvas", { className: "lab-sheet lab-pad", width: 512, height: 512, role: "application", ariaLabel: "Draw points with the pointer" });
    this.pad = h("div", { className: "lab-drawing", hidden: true }, this.canvas, h("div", { className: "lab-tools" }, h("button", { type: "button", className: "lcm-tool", onclick: () => this.wipe() }, "Clear"), h("span", { className: "lcm-soft" }, "Press and move. Each point becomes a narrow Gaussian.")));
    for (const [name, fn] of [["pointerdown", "down"], ["pointermove", "move"], ["pointerup", "up"], ["pointercancel", "up"]]) this.canvas.addEventListener(name, (e) => this[fn](e));
    this.card = card("1 · Data", h("div", { className: "lcm-chips" }, ...this.chips), this.pad, h("p", { className: "lab-words" }, formula("x_t = x_0 + t z"), " with t from 5 (noise only) to 0.01 (data). Everything here is a sum of Gaussians, so density, score and paths are also known exactly."), this.file, this.note);
    this.mark();
  }

  mark() {
    const name = this.value.name || this.value.kind;
    for (const c of this.chips) press(c, c.dataset.name === name);
  }

  choose(value) {
    this.value = value;
    this.note.say("");
    this.pad.hidden = value.kind !== "drawn";
    this.mark();
    this.onchange(value);
  }

  async picture(file) {
    this.file.value = "";
    try {
      const { points } = await (await post("plane/picture", file)).json();
      this.choose({ kind: "picture", points });
    } catch (error) {
      this.note.say(error.message);
    }
  }

  open() {
    this.pad.hidden = false;
    if (this.strokes.length > 1) this.choose({ kind: "drawn", points: this.strokes });
    this.paint();
  }

  wipe() {
    this.strokes = [];
    this.paint();
  }

  spot(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 2 - 1, 1 - ((event.clientY - box.top) / box.height) * 2];
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.last = this.spot(event);
    this.add(this.last);
  }

  move(event) {
    if (!this.last) return;
    const [x, y] = this.spot(event);
    const far = Math.hypot(x - this.last[0], y - this.last[1]);
    const pieces = Math.floor(far / 0.02);
    for (let i = 1; i <= pieces; i += 1) this.add([this.last[0] + ((x - this.last[0]) * i) / pieces, this.last[1] + ((y - this.last[1]) * i) / pieces]);
    if (pieces) this.last = [x, y];
  }

  up() {
    if (!this.last) return;
    this.last = null;
    if (this.strokes.length > 1) this.choose({ kind: "drawn", points: this.strokes });
  }

  add([x, y]) {
    this.strokes.push([Number(x.toFixed(3)), Number(y.toFixed(3))]);
    if (this.strokes.length > 4 * MOST) this.strokes.shift();
    this.paint();
  }

  paint() {
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, 512, 512);
    pen.fillStyle = getComputedStyle(this.canvas).color;
    for (const [x, y] of this.strokes) {
      pen.beginPath();
      pen.arc((x + 1) * 256, (1 - y) * 256, 4, 0, 6.2832);
      pen.fill();
    }
  }

  // For the link: a name, or points as short numbers.
  text() {
    if (this.value.name) return this.value.name;
    const { kind, points } = this.value;
    const every = Math.max(1, Math.ceil(points.length / MOST));
    return `${kind}:${points.filter((_, i) => i % every === 0).flat().map((v) => Math.round(v * 100)).join(",")}`;
  }

  read(text) {
    const [kind, list] = text.split(":");
    if (!list) {
      if (this.schema.distributions[kind]) this.value = { name: kind };
    } else if (kind === "drawn" || kind === "picture") {
      const flat = list.split(",").map((v) => Number(v) / 100);
      const points = [];
      for (let i = 0; i + 1 < flat.length; i += 2) points.push([flat[i], flat[i + 1]]);
      this.value = { kind, points };
      if (kind === "drawn") {
        this.strokes = points;
        this.pad.hidden = false;
        this.paint();
      }
    }
    this.mark();
  }
}
