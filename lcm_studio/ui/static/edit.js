// The Edit tab's canvas: a picture, a mask over it and strokes over it; and Live sketch, which follows the hand.
import { field, h, registry, say, url } from "./registry.js";

const SIDE = 640; // the longer side of what is painted on; the server brings it to the picture's size
const MOST_UNDO = 30;
const REST = 350;
const PALETTE = ["#ffffff", "#1b2a4a", "#5aa9e6", "#f4a259", "#e4572e", "#7a4b2a", "#2f7d32", "#9ccc65", "#f2d16b", "#8d99ae", "#b26fc4", "#111111"];
const MASKED = ["inpaint", "outpaint", "superres"];

class Paint {
  constructor(tab, root, watch, props) {
    this.tab = tab;
    this.size = 36;
    this.colour = PALETTE[2];
    this.erase = false;
    this.pick = false;
    this.tool = "inpaint";
    this.undo = [];
    this.base = h("canvas", { className: "lcm-base" });
    this.strokes = h("canvas", { className: "lcm-strokes" });
    this.mask = h("canvas", { className: "lcm-mask", id: `${tab}-canvas` });
    this.paper = h("div", { className: "lcm-paper", role: "application", ariaLabel: "Canvas: paint with the pointer" }, this.base, this.strokes, this.mask);
    root.replaceChildren(this.bar(), this.paper);
    for (const [name, fn] of [["pointerdown", "down"], ["pointermove", "move"], ["pointerup", "up"], ["pointercancel", "up"]]) {
      this.paper.addEventListener(name, (event) => this[fn](event));
    }
    watch("value", () => this.take(props.value));
    this.take(props.value);
  }

  bar() {
    const button = (text, title, act) => h("button", { type: "button", className: "lcm-tool", title, onclick: act }, text);
    this.eraser = button("Eraser", "Take away what was painted", () => this.mode("erase"));
    this.dropper = button("Pick", "Take a colour from the picture", () => this.mode("pick"));
    this.well = h("input", { type: "color", value: this.colour, ariaLabel: "Stroke colour", oninput: (e) => this.ink(e.target.value) });
    const size = h("input", { type: "range", min: 2, max: 200, value: this.size, ariaLabel: "Brush size", oninput: (e) => (this.size = Number(e.target.value)) });
    this.colours = h("span", { className: "lcm-palette" }, ...PALETTE.map((c) => h("button", { type: "button", ariaLabel: `Colour ${c}`, title: c, style: `background:${c}`, onclick: () => this.ink(c) })), this.well, this.dropper);
    return h("div", { className: "lcm-brushes", role: "toolbar", ariaLabel: "Brush" }, h("label", {}, "Brush", size), this.eraser, button("Undo stroke", "Take back the last stroke", () => this.back()), button("Clear", "Take away all that was painted", () => this.clear()), button("Invert", "Swap what is kept and what may change", () => this.invert()), this.colours);
  }

  mode(name) {
    this.erase = name === "erase" && !this.erase;
    this.pick = name === "pick" && !this.pick;
    this.eraser.ariaPressed = String(this.erase);
    this.dropper.ariaPressed = String(this.pick);
  }

  ink(colour) {
    this.colour = colour;
    this.well.value = colour;
    this.mode("");
  }

  take(value) {
    if (!value) return;
    if (value.tool) this.tool = value.tool;
    this.colours.hidden = this.tool !== "sketch";
    this.paper.dataset.tool = this.tool;
    if (!value.src || value.id === this.id) return;
    this.id = value.id;
    const scale = SIDE / Math.max(value.width, value.height);
    this.natural = [value.width, value.height];
    for (const canvas of [this.base, this.strokes, this.mask]) {
      canvas.width = Math.max(1, Math.round(value.width * scale));
      canvas.height = Math.max(1, Math.round(value.height * scale));
    }
    this.paper.style.aspectRatio = `${value.width} / ${value.height}`;
    this.undo = [];
    const img = new Image();
    img.onload = () => {
      this.base.getContext("2d").drawImage(img, 0, 0, this.base.width, this.base.height);
      this.picture = img;
      this.paper.dataset.ready = value.id;
    };
    img.src = value.src;
  }

  layer() {
    return this.tool === "sketch" ? this.strokes : this.mask;
  }

  at(event) {
    const box = this.mask.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.mask.width, ((event.clientY - box.top) / box.height) * this.mask.height];
  }

  down(event) {
    if (!this.picture || event.button > 0) return;
    event.preventDefault();
    const [x, y] = this.at(event);
    if (this.pick) {
      const pixel = this.base.getContext("2d").getImageData(Math.floor(x), Math.floor(y), 1, 1).data;
      this.ink(`#${[...pixel.slice(0, 3)].map((v) => v.toString(16).padStart(2, "0")).join("")}`);
      return;
    }
    this.paper.setPointerCapture(event.pointerId);
    this.remember();
    this.last = [x, y];
    this.line(x, y);
  }

  move(event) {
    if (!this.last) return;
    const [x, y] = this.at(event);
    this.line(x, y);
  }

  up() {
    this.last = null;
  }

  line(x, y) {
    const pen = this.layer().getContext("2d");
    pen.globalCompositeOperation = this.erase ? "destination-out" : "source-over";
    pen.strokeStyle = this.tool === "sketch" ? this.colour : "#ff2d55";
    pen.lineWidth = this.size;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...this.last);
    pen.lineTo(x + 0.01, y);
    pen.stroke();
    this.last = [x, y];
    performance.mark("lcm-stroke");
    live.change(this);
  }

  remember() {
    const layer = this.layer();
    this.undo.push([layer, layer.getContext("2d").getImageData(0, 0, layer.width, layer.height)]);
    if (this.undo.length > MOST_UNDO) this.undo.shift();
  }

  back() {
    const step = this.undo.pop();
    if (!step) return;
    step[0].getContext("2d").putImageData(step[1], 0, 0);
    live.change(this);
  }

  clear() {
    this.remember();
    const layer = this.layer();
    layer.getContext("2d").clearRect(0, 0, layer.width, layer.height);
  }

  invert() {
    this.remember();
    const pen = this.mask.getContext("2d");
    pen.globalCompositeOperation = "source-out";
    pen.fillStyle = "#ff2d55";
    pen.fillRect(0, 0, this.mask.width, this.mask.height);
    pen.globalCompositeOperation = "source-over";
  }

  // What was painted, for the server: data URLs, empty where nothing was.
  painted() {
    const drawn = (canvas) => {
      if (!canvas.width) return "";
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      for (let i = 3; i < data.length; i += 4) if (data[i]) return canvas.toDataURL("image/png");
      return "";
    };
    return JSON.stringify({ mask: MASKED.includes(this.tool) ? drawn(this.mask) : "", strokes: this.tool === "sketch" ? drawn(this.strokes) : "" });
  }

  // Picture and strokes together at the picture's own size.
  together() {
    const [width, height] = this.natural;
    const sheet = h("canvas", { width, height });
    const pen = sheet.getContext("2d");
    pen.drawImage(this.picture, 0, 0, width, height);
    pen.drawImage(this.strokes, 0, 0, width, height);
    return sheet.toDataURL("image/png");
  }
}

// One step while the hand moves, more when it rests; only the newest is asked for.
const live = {
  busy: null, next: null, timer: 0,
  on: () => document.querySelector("#edit-live input")?.checked,
  change(paint) {
    if (paint.tool !== "sketch" || !this.on()) return;
    clearTimeout(this.timer);
    if (this.busy?.refine) this.busy.abort.abort();
    this.next = paint;
    this.pump();
  },
  async pump() {
    if (this.busy || !this.next) return;
    const paint = this.next;
    this.next = null;
    await this.ask(paint, false);
    if (this.next) this.pump();
    else this.timer = setTimeout(() => this.ask(paint, true), REST);
  },
  async ask(paint, refine) {
    const abort = new AbortController();
    const busy = (this.busy = { refine, abort });
    const number = (id) => Number(field(id)?.value);
    const form = { image: paint.together(), prompt: field("edit-prompt")?.value || "", steps: refine ? number("edit-steps") : 1, strength: number("edit-strength"), seed: number("edit-seed"), refine };
    try {
      const answer = await fetch(url("studio/sketch"), { method: "POST", signal: abort.signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(form) });
      if (!answer.ok) {
        const data = await answer.json().catch(() => ({}));
        say(paint.tab, { kind: "error", text: data.detail || `The studio answered ${answer.status}.` });
        return;
      }
      for (const line of (await answer.text()).split("\n")) {
        if (line) registry.get("stage", paint.tab)?.draw(JSON.parse(line));
      }
      performance.mark("lcm-live");
    } catch (error) {
      if (error.name !== "AbortError") say(paint.tab, { kind: "error", text: "The studio does not answer; is it still running?" });
    } finally {
      if (this.busy === busy) this.busy = null;
      if (refine && this.next) this.pump();
    }
  },
};

const CSS = `
.lcm-brushes { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; padding: 4px 0 10px; font-size: 13px; }
.lcm-brushes label { display: flex; gap: 8px; align-items: center; }
.lcm-brushes [aria-pressed="true"] { outline: 2px solid currentColor; }
.lcm-palette { display: inline-flex; gap: 4px; align-items: center; flex-wrap: wrap; }
.lcm-palette[hidden] { display: none; }
.lcm-palette button:not(.lcm-tool) { width: 22px; height: 22px; border-radius: 50%; border: 1px solid #0003; padding: 0; }
.lcm-palette input { width: 30px; height: 26px; padding: 0; border: 0; background: none; }
.lcm-paper { position: relative; width: min(100%, 560px); margin: 0 auto; aspect-ratio: 1; background: #fff; border-radius: 6px; overflow: hidden; cursor: crosshair; touch-action: none; box-shadow: 0 2px 10px #0002; }
.lcm-paper canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.lcm-paper .lcm-mask { opacity: 0.45; }
.lcm-paper[data-tool="sketch"] .lcm-mask { opacity: 0.12; }
.lcm-paper:not([data-tool="sketch"]) .lcm-strokes { display: none; }
.lcm-film { display: flex; gap: 8px; overflow-x: auto; padding: 6px 0; }
.lcm-film figure { margin: 0; text-align: center; font-size: 12px; }
.lcm-film img { width: 96px; border-radius: 4px; }
`;

export function mountPaint(tab, element, { props, watch }) {
  if (!document.getElementById("lcm-edit-css")) document.head.append(h("style", { id: "lcm-edit-css", textContent: CSS }));
  const paint = new Paint(tab, element.querySelector(".lcm-mount") || element, watch, props);
  registry.set("paint", tab, paint);
  window.lcm = window.lcm || {};
  window.lcm.painted = () => paint.painted();
}
